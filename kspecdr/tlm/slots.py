"""Numbers of the places on the slit, from the gaps between traces alone.

The slit is taken as a row of fibers whose spacing varies slowly; traces get whole slot numbers along the
chain of gaps that are multiples of the local spacing. kspecdr.tlm.match_fibers makes fibers of them.
"""

import numpy as np

from kspecdr.arrays import Floats, Ints

GAP_TOLERANCE = 0.25  # of a spacing, between a gap and the multiple of it
LOST_SLOT = 0.1  # cost of a fiber without light inside the chain, in found ones
LONGEST_GAP = 40  # spacings


def number_slots(row: Floats) -> Ints:
    """Give every trace a slot number, ascending from 0; -1 where it does not fit the pattern.

    The best chain of traces is found by dynamic programming: each link must span a whole number
    of local spacings, counts one, and pays for its misfit and for the slots that it leaves empty.
    """
    if len(row) == 1:
        return np.zeros(1, dtype=int)
    trials = [_chain(row, spacing) for spacing in _trial_spacings(row)]
    return max(trials, key=lambda trial: trial[0])[1]


def fill_pattern(slot: Ints, row: Floats, wanted: Ints | Floats) -> Floats:
    """Return the rows of the slots `wanted` from those known, (n_known,) -> (n_wanted,).

    A low polynomial carries the pattern over gaps and past the ends; what neighbours deviate
    from it is interpolated.
    """
    if len(slot) == 1:
        return np.full(len(wanted), row[0], dtype=float)
    order = min(3, len(slot) - 1) if len(slot) > 8 else min(1, len(slot) - 1)
    middle, scale = (slot[0] + slot[-1]) / 2, max((slot[-1] - slot[0]) / 2, 1)
    series = np.polynomial.legendre.legfit((slot - middle) / scale, row, order)
    rest = row - np.polynomial.legendre.legval((slot - middle) / scale, series)
    smooth = np.polynomial.legendre.legval((wanted - middle) / scale, series)
    return np.asarray(smooth + np.interp(wanted, slot, rest))


def _trial_spacings(row: Floats) -> list[float]:
    gap = np.diff(row)
    trials: list[float] = []
    for trial in np.quantile(gap, [0.5, 0.25, 0.1]):
        if all(abs(trial / known - 1) > 0.15 for known in trials):
            trials.append(float(trial))
    return trials


def _local_spacing(row: Floats, spacing: float) -> Floats:
    """Return the median of near-single gaps around each trace, (n_peak,)."""
    gap = np.diff(row)
    single = np.abs(gap / spacing - 1) < 0.3
    middle = ((row[:-1] + row[1:]) / 2)[single]
    if single.sum() < 3:
        return np.full(len(row), spacing)
    near = np.argsort(np.abs(middle[None] - row[:, None]), axis=1)[:, :7]
    return np.asarray(np.median(gap[single][near], axis=1))


def _chain(row: Floats, spacing: float) -> tuple[float, Ints]:
    """Return score and slots of the best chain of traces for one trial spacing."""
    local = _local_spacing(row, spacing)
    score, origin, steps = np.ones(len(row)), np.full(len(row), -1), np.zeros(len(row), dtype=int)
    for k in range(1, len(row)):
        ratio = (row[k] - row[:k]) / ((local[k] + local[:k]) / 2)
        number = np.round(ratio)
        misfit = np.abs(ratio - number) / (GAP_TOLERANCE + 0.01 * number)
        gain = 1 - 0.5 * misfit**2 - LOST_SLOT * (number - 1)
        allowed = (number >= 1) & (number <= LONGEST_GAP) & (misfit <= 1)
        total = np.where(allowed, score[:k] + gain, -np.inf)
        best = int(np.argmax(total))
        if total[best] > score[k]:
            score[k], origin[k], steps[k] = total[best], best, int(number[best])
    return float(score.max()), _unwind(int(np.argmax(score)), origin, steps)


def _unwind(last: int, origin: Ints, steps: Ints) -> Ints:
    member = [last]
    while origin[member[-1]] >= 0:
        member.append(int(origin[member[-1]]))
    member.reverse()
    slot = np.full(len(origin), -1)
    slot[member] = np.cumsum(np.r_[0, steps[member[1:]]])
    return slot
