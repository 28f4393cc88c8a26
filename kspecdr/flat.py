"""The response of fibers and pixels from a fiber flat, on native pixels.

The lamp's spectrum is one smooth curve of wavelength common to all fibers. What a fiber shows beyond it
is its throughput, a smooth curve along the columns, and its pixels' structure (etaloning), which is kept
where the flat has the signal to show it. Nothing is rebinned (Kelson 2003, PASP 115, 688).
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline

from kspecdr.arrays import Bools, Floats
from kspecdr.errors import BadFrame
from kspecdr.options import FlatOptions
from kspecdr.spline import fit_clipped_spline

STRUCTURE_SIGNAL = 30.0  # signal to noise above which a pixel's structure is measured, not noise
LEAST_LIGHT = 0.03  # of the brightest lamp light: below it the response is extended, not measured
ROUNDS = 3


@dataclass(frozen=True)
class Response:
    """What to divide native spectra by; near 1 for the typical fiber."""

    response: Floats  # (n_fiber, n_column); NaN for a fiber without light
    variance: Floats  # (n_fiber, n_column)


def fiber_response(
    flux: Floats, variance: Floats, good: Bools, wave: Floats, options: FlatOptions = FlatOptions()
) -> Response:
    """Separate a fiber flat into lamp and response.

    Parameters
    ----------
    flux, variance, good, wave : (n_fiber, n_column)
        Extracted flat, which samples count, and the wavelengths of its pixels (Angstrom).

    Raises
    ------
    BadFrame
        If no fiber has light.
    """
    bright = good & (flux > 0) & (flux > 10 * np.sqrt(np.maximum(variance, 0)))
    level = np.array([np.median(f[b]) if b.sum() > f.size // 10 else np.nan for f, b in zip(flux, bright, strict=True)])
    if not np.isfinite(level).any():
        raise BadFrame("no fiber of the flat has light; check the lamp")
    level = level / np.nanmedian(level)
    response, noise = np.full(flux.shape, np.nan), np.full(flux.shape, np.nan)
    shape = np.where(np.isfinite(level), level, 1.0)[:, None] * np.ones_like(flux)
    for _ in range(ROUNDS):  # lamp and throughput in turn: each is the smooth part of what the other leaves
        lamp = _common(flux / shape, variance / shape**2, bright, wave, options)
        lit = [k for k in range(len(level)) if np.isfinite(level[k])]
        for k in lit:
            measured = good[k] & (lamp[k] > LEAST_LIGHT * np.nanmax(lamp))
            weight = lamp[k] ** 2 / np.abs(variance[k])
            shape[k] = _smooth(flux[k] / lamp[k], weight, measured, options)
    for k in lit:
        ratio = flux[k] / (lamp[k] * shape[k])
        error = np.sqrt(np.maximum(variance[k], 0)) / np.abs(lamp[k] * shape[k])
        measured = bright[k] & (error < 1 / STRUCTURE_SIGNAL) & (not options.bssmooth)
        response[k] = shape[k] * np.where(measured, ratio, 1.0)
        noise[k] = shape[k] ** 2 * np.where(measured, error, 0.0) ** 2
    return Response(response, noise)


def _common(flux: Floats, variance: Floats, good: Bools, wave: Floats, options: FlatOptions) -> Floats:
    """Return the lamp's spectrum at every pixel (n_fiber, n_column), one B-spline through all fibers."""
    if options.laf_flag:
        return _local_average(flux, variance, good, wave, options)
    spline = fit_spline(wave[good], flux[good], 1 / variance[good], options.bssnpars, options.bssnsigm)
    return np.asarray(spline(np.clip(wave, wave[good].min(), wave[good].max())))


def _local_average(flux: Floats, variance: Floats, good: Bools, wave: Floats, options: FlatOptions) -> Floats:
    """Return the lamp as each fiber's `laf_par` nearest lit neighbours on the slit see it."""
    lit = np.flatnonzero(good.any(axis=1))
    lamp = np.ones_like(flux)
    for k in range(flux.shape[0]):
        near = np.zeros(flux.shape[0], bool)
        near[lit[np.argsort(np.abs(lit - k), kind="stable")[: max(options.laf_par, 1)]]] = True
        use = good & near[:, None]
        spline = fit_spline(wave[use], flux[use], 1 / variance[use], options.bssnpars, options.bssnsigm)
        lamp[k] = spline(np.clip(wave[k], wave[use].min(), wave[use].max()))
    return lamp


def _smooth(ratio: Floats, weight: Floats, good: Bools, options: FlatOptions) -> Floats:
    """Return the smooth part of a fiber's response, extended as a constant where it is not measured."""
    column = np.arange(ratio.size, dtype=float)
    if good.sum() < 4 * options.bssnpars:
        return np.full(ratio.size, np.median(ratio[good]) if good.any() else np.nan)
    spline = fit_spline(column[good], ratio[good], weight[good], options.bssnpars, options.bssnsigm)
    return np.asarray(spline(np.clip(column, column[good][0], column[good][-1])))


def fit_spline(x: Floats, y: Floats, weight: Floats, n_par: int, clip: float) -> BSpline:
    """Fit a cubic B-spline of `n_par` parameters, knots at equal numbers of points, clipped at `clip` sigma.

    x, y, weight : (n,), x in any order
    """
    order = np.argsort(x, kind="stable")
    x, y, variance = x[order].astype(float), y[order].astype(float), 1 / weight[order].astype(float)
    inner = np.quantile(x, np.linspace(0, 1, max(n_par - 2, 2))[1:-1])
    return fit_clipped_spline(x, y, variance, inner, clip=clip)[0]
