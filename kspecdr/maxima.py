"""Kernel: the maxima of a sampled curve, how far each stands out, and how wide it is there."""

import numpy as np

from kspecdr.arrays import Bools, Floats, Ints


def local_maxima(value: Floats) -> Ints:
    """Return the samples of a curve (n,) that are higher than what is beside them; of a flat top the middle one."""
    place, highest = _turns(value)
    return place[highest]


def _turns(value: Floats) -> tuple[Ints, Bools]:
    """Return where a curve (n,) turns, and whether from up to down."""
    change = np.flatnonzero(value[1:] != value[:-1])
    rising = value[change + 1] > value[change]
    turns = np.flatnonzero(rising[1:] != rising[:-1])
    return (change[turns] + 1 + change[turns + 1]) // 2, rising[turns]


def apart(place: Ints, height: Floats, distance: float) -> Bools:
    """Tell which of some samples stay where of two that are closer than `distance` the lower one goes, (n,)."""
    keep = np.ones(len(place), dtype=bool)
    for k in np.argsort(height)[::-1].tolist():
        if keep[k]:
            keep[(np.abs(place - place[k]) < np.ceil(distance)) & (place != place[k])] = False
    return keep


def prominences(value: Floats, place: Ints) -> Floats:
    """Return how far samples stand out of a curve: above the higher one of the valleys on either side, (n,).

    A valley is the lowest sample before the next one that is higher, or before the end.
    """
    ends = np.array([0, len(value) - 1])
    turn = np.unique(np.concatenate([ends, _turns(value)[0]]))
    level, own, number = value[turn], value[place][:, None], np.arange(len(turn))
    before, after = turn < place[:, None], turn > place[:, None]
    last = np.max(np.where(before & (level > own), number, -1), axis=1, keepdims=True)
    first = np.min(np.where(after & (level > own), number, len(turn)), axis=1, keepdims=True)
    left = np.min(np.where(before & (number > last), level, own), axis=1)
    right = np.min(np.where(after & (number < first), level, own), axis=1)
    return np.asarray(value[place] - np.maximum(left, right))


def half_widths(value: Floats, place: Ints) -> Floats:
    """Return how wide maxima are halfway down to their higher valley, in samples, (n,)."""
    half = value[place] - 0.5 * prominences(value, place)
    curve = value.tolist()
    pairs = list(zip(place.tolist(), half.tolist(), strict=True))
    return np.array([_crossing(curve, level, at, 1) - _crossing(curve, level, at, -1) for at, level in pairs])


def _crossing(curve: list[float], level: float, at: int, step: int) -> float:
    """Return where a curve, going by `step` from a sample on, falls to a level."""
    while curve[at] > level:
        at += step
    if curve[at] == level:
        return float(at)
    return at - step * (level - curve[at]) / (curve[at - step] - curve[at])
