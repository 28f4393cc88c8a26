"""Which trace belongs to which fiber: a gap is a dead fiber and never renumbers the others.

Without nominal rows traces get whole slot numbers by their gaps (kspecdr.tlm.slots). With nominal rows the
pattern is laid over the traces with one common shift and stretch. (Fibers of a later frame are told by their
map in kspecdr.tlm.identity; lines of an arc are named in kspecdr.wavecal.pattern.)
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.errors import BadFrame
from kspecdr.tlm.slots import GAP_TOLERANCE, fill_pattern, number_slots

BEYOND = 3  # places past each end at which traces are noticed
LEAST_OF_A_PATTERN = 3  # traces, for places past the ends to be known
LEAST_UNCLAIMED = 0.004  # of a fiber's light: the faintest fibers have 0.01, a neighbour's wings less
BRIGHT_UNCLAIMED = 0.3  # the same: as bright as a fiber
SHIFT_COST = 0.6  # of a shift by one spacing against nominal rows, in found fibers


@dataclass(frozen=True)
class Match:
    """Fibers and the traces that are theirs."""

    vector: Ints  # (n_fiber,) number of the trace, from 1; 0 where none was found
    row: Floats  # (n_fiber,) modelled row of every fiber, found or not
    doubt: str  # why the identity is not beyond doubt; empty where it is


def match_fibers_isoplane(nf: int, pk_posn: ArrayLike, nominal: ArrayLike | None = None) -> tuple[Ints, Floats]:
    """Identify found traces with the fibers of the slit.

    Parameters
    ----------
    nf : int
        Fibers in the slit.
    pk_posn : (n_peak,)
        Rows of the traces, ascending.
    nominal : (nf,), optional
        Rows where the fibers are expected, up to a common shift and stretch.

    Returns
    -------
    match_vector : (nf,)
        For each fiber the number of its trace, counted from 1; 0 where it has none.
    positions : (nf,)
        Modelled row of every fiber.

    Raises
    ------
    BadFrame
        If no pattern of fibers can be seen.
    """
    match = match_fibers(nf, pk_posn, nominal)
    return match.vector, match.row


def match_fibers(
    n_fiber: int,
    row: ArrayLike,
    nominal: ArrayLike | None = None,
    *,
    strength: ArrayLike | None = None,
    lit: ArrayLike | None = None,
    center_row: float | None = None,
) -> Match:
    """Identify found traces with the fibers of the slit and say where that is in doubt.

    Parameters
    ----------
    n_fiber : int
        Fibers in the slit.
    row : (n_peak,)
        Rows of the traces, ascending.
    nominal : (n_fiber,), optional
        Rows where the fibers are expected, up to a common shift and stretch.
    strength : (n_peak,), optional
        Light of the traces; where there are too many, the fainter pattern is the ghost.
    lit : (n_fiber,) bool or float, optional
        How much light each fiber is expected to give, 0 to 1.
    center_row : float, optional
        Row of the slit's middle, which decides where fibers are missing at an end.

    Raises
    ------
    BadFrame
        If no pattern of fibers can be seen, or one of more fibers than there should be.
    """
    rows = np.asarray(row, dtype=float)
    if rows.size == 0:
        raise BadFrame(f"0 of {n_fiber} fibers found: no light stands out of the noise at the scale of a fiber")
    weight = _weights(rows, strength)
    expected = np.ones(n_fiber) if lit is None else np.asarray(lit, dtype=float)
    if nominal is not None:
        match = _match_nominal(rows, np.asarray(nominal, dtype=float), expected, weight)
    elif n_fiber == 1:
        return _single(rows, weight)
    else:
        match = _match_pattern(rows, n_fiber, weight, expected, center_row)
    light = np.ones(len(rows)) if strength is None else np.asarray(strength, dtype=float)
    return _with_unclaimed(match, rows, light)


def _match_pattern(row: Floats, n_fiber: int, weight: Floats, lit: Floats, center_row: float | None) -> Match:
    """Name the traces by their chain of whole spacings alone."""
    slot = number_slots(row)
    first, doubt = _choose_window(slot, row, n_fiber, weight, lit > 0, center_row)
    vector = np.zeros(n_fiber, dtype=int)
    for peak in np.flatnonzero((slot >= first) & (slot < first + n_fiber)):
        vector[slot[peak] - first] = peak + 1
    return Match(vector, _modelled(vector, row), doubt)


def _with_unclaimed(match: Match, row: Floats, light: Floats) -> Match:
    """Notice traces that continue the pattern past its ends: the slit has more fibers than were said.

    Raises BadFrame where they are about as bright as the fibers, since then any other choice is as good.
    """
    n_fiber, found = len(match.vector), np.flatnonzero(match.vector)
    if len(found) < LEAST_OF_A_PATTERN:
        return match
    spacing = float(np.median(np.diff(match.row)))
    slot = np.r_[-BEYOND:0, n_fiber : n_fiber + BEYOND]
    away = np.abs(row[:, None] - fill_pattern(found, match.row[found], slot))
    typical = float(np.median(light[match.vector[found] - 1]))
    near = (np.min(away, axis=1) < GAP_TOLERANCE * spacing) & (light > LEAST_UNCLAIMED * typical)
    near[match.vector[found] - 1] = False
    if not near.any():
        return match
    taken = np.r_[0, n_fiber - 1, slot[np.argmin(away[near], axis=1)]]
    rows = ", ".join(f"{each:.0f}" for each in row[near])
    said = (
        f"the slit has places for {np.ptp(taken) + 1} fibers, {n_fiber} were expected: "
        f"light at {'rows' if near.sum() > 1 else 'row'} {rows} would be nobody's"
    )
    if np.any(light[near] > BRIGHT_UNCLAIMED * typical):
        raise BadFrame(f"{said}; give the number of fibers in the slit, or rows in the fiber table")
    doubt = f"{said}, {100 * float(np.max(light[near])) / typical:.1f} % as bright; check the number of fibers"
    return replace(match, doubt="; ".join(filter(None, (match.doubt, doubt))))


def _weights(row: Floats, strength: ArrayLike | None) -> Floats:
    if strength is None:
        return np.ones(len(row))
    light = np.asarray(strength, dtype=float)
    typical = np.percentile(light, 75)
    return np.asarray(np.clip(np.sqrt(np.clip(light / typical, 0, None)), 0.1, 1.0))


def _single(row: Floats, weight: Floats) -> Match:
    best = int(np.argmax(weight))
    doubt = "" if len(row) == 1 else f"{len(row)} traces found for 1 fiber; the brightest was taken"
    return Match(np.array([best + 1]), row[[best]], doubt)


def _choose_window(
    slot: Ints, row: Floats, n_fiber: int, weight: Floats, lit: Bools, center_row: float | None
) -> tuple[int, str]:
    """Return the slot of the first fiber, and the doubt."""
    span = int(slot.max()) + 1
    occupied = np.zeros(span)
    occupied[slot[slot >= 0]] = weight[slot >= 0]
    extra = n_fiber - span
    starts = np.arange(min(0, -extra), max(0, -extra) + 1)
    score = np.array([_score(occupied, int(start), lit) for start in starts])
    best = starts[score >= score.max() - 1e-9]
    if extra >= 0 and len(best) > 1:
        return _by_symmetry(best, slot, row, n_fiber, center_row)
    first = int(best[0])
    rest = np.delete(score, int(np.argmax(score)))
    if extra < 0 and rest.size and score.max() - rest.max() < 0.5 * np.median(weight):
        return (
            first,
            f"{span} places hold traces for {n_fiber} fibers; which outer ones are ghosts is not clear",
        )
    return first, ""


def _score(occupied: Floats, start: int, lit: Bools) -> float:
    """Sum the light that falls on fibers expected to be lit, less that on the others."""
    slot = start + np.arange(len(lit))
    inside = (slot >= 0) & (slot < len(occupied))
    light = np.where(inside, occupied[np.clip(slot, 0, len(occupied) - 1)], 0.0)
    return float(np.sum(np.where(lit, light, -light)))


def _by_symmetry(starts: Ints, slot: Ints, row: Floats, n_fiber: int, center_row: float | None) -> tuple[int, str]:
    """Choose among equal starts the one that centers the slit; the choice is in doubt."""
    known = slot >= 0
    middle = starts + (n_fiber - 1) / 2
    if center_row is None:
        distance = np.abs(middle - (slot.max() / 2))
    else:
        distance = np.abs(fill_pattern(slot[known], row[known], middle) - center_row)
    first = int(starts[np.argmin(distance)])
    missing_low, missing = -first, n_fiber - 1 - int(slot.max())
    doubt = (
        f"the slit shows {n_fiber - missing} places from row {row[known][0]:.0f} to {row[known][-1]:.0f} for {n_fiber} "
        f"fibers: {missing_low} were taken as below and {missing - missing_low} as above these by symmetry; "
        "check the number of fibers, or give rows in the fiber table to be sure"
    )
    return first, doubt


def _match_nominal(row: Floats, nominal: Floats, lit: Floats, weight: Floats) -> Match:
    if len(nominal) != len(lit) or not np.all(np.diff(nominal) > 0):
        raise BadFrame(f"{len(nominal)} nominal rows for {len(lit)} fibers; expected one each, ascending")
    spacing = float(np.median(np.diff(nominal))) if len(nominal) > 1 else 12.0
    shift = (row[:, None] - nominal[None]).ravel()
    shift = np.unique(np.round(shift[np.abs(shift) < 4.5 * spacing], 1))
    if shift.size == 0:
        raise BadFrame(f"no trace lies within {4.5 * spacing:.0f} px of the nominal rows; check them")
    gain = np.where(lit > 0, lit, -0.5)
    score = np.array([_agreement(row, nominal + s, 0.3 * spacing, gain, weight) for s in shift])
    score -= SHIFT_COST * np.abs(shift) / spacing
    best = int(np.argmax(score))
    other = score[np.abs(shift - shift[best]) > 0.5 * spacing]
    model = _refine(row, nominal, shift[best], spacing)
    vector = _assign(row, model, 0.3 * spacing)
    close = other.size and score[best] - other.max() < 0.5
    doubt = ""
    if close and abs(shift[best]) > 0.3 * spacing:
        doubt = f"the slit fits the nominal rows as well one fiber further; shift {shift[best]:+.1f} px was taken"
    return Match(vector, _blend(vector, row, model), doubt)


def _nearest(row: Floats, expected: Floats) -> Ints:
    right = np.clip(np.searchsorted(row, expected), 1, max(len(row) - 1, 1))
    right = np.minimum(right, len(row) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(row[left] - expected) <= np.abs(row[right] - expected), left, right)


def _agreement(row: Floats, expected: Floats, tolerance: float, gain: Floats, weight: Floats) -> float:
    near = _nearest(row, expected)
    misfit = (row[near] - expected) / tolerance
    return float(np.sum(np.where(np.abs(misfit) < 1, gain * weight[near] * (1 - 0.2 * misfit**2), 0.0)))


def _refine(row: Floats, nominal: Floats, shift: float, spacing: float) -> Floats:
    """Return the nominal rows under the best common shift and stretch."""
    model = nominal + shift
    for tolerance in (0.4, 0.35, 0.3, 0.3):
        near = _nearest(row, model)
        use = np.abs(row[near] - model) < tolerance * spacing
        if use.sum() >= 3:
            slope, start = np.polyfit(nominal[use], row[near][use], 1)
            model = start + slope * nominal
        elif use.any():
            model = nominal + float(np.mean(row[near][use] - nominal[use]))
    return model


def _assign(row: Floats, model: Floats, tolerance: float) -> Ints:
    near = _nearest(row, model)
    distance = np.abs(row[near] - model)
    vector = np.where(distance < tolerance, near + 1, 0)
    for trace in np.unique(vector[vector > 0]):
        rivals = np.flatnonzero(vector == trace)
        vector[np.delete(rivals, np.argmin(distance[rivals]))] = 0
    return vector


def _modelled(vector: Ints, row: Floats) -> Floats:
    found = np.flatnonzero(vector)
    return fill_pattern(found, row[vector[found] - 1], np.arange(len(vector)))


def _blend(vector: Ints, row: Floats, model: Floats) -> Floats:
    """Return the traces' own rows where found; between and beyond them the model, shifted as they are."""
    found = np.flatnonzero(vector)
    offset = row[vector[found] - 1] - model[found]
    return np.asarray(model + np.interp(np.arange(len(vector)), found, offset))
