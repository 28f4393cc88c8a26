"""Positions of many lines in many fibers at once: pixel-integrated Gaussians with their neighbours, in one batch."""

from dataclasses import dataclass

import numpy as np
from scipy.special import erf

from kspecdr.arrays import Floats, Ints

ITERATIONS = 6
RIDGE = 1e-9  # keeps the components that do not exist at 0 without touching the others
SQRT_2PI = np.sqrt(2 * np.pi)


@dataclass(frozen=True)
class LineFits:
    """Fitted lines, (n_fiber, n_line) each; NaN where a line could not be fitted."""

    column: Floats  # px
    error: Floats  # px, scaled by the misfit where that is above the noise
    amplitude: Floats  # flux summed over the line
    significance: Floats  # amplitude over its error
    sigma: Floats  # px, Gaussian width
    misfit: Floats  # chi square per degree of freedom


@dataclass(frozen=True)
class Windows:
    """The samples around each line: (n_fiber, n_line, n_sample)."""

    first: Ints  # (n_fiber, n_line) column of the first sample
    flux: Floats
    weight: Floats  # 1 / variance, 0 outside the spectrum and on bad samples

    @classmethod
    def cut(cls, flux: Floats, weight: Floats, center: Floats, half_width: int) -> "Windows":
        """Cut windows of 2 half_width + 1 samples about `center` (n_fiber, n_line)."""
        n_column = flux.shape[1]
        first = np.rint(np.clip(np.nan_to_num(center, nan=-1e6), -1e6, 1e6)).astype(int) - half_width
        columns = first[:, :, None] + np.arange(2 * half_width + 1)
        inside = (columns >= 0) & (columns < n_column)
        fiber = np.arange(len(flux))[:, None, None]
        at = np.clip(columns, 0, n_column - 1)
        return cls(first, flux[fiber, at], np.where(inside, weight[fiber, at], 0.0))


def fit_lines(
    flux: Floats,
    weight: Floats,
    center: Floats,
    offsets: Floats,
    sigma: Floats,
    *,
    half_width: int,
    free_width: bool,
) -> LineFits:
    """Fit lines and the neighbours within their windows.

    Parameters
    ----------
    flux
        (n_fiber, n_column) above the continuum.
    weight
        (n_fiber, n_column) inverse variance, 0 where bad.
    center
        (n_fiber, n_line) expected place of each line, px.
    offsets
        (n_fiber, n_line, n_neighbour) known distances of the neighbours from the line, px; NaN for none.
    sigma
        (n_fiber, n_line) width of the Gaussian, px.
    half_width
        Half the window, px.
    free_width
        Fit the width of each line too.

    Notes
    -----
    The amplitudes of the line and its neighbours, a constant under them and the place of the whole pattern
    are solved together by Gauss-Newton steps; distances within the pattern are known from the wavelengths
    and stay. A line that moves more than its own width from the expected place gives NaN.
    """
    windows = Windows.cut(flux, weight, center, half_width)
    samples = np.arange(2 * half_width + 1) + windows.first[:, :, None]
    place, width = center.astype(float), np.broadcast_to(sigma, center.shape).astype(float)
    place = np.where(np.isfinite(place), place, -1e6)
    offsets = np.concatenate([np.zeros((*center.shape, 1)), offsets], axis=2)
    shift_terms = np.zeros((*center.shape, offsets.shape[2]))  # amplitudes of the step before
    for k in range(ITERATIONS):
        design = _design(samples, place, width, offsets, shift_terms, free_width=free_width)
        solution, normal = _solved(design, windows)
        shift_terms = solution[:, :, : offsets.shape[2]]
        if k > 0:
            place = place + np.clip(solution[:, :, -1 - free_width], -0.7 * width, 0.7 * width)
        if free_width and k > 1:
            width = width * np.exp(np.clip(solution[:, :, -1], -0.2, 0.2))
    return _fits(design, solution, normal, windows, place, width, center, sigma, free_width=free_width)


def _design(
    samples: Ints, place: Floats, width: Floats, offsets: Floats, amplitudes: Floats, *, free_width: bool
) -> Floats:
    """Columns of the linear problem: each component, a constant, the shift and (optional) ln width.

    Returns (n_fiber, n_line, n_sample, n_term).
    """
    exists = np.isfinite(offsets)
    middle = place[:, :, None] + np.where(exists, offsets, 0.0)
    edge = np.concatenate([samples - 0.5, samples[:, :, -1:] + 0.5], axis=2)
    z = (edge[:, :, :, None] - middle[:, :, None, :]) / width[:, :, None, None]
    area = 0.5 * np.diff(erf(z / np.sqrt(2)), axis=2) * exists[:, :, None, :]
    bell = np.exp(-0.5 * np.minimum(z**2, 80.0)) / SQRT_2PI * exists[:, :, None, :]
    strength = amplitudes[:, :, None, :]
    shift = -(np.diff(bell, axis=2) * strength).sum(axis=3) / width[:, :, None]
    terms = [area, np.ones((*shift.shape, 1)), shift[..., None]]
    if free_width:
        terms.append(-(np.diff(bell * z, axis=2) * strength).sum(axis=3)[..., None])
    return np.concatenate(terms, axis=3)


def _solved(design: Floats, windows: Windows) -> tuple[Floats, Floats]:
    weighted = design * windows.weight[..., None]
    normal = np.swapaxes(weighted, 2, 3) @ design
    right = np.swapaxes(weighted, 2, 3) @ windows.flux[..., None]
    diagonal = np.einsum("...pp->...p", normal)
    scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    scaled = normal / (scale[..., :, None] * scale[..., None, :])
    scaled = scaled + np.where(diagonal > 0, RIDGE, 1.0)[..., None] * np.eye(design.shape[3])
    solution = np.linalg.solve(scaled, right / scale[..., None])[..., 0] / scale
    return solution, scaled


def _fits(
    design: Floats,
    solution: Floats,
    scaled: Floats,
    windows: Windows,
    place: Floats,
    width: Floats,
    center: Floats,
    sigma: Floats,
    *,
    free_width: bool,
) -> LineFits:
    model = (design @ solution[..., None])[..., 0]
    shift = -1 - free_width
    step = solution[..., shift]
    model = model - design[..., shift] * step[..., None]
    used = (windows.weight > 0).sum(axis=2)
    n_term = (np.abs(design).sum(axis=2) > 0).sum(axis=2)
    freedom = np.maximum(used - n_term, 1)
    misfit = (windows.weight * (windows.flux - model) ** 2).sum(axis=2) / freedom
    inverse = np.linalg.inv(scaled)
    diagonal = np.einsum("...pp->...p", np.swapaxes(design * windows.weight[..., None], 2, 3) @ design)
    variance = np.einsum("...pp->...p", inverse) / np.where(diagonal > 0, diagonal, np.inf)
    inflation = np.sqrt(np.maximum(misfit, 1.0))
    error = np.sqrt(np.maximum(variance[..., shift], 0)) * inflation
    amplitude = solution[..., 0]
    noise = np.sqrt(np.maximum(variance[..., 0], 0)) * inflation
    good = (used > n_term) & (np.abs(place - center) < 1.5 * sigma + 0.5) & (amplitude > 0) & (noise > 0) & (error > 0)
    significance = np.divide(amplitude, noise, out=np.zeros_like(amplitude), where=noise > 0)
    columns = (place, error, amplitude, significance, width, misfit)
    return LineFits(*(np.where(good, array, np.nan) for array in columns))
