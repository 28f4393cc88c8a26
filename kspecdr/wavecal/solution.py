"""One joint fit of wavelength over columns and fibers, robust, with its errors.

Terms of the dispersion beyond the second, and stretch, bend and skew along the slit, are as large as the residuals
ask for (automatic relevance determination, MacKay 1992, Neural Computation 4, 415); each line has an error of its
own that all fibers share (blends, tables). These scales are estimated by expectation maximisation, so the errors
cover what lies beyond the last line.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import legendre
from scipy.linalg import cho_factor, cho_solve

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.wavecal.dispersion import DEGREE, SMOOTH, Dispersion, slit_basis

TYPICAL = np.array([0.0, 0.0, 0.0, 2.0, 0.2, 0.05, 0.02])  # px, of the terms in spectrographs, before the data speak
KNOWN = np.array([0.0, 0.0, 0.0, 0.3, 0.05, 0.02, 0.01])  # px, the same about a grating equation that is known
FREE = 3  # terms of F that are always free: place, dispersion, its change
FREEDOM = 4.0  # of the Student distribution that residuals are taken to follow
ROUNDS = 15
LEAST_ROUNDS = 4
CONVERGED = 1e-3  # px
OFFSET_SCATTER = 3.0  # px, of fibers about a smooth curve along the slit
LEVEL = 1e4  # px**-2, precision with which the mean of each distortion is kept at 0: F has the mean
SMALLEST = 1e-6  # px, keeps scales from vanishing


@dataclass(frozen=True)
class Measurements:
    """Places of lines, one entry a line and fiber."""

    fiber: Ints  # (n,)
    line: Ints  # (n,) index of the line
    column: Floats  # (n,) px
    error: Floats  # (n,) px
    wavelength: Floats  # (n,) Angstrom where the line appears
    blend: Floats  # (n_line,) px, error of each line by unresolved neighbours


def fit_dispersion(data: Measurements, start: Dispersion, *, base: Floats) -> Dispersion:
    """Fit the shared dispersion and the fibers' distortions to the measured lines.

    Parameters
    ----------
    data
        Measured places; errors of single measurements are taken as they are and widened as residuals ask.
    start
        First model, within a pixel or so; its terms are taken, not its scales.
    base
        (DEGREE + 1,) Legendre terms, Angstrom, that the terms beyond the second are drawn towards: those of
        the grating equation where it is known, else zeros.

    Returns
    -------
    The model with its covariance and the estimated scales.
    """
    # the scales are estimated anew: those of an earlier fit would keep what they once put to nothing
    model = Dispersion(
        start.n_column, start.shape, _smoothed(start.fibers), np.zeros(len(data.blend)), relevance=typical(base)
    )
    for k in range(ROUNDS):
        before = model
        model = _step(data, model, base)
        if k > 1:
            model = replace(model, noise=_extra_noise(data, model))
        moved = np.abs(model.shape - before.shape).max() / abs(model.px) + np.abs(model.fibers - before.fibers).max()
        if k >= LEAST_ROUNDS and moved < CONVERGED:
            break
    return model


def typical(base: Floats) -> Floats:
    """Return how large the terms of F (DEGREE + 1,) are about `base`, px, before the data speak."""
    return KNOWN if base.any() else TYPICAL


def residuals(data: Measurements, model: Dispersion) -> Floats:
    """Return measured minus modelled column of each measurement, px."""
    place = model.place(data.fiber, data.column)
    gap = data.wavelength - legendre.legval(place, model.shape)
    return -gap / model.slope(place)


def weights(data: Measurements, model: Dispersion) -> Floats:
    """Return the inverse variance of each measurement, px**-2, lower for those that deviate."""
    variance = data.error**2 + model.noise**2
    deviation = (residuals(data, model) - model.lines[data.line]) ** 2 / variance
    return (FREEDOM + 1) / (FREEDOM + deviation) / variance


def held_out(data: Measurements, model: Dispersion, *, base: Floats, n_fold: int = 5) -> Floats:
    """Return the residual of each measurement against a fit that did not see its line, px; lines take turns."""
    lines = np.unique(data.line)
    fold = np.zeros(int(lines.max()) + 1, dtype=int)
    fold[lines] = np.arange(len(lines)) % n_fold
    left = np.empty(len(data.line))
    for k in range(min(n_fold, len(lines))):
        out = fold[data.line] == k
        model_k = _solve(data, model, base, weights(data, model) * ~out)[0]
        left[out] = residuals(data, model_k)[out]
    return left


def used_lines(data: Measurements, model: Dispersion, *, limit: float = 5.0) -> Bools:
    """Return which measurements agree with the model within `limit` of their errors, the line's own included."""
    spread = np.sqrt(data.error**2 + model.noise**2 + model.line_scatter**2 + data.blend[data.line] ** 2)
    return np.abs(residuals(data, model)) < limit * spread


def _smoothed(fibers: Floats) -> Floats:
    """Return the terms of the fibers (n_fiber, 1 + SMOOTH) with all but the offsets smooth along the slit."""
    basis = slit_basis(len(fibers))
    return np.concatenate([fibers[:, :1], basis @ (basis.T @ fibers[:, 1:])], axis=1)


def _step(data: Measurements, model: Dispersion, base: Floats) -> Dispersion:
    solved, covariance = _solve(data, model, base, weights(data, model))
    n_shape, n_fiber = DEGREE + 1, len(model.fibers)
    n_slit = slit_basis(n_fiber).shape[1]
    n_model = n_shape + SMOOTH * n_slit + n_fiber
    spread = np.diag(covariance)
    # as much as the term is found to be, with what is typical in the weight of one more such term
    found = ((solved.shape - base) / solved.px) ** 2 + spread[:n_shape]
    relevance = np.sqrt((found + typical(base) ** 2) / 2)
    along = spread[n_shape : n_shape + SMOOTH * n_slit].reshape(SMOOTH, n_slit).sum(axis=1)
    extent = np.sqrt(((solved.fibers[:, 1:] ** 2).sum(axis=0) + along) / n_fiber)
    seen = np.unique(data.line)
    eta = solved.lines[seen] ** 2 + spread[n_model + seen]
    beyond = np.maximum(eta - data.blend[seen] ** 2, 0)
    line_scatter = float(np.sqrt(np.average(beyond, weights=1 / (FREEDOM + eta / (model.line_scatter**2 + 1e-8)))))
    return replace(
        solved,
        covariance=covariance[:n_model, :n_model],
        relevance=np.maximum(relevance, SMALLEST),
        extent=np.maximum(extent, 1e-3),
        line_scatter=max(line_scatter, 2e-4),
    )


def _solve(data: Measurements, model: Dispersion, base: Floats, weight: Floats) -> tuple[Dispersion, Floats]:
    """Take one weighted least-squares step of all terms with their priors; return the model and the covariance."""
    n_shape, n_fiber = DEGREE + 1, len(model.fibers)
    basis = slit_basis(n_fiber)
    miss = residuals(data, model) - model.lines[data.line]
    normal, right = _equations(data, model, weight, miss)
    precision, pull = _priors(model, base, data.blend)
    covariance = cho_solve(cho_factor(normal + precision, lower=True), np.eye(len(normal)))
    change = covariance @ (right + pull)
    n_along = SMOOTH * basis.shape[1]
    shape, along, offset, lines = np.split(change, np.cumsum([n_shape, n_along, n_fiber]))
    smooth = (basis @ along.reshape(SMOOTH, -1).T).reshape(n_fiber, SMOOTH)
    solved = replace(
        model,
        shape=model.shape + model.px * shape,
        fibers=model.fibers + np.concatenate([offset[:, None], smooth], axis=1),
        lines=model.lines + lines,
    )
    return solved, covariance


def _equations(data: Measurements, model: Dispersion, weight: Floats, miss: Floats) -> tuple[Floats, Floats]:
    """Return the normal matrix and the right side of the terms of `design`, the offsets and the lines."""
    design = model.design(data.fiber, data.column)
    n_term, n_fiber, n_line = design.shape[1], len(model.fibers), len(model.lines)
    weighted = design * weight[:, None]
    o, e = n_term, n_term + n_fiber
    normal = np.zeros((e + n_line, e + n_line))
    normal[:o, :o] = weighted.T @ design
    normal[:o, o:e] = [np.bincount(data.fiber, column, n_fiber) for column in weighted.T]
    normal[:o, e:] = [np.bincount(data.line, column, n_line) for column in weighted.T]
    normal[o:e, e:] = np.bincount(data.fiber * n_line + data.line, weight, n_fiber * n_line).reshape(n_fiber, n_line)
    normal = normal + np.triu(normal, 1).T * (np.arange(e + n_line)[:, None] >= o)
    normal[np.arange(o, e), np.arange(o, e)] = np.bincount(data.fiber, weight, n_fiber)
    normal[np.arange(e, e + n_line), np.arange(e, e + n_line)] = np.bincount(data.line, weight, n_line)
    right = np.concatenate(
        [
            weighted.T @ miss,
            np.bincount(data.fiber, weight * miss, n_fiber),
            np.bincount(data.line, weight * miss, n_line),
        ]
    )
    return normal, right


def _priors(model: Dispersion, base: Floats, blend: Floats) -> tuple[Floats, Floats]:
    """Return the precision matrix of the priors and their pull on a change of the terms."""
    n_shape, n_fiber, n_line = DEGREE + 1, len(model.fibers), len(model.lines)
    basis = slit_basis(n_fiber)
    n_slit = basis.shape[1]
    o, e = n_shape + SMOOTH * n_slit, n_shape + SMOOTH * n_slit + n_fiber
    precision = np.zeros((e + n_line, e + n_line))
    free = np.arange(n_shape) < FREE
    shape = np.where(free, 1e-8, np.maximum(model.relevance, SMALLEST) ** -2.0)
    precision[np.arange(n_shape), np.arange(n_shape)] = shape
    level = np.full((n_fiber, n_fiber), LEVEL / n_fiber)
    for p in range(SMOOTH):
        own = slice(n_shape + p * n_slit, n_shape + (p + 1) * n_slit)
        precision[own, own] = np.eye(n_slit) / model.extent[p] ** 2 + basis.T @ level @ basis
    rough = np.eye(n_fiber) - basis @ basis.T
    precision[o:e, o:e] = rough / OFFSET_SCATTER**2 + level + SMALLEST * np.eye(n_fiber)
    variance = model.line_scatter**2 + blend**2
    at = e + np.arange(n_line)
    precision[at, at] = (FREEDOM + 1) / (FREEDOM + model.lines**2 / variance) / variance
    along = (basis.T @ model.fibers[:, 1:]).T.ravel()
    state = np.concatenate([np.where(free, 0, model.shape - base) / model.px, along, model.fibers[:, 0], model.lines])
    return precision, -precision @ state


def _extra_noise(data: Measurements, model: Dispersion) -> float:
    """Return the scatter beyond the errors that brings the median squared deviation to that of a Gaussian."""
    square = (residuals(data, model) - model.lines[data.line]) ** 2
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = 0.5 * (low + high)
        if np.median(square / (data.error**2 + middle**2)) > 0.455:
            low = middle
        else:
            high = middle
    return high
