"""Kernel of make_throughput: one common spectrum and a smooth curve for each fiber, solved together.

The logarithm of a fiber's light is a B-spline in wavelength that all fibers share plus a few Legendre
polynomials of the column. Both are found by one least-squares fit, weighted with the model's own signal to
noise, so that faint samples neither bias it nor count for more than they know (iteratively reweighted least
squares; McCullagh and Nelder 1989, Generalized Linear Models, ch. 2).

The polynomials' terms are drawn towards zero as far as those of all fibers are small (empirical Bayes, fixed
point of MacKay 1992, Neural Computation 4, 415): a faint fiber's curve is as smooth as the bright ones' are
seen to be, and what all fibers have in common belongs to the spectrum.
"""

from dataclasses import dataclass

import numpy as np
from numpy.polynomial.legendre import legvander
from scipy.interpolate import BSpline
from scipy.ndimage import median_filter
from scipy.sparse import csr_array, vstack

from kspecdr.arrays import Bools, Floats

BEND = 1.0  # prior spread of the spectrum's second difference from knot to knot, in the logarithm
FREE = 10.0  # prior spread of a fiber's level, in the logarithm: as good as none
STEEPEST = 0.5  # of the other terms, before the fibers have been seen
SMALLEST = 1e-6  # to which the spread of a term may fall
ROUNDS = 30
SETTLED = 3e-5  # rms change of the curves' logarithm at which they are found
NOISE_COLUMNS = 15  # over which the variance of a sample is taken
STRUCTURE_COLUMNS = 60  # over which the strength of the structure is taken
STRUCTURE_FLOOR = 0.01  # of a sample: with less noise than this it tells no more about the strength
OUTLIER = 5.0  # medians


@dataclass(frozen=True)
class Separated:
    """Light as spectrum times throughput, (n_fiber, n_column) each."""

    spectrum: Floats  # electron, the light of the typical fiber
    shape: Floats  # relative throughput, smooth along the columns
    uncertain: Floats  # variance of its logarithm, shared by neighbouring columns


@dataclass(frozen=True)
class Terms:
    """What spectrum and curves are made of."""

    n_term: int = 16  # of a fiber's curve
    clip: float = 6.0  # sigma beyond which a sample is left out
    knot_columns: float = 12.0  # between knots of the spectrum, which must not follow the etaloning (14 px)
    known_level: bool = False  # fibers are alike but for what the light itself tells, their levels too


@dataclass(frozen=True)
class _Basis:
    spectrum: list[csr_array]  # of each fiber (n_column, n_spline)
    every: csr_array  # those of all fibers, (n_fiber * n_column, n_spline)
    curve: Floats  # (n_column, n_term)
    n_free: int  # of the terms, the first ones: those not drawn to zero


@dataclass(frozen=True)
class _Fit:
    log_spectrum: Floats  # (n_fiber, n_column)
    log_shape: Floats  # (n_fiber, n_column)
    uncertain: Floats  # (n_fiber, n_column) variance of it
    spread: Floats  # (n_term,) of the terms over the fibers

    @property
    def model(self) -> Floats:
        return np.exp(self.log_spectrum + self.log_shape)


def separate(flux: Floats, variance: Floats, good: Bools, wave: Floats, terms: Terms = Terms()) -> Separated:
    """Separate the light of fibers that see the same source into its spectrum and their throughputs.

    flux, variance, good, wave : (n_fiber, n_column) electron, electron**2, whether it counts, Angstrom

    The curves are constant before the first and after the last column that counts.
    """
    smooth = median_filter(variance, size=(1, NOISE_COLUMNS), mode="nearest")  # no sample weighs by its own noise
    noise = np.sqrt(np.maximum(smooth, 1e-12))
    curve = legvander(np.linspace(-1.0, 1.0, flux.shape[1]), terms.n_term - 1)
    splines = _splines(wave, terms.knot_columns)
    basis = _Basis(splines, vstack(splines, format="csr"), curve, 0 if terms.known_level else 1)
    spread = np.r_[np.full(basis.n_free, FREE), np.full(terms.n_term - basis.n_free, STEEPEST)]
    start = np.maximum(flux, noise)
    fit = _solve(basis, np.where(good, (start / noise) ** 2, 0.0), np.log(start), spread)
    use = good
    for _ in range(ROUNDS):
        off, error2 = flux / fit.model - 1.0, (noise / fit.model) ** 2
        total = error2 + strength_of_structure(off, error2, good)
        aim = np.where(use, fit.log_spectrum + fit.log_shape + off, 0.0)
        before, fit = fit, _solve(basis, np.where(use, 1.0 / total, 0.0), aim, fit.spread)
        use = good & (off**2 < terms.clip**2 * total)
        if np.std(fit.log_shape - before.log_shape) < SETTLED:
            break
    level = 0.0 if terms.known_level else float(np.median(fit.log_shape))
    counts = good & (noise < fit.model)
    shape, uncertain = _held(np.exp(fit.log_shape - level), counts), _held(fit.uncertain, counts)
    return Separated(np.exp(fit.log_spectrum + level), shape, uncertain)


def beyond_flat(flux: Floats, variance: Floats, good: Bools, wave: Floats) -> Separated:
    """Return what the even light of the sky tells of the throughputs beyond the fiber flat; 1: nothing.

    flux, variance, good, wave : (n_fiber, n_column), the sky divided by the flat's response

    A level and a slope a fiber, each drawn to those of the flat as far as the fibers agree with it. The
    spectrum is resolved, so that the lines of twilight and night sky count as light.
    """
    return separate(flux, variance, good, wave, Terms(n_term=2, knot_columns=2.0, known_level=True))


def strength_of_structure(off: Floats, error2: Floats, good: Bools) -> Floats:
    """Return the variance (n_column,) of samples about the smooth model beyond that of their noise.

    off, error2 : (n_fiber, n_column) relative deviation from the model, and its variance by noise
    """
    least = error2 + STRUCTURE_FLOOR**2
    pull = np.abs(off) / np.sqrt(least)
    column = np.arange(off.shape[1], dtype=float)
    blocks = np.array_split(np.arange(off.shape[1]), max(off.shape[1] // STRUCTURE_COLUMNS, 1))
    found = np.zeros(len(blocks))
    for n, block in enumerate(blocks):
        seen = good[:, block]
        if not seen.any():
            continue
        typical = pull[:, block] <= OUTLIER * np.median(pull[:, block][seen])
        trust = np.where(seen & typical, least[:, block] ** -2.0, 0.0)
        found[n] = np.sum(trust * (off[:, block] ** 2 - error2[:, block])) / trust.sum()
    return np.asarray(np.interp(column, [column[block].mean() for block in blocks], np.maximum(found, 0.0)))


def _splines(wave: Floats, knot_columns: float) -> list[csr_array]:
    """Return the B-splines of the common spectrum at the samples of each fiber, (n_column, n_spline) each."""
    step = knot_columns * float(np.median(np.abs(np.diff(wave, axis=1))))
    low, high = float(wave.min()), float(wave.max())
    inner = np.linspace(low, high, max(int((high - low) / step), 1) + 1)[1:-1]
    knots = np.concatenate([[low] * 4, inner, [high] * 4])
    return [csr_array(BSpline.design_matrix(row, knots, 3)) for row in wave]


def _solve(basis: _Basis, weight: Floats, aim: Floats, spread: Floats) -> _Fit:
    """Fit spectrum and curves to `aim` (n_fiber, n_column), the curves' terms eliminated fiber by fiber."""
    n_spline = basis.spectrum[0].shape[1]
    bend = np.diff(np.eye(n_spline), 2, axis=0) / BEND
    weighted = weight[:, :, None] * basis.curve  # (n_fiber, n_column, n_term)
    covariance = np.linalg.inv(basis.curve.T @ weighted + np.diag(spread**-2.0))
    shared = np.array([spline.T @ each for spline, each in zip(basis.spectrum, weighted, strict=True)])
    target = (weight * aim) @ basis.curve
    every = basis.every
    split = np.concatenate(shared @ np.linalg.cholesky(covariance), axis=1)
    normal = bend.T @ bend + (every.T @ (every * weight.ravel()[:, None])).toarray() - split @ split.T
    right = every.T @ (weight * aim).ravel() - (shared @ (covariance @ target[..., None])).sum(axis=0)[:, 0]
    spectrum = np.linalg.solve(normal, right)
    terms = (covariance @ (target - spectrum @ shared)[..., None])[..., 0]
    told = (1.0 - np.diagonal(covariance, axis1=1, axis2=2) / spread**2).sum(axis=0)  # terms that the data know
    seen = np.clip(np.sqrt((terms**2).sum(axis=0) / np.maximum(told, 1e-3)), SMALLEST, STEEPEST)
    return _Fit(
        (every @ spectrum).reshape(weight.shape),
        terms @ basis.curve.T,
        ((basis.curve @ covariance) * basis.curve).sum(axis=2),
        np.where(np.arange(seen.size) < basis.n_free, FREE, seen),
    )


def _held(shape: Floats, counts: Bools) -> Floats:
    """Return the curves held constant outside the first and the last column that counts."""
    column = np.arange(shape.shape[1])
    held = shape.copy()
    for row, counted in zip(held, counts, strict=True):
        if counted.any():
            row[:] = row[np.clip(column, *np.flatnonzero(counted)[[0, -1]])]
    return held
