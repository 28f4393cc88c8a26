"""Positions of many lines in many spectra at once: pixel-integrated Gaussians with their neighbours, in one batch."""

from dataclasses import dataclass

import numpy as np
from scipy.special import erf

from kspecdr.arrays import Floats, Ints

ITERATIONS = 6
SETTLED = 1e-3  # px: the next step of a line whose last one was smaller is a hundredth of its error or less
RIDGE = 1e-9  # keeps the components that do not exist at 0 without touching the others
SQRT_2PI = np.sqrt(2 * np.pi)
CROWDS = (0, 1, 2, 5)  # most neighbours of the lines that are fitted in one batch
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


@dataclass(frozen=True)
class Windows:
    """The samples around each line; (n, n_sample) where not said."""

    first: Ints  # (n,) column of the first sample
    flux: Floats
    weight: Floats  # 1 / variance, 0 outside the spectrum and on bad samples

    def __getitem__(self, keep: Ints) -> "Windows":
        return Windows(self.first[keep], self.flux[keep], self.weight[keep])

    @classmethod
    def cut(cls, flux: Floats, weight: Floats, row: Ints, center: Floats, half_width: int) -> "Windows":
        """Cut windows of 2 half_width + 1 samples about `center` (n,) in rows (n,) of spectra (n_row, n_column)."""
        n_column = flux.shape[1]
        first = np.rint(np.clip(np.nan_to_num(center, nan=NOWHERE), NOWHERE, -NOWHERE)).astype(int) - half_width
        columns = first[:, None] + np.arange(2 * half_width + 1)
        inside = (columns >= 0) & (columns < n_column)
        at = np.clip(columns, 0, n_column - 1)
        return cls(first, flux[row[:, None], at], np.where(inside, weight[row[:, None], at], 0.0))


def fit_lines(windows: Windows, center: Floats, offsets: Floats, sigma: Floats, *, free_width: bool) -> LineFits:
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
    back = np.argsort(np.concatenate(batches), kind="stable")
    return LineFits(*(np.concatenate([getattr(part, name) for part in parts])[back] for name in vars(parts[0])))


@dataclass(frozen=True)
class _Pattern:
    """What is believed of each line and its neighbours; (n,) where not said."""

    place: Floats  # px
    width: Floats  # px
    offsets: Floats  # (n, n_component) px from the place, 0 first, NaN for none
    amplitudes: Floats  # (n, n_component)

    def __getitem__(self, keep: Ints) -> "_Pattern":
        return _Pattern(self.place[keep], self.width[keep], self.offsets[keep], self.amplitudes[keep])

    def design(self, first: Ints, n_sample: int, *, free_width: bool) -> Floats:
        """Columns of the linear problem: components, a constant, the shift and (optional) ln width.

        Returns (n, n_sample, n_term).
        """
        exists = np.isfinite(self.offsets)[:, None, :]
        middle = self.place[:, None] + np.nan_to_num(self.offsets)
        edge = first[:, None] + np.arange(n_sample + 1) - 0.5
        z = (edge[:, :, None] - middle[:, None, :]) / self.width[:, None, None]
        area = 0.5 * np.diff(erf(z / np.sqrt(2)), axis=1) * exists
        bell = np.exp(-0.5 * np.minimum(z * z, 80.0)) * (exists * self.amplitudes[:, None, :] / SQRT_2PI)
        shift = -np.diff(bell.sum(axis=2), axis=1) / self.width[:, None]
        terms = [area, np.ones((*shift.shape, 1)), shift[..., None]]
        if free_width:
            terms.append(-np.diff((bell * z).sum(axis=2), axis=1)[..., None])
        return np.concatenate(terms, axis=2)


def _fitted(windows: Windows, center: Floats, offsets: Floats, sigma: Floats, *, free_width: bool) -> LineFits:
    pattern = _start(windows, center, offsets, sigma)
    n_sample, shift = windows.flux.shape[1], -1 - free_width
    moving = np.arange(len(center))
    for _ in range(ITERATIONS):
        own = pattern[moving]
        solution, _ = _solved(own.design(windows.first[moving], n_sample, free_width=free_width), windows[moving])
        step = np.clip(solution[:, shift], -0.7 * own.width, 0.7 * own.width)
        wider = np.clip(solution[:, -1], -0.2, 0.2) if free_width else np.zeros(len(moving))
        pattern.place[moving] += step
        pattern.width[moving] *= np.exp(wider)
        pattern.amplitudes[moving] = solution[:, : pattern.offsets.shape[1]]
        moving = moving[np.maximum(np.abs(step), np.abs(wider)) > SETTLED]
        if len(moving) == 0:
            break
    return _fits(windows, pattern, center, sigma, free_width=free_width)


def _start(windows: Windows, center: Floats, offsets: Floats, sigma: Floats) -> _Pattern:
    """Return the pattern in its expected place, with the amplitudes that it has there."""
    place = np.where(np.isfinite(center), center, NOWHERE)
    components = np.concatenate([np.zeros((len(center), 1)), offsets], axis=1)
    pattern = _Pattern(place, sigma.astype(float), components, np.zeros(components.shape))
    solution, _ = _solved(pattern.design(windows.first, windows.flux.shape[1], free_width=False), windows)
    pattern.amplitudes[:] = solution[:, : components.shape[1]]
    return pattern


def _solved(design: Floats, windows: Windows) -> tuple[Floats, Floats]:
    """Return the terms (n, n_term) and the normal matrices, scaled to a diagonal of 1."""
    weighted = np.swapaxes(design * windows.weight[..., None], 1, 2)
    normal = weighted @ design
    right = (weighted @ windows.flux[..., None])[..., 0]
    diagonal = np.einsum("npp->np", normal)
    scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    scaled = normal / (scale[:, :, None] * scale[:, None, :])
    scaled += np.where(diagonal > 0, RIDGE, 1.0)[..., None] * np.eye(design.shape[2])
    solution = np.linalg.solve(scaled, (right / scale)[..., None])[..., 0] / scale
    return solution, scaled


def _fits(windows: Windows, pattern: _Pattern, center: Floats, sigma: Floats, *, free_width: bool) -> LineFits:
    design = pattern.design(windows.first, windows.flux.shape[1], free_width=free_width)
    solution, scaled = _solved(design, windows)
    n_component, shift = pattern.offsets.shape[1], -1 - free_width
    model = (design[..., : n_component + 1] @ solution[:, : n_component + 1, None])[..., 0]
    used = (windows.weight > 0).sum(axis=1)
    n_term = np.isfinite(pattern.offsets).sum(axis=1) + 2 + free_width
    misfit = (windows.weight * (windows.flux - model) ** 2).sum(axis=1) / np.maximum(used - n_term, 1)
    diagonal = np.einsum("nsp,ns->np", design**2, windows.weight)
    variance = np.einsum("npp->np", np.linalg.inv(scaled)) / np.where(diagonal > 0, diagonal, np.inf)
    inflation = np.sqrt(np.maximum(misfit, 1.0))
    error = np.sqrt(np.maximum(variance[:, shift], 0)) * inflation
    amplitude = solution[:, 0]
    noise = np.sqrt(np.maximum(variance[:, 0], 0)) * inflation
    near = np.abs(pattern.place - center) < 1.5 * sigma + 0.5
    good = (used > n_term) & near & (amplitude > 0) & (noise > 0) & (error > 0)
    significance = np.divide(amplitude, noise, out=np.zeros_like(amplitude), where=noise > 0)
    columns = (pattern.place, error, amplitude, significance, pattern.width, misfit)
    return LineFits(*(np.where(good, array, np.nan) for array in columns))
