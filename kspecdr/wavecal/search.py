"""Coarse search: where, how steep, how bent and in which direction a lamp's pattern may lie on the columns.

A candidate is a cubic, wavelength = coefficients . (1, u, u**2, u**3) with u from -1 to 1 over the columns.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter

from kspecdr.arrays import Floats
from kspecdr.wavecal.features import Features
from kspecdr.wavecal.lines import Peaks

STEP = 1.5  # px of the centre between candidates; the refinement pulls in from twice that


@dataclass(frozen=True)
class SearchRange:
    """Where to look for the solution: a guess and how wrong it may be."""

    n_column: int
    center: float  # Angstrom at the middle of the columns
    dispersion: float  # Angstrom / px; the sign is not used
    max_shift: float = 75.0  # px that the centre may be off
    stretch: float = 0.12  # fraction that the dispersion may be off
    bend: float = 0.06  # largest quadratic term over half the range; the dispersion changes by four times that

    @property
    def px(self) -> float:
        """Size of a pixel as guessed, Angstrom."""
        return abs(self.dispersion)

    @property
    def half(self) -> float:
        """Half the length of the spectrum, px."""
        return 0.5 * (self.n_column - 1)

    @property
    def limits(self) -> tuple[float, float]:
        """Shortest and longest wavelength that a candidate can reach, Angstrom."""
        reach = self.px * (self.half * (1 + self.stretch + self.bend) + self.max_shift + 5)
        return self.center - reach, self.center + reach


def coarse_search(u: Floats, peaks: Peaks, features: Features, search: SearchRange, *, n_best: int) -> Floats:
    """Return the candidates that bring bright peaks near bright lines, best first.

    The score of a candidate is that of a cosine: the summed products of weights of peaks and of the lines
    that they meet, over the root of the summed squares of the lines within its range.

    Parameters
    ----------
    u
        (n_peak,) place of the peaks, -1 to 1 over the columns.

    Returns
    -------
    (n, 4) coefficients, n <= n_best local maxima of the score, Angstrom.
    """
    merit = np.clip(1 + 0.15 * features.brightness, 0.2, 1.0)  # log-like: a thousandth of the brightest keeps 0.2
    weight = 0.5 + np.log(peaks.height / peaks.height.min())
    shifts = np.arange(-search.max_shift, search.max_shift + STEP, STEP)
    stretches = 1 + np.arange(-search.stretch, search.stretch + 1e-9, 2 * STEP / search.half)
    bends = np.arange(-search.bend, search.bend + 1e-9, 4 * STEP / search.half)
    sign, stretch, bend = (a.ravel() for a in np.meshgrid((1.0, -1.0), stretches, bends, indexing="ij"))
    shape = np.stack([sign * stretch, bend], axis=1) * search.half  # px from the centre, of u and u**2
    overlap = _overlap(shape @ np.stack([u, u**2]), weight, shifts, features, merit, search)
    power = _power(shape @ np.array([[-1.0, 1.0], [1.0, 1.0]]), shifts, features, merit, search)
    score = overlap / np.sqrt(power + 0.05 * np.sum(merit**2))
    cube = score.reshape(2, len(stretches), len(bends), len(shifts))
    summits = np.flatnonzero(cube == maximum_filter(cube, size=(1, 3, 3, 3), mode="nearest"))
    best = summits[np.argsort(-cube.ravel()[summits], kind="stable")[:n_best]]
    k, s = np.divmod(best, len(shifts))
    center = search.center + search.px * shifts[s]
    return np.stack([center, search.px * shape[k, 0], search.px * shape[k, 1], np.zeros(len(k))], axis=1)


def _overlap(
    place: Floats, weight: Floats, shifts: Floats, features: Features, merit: Floats, search: SearchRange
) -> Floats:
    """Sum over the peaks of weight times the merit of the line met, (n_shape, n_shift).

    place : (n_shape, n_peak) px from the centre before the shift
    """
    low, high = search.limits
    line_map = _line_map(int((high - low) / (STEP * search.px)) + 1, features, merit, search)
    first = np.rint(((search.center - low) / search.px + place + shifts[0]) / STEP).astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(line_map, len(shifts))
    first = np.clip(first, 0, len(windows) - 1)
    overlap = np.zeros((len(place), len(shifts)), dtype=np.float32)
    for k, value in enumerate(weight.astype(np.float32)):
        overlap += value * windows[first[:, k]]
    return overlap


def _line_map(n: int, features: Features, merit: Floats, search: SearchRange) -> Floats:
    """Return the merit of the best line near each step of wavelength, falling linearly to 0 over 1.5 steps."""
    reach = 1.5
    place = (features.wavelength - search.limits[0]) / (STEP * search.px)
    nearest = np.rint(place).astype(int)
    row = np.zeros(n, dtype=np.float32)
    for k in (-1, 0, 1):
        at = nearest + k
        value = merit * np.maximum(1 - np.abs(at - place) / reach, 0)
        valid = (at >= 0) & (at < n)
        np.maximum.at(row, at[valid], value[valid].astype(np.float32))
    return row


def _power(ends: Floats, shifts: Floats, features: Features, merit: Floats, search: SearchRange) -> Floats:
    """Sum the squared merit of the lines between the ends of the spectrum, (n_shape, n_shift).

    ends : (n_shape, 2) px from the centre before the shift
    """
    place = np.sort((features.wavelength - search.center) / search.px)
    total = np.concatenate([[0.0], np.cumsum((merit**2)[np.argsort(features.wavelength, kind="stable")])])
    span = np.sort(ends, axis=1)[:, :, None] + shifts
    index = np.searchsorted(place, span)
    power: Floats = total[index[:, 1]] - total[index[:, 0]]
    return power
