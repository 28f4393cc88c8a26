"""Measure what the fibers' common profile has beyond a Gaussian core, from a binned flat.

The density beyond the Gaussian core is a spline near the center and a few wide Gaussians further out
(a free spline there could mimic a share of the neighbour's light). Their coefficients, scattered light
and the light of every fiber in every bin are fitted together, the latter eliminated (variable projection:
Golub & Pereyra 1973, SIAM J. Numer. Anal. 10, 413).
"""

import numpy as np
from scipy.interpolate import BSpline
from scipy.special import ndtr

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.tlm.light import fit_light, gather, scatter
from kspecdr.tlm.peaks import BinnedFlat
from kspecdr.tlm.profile import N_WING, REACH, FiberWindows, profile_matrix, wing_grid

CORE_REACH, CORE_KNOTS = 4.0, 0.5  # core widths, of the splines
WING_WIDTHS = (2.0, 3.0, 4.5)  # core widths, of the Gaussians that carry the wings
PRIOR = 0.1  # expected size of the coefficients, in shares of the light
MODEL_ERROR = 0.003  # of the light
MOST_PROFILES = 1200  # fibers times bins that take part
MARGIN = 30  # rows past the outer fibers, where background is seen without wings
GHOST = 0.02  # of the bright rows; no wing is as bright as that 6 core widths out
PASSES = 2
N_BACKGROUND = 5


def measure_wings(binned: BinnedFlat, center: Floats, width: Floats) -> Floats:
    """Return the wings of the profile, see `kspecdr.tlm.profile`, (N_WING,).

    Parameters
    ----------
    binned : BinnedFlat
        The flat.
    center, width : (n_fiber, n_bin)
        Rows and core widths of the lit fibers in the bins.
    """
    basis = _cumulative_basis()
    chosen = _chosen_bins(binned, len(center))
    center, width = center[:, chosen], width[:, chosen]
    span = _span(center, width, len(binned.flux))
    flux, variance = binned.flux[span][:, chosen], binned.variance[span][:, chosen]
    flux = np.where(_ghost(flux, center - span.start, width), np.nan, flux)
    n_shape, prior = basis.shape[1], np.zeros(basis.shape[1] + N_BACKGROUND)
    prior[:n_shape] = PRIOR**-2
    coefficients: Floats = np.zeros(len(prior))
    for _ in range(PASSES):
        normal, right = _equations(flux, variance, center - span.start, width, coefficients, basis)
        total = normal @ coefficients + right  # of the equations for the coefficients themselves
        coefficients = _with_light_in_wings(normal + np.diag(prior), total)
    return np.asarray(basis @ coefficients[:n_shape])


def _with_light_in_wings(normal: Floats, right: Floats) -> Floats:
    """Solve the normal equations with the wide Gaussians not below zero: past the core there is light or none."""
    free = np.ones(len(right), dtype=bool)
    solution = np.zeros(len(right))
    for _ in range(len(WING_WIDTHS) + 1):
        solution = np.zeros(len(right))
        solution[free] = np.linalg.solve(normal[np.ix_(free, free)], right[free])
        wide = solution[: len(WING_WIDTHS)]
        if wide.min() >= 0:
            break
        free[np.argmin(wide)] = False
    return solution


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


def _cumulative_basis() -> Floats:
    """Return the cumulative basis functions on the wing grid, (N_WING, n_basis), without net light.

    The total is one whatever the coefficients are: each function takes from the core what it adds.
    """
    grid = wing_grid()
    core = ndtr(grid)
    knots = np.arange(-CORE_REACH, CORE_REACH + 1e-9, CORE_KNOTS)
    columns = [ndtr(grid / wide) - ndtr(-REACH / wide) for wide in WING_WIDTHS]
    for k in range(len(knots) - 4):
        columns.append(BSpline.basis_element(knots[k : k + 5]).antiderivative()(np.clip(grid, knots[k], knots[k + 4])))
        columns[-1] = columns[-1] - columns[-1][0]
    return np.array([column - column[-1] * core for column in columns]).T


def _chosen_bins(binned: BinnedFlat, n_fiber: int) -> Ints:
    """Return bins with light, spread over the columns, up to MOST_PROFILES fibers in all."""
    light = np.nansum(np.nan_to_num(binned.flux), axis=0)
    bright = np.flatnonzero(light > 0.3 * np.percentile(light, 90))
    most = int(np.clip(MOST_PROFILES / n_fiber, 6, 24))
    return np.asarray(bright[np.unique(np.linspace(0, len(bright) - 1, most).round().astype(int))])


def _span(center: Floats, width: Floats, n_row: int) -> slice:
    """Return the rows of the slit with some margin."""
    reach = REACH * float(np.max(width)) + MARGIN
    return slice(max(0, int(center.min() - reach)), min(n_row, int(center.max() + reach) + 1))


def _half_window(width: Floats) -> int:
    return int(np.ceil(REACH * float(np.max(width))))


def _ghost(flux: Floats, center: Floats, width: Floats) -> Bools:
    """Return where light past the outer fibers is brighter than their wings can be, (n_row, n_bin)."""
    row = np.arange(len(flux))[:, None]
    away = np.maximum(center[0] - row, row - center[-1]) > 6 * np.max(width)
    return np.asarray(away & (flux > GHOST * np.nanpercentile(flux, 90, axis=0)))


def _weighted(flux: Floats, variance: Floats, windows: FiberWindows) -> tuple[Floats, Floats]:
    """Return flux and weight in the windows; bad pixels weigh nothing."""
    good = np.isfinite(flux) & np.isfinite(variance) & (variance > 0)
    weight = np.where(good, 1 / np.where(good, variance, 1.0), 0.0)
    first, n_window = windows.first, windows.share.shape[1]
    return gather(np.where(good, flux, 0.0), first, n_window), gather(weight, first, n_window)


def _equations(
    flux: Floats, variance: Floats, center: Floats, width: Floats, coefficients: Floats, basis: Floats
) -> tuple[Floats, Floats]:
    """Return the normal equations for a change of the coefficients, the light of the fibers eliminated."""
    n_shape = basis.shape[1]
    windows = profile_matrix(center, width, _half_window(width), basis @ coefficients[:n_shape])
    background = _background_design(flux)
    rest = flux - background @ coefficients[n_shape:]
    inside, weight = _weighted(rest, variance, windows)
    light, _ = fit_light(inside, weight, windows)
    model = scatter(windows.share * light[:, None], windows.first, len(flux))
    noise = variance + (MODEL_ERROR * model) ** 2
    inside, weight = _weighted(rest, noise, windows)
    light, factored = fit_light(inside, weight, windows)
    rest = rest - scatter(windows.share * light[:, None], windows.first, len(flux))
    design = np.concatenate([_shape_design(windows, center, width, light, basis, len(flux)), background], axis=-1)
    good = np.isfinite(rest) & np.isfinite(noise) & (noise > 0)
    weighted = design * np.where(good, 1 / np.where(good, noise, 1.0), 0.0)[..., None]
    seen = weighted[np.clip(windows.rows, 0, len(flux) - 1), np.arange(flux.shape[1])]
    outside = (windows.rows < 0) | (windows.rows >= len(flux))
    shared = np.einsum("fkx,fkxp->fxp", np.where(outside, 0.0, windows.share), seen)
    normal = np.einsum("kxp,kxq->pq", weighted, design) - np.einsum("fxp,fxq->pq", shared, factored.solve(shared))
    return normal, np.einsum("kxp,kx->p", weighted, np.where(good, rest, 0.0))


def _background_design(flux: Floats) -> Floats:
    """Return a pedestal with a slope and scattered light of each bin's own strength, (n_row, n_bin, 5)."""
    run = np.linspace(-1, 1, len(flux))[:, None] * np.ones(flux.shape[1])
    light = np.nanmean(flux, axis=0) * np.ones(flux.shape)
    return np.stack([np.ones_like(run), run, light, light * run, light * run**2], axis=-1)


def _shape_design(
    windows: FiberWindows, center: Floats, width: Floats, light: Floats, basis: Floats, n_row: int
) -> Floats:
    """Return what a unit of each coefficient adds to the rows, (n_row, n_bin, n_shape)."""
    edge = np.arange(windows.share.shape[1] + 1)[:, None] - 0.5
    place = (edge + (windows.first - center)[:, None]) / width[:, None]
    index = np.clip((place + REACH) / (2 * REACH) * (N_WING - 1), 0, N_WING - 1.001)
    left = index.astype(int)
    part = (index - left)[..., None]
    added = np.diff(basis[left] * (1 - part) + basis[left + 1] * part, axis=1) * light[:, None, :, None]
    first = windows.first
    return np.stack([scatter(added[..., k], first, n_row) for k in range(added.shape[-1])], axis=-1)
