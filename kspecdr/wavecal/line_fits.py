"""Positions of many lines in many spectra at once: pixel-integrated Gaussians with their neighbours, in one batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import erf

from kspecdr.arrays import Bools, Floats, Ints

ITERATIONS = 6
SETTLED = 0.05  # of the errors of place and width: a step so small is the last one
RIDGE = 1e-9  # keeps the components that do not exist at 0 without touching the others
SQRT_2PI = np.sqrt(2 * np.pi)
CROWDS = (0, 1, 2, 3, 5)  # most neighbours of the lines that are fitted in one batch
NOWHERE = -1e6  # px, place of a line that is not expected on the detector


@dataclass(frozen=True)
class LineFits:
    """Fitted lines, (n,) each; NaN where a line could not be fitted."""

    column: Floats  # px
    error: Floats  # px, scaled by the misfit where that is above the noise
    amplitude: Floats  # flux summed over the line
    significance: Floats  # amplitude over its error
    sigma: Floats  # px, Gaussian width
    misfit: Floats  # chi square per degree of freedom

    @classmethod
    def ordered(cls, parts: "Sequence[LineFits]", places: Sequence[Ints]) -> "LineFits":
        """Return parts as one, each of their lines in its place."""
        back = np.argsort(np.concatenate(places), kind="stable")
        names = cls.__annotations__
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts])[back] for name in names})

    def where(self, good: Bools) -> "LineFits":
        """Return the figures with those of other lines NaN."""
        return LineFits(**{name: np.where(good, figure, np.nan) for name, figure in vars(self).items()})


@dataclass(frozen=True)
class LineWindows:
    """The samples around each line; (n_sample, n) where not said: long rows make short work of all lines at once."""

    first: Ints  # (n,) column of the first sample
    flux: Floats
    weight: Floats  # 1 / variance, 0 outside the spectrum and on bad samples

    def __getitem__(self, keep: Ints | Bools) -> "LineWindows":
        return LineWindows(self.first[keep], self.flux[:, keep], self.weight[:, keep])

    @classmethod
    def cut(cls, flux: Floats, weight: Floats, row: Ints, center: Floats, half_width: int) -> "LineWindows":
        """Cut windows of 2 half_width + 1 samples about `center` (n,) in rows (n,) of spectra (n_row, n_column)."""
        n_column = flux.shape[1]
        first = np.rint(np.clip(np.nan_to_num(center, nan=NOWHERE), NOWHERE, -NOWHERE)).astype(int) - half_width
        columns = first + np.arange(2 * half_width + 1)[:, None]
        inside = (columns >= 0) & (columns < n_column)
        at = np.clip(columns, 0, n_column - 1)
        return cls(first, flux[row, at], np.where(inside, weight[row, at], 0.0))


def fit_lines(windows: LineWindows, center: Floats, offsets: Floats, sigma: Floats, *, free_width: bool) -> LineFits:
    """Fit lines and the neighbours within their windows.

    Parameters
    ----------
    windows
        Samples about each line, above the continuum.
    center
        (n,) expected place of each line, px; NaN for none.
    offsets
        (n, n_neighbour) known distances of the neighbours from the line, px; NaN for none.
    sigma
        (n,) width of the Gaussian, px.
    free_width
        Fit the width of each line too.

    Notes
    -----
    The amplitudes of the line and its neighbours, a constant under them and the place of the whole pattern
    are solved together by Gauss-Newton steps; distances within the pattern are known from the wavelengths
    and stay. A line that moves more than its own width from the expected place gives NaN. Lines of like
    numbers of neighbours are one batch, since most have none or one.
    """
    offsets = np.sort(offsets, axis=1)  # those that exist come first
    crowd = np.searchsorted(CROWDS, np.isfinite(offsets).sum(axis=1))
    batches = [np.flatnonzero(crowd == k) for k in range(len(CROWDS))]
    parts = [
        _fitted(windows[own], center[own], offsets[own, :most], sigma[own], free_width=free_width)
        for own, most in zip(batches, CROWDS, strict=True)
    ]
    return LineFits.ordered(parts, batches)


@dataclass(frozen=True)
class _Pattern:
    """What is believed of each line and its neighbours; (n_component, n) where not said."""

    place: Floats  # (n,) px
    width: Floats  # (n,) px
    offsets: Floats  # px from the place, 0 first, NaN for none
    amplitudes: Floats

    @classmethod
    def expected(cls, windows: LineWindows, center: Floats, offsets: Floats, sigma: Floats) -> "_Pattern":
        """Return the patterns in their expected places, with the amplitudes that they have there."""
        place = np.where(np.isfinite(center), center, NOWHERE)
        components = np.concatenate([np.zeros((1, len(center))), offsets.T])
        pattern = cls(place, sigma, components, np.zeros(components.shape))
        terms = _solved(pattern.design(windows, free_width=False), windows).value
        return replace(pattern, amplitudes=terms[: len(components)])

    def __getitem__(self, keep: Bools) -> "_Pattern":
        return _Pattern(self.place[keep], self.width[keep], self.offsets[:, keep], self.amplitudes[:, keep])

    def design(self, windows: LineWindows, *, free_width: bool) -> Floats:
        """Columns of the linear problem: components, a constant, the shift and (optional) ln width.

        Returns (n_term, n_sample, n).
        """
        exists = np.isfinite(self.offsets)[:, None, :]
        n_component, n_sample = len(self.offsets), len(windows.flux)
        edge = (windows.first - self.place) + (np.arange(n_sample + 1) - 0.5)[:, None]
        z = (edge - np.nan_to_num(self.offsets)[:, None, :]) / self.width
        bell = np.exp(-0.5 * np.minimum(z * z, 80.0)) * (exists * self.amplitudes[:, None, :] / SQRT_2PI)
        terms = np.ones((n_component + 2 + free_width, n_sample, len(self.place)))
        terms[:n_component] = 0.5 * np.diff(erf(z / np.sqrt(2)), axis=1) * exists
        terms[n_component + 1] = -np.diff(bell.sum(axis=0), axis=0) / self.width
        if free_width:
            terms[n_component + 2] = -np.diff((bell * z).sum(axis=0), axis=0)
        return terms

    def moved(self, terms: Floats, *, free_width: bool) -> "_Pattern":
        """Return the patterns after a step of the terms of `design`."""
        n_component = len(self.offsets)
        step = np.clip(terms[n_component + 1], -0.7 * self.width, 0.7 * self.width)
        width = self.width * np.exp(np.clip(terms[-1], -0.2, 0.2)) if free_width else self.width
        return _Pattern(self.place + step, width, self.offsets, terms[:n_component])


@dataclass(frozen=True)
class _Terms:
    """The terms of the linear problem: (n_term, n), 0 for those that do not exist."""

    value: Floats
    error: Floats
    misfit: Floats  # (n,) chi square per degree of freedom
    freedom: Ints  # (n,)

    def __getitem__(self, keep: Bools) -> "_Terms":
        return _Terms(self.value[:, keep], self.error[:, keep], self.misfit[keep], self.freedom[keep])

    def small(self, which: slice) -> Bools:
        """Return where these terms are but a small part of their errors, (n,)."""
        small: Bools = np.all(np.abs(self.value[which]) <= SETTLED * self.error[which], axis=0)
        return small


def _fitted(windows: LineWindows, center: Floats, offsets: Floats, sigma: Floats, *, free_width: bool) -> LineFits:
    pattern = _Pattern.expected(windows, center, offsets, sigma)
    changing = slice(-1 - free_width, None)
    moving = np.arange(len(center))
    parts, places = [], []
    for k in range(ITERATIONS):
        terms = _solved(pattern.design(windows, free_width=free_width), windows)
        pattern = pattern.moved(terms.value, free_width=free_width)
        settled = terms.small(changing) | np.full(len(moving), k == ITERATIONS - 1)
        parts.append(_fits(terms[settled], pattern[settled]))
        places.append(moving[settled])
        windows, pattern, moving = windows[~settled], pattern[~settled], moving[~settled]
        if len(moving) == 0:
            break
    fits = LineFits.ordered(parts, places)
    return fits.where(np.abs(fits.column - center) < 1.5 * sigma + 0.5)


def _solved(design: Floats, windows: LineWindows) -> _Terms:
    """Solve the weighted least squares of all lines at once by sweeping (Goodnight 1979, Am. Stat. 33, 149)."""
    n_term, _, n = design.shape
    root = np.sqrt(windows.weight)
    rows = np.concatenate([design, windows.flux[None]]) * root
    cross = np.einsum("psn,qsn->pqn", rows, rows)
    diagonal = np.einsum("ppn->pn", cross)
    exists = diagonal[:-1] > 0
    scale = np.ones((n_term + 1, n))
    np.divide(1.0, np.sqrt(diagonal[:-1]), out=scale[:-1], where=exists)
    swept = cross * scale[:, None, :] * scale
    np.einsum("ppn->pn", swept)[:-1] = 1 + RIDGE
    for k in range(n_term):
        column = swept[:, k].copy()
        row = swept[k] / column[k]
        swept -= column[:, None, :] * row
        swept[k] = row
        swept[:, k] = -column / column[k]
        swept[k, k] = 1 / column[k]
    freedom = np.count_nonzero(windows.weight, axis=0) - np.count_nonzero(exists, axis=0)
    scale = scale[:-1] * exists
    error = np.sqrt(np.maximum(np.einsum("ppn->pn", swept)[:-1], 0)) * scale
    return _Terms(swept[:-1, -1] * scale, error, np.maximum(swept[-1, -1], 0) / np.maximum(freedom, 1), freedom)


def _fits(terms: _Terms, pattern: _Pattern) -> LineFits:
    """Return the figures of lines by their last step; NaN for those without light or samples enough."""
    error = terms.error * np.sqrt(np.maximum(terms.misfit, 1.0))
    amplitude, noise, shift = terms.value[0], error[0], error[len(pattern.offsets) + 1]
    significance = np.divide(amplitude, noise, out=np.zeros_like(amplitude), where=noise > 0)
    fits = LineFits(pattern.place, shift, amplitude, significance, pattern.width, terms.misfit)
    return fits.where((terms.freedom > 0) & (amplitude > 0) & (noise > 0) & (shift > 0))
