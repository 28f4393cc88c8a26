"""Measure what the fibers' common profile has beyond a Gaussian core, from a binned flat.

Near the center, a spline in core widths says how the core departs from a Gaussian. The wings are a sum of wide
Gaussians in px with light of either sign excluded, which changes linearly along the columns. Their
coefficients, scattered light and the light of every fiber in every bin are fitted together, the latter
eliminated (variable projection: Golub & Pereyra 1973, SIAM J. Numer. Anal. 10, 413).
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline
from scipy.optimize import lsq_linear
from scipy.special import ndtr

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.tlm.light import fit_light, gather, scatter
from kspecdr.tlm.peaks import BinnedFlat
from kspecdr.tlm.profile import FAR_REACH, N_WING, REACH, FiberWindows, core_grid, far_grid, profile_matrix

CORE_REACH, CORE_KNOTS = 3.0, 0.5  # core widths, of the splines
WING_WIDTHS = np.geomspace(1.8, 6.5, 8)  # typical core widths, of the Gaussians that carry the wings
N_ZONE = 16  # of columns, in which the wings are tabulated
PRIOR = 0.1  # expected size of the coefficients, in shares of the light
MODEL_ERROR = 0.003  # of the light
MOST_PROFILES = 1200  # fibers times bins that take part
MARGIN = 30  # rows past the outer fibers, where background is seen without wings
GHOST = 0.02  # of the bright rows; no wing is as bright as that 6 core widths out
GHOST_SIGMA = 5.0  # beyond that; noise must not be cut on one side
PASSES = 2
N_BACKGROUND = 5
N_FREE = 3  # in each fiber and bin: light, center and width


def measure_wings(binned: BinnedFlat, center: Floats, width: Floats) -> Floats:
    """Return the wings of the profile, see `kspecdr.tlm.profile`, (1 + N_ZONE, N_WING).

    Parameters
    ----------
    binned : BinnedFlat
        The flat.
    center, width : (n_fiber, n_bin)
        Rows and core widths of the lit fibers in the bins.
    """
    chosen = _chosen_bins(binned, len(center))
    center, width = center[:, chosen], width[:, chosen]
    span = _span(center, width, len(binned.flux))
    center = center - span.start
    flux, variance = binned.flux[span][:, chosen], binned.variance[span][:, chosen]
    flux = np.where(_ghost(flux, variance, center, width), np.nan, flux)
    basis = _Basis.of(float(np.median(width)))
    place = (binned.column[chosen] + 0.5) / (binned.step * len(binned.column))
    changes = basis.changes(center, width, place)
    free = basis.n_core + N_BACKGROUND
    coefficients: Floats = np.zeros(basis.n_far + free)
    lowest = np.append(np.zeros(basis.n_far), np.full(free, -np.inf))
    prior = np.append(np.full(basis.n_far + basis.n_core, PRIOR**-2), np.zeros(N_BACKGROUND))
    for _ in range(PASSES):
        normal, right = _equations(flux, variance, center, width, coefficients, changes)
        total = normal @ coefficients + right  # of the equations for the coefficients themselves
        coefficients = _above(normal + np.diag(prior), total, lowest)
    return basis.table(coefficients)


def _above(normal: Floats, right: Floats, lowest: Floats) -> Floats:
    """Solve normal equations for coefficients that are not below `lowest`."""
    size = np.sqrt(np.diag(normal))
    root = np.linalg.cholesky(normal / np.outer(size, size) + 1e-12 * np.eye(len(size)))
    solution = lsq_linear(root.T, np.linalg.solve(root, right / size), (lowest * size, np.inf), method="bvls")
    return np.asarray(solution.x / size)


def core_light(binned: BinnedFlat, center: Floats, width: Floats, wings: Floats) -> Floats:
    """Return the binned flat less all that the profile has beyond its core, (n_row, n_bin).

    What remains of each fiber is a Gaussian, free of its neighbours' wings.
    """
    windows = profile_matrix(center, width, _half_window(width), wings)
    core = profile_matrix(center, width, _half_window(width))
    flux, weight = _weighted(binned.flux, binned.variance, windows)
    light, _ = fit_light(flux, weight, windows)
    beyond = (windows.share - core.share) * np.clip(light, 0, None)[:, None]
    return np.asarray(binned.flux - scatter(beyond, windows.first, len(binned.flux)))


@dataclass(frozen=True)
class _Basis:
    """Functions of which the profile beyond a Gaussian is made; all take from it the light that they add."""

    core: Floats  # (N_WING, n_core) cumulative, by core widths
    sigma: Floats  # (n_wing,) of the wide Gaussians, px
    reach: float  # px, where they are cut

    @classmethod
    def of(cls, width: float) -> "_Basis":
        """Make the functions for fibers of a typical core width, px."""
        grid, columns = core_grid(), []
        knots = np.arange(-CORE_REACH, CORE_REACH + 1e-9, CORE_KNOTS)
        for k in range(len(knots) - 4):
            spline = BSpline.basis_element(knots[k : k + 5]).antiderivative()
            column = spline(np.clip(grid, knots[k], knots[k + 4]))
            columns.append(column - column[0] - (column[-1] - column[0]) * ndtr(grid))
        core = _without_change_of_gaussian(np.array(columns).T, grid)
        return cls(core, WING_WIDTHS * width, min(REACH * width, FAR_REACH))

    @property
    def n_core(self) -> int:
        """Functions near the center."""
        return int(self.core.shape[1])

    @property
    def n_far(self) -> int:
        """Functions of the wings: each Gaussian at the first and at the last column."""
        return 2 * len(self.sigma)

    def far(self, offset: Floats) -> Floats:
        """Return the cumulative wide Gaussians at offsets in px, cut at the reach, (n_wing, ...)."""
        sigma = self.sigma.reshape(-1, *(1,) * offset.ndim)
        inside = np.clip(offset, -self.reach, self.reach)
        return np.asarray(ndtr(inside / sigma) - ndtr(-self.reach / sigma))

    def changes(self, center: Floats, width: Floats, place: Floats) -> Floats:
        """Return what a unit of each function adds to the shares of light, (n_fiber, n_window, n_bin, n_far + n_core).

        place : (n_bin,) of the bins, from 0 at the first column to 1 at the last
        """
        windows = profile_matrix(center, width, _half_window(width))
        edge = np.arange(windows.share.shape[1] + 1)[:, None] - 0.5 + (windows.first - center)[:, None]
        far = np.diff(self.far(edge), axis=2)
        far = far - far.sum(axis=2, keepdims=True) * windows.share
        index = np.clip((edge / width[:, None] + REACH) / (2 * REACH) * (N_WING - 1), 0, N_WING - 1.001)
        left = index.astype(int)
        part = (index - left)[..., None]
        core = np.diff(self.core[left] * (1 - part) + self.core[left + 1] * part, axis=1)
        far = np.concatenate([far * (1 - place), far * place])
        return np.concatenate([np.moveaxis(far, 0, -1), core], axis=-1)

    def table(self, coefficients: Floats) -> Floats:
        """Return the profile beyond a Gaussian as it is tabulated, (1 + N_ZONE, N_WING)."""
        first, last = coefficients[: self.n_far].reshape(2, -1)
        place = (np.arange(N_ZONE)[:, None] + 0.5) / N_ZONE
        rows = (first * (1 - place) + last * place) @ self.far(far_grid())
        core = self.core @ coefficients[self.n_far : self.n_far + self.n_core]
        return np.vstack([core / (1 - np.mean(rows[:, -1])), rows])


def _without_change_of_gaussian(cumulative: Floats, grid: Floats) -> Floats:
    """Take from cumulative functions (n, n_function) what a shift and a change of width of the Gaussian do.

    Centers and widths are free; what they can be is not left to the functions.
    """
    bell = np.exp(-0.5 * grid**2)
    change = np.stack([bell, grid * bell], axis=1)
    density, slope = np.gradient(cumulative, axis=0), np.gradient(change, axis=0)
    return np.asarray(cumulative - change @ np.linalg.solve(slope.T @ slope, slope.T @ density))


def _chosen_bins(binned: BinnedFlat, n_fiber: int) -> Ints:
    """Return bins with light, spread over the columns, up to MOST_PROFILES fibers in all."""
    light = np.nansum(np.nan_to_num(binned.flux), axis=0)
    bright = np.flatnonzero(light > 0.3 * np.percentile(light, 90))
    most = int(np.clip(MOST_PROFILES / n_fiber, 6, 70))
    return np.asarray(bright[np.unique(np.linspace(0, len(bright) - 1, most).round().astype(int))])


def _span(center: Floats, width: Floats, n_row: int) -> slice:
    """Return the rows of the slit with some margin."""
    reach = REACH * float(np.max(width)) + MARGIN
    return slice(max(0, int(center.min() - reach)), min(n_row, int(center.max() + reach) + 1))


def _half_window(width: Floats) -> int:
    return int(np.ceil(REACH * float(np.max(width))))


def _ghost(flux: Floats, variance: Floats, center: Floats, width: Floats) -> Bools:
    """Return where light past the outer fibers is brighter than their wings can be, (n_row, n_bin)."""
    row = np.arange(len(flux))[:, None]
    away = np.maximum(center[0] - row, row - center[-1]) > 6 * np.max(width)
    most = GHOST * np.nanpercentile(flux, 90, axis=0) + GHOST_SIGMA * np.sqrt(np.clip(variance, 0, None))
    return np.asarray(away & (flux > most))


def _weighted(flux: Floats, variance: Floats, windows: FiberWindows) -> tuple[Floats, Floats]:
    """Return flux and weight in the windows; bad pixels weigh nothing."""
    good = np.isfinite(flux) & np.isfinite(variance) & (variance > 0)
    weight = np.where(good, 1 / np.where(good, variance, 1.0), 0.0)
    first, n_window = windows.first, windows.share.shape[1]
    return gather(np.where(good, flux, 0.0), first, n_window), gather(weight, first, n_window)


def _equations(
    flux: Floats, variance: Floats, center: Floats, width: Floats, coefficients: Floats, changes: Floats
) -> tuple[Floats, Floats]:
    """Return the normal equations for a change of the coefficients, what is free in each fiber and bin eliminated."""
    n_shape, n_row = changes.shape[-1], len(flux)
    windows = _free_in_bins(center, width, changes @ coefficients[:n_shape])
    background = _background_design(flux)
    rest = flux - background @ coefficients[n_shape:]
    found, _ = fit_light(*_weighted(rest, variance, windows), windows)
    noise = variance + (MODEL_ERROR * scatter(windows.share * found[:, None], windows.first, n_row)) ** 2
    found, factored = fit_light(*_weighted(rest, noise, windows), windows)
    rest = rest - scatter(windows.share * found[:, None], windows.first, n_row)
    shape = scatter(changes * found[::N_FREE, None, :, None], windows.first[::N_FREE], n_row)
    design = np.concatenate([shape, background], axis=-1)
    good = np.isfinite(rest) & np.isfinite(noise) & (noise > 0)
    weighted = design * np.where(good, 1 / np.where(good, noise, 1.0), 0.0)[..., None]
    seen = weighted[np.clip(windows.rows, 0, n_row - 1), np.arange(flux.shape[1])]
    outside = (windows.rows < 0) | (windows.rows >= n_row)
    shared = np.einsum("fkx,fkxp->fxp", np.where(outside, 0.0, windows.share), seen)
    normal = np.einsum("kxp,kxq->pq", weighted, design) - np.einsum("fxp,fxq->pq", shared, factored.solve(shared))
    return normal, np.einsum("kxp,kx->p", weighted, np.where(good, rest, 0.0))


def _free_in_bins(center: Floats, width: Floats, beyond: Floats) -> FiberWindows:
    """Return what each fiber has free in each bin: light, and its changes with center and width.

    An error of the map in these would else be taken for wings. `beyond` (n_fiber, n_window, n_bin) is what the
    profile has beyond the core; the result has N_FREE rows a fiber.
    """
    core = profile_matrix(center, width, _half_window(width))
    edge = np.arange(core.share.shape[1] + 1)[:, None] - 0.5 + (core.first - center)[:, None]
    edge = edge / width[:, None]
    bell = np.exp(-0.5 * edge**2)
    free = np.stack([core.share + beyond, -np.diff(bell, axis=1), -np.diff(edge * bell, axis=1)], axis=1)
    return FiberWindows(np.repeat(core.first, N_FREE, axis=0), free.reshape(-1, *beyond.shape[1:]))


def _background_design(flux: Floats) -> Floats:
    """Return a pedestal with a slope and scattered light of each bin's own strength, (n_row, n_bin, 5)."""
    run = np.linspace(-1, 1, len(flux))[:, None] * np.ones(flux.shape[1])
    light = np.nanmean(flux, axis=0) * np.ones(flux.shape)
    return np.stack([np.ones_like(run), run, light, light * run, light * run**2], axis=-1)
