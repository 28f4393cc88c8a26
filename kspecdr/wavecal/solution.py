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
from scipy.sparse import csr_array

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
FADING = 1 / 3  # of what a distortion has along the slit, a power to the one below, before the data speak
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


def held_out(data: Measurements, model: Dispersion, *, base: Floats, n_fold: int = 5) -> tuple[Floats, Floats]:
    """Return the residual of each measurement against a fit that did not see its line, px; lines take turns.

    The second: the standard error that these residuals should have by that fit, px.
    """
    lines = np.unique(data.line)
    fold = np.zeros(int(lines.max()) + 1, dtype=int)
    fold[lines] = np.arange(len(lines)) % n_fold
    n_fold = min(n_fold, len(lines))
    shown = np.arange(n_fold) != fold[data.line][:, None]
    left, placed = np.empty(len(data.line)), np.empty(len(data.line))
    for k in range(n_fold):
        model_k, spread = _solved(data, model, base, shown[:, k])
        own = ~shown[:, k]
        left[own] = residuals(data, model_k)[own]
        placed[own] = _place_variance(
            spread.covariance, model_k.design(data.fiber[own], data.column[own]), data.fiber[own]
        )
    own_error = data.error**2 + model.noise**2 + model.line_scatter**2 + data.blend[data.line] ** 2
    return left, np.sqrt(np.maximum(placed, 0) + own_error)


def _place_variance(covariance: Floats, design: Floats, fiber: Ints) -> Floats:
    """Return the variance (n,) with which the terms, and the offset of each fiber, place lines, px**2."""
    n_shared = design.shape[1]
    offset = n_shared + fiber
    shared = ((design @ covariance[:n_shared, :n_shared]) * design).sum(axis=1)
    mixed = (design * covariance[offset, :n_shared]).sum(axis=1)
    variance: Floats = shared + 2 * mixed + covariance[offset, offset]
    return variance


def used_lines(data: Measurements, model: Dispersion, *, limit: float = 5.0) -> Bools:
    """Return which measurements agree with the model within `limit` of their errors, the line's own included."""
    spread = np.sqrt(data.error**2 + model.noise**2 + model.line_scatter**2 + data.blend[data.line] ** 2)
    return np.abs(residuals(data, model)) < limit * spread


def _smoothed(fibers: Floats) -> Floats:
    """Return the terms of the fibers (n_fiber, 1 + SMOOTH) with all but the offsets smooth along the slit."""
    basis = slit_basis(len(fibers))
    return np.concatenate([fibers[:, :1], basis @ (basis.T @ fibers[:, 1:])], axis=1)


@dataclass(frozen=True)
class _Equations:
    """Normal equations, priors included, of the model's terms (m) and of the lines (l), which are diagonal."""

    model: Floats  # (n_model, n_model)
    mixed: Floats  # (n_model, n_line)
    lines: Floats  # (n_line,)
    right_model: Floats  # (n_model,)
    right_lines: Floats  # (n_line,)

    def solved(self) -> tuple[Floats, Floats, "_Spread"]:
        """Return the changes of the model's terms and of the lines, with their spread; the lines are eliminated."""
        share = self.mixed / self.lines
        schur = cho_factor(self.model - share @ self.mixed.T, lower=True)
        covariance = cho_solve(schur, np.eye(len(self.model)))
        change = covariance @ (self.right_model - share @ self.right_lines)
        lines = (self.right_lines - change @ self.mixed) / self.lines
        return change, lines, _Spread(covariance, 1 / self.lines + (share * (covariance @ share)).sum(axis=0))


@dataclass(frozen=True)
class _Spread:
    """How well the terms are known."""

    covariance: Floats  # (n_model, n_model) px**2
    lines: Floats  # (n_line,) px**2


def _step(data: Measurements, model: Dispersion, base: Floats) -> Dispersion:
    """Take one step of all terms, then of the scales that the terms are found to have."""
    solved, spread = _solved(data, model, base)
    n_shape, n_fiber = DEGREE + 1, len(model.fibers)
    basis = slit_basis(n_fiber)
    own = np.diag(spread.covariance)
    # as much as the term is found to be, with what is typical in the weight of one more such term
    found = ((solved.shape - base) / solved.px) ** 2 + own[:n_shape]
    relevance = np.sqrt((found + typical(base) ** 2) / 2)
    along = (basis.T @ solved.fibers[:, 1:]).T ** 2 + own[n_shape:-n_fiber].reshape(SMOOTH, -1)
    fading = FADING ** (2.0 * np.maximum(np.arange(basis.shape[1]) - 1, 0))
    extent = np.sqrt((along + along.sum(axis=1, keepdims=True) * fading) / 2)
    seen = np.bincount(data.line, minlength=len(model.lines)) > 0
    eta = (solved.lines**2 + spread.lines)[seen]
    beyond = np.maximum(eta - data.blend[seen] ** 2, 0)
    line_scatter = float(np.sqrt(np.average(beyond, weights=1 / (FREEDOM + eta / (model.line_scatter**2 + 1e-8)))))
    return replace(
        solved,
        covariance=spread.covariance,
        relevance=np.maximum(relevance, SMALLEST),
        extent=np.maximum(extent, 1e-3),
        line_scatter=max(line_scatter, 2e-4),
    )


def _solved(
    data: Measurements, model: Dispersion, base: Floats, shown: Bools | None = None
) -> tuple[Dispersion, _Spread]:
    """Take one weighted least-squares step of all terms with their priors; `shown`: the measurements with a say."""
    miss = residuals(data, model) - model.lines[data.line]
    variance = data.error**2 + model.noise**2
    weight = (FREEDOM + 1) / (FREEDOM + miss**2 / variance) / variance  # of a Student distribution
    weight = weight if shown is None else weight * shown
    n_fiber = len(model.fibers)
    basis = slit_basis(n_fiber)
    change, lines, spread = _equations(data, model, base, weight, miss).solved()
    shape, along, offset = np.split(change, [DEGREE + 1, len(change) - n_fiber])
    smooth = (basis @ along.reshape(SMOOTH, -1).T).reshape(n_fiber, SMOOTH)
    solved = replace(
        model,
        shape=model.shape + model.px * shape,
        fibers=model.fibers + np.concatenate([offset[:, None], smooth], axis=1),
        lines=model.lines + lines,
    )
    return solved, spread


def _equations(data: Measurements, model: Dispersion, base: Floats, weight: Floats, miss: Floats) -> _Equations:
    """Return the normal equations of the terms of `design`, the offsets and the lines."""
    design = model.design(data.fiber, data.column)
    n_fiber, n_line = len(model.fibers), len(model.lines)
    weighted = np.concatenate([design, np.ones((len(design), 1)), miss[:, None]], axis=1) * weight[:, None]
    of_fibers, of_lines = _summed(weighted, data.fiber, n_fiber), _summed(weighted, data.line, n_line)
    together = np.bincount(data.fiber * n_line + data.line, weight, n_fiber * n_line).reshape(n_fiber, n_line)
    normal = weighted[:, :-2].T @ design
    across = of_fibers[:, :-2]
    precision, pull = _model_priors(model, base)
    certainty = _line_priors(model, data.blend)
    return _Equations(
        np.block([[normal, across.T], [across, np.diag(of_fibers[:, -2])]]) + precision,
        np.concatenate([of_lines[:, :-2].T, together]),
        of_lines[:, -2] + certainty,
        np.append(design.T @ weighted[:, -1], of_fibers[:, -1]) + pull,
        of_lines[:, -1] - certainty * model.lines,
    )


def _summed(rows: Floats, index: Ints, n: int) -> Floats:
    """Sum the rows (n_row, n_term) that share an index below `n`, (n, n_term)."""
    member = csr_array((np.ones(len(index)), index, np.arange(len(index) + 1)), shape=(len(index), n))
    total: Floats = np.asarray(member.T @ rows)
    return total


def _model_priors(model: Dispersion, base: Floats) -> tuple[Floats, Floats]:
    """Return the precision matrix of the priors of the model's terms and their pull on a change of them."""
    n_shape, n_fiber = DEGREE + 1, len(model.fibers)
    basis = slit_basis(n_fiber)
    n_slit = basis.shape[1]
    n_smooth = n_shape + SMOOTH * n_slit
    precision = np.zeros((n_smooth + n_fiber, n_smooth + n_fiber))
    free = np.arange(n_shape) < FREE
    shape = np.where(free, 1e-8, np.maximum(model.relevance, SMALLEST) ** -2.0)
    precision[np.arange(n_shape), np.arange(n_shape)] = shape
    level = np.full((n_fiber, n_fiber), LEVEL / n_fiber)
    for p in range(SMOOTH):
        own = slice(n_shape + p * n_slit, n_shape + (p + 1) * n_slit)
        precision[own, own] = np.diag(np.broadcast_to(model.extent[p] ** -2.0, n_slit)) + basis.T @ level @ basis
    rough = np.eye(n_fiber) - basis @ basis.T
    precision[n_smooth:, n_smooth:] = rough / OFFSET_SCATTER**2 + level + SMALLEST * np.eye(n_fiber)
    along = (basis.T @ model.fibers[:, 1:]).T.ravel()
    state = np.concatenate([np.where(free, 0, model.shape - base) / model.px, along, model.fibers[:, 0]])
    return precision, -precision @ state


def _line_priors(model: Dispersion, blend: Floats) -> Floats:
    """Return the precision (n_line,) with which each line is kept at its own wavelength."""
    variance = model.line_scatter**2 + blend**2
    return (FREEDOM + 1) / (FREEDOM + model.lines**2 / variance) / variance


def _extra_noise(data: Measurements, model: Dispersion) -> float:
    """Return the scatter beyond the errors that brings the median squared deviation to that of a Gaussian."""
    square = (residuals(data, model) - model.lines[data.line]) ** 2
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = 0.5 * (low + high)
        if 2 * np.count_nonzero(square > 0.455 * (data.error**2 + middle**2)) > len(square):
            low = middle
        else:
            high = middle
    return high
