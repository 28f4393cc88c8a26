"""Find the fibers in a flat: bin along the dispersion, sharpen, pick maxima, follow them.

Wide light (ghosts, scattered light, a glowing edge) is removed by a zero-sum filter of a
fiber's own scale; what stands out of the noise at that scale is a candidate. Whether a
candidate is a fiber is judged by its width here and by the slit's pattern in match_fibers.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import convolve1d

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.maxima import apart, local_maxima
from kspecdr.runs import run_edges, sum_runs

LEAST_SIGNIFICANCE = 8.0  # sigma of a candidate in one bin
LEAST_CONTRAST = 0.002  # of the typical fiber; the faintest real ones have 0.01
KERNEL_SIGMA = 1.1  # px, between the narrowest and the widest fiber met (0.9 to 1.5)


@dataclass(frozen=True)
class BinnedFlat:
    """A frame averaged over runs of columns."""

    column: Floats  # (n_bin,) mean column of each bin
    flux: Floats  # (n_row, n_bin) electron per column; NaN where no pixel is good
    variance: Floats  # (n_row, n_bin) electron**2 of that mean
    seen: Floats  # (n_row, n_bin) as flux, but of the bad pixels where there are no others: where light is
    step: float  # columns in a bin


@dataclass(frozen=True)
class Peaks:
    """Candidates for fibers in one cross-dispersion profile."""

    row: Floats  # (n_peak,) ascending, to a fraction of a pixel
    height: Floats  # (n_peak,) of the sharpened profile, electron
    significance: Floats  # (n_peak,) height over its noise


def bin_columns(flux: Floats, variance: Floats, bad: Bools, *, step: int = 20) -> BinnedFlat:
    """Average a frame over runs of about `step` columns, bad pixels left out.

    Parameters
    ----------
    flux, variance : (n_row, n_column)
        Electron, electron**2.
    bad : (n_row, n_column)
        Pixels to leave out.
    step : int
        Columns in a bin; the bins are made equal to within one column.
    """
    n_column = flux.shape[1]
    edge = run_edges(n_column, step)
    good = ~bad
    number = sum_runs(good, edge, np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sum_runs(np.where(good, flux, 0), edge) / number
        noise = sum_runs(np.where(good, variance, 0), edge) / number**2
    seen = mean
    if bad.any():
        all_of_them = sum_runs(np.nan_to_num(flux), edge) / np.diff(edge)
        seen = np.where(number > 0, mean, all_of_them)
    return BinnedFlat((edge[:-1] + edge[1:] - 1) / 2.0, mean, noise, seen, n_column / (len(edge) - 1))


def sharpening_kernel(sigma: float = KERNEL_SIGMA) -> Floats:
    """Return a Gaussian less a wider one, of sum zero, answering to a fiber of `sigma` px with its height."""
    reach = int(np.ceil(7 * sigma))
    row = np.arange(-reach, reach + 1)
    core, wide = np.exp(-0.5 * (row / sigma) ** 2), np.exp(-0.5 * (row / (1.8 * sigma)) ** 2)
    kernel: Floats = core - wide * core.sum() / wide.sum()
    return kernel / np.sum(kernel * core)


def sharpen(profile: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Return the sharpened profile(s) and their noise; rows are axis 0, NaN counts as no light.

    Parameters
    ----------
    profile, variance : (n_row,) or (n_row, n_bin)
        Electron, electron**2.
    """
    kernel = sharpening_kernel()
    seen = np.nan_to_num(profile, nan=0.0)
    noise = np.nan_to_num(variance, nan=np.inf, posinf=0.0)
    sharp = convolve1d(seen, kernel, axis=0, mode="nearest")
    return sharp, np.sqrt(convolve1d(noise, kernel**2, axis=0, mode="nearest"))


def find_candidates(
    profile: Floats,
    variance: Floats,
    *,
    least_significance: float = LEAST_SIGNIFICANCE,
    least_contrast: float = LEAST_CONTRAST,
    least_distance: float = 3.0,
) -> Peaks:
    """Find the maxima of one cross-dispersion profile that may be fibers.

    Parameters
    ----------
    profile, variance : (n_row,)
        Electron, electron**2.
    least_significance : float
        Height over noise.
    least_contrast : float
        Height over that of the typical fiber.
    least_distance : float
        Rows between neighbours; of two closer ones the higher stays.
    """
    sharp, noise = sharpen(profile, variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        significance = np.where(noise > 0, sharp / noise, 0.0)
    clear = np.where(significance > least_significance, sharp, 0.0)
    row = local_maxima(clear)
    row = row[apart(row, clear[row], least_distance)]
    row = row[(row > 0) & (row < len(profile) - 1)]
    if row.size:
        row = row[sharp[row] > least_contrast * np.percentile(sharp[row], 75)]
    return Peaks(row + vertex(sharp[row - 1], sharp[row], sharp[row + 1]), sharp[row], significance[row])


def vertex(before: Floats, at: Floats, after: Floats) -> Floats:
    """Return where a parabola through three neighbouring samples peaks, px from the middle one."""
    curvature = 2 * at - before - after
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = 0.5 * (after - before) / curvature
    return np.where(curvature > 0, np.clip(offset, -1, 1), 0.0)


def brightest_bin(sharp: Floats) -> int:
    """Return the bin with the most light at the scale of fibers, (n_row, n_bin) -> index."""
    light = np.sum(np.clip(sharp, 0, None), axis=0)
    window = np.ones(3) / 3
    return int(np.argmax(np.convolve(np.pad(light, 1, mode="edge"), window, mode="valid")))


def follow(sharp: Floats, noise: Floats, start: Floats, first: int) -> tuple[Floats, Ints]:
    """Follow peaks from bin to bin by one smooth shift of all of them per step.

    Parameters
    ----------
    sharp, noise : (n_row, n_bin)
        Sharpened profiles and their noise.
    start : (n_peak,)
        Rows of the peaks in bin `first`.
    first : int
        Where to begin.

    Returns
    -------
    center : (n_peak, n_bin)
        Rows, good to some tenths of a pixel; carried on where there is no light.
    seen : (n_bin,)
        How many peaks were measured in each bin.
    """
    n_row, n_bin = sharp.shape
    center, seen = np.empty((len(start), n_bin)), np.zeros(n_bin, dtype=int)
    for direction in (1, -1):
        at, drift = start.copy(), np.zeros(len(start))
        for k in range(first, n_bin if direction > 0 else -1, direction):
            expected = np.clip(at + drift, 1, n_row - 2)
            step, seen[k] = _common_step(sharp[:, k], noise[:, k], expected)
            moved = expected + step
            if k != first:
                drift = 0.7 * drift + 0.3 * (moved - at) if seen[k] else drift
            center[:, k] = at = moved
    return center, seen


def _common_step(sharp: Floats, noise: Floats, expected: Floats) -> tuple[Floats, int]:
    """Return the shift (n_peak,) from `expected` to the maxima seen, smooth in row, and their number."""
    around = np.round(expected).astype(int) + np.arange(-1, 2)[:, None]
    around = np.clip(around, 1, len(sharp) - 2)
    top = np.take_along_axis(around, np.argmax(sharp[around], axis=0)[None], axis=0)[0]
    found = top + vertex(sharp[top - 1], sharp[top], sharp[top + 1])
    is_peak = (sharp[top] >= sharp[top - 1]) & (sharp[top] >= sharp[top + 1])
    use = is_peak & (sharp[top] > LEAST_SIGNIFICANCE * noise[top])
    if use.sum() < min(3, len(expected)):
        return np.zeros(len(expected)), 0
    return smooth_in_row(expected, found - expected, use), int(use.sum())


def smooth_in_row(row: Floats, offset: Floats, use: Bools, *, order: int = 2) -> Floats:
    """Return a robust polynomial of `offset` over `row`, evaluated at every row, all (n_peak,)."""
    scale = max(float(np.ptp(row)), 1.0) / 2
    basis = np.polynomial.legendre.legvander((row - np.mean(row)) / scale, order)
    keep = use.copy()
    for _ in range(3):
        ridge = 1e-3 * keep.sum() * np.diag(np.r_[0.0, np.ones(order)])
        chosen = basis[keep]
        solution = np.linalg.solve(chosen.T @ chosen + ridge + 1e-9 * np.eye(order + 1), chosen.T @ offset[keep])
        residual = np.abs(offset - basis @ solution)
        keep = use & (residual <= max(0.1, 4 * float(np.median(residual[keep]))))
    smooth: Floats = basis @ solution
    return smooth
