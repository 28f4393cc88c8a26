"""Pixel-integrated Gaussian fits of all fibers in all column bins at once.

Each fiber has a window of rows; what its neighbours send into the window is subtracted from
the neighbours' current fit, so that blended fibers are fitted together by iteration. Weights
come from the known variance plus a share of the model, which keeps the fit from leaning on
the faint edge of a profile that is not quite Gaussian. The background slopes as far as the neighbours
have wings, which would draw a faint fiber to a bright one and widen it.
"""

from dataclasses import dataclass, fields

import numpy as np
from scipy.special import erf

from kspecdr.arrays import Bools, Floats, Ints

MODEL_ERROR = 0.02  # of the profile, departure of a real fiber from a Gaussian
WING_SLOPE = 0.0005  # per row, what wings may add to the background, of a neighbour's light
SPILL = 2  # rows past those that are fitted
ITERATIONS = 6
N_PARAMETER = 5  # flux, center, log sigma, background, its slope


@dataclass(frozen=True)
class CentroidFit:
    """Results per fiber and bin, each (n_fiber, n_bin); NaN where the fit has no meaning."""

    center: Floats  # row
    error: Floats  # row
    sigma: Floats  # px
    sigma_error: Floats  # px
    flux: Floats  # electron per column
    background: Floats  # electron per pixel at the first guess of the center

    @property
    def usable(self) -> Bools:
        """Where a center was measured."""
        return np.isfinite(self.center)

    def of(self, keep: Bools) -> "CentroidFit":
        """Return the fits of some fibers, by a mask (n_fiber,)."""
        return CentroidFit(*(getattr(self, part.name)[keep] for part in fields(self)))


def pixel_gaussian(offset: Floats, sigma: Floats) -> Floats:
    """Integral of a unit Gaussian over a pixel whose middle lies `offset` px from its center."""
    scale = np.sqrt(0.5) / sigma
    return np.asarray(0.5 * (erf((offset + 0.5) * scale) - erf((offset - 0.5) * scale)))


def fit_centroids(
    flux: Floats,
    variance: Floats,
    center: Floats,
    sigma: float,
    *,
    half_window: int,
    model_error: float = MODEL_ERROR,
    wing_slope: float = WING_SLOPE,
) -> CentroidFit:
    """Fit flux, center, width and a sloping background to every fiber in every bin.

    Parameters
    ----------
    flux, variance : (n_row, n_bin)
        Electron and electron**2 per column; NaN is left out.
    center : (n_fiber, n_bin)
        First guess, rows; good to about a pixel.
    sigma : float
        First guess of the width, px.
    half_window : int
        Rows on either side of the center that take part.
    model_error : float
        Relative departure of the profile from a Gaussian.
    wing_slope : float
        How much steeper, per row, a neighbour's wings make the background, in units of its light.
    """
    window = _Window.around(flux, variance, center, half_window)
    parameters = _first_guess(window, center, sigma)
    covariance = np.zeros((*center.shape, N_PARAMETER, N_PARAMETER))
    for _ in range(ITERATIONS):
        own, slopes = _model(window.row, parameters, center)
        others = window.total(own, flux.shape[0]) - own
        rest = window.flux - others - np.sum(parameters[..., None, 3:] * slopes[..., 3:], axis=-1) - own
        weight = 1 / (window.variance + (model_error * own) ** 2)
        steep = np.maximum(wing_slope * _beside(np.abs(parameters[..., 0])), 1e-9)
        parameters, covariance = _improve(rest, weight, slopes, parameters, center, steep)
    return _results(parameters, covariance, center)


@dataclass(frozen=True)
class _Window:
    """Rows about each fiber, flux and weight there, all (n_fiber, n_bin, n_window)."""

    row: Ints
    flux: Floats
    variance: Floats  # inf where the pixel is not to be used

    @classmethod
    def around(cls, flux: Floats, variance: Floats, center: Floats, half: int) -> "_Window":
        """Take the rows to fit, and some beyond that tell only what light reaches the windows of others."""
        step = np.arange(-half - SPILL, half + SPILL + 1)
        row = np.round(center).astype(int)[..., None] + step
        inside = np.clip(row, 0, flux.shape[0] - 1)
        column = np.arange(flux.shape[1])[None, :, None]
        light, noise = flux[inside, column], variance[inside, column]
        usable = (np.abs(step) <= half) & (row == inside) & np.isfinite(light) & np.isfinite(noise) & (noise > 0)
        return cls(row, np.where(usable, light, 0.0), np.where(usable, noise, np.inf))

    def total(self, own: Floats, n_row: int) -> Floats:
        """Sum the profiles of all fibers and return that sum in each window."""
        n_bin = self.row.shape[1]
        flat = np.clip(self.row, 0, n_row - 1) * n_bin + np.arange(n_bin)[None, :, None]
        return np.asarray(np.bincount(flat.ravel(), own.ravel(), n_row * n_bin)[flat])


def _first_guess(window: _Window, center: Floats, sigma: float) -> Floats:
    background = np.min(np.where(np.isfinite(window.variance), window.flux, np.inf), axis=-1)
    background = np.where(np.isfinite(background), background, 0.0)
    shape = pixel_gaussian(window.row - center[..., None], np.asarray(sigma))
    weight = shape / window.variance
    with np.errstate(invalid="ignore", divide="ignore"):
        flux = np.sum(weight * (window.flux - background[..., None]), -1) / np.sum(weight * shape, -1)
    flux = np.nan_to_num(flux, nan=0.0)
    return np.stack([flux, center, np.full_like(center, np.log(sigma)), background, np.zeros_like(flux)], axis=-1)


def _model(row: Ints, parameters: Floats, start: Floats) -> tuple[Floats, Floats]:
    """Return the profiles without background and their slopes (..., n_window, n_parameter).

    The slope of the background is per row from `start` on.
    """
    flux, center, log_sigma = (parameters[..., k, None] for k in range(3))
    sigma = np.exp(log_sigma)
    low, high = (row - 0.5 - center) / sigma, (row + 0.5 - center) / sigma
    shape = 0.5 * (erf(high * np.sqrt(0.5)) - erf(low * np.sqrt(0.5)))
    bell_low, bell_high = (np.exp(-0.5 * u**2) / np.sqrt(2 * np.pi) for u in (low, high))
    by_center = flux * (bell_low - bell_high) / sigma
    by_log_sigma = flux * (low * bell_low - high * bell_high)
    background = (np.ones_like(shape), row - start[..., None])
    return flux * shape, np.stack([shape, by_center, by_log_sigma, *background], axis=-1)


def _beside(light: Floats) -> Floats:
    """Return the light of both neighbours of each fiber, (n_fiber, n_bin)."""
    padded = np.pad(light, ((1, 1), (0, 0)))
    return np.asarray(padded[:-2] + padded[2:])


def _improve(
    rest: Floats, weight: Floats, slopes: Floats, parameters: Floats, start: Floats, steep: Floats
) -> tuple[Floats, Floats]:
    """Take one Gauss-Newton step; the center stays within 2 px of `start`, the width within 2 times.

    The slope of the background is expected to be 0 +- `steep` (n_fiber, n_bin).
    """
    weighted = slopes * weight[..., None]
    normal = np.swapaxes(weighted, -1, -2) @ slopes
    normal[..., 4, 4] += steep**-2
    scale = np.sqrt(np.maximum(np.diagonal(normal, axis1=-2, axis2=-1), 1e-30))
    normal = normal / (scale[..., :, None] * scale[..., None, :]) + 1e-6 * np.eye(N_PARAMETER)
    gradient = np.einsum("...wp,...w->...p", weighted, rest)
    gradient[..., 4] -= parameters[..., 4] / steep**2
    gradient /= scale
    inverse = np.linalg.inv(normal)
    step = np.einsum("...pq,...q->...p", inverse, gradient) / scale
    step[..., 1] = np.clip(step[..., 1], -0.7, 0.7)
    step[..., 2] = np.clip(step[..., 2], -0.3, 0.3)
    moved = parameters + step
    moved[..., 1] = np.clip(moved[..., 1], start - 2, start + 2)
    moved[..., 2] = np.clip(moved[..., 2], np.log(0.3), np.log(6.0))
    return moved, inverse / (scale[..., :, None] * scale[..., None, :])


def _results(parameters: Floats, covariance: Floats, start: Floats) -> CentroidFit:
    flux, center, log_sigma, background, _ = np.moveaxis(parameters, -1, 0)
    error = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    sigma = np.exp(log_sigma)
    inside = (np.abs(center - start) < 1.9) & (sigma > 0.32) & (sigma < 5.8)
    sound = inside & (flux > 5 * error[..., 0]) & (error[..., 1] < 0.5)
    return CentroidFit(
        *(
            np.where(sound, value, np.nan)
            for value in (center, error[..., 1], sigma, sigma * error[..., 2], flux, background)
        )
    )
