"""One joint fit of wavelength over columns and fibers, robust, with its errors.

The columns of fiber k are brought to a reference frame, v = x - (o_k + t_k u + q_k u**2), and there share
one dispersion, wavelength = F(v), a Legendre series about a given shape. Offsets o_k are free: fibers sit
on the slit as they please. Stretch t_k and bend q_k follow the slit smoothly as far as the residuals allow;
terms of F beyond the second are as large as the residuals ask for (automatic relevance determination,
MacKay 1992, Neural Computation 4, 415); each line has an error of its own that all fibers share (blends,
tables). All these scales are estimated by expectation maximisation, so the errors cover what lies beyond
the last line.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.polynomial import legendre
from scipy.linalg import cho_factor, cho_solve

from kspecdr.arrays import Bools, Floats, Ints

DEGREE = 6  # highest term that F may have; the data decide how many it takes
TYPICAL = np.array([0.0, 0.0, 0.0, 2.0, 0.2, 0.05, 0.02])  # px, of the terms in spectrographs, before the data speak
KNOWN = np.array([0.0, 0.0, 0.0, 0.3, 0.05, 0.02, 0.01])  # px, the same about a grating equation that is known
FREE = 3  # terms of F that are always free: place, dispersion, its change
FREEDOM = 4.0  # of the Student distribution that residuals are taken to follow
ROUNDS = 15
LEAST_ROUNDS = 4
CONVERGED = 1e-3  # px
OFFSET_SCATTER = 3.0  # px, of fibers about a smooth curve along the slit, before anything is known


@dataclass(frozen=True)
class Measurements:
    """Places of lines, one entry a line and fiber."""

    fiber: Ints  # (n,)
    line: Ints  # (n,) index of the line
    column: Floats  # (n,) px
    error: Floats  # (n,) px
    wavelength: Floats  # (n,) Angstrom where the line appears
    blend: Floats  # (n_line,) px, error of each line by unresolved neighbours


@dataclass(frozen=True)
class Dispersion:
    """The fitted model and the covariance of its terms."""

    n_column: int
    shape: Floats  # (DEGREE + 1,) Legendre terms of F, Angstrom
    fibers: Floats  # (n_fiber, 3) o, t, q of each fiber, px
    lines: Floats  # (n_line,) px, error of each line shared by all fibers
    covariance: Floats = field(default_factory=lambda: np.zeros((0, 0)))  # of shape / px and of fibers, px**2
    relevance: Floats = field(default_factory=lambda: np.ones(DEGREE + 1))  # (DEGREE + 1,) px, scale of each term
    scatter: Floats = field(default_factory=lambda: np.array([OFFSET_SCATTER, 0.3, 0.1]))  # px, of o, t, q off a curve
    extent: Floats = field(default_factory=lambda: np.array([1e3, 10.0, 10.0]))  # px, of o, t, q along the slit
    line_scatter: float = 0.1  # px, of lines
    noise: float = 0.0  # px, of single measurements beyond their errors

    @property
    def half(self) -> float:
        """Half the length of a spectrum, px."""
        return 0.5 * (self.n_column - 1)

    def place(self, fiber: Ints, column: Floats) -> Floats:
        """Return the reference place, -1 to 1, of columns of fibers."""
        u = column / self.half - 1
        o, t, q = self.fibers[fiber].T
        place: Floats = u - (o + t * u + q * u**2) / self.half
        return place

    def wavelength(self, fiber: Ints, column: Floats) -> Floats:
        """Return the wavelength at columns of fibers, Angstrom."""
        return legendre.legval(self.place(fiber, column), self.shape)

    def slope(self, place: Floats) -> Floats:
        """Return the dispersion at reference places, Angstrom / px."""
        return legendre.legval(place, legendre.legder(self.shape)) / self.half

    def wavelengths(self) -> Floats:
        """Return the (n_fiber, n_column) wavelengths, Angstrom."""
        columns = np.arange(self.n_column, dtype=float)
        return np.array([self.wavelength(np.full(self.n_column, k), columns) for k in range(len(self.fibers))])

    def errors(self, step: int = 16) -> Floats:
        """Return the (n_fiber, n_column) standard error of the wavelengths, Angstrom."""
        n_fiber, n_shape = len(self.fibers), len(self.shape)
        at = np.unique(np.append(np.arange(0, self.n_column, step), self.n_column - 1)).astype(float)
        errors = np.zeros((n_fiber, self.n_column))
        for k in range(n_fiber):
            own = np.concatenate([np.arange(n_shape), n_shape + 3 * k + np.arange(3)])
            design = self.design(np.full(len(at), k), at)
            variance = np.einsum("np,pq,nq->n", design, self.covariance[np.ix_(own, own)], design)
            sigma = np.sqrt(np.maximum(variance, 0)) * np.abs(self.slope(self.place(np.full(len(at), k), at)))
            errors[k] = np.interp(np.arange(self.n_column), at, sigma)
        return errors

    def design(self, fiber: Ints, column: Floats) -> Floats:
        """Return the derivatives (n, DEGREE + 4) of the modelled column by the terms of F (px) and o, t, q."""
        place = self.place(fiber, column)
        px = float(self.shape[1]) / self.half
        terms = legendre.legvander(place, DEGREE) * (-px / self.slope(place))[:, None]
        u = column / self.half - 1
        return np.concatenate([terms, np.stack([np.ones_like(u), u, u**2], axis=1)], axis=1)


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
    The model with its covariance and the estimated scatters.
    """
    # the scales are estimated anew: those of an earlier fit would keep what they once put to nothing
    model = Dispersion(start.n_column, start.shape, start.fibers, np.zeros(len(data.blend)), relevance=typical(base))
    for k in range(ROUNDS):
        before = model
        model = _step(data, model, base)
        if k > 1:
            model = replace(model, noise=_extra_noise(data, model))
        px = model.shape[1] / model.half
        moved = np.abs(model.shape - before.shape).max() / abs(px) + np.abs(model.fibers - before.fibers).max()
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


def _step(data: Measurements, model: Dispersion, base: Floats) -> Dispersion:
    solved, covariance = _solve(data, model, base, weights(data, model))
    n_shape, n_fiber = DEGREE + 1, len(model.fibers)
    n_model = n_shape + 3 * n_fiber
    px = solved.shape[1] / model.half
    spread = np.diag(covariance)
    # as much as the term is found to be, with what is typical in the weight of one more such term
    relevance = np.sqrt((((solved.shape - base) / px) ** 2 + spread[:n_shape] + typical(base) ** 2) / 2)
    rough = _roughness(n_fiber)
    own = n_shape + 3 * np.arange(n_fiber)
    freedom = max(float(np.trace(rough)), 1.0)
    scatter, extent = model.scatter.copy(), model.extent.copy()
    for p in (1, 2):
        terms, cov = solved.fibers[:, p], covariance[np.ix_(own + p, own + p)]
        scatter[p] = np.sqrt((terms @ rough @ terms + np.sum(rough * cov)) / freedom)
        extent[p] = np.sqrt((terms @ terms + np.trace(cov)) / n_fiber)
    seen = np.unique(data.line)
    eta = solved.lines[seen] ** 2 + spread[n_model + seen]
    beyond = np.maximum(eta - data.blend[seen] ** 2, 0)
    line_scatter = float(np.sqrt(np.average(beyond, weights=1 / (FREEDOM + eta / (model.line_scatter**2 + 1e-8)))))
    return replace(
        solved,
        covariance=covariance[:n_model, :n_model],
        relevance=np.maximum(relevance, 1e-5),
        scatter=np.maximum(scatter, 1e-4),
        extent=np.maximum(extent, 1e-3),
        line_scatter=max(line_scatter, 2e-4),
    )


def _solve(data: Measurements, model: Dispersion, base: Floats, weight: Floats) -> tuple[Dispersion, Floats]:
    """One weighted least-squares step of all terms with their priors; return the model and its covariance."""
    n_shape, n_fiber, n_line = DEGREE + 1, len(model.fibers), len(model.lines)
    design = np.concatenate([model.design(data.fiber, data.column), np.ones((len(data.line), 1))], axis=1)
    index = np.concatenate(
        [
            np.broadcast_to(np.arange(n_shape), (len(data.line), n_shape)),
            (n_shape + 3 * data.fiber)[:, None] + np.arange(3),
            (n_shape + 3 * n_fiber + data.line)[:, None],
        ],
        axis=1,
    )
    size = n_shape + 3 * n_fiber + n_line
    outer = (design * weight[:, None])[:, :, None] * design[:, None, :]
    flat = index[:, :, None] * size + index[:, None, :]
    normal = np.bincount(flat.ravel(), outer.ravel(), minlength=size * size).reshape(size, size)
    miss = residuals(data, model)  # measured minus modelled: what the terms must take up, against the design
    right = np.bincount(
        index.ravel(), (design * (weight * (miss - model.lines[data.line]))[:, None]).ravel(), minlength=size
    )
    precision, pull = _priors(model, base, data.blend)
    factor = cho_factor(normal + precision, lower=True)
    covariance = cho_solve(factor, np.eye(size))
    change = covariance @ (right + pull)
    px = model.shape[1] / model.half
    return (
        replace(
            model,
            shape=model.shape + px * change[:n_shape],
            fibers=model.fibers + change[n_shape : n_shape + 3 * n_fiber].reshape(n_fiber, 3),
            lines=model.lines + change[n_shape + 3 * n_fiber :],
        ),
        covariance,
    )


def _priors(model: Dispersion, base: Floats, blend: Floats) -> tuple[Floats, Floats]:
    """Precision matrix of the priors and their pull on a change of the terms."""
    n_shape, n_fiber, n_line = DEGREE + 1, len(model.fibers), len(model.lines)
    size = n_shape + 3 * n_fiber + n_line
    precision = np.zeros((size, size))
    px = model.shape[1] / model.half
    shape = np.where(np.arange(n_shape) < FREE, 1e-8, np.maximum(model.relevance, 1e-6) ** -2.0)
    precision[np.arange(n_shape), np.arange(n_shape)] = shape
    rough, level = _roughness(n_fiber), np.full((n_fiber, n_fiber), 1e4 / n_fiber)
    for p in range(3):
        own = n_shape + p + 3 * np.arange(n_fiber)
        precision[np.ix_(own, own)] = rough / model.scatter[p] ** 2 + np.eye(n_fiber) / model.extent[p] ** 2 + level
    variance = model.line_scatter**2 + blend**2
    at = n_shape + 3 * n_fiber + np.arange(n_line)
    precision[at, at] = (FREEDOM + 1) / (FREEDOM + model.lines**2 / variance) / variance
    state = np.concatenate(
        [
            (model.shape - np.where(np.arange(n_shape) < FREE, model.shape, base)) / px,
            model.fibers.ravel(),
            model.lines,
        ]
    )
    return precision, -precision @ state


def _roughness(n_fiber: int) -> Floats:
    """Projection of a value per fiber onto what a quartic along the slit (less for few fibers) leaves."""
    degree = min(4, max((n_fiber - 1) // 3, 0))
    basis = np.linalg.qr(legendre.legvander(np.linspace(-1, 1, n_fiber) if n_fiber > 1 else np.zeros(1), degree))[0]
    rough: Floats = np.eye(n_fiber) - basis @ basis.T
    return rough


def _extra_noise(data: Measurements, model: Dispersion) -> float:
    """Scatter beyond the errors that brings the median squared deviation to that of a Gaussian."""
    square = (residuals(data, model) - model.lines[data.line]) ** 2
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = 0.5 * (low + high)
        if np.median(square / (data.error**2 + middle**2)) > 0.455:
            low = middle
        else:
            high = middle
    return high


def used_lines(data: Measurements, model: Dispersion, *, limit: float = 5.0) -> Bools:
    """Return which measurements agree with the model within `limit` of their errors, the line's own included."""
    spread = np.sqrt(data.error**2 + model.noise**2 + model.line_scatter**2 + data.blend[data.line] ** 2)
    return np.abs(residuals(data, model)) < limit * spread
