"""How the spectra of a slit of fibers lie against each other: smile, stretch and offsets, by cross-correlation.

The column x of fiber k shows what the reference frame has at v = x - (o + t u + q u**2), u from -1 to 1
over the columns. Neighbours are compared first, since they differ least, and each fiber with the mean of
all afterwards.
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from kspecdr.arrays import Bools, Floats

REACH = 12  # px, largest difference of neighbours
SEGMENTS = (-0.7, 0.0, 0.7)  # places where shifts are measured, in u
HALF_SEGMENT = 0.6  # their half width, in u
STIFF = np.array([1e-6, 3.0, 10.0])  # prior precision (1/px) of o, t, q between neighbours


def align_fibers(contrast: Floats, usable: Bools) -> Floats:
    """Measure the distortion of each fiber against the reference frame.

    Parameters
    ----------
    contrast
        (n_fiber, n_column) line signal, compressed so that no line dominates, 0 without light.
    usable
        (n_fiber,) fibers with light enough to be compared; the others get the values of their neighbours.

    Returns
    -------
    (n_fiber, 3) o, t, q in px; their means over the usable fibers are 0.
    """
    chosen = np.flatnonzero(usable)
    terms = np.zeros((len(contrast), 3))
    if len(chosen) < 2:
        return terms
    smooth = gaussian_filter1d(contrast[chosen], 1.0, axis=1)
    smooth = smooth - smooth.mean(axis=1, keepdims=True)
    steps = _terms(*_lags(smooth[1:], smooth[:-1]))
    found = np.vstack([np.zeros(3), np.cumsum(steps, axis=0)])
    for _ in range(3):
        found = found - found.mean(axis=0)
        straight = resampled(smooth, found)
        template = np.broadcast_to(straight.mean(axis=0), straight.shape)
        found = found + _terms(*_lags(straight, template))
    found = found - found.mean(axis=0)
    for p in range(3):
        terms[:, p] = np.interp(np.arange(len(contrast)), chosen, found[:, p])
    return terms


def resampled(flux: Floats, terms: Floats) -> Floats:
    """Return the spectra (n_fiber, n_column) on the columns of the reference frame, by linear interpolation."""
    n_column = flux.shape[1]
    columns = np.arange(n_column, dtype=float)
    u = 2 * columns / (n_column - 1) - 1
    place = columns + terms @ np.stack([np.ones_like(u), u, u**2])
    return np.array([np.interp(at, columns, row, 0.0, 0.0) for at, row in zip(place, flux, strict=True)])


def _lags(spectra: Floats, template: Floats) -> tuple[Floats, Floats]:
    """Shifts (n, n_segment) of spectra against templates and their weights, in px and px**-2."""
    n, n_column = spectra.shape
    u = np.linspace(-1, 1, n_column)
    lags, weights = np.zeros((2, n, len(SEGMENTS)))
    size = 1 << int(np.ceil(np.log2(n_column + 2 * REACH)))
    for s, middle in enumerate(SEGMENTS):
        window = np.clip(1 - ((u - middle) / HALF_SEGMENT) ** 2, 0, None)
        cross = np.fft.irfft(np.fft.rfft(spectra, size) * np.conj(np.fft.rfft(template * window, size)), size)
        cross = np.roll(cross, REACH, axis=1)[:, : 2 * REACH + 1]
        lags[:, s], weights[:, s] = _summit(cross)
    return lags, weights


def _summit(cross: Floats) -> tuple[Floats, Floats]:
    rows = np.arange(len(cross))
    top = np.clip(cross.argmax(axis=1), 1, cross.shape[1] - 2)
    left, middle, right = (cross[rows, top + k] for k in (-1, 0, 1))
    curvature = np.maximum(2 * middle - left - right, 1e-12)
    lag = top - REACH + np.clip(0.5 * (right - left) / curvature, -0.5, 0.5)
    return lag, curvature


def _terms(lags: Floats, weights: Floats) -> Floats:
    """Fit o, t, q to the shifts of the segments; stretch and bend only as far as the segments ask for them."""
    at = np.array(SEGMENTS)
    basis = np.stack([np.ones_like(at), at, at**2], axis=1)
    share = weights / np.maximum(weights.max(axis=1, keepdims=True), 1e-12)
    normal = np.einsum("ns,sp,sq->npq", share, basis, basis) + np.diag(STIFF * 0.01)
    right = np.einsum("ns,sp->np", share * lags, basis)
    return np.linalg.solve(normal, right[:, :, None])[:, :, 0]
