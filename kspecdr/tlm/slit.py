"""The fibers at the middle column of a flat: find them, tell them from ghosts, name them.

The bins are straightened along the bright traces and stacked into one deep profile, in which a fiber
of a hundredth of the others' light stands out; where the pattern of the slit wants a fiber, fainter
light is believed. The names are given by kspecdr.tlm.match_fibers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kspecdr.arrays import Bools, Floats
from kspecdr.errors import BadFrame
from kspecdr.tlm import peaks
from kspecdr.tlm.centroid import CentroidFit, fit_centroids
from kspecdr.tlm.distortion import SmoothField, fit_smooth_field
from kspecdr.tlm.match_fibers import Match, match_fibers
from kspecdr.tlm.slots import fill_pattern

WIDTH_RATIO = 1.8  # of a fiber's width to the typical one, either way
FAINT_SIGNIFICANCE = 4.0  # at a place where the pattern expects a fiber
FAINT_CONTRAST = 0.0005  # of the typical fiber, there


@dataclass(frozen=True)
class Slit:
    """The fibers at the middle column, all (n_fiber,)."""

    row: Floats
    light: Floats  # electron per column; 0 where no trace was found
    sigma: float  # px, of the typical fiber
    doubt: str

    @property
    def lit(self) -> Bools:
        """Where a trace was found."""
        return self.light > 0


def rough_field(binned: peaks.BinnedFlat, n_column: int) -> SmoothField:
    """Follow the bright peaks over all bins; return how rows move against the middle column."""
    sharp, noise = peaks.sharpen(binned.seen, binned.variance)
    first = peaks.brightest_bin(sharp)
    bright = peaks.find_candidates(
        binned.seen[:, first], binned.variance[:, first], least_contrast=0.05, least_significance=12.0
    )
    if not bright.row.size:
        raise BadFrame("no fiber found: no light stands out of the noise at the scale of a fiber")
    center, seen = peaks.follow(sharp, noise, bright.row, first)
    value = np.where(seen > 0, center, np.nan) if (seen > 0).sum() > 4 else center
    field = fit_smooth_field(binned.column, value, np.full(center.shape, 0.1), bright.row, n_column)
    middle = field.at(np.array([(n_column - 1) / 2]))[:, 0]
    return fit_smooth_field(binned.column, value, np.full(center.shape, 0.1), middle, n_column)


def _straighten(binned: peaks.BinnedFlat, rough: SmoothField, n_column: int) -> tuple[Floats, Floats]:
    """Stack the bins along the traces into one deep profile at the middle column, (n_row,) twice.

    Each bin is scaled by its light and the median taken, so that hits and hot pixels fall out.
    """
    n_row = len(binned.flux)
    row = np.arange(n_row, dtype=float)
    moved = drift(rough, binned.column, row, n_column)
    light = np.nansum(np.clip(peaks.sharpen(binned.seen, binned.variance)[0], 0, None), axis=0)
    bright = np.flatnonzero(light > 0.2 * light.max())
    scale = light[bright] / np.mean(light[bright])
    shifted = [np.interp(row + moved[:, k], row, binned.seen[:, k]) for k in bright]
    noise = [np.interp(row + moved[:, k], row, np.nan_to_num(binned.variance[:, k])) for k in bright]
    deep = np.median(np.array(shifted).T / scale, axis=1)
    variance = np.mean(np.array(noise).T / scale**2, axis=1) * (np.pi / 2 / len(bright))
    return deep, variance


def drift(rough: SmoothField, column: Floats, row: Floats, n_column: int) -> Floats:
    """Return how far light at `row` of the middle column has moved at `column`, (n_row, n)."""
    middle = rough.shared_change(np.array([(n_column - 1) / 2]), row)
    return rough.shared_change(column, row) - middle


def identify(
    binned: peaks.BinnedFlat,
    rough: SmoothField,
    n_fiber: int,
    nominal: ArrayLike | None,
    lit: ArrayLike | None,
    shape: tuple[int, ...],
    *,
    sparse: bool = False,
) -> Slit:
    """Find the fibers at the middle column and name them; `sparse` allows fewer than half of them to be lit."""
    deep, variance = _straighten(binned, rough, shape[1])
    found = _true_fibers(deep, variance, peaks.find_candidates(deep, variance))
    center_row = (shape[0] - 1) / 2

    def matched(row: Floats, light: Floats) -> Match:
        return match_fibers(n_fiber, row, nominal, strength=light, lit=lit, center_row=center_row)

    match = matched(found.center[:, 0], found.flux[:, 0])
    if np.any(match.vector == 0):
        found = _with_faint(deep, variance, found, match)
        match = matched(found.center[:, 0], found.flux[:, 0])
    count = int(np.count_nonzero(match.vector))
    expected = n_fiber if lit is None else int(np.sum(lit))
    if count < max(1, 0 if sparse else expected / 2):
        raise BadFrame(f"{count} of {expected} fibers found; expected more than half of them to be lit in a fiber flat")
    hit = match.vector > 0
    rows = np.where(hit, found.center[match.vector - 1, 0], match.row)
    light = np.where(hit, found.flux[match.vector - 1, 0], 0.0)
    return Slit(rows, light, float(np.median(found.sigma)), match.doubt)


def _true_fibers(deep: Floats, variance: Floats, candidates: peaks.Peaks) -> CentroidFit:
    """Fit the candidates and keep those as wide as the fibers are."""
    if not candidates.row.size:
        raise BadFrame("no fiber found: no light stands out of the noise at the scale of a fiber")
    fit = _fit_profile(deep, variance, candidates.row)
    sigma = float(np.median(fit.sigma[fit.flux >= np.nanmedian(fit.flux)]))
    return fit.of(_as_wide(fit, sigma))


def _as_wide(fit: CentroidFit, sigma: float) -> Bools:
    """Return which candidates of one profile have about the width `sigma`, (n_candidate,)."""
    return np.asarray((fit.usable & (np.abs(np.log(fit.sigma / sigma)) < np.log(WIDTH_RATIO)))[:, 0])


def _with_faint(deep: Floats, variance: Floats, found: CentroidFit, match: Match) -> CentroidFit:
    """Add fainter candidates that lie where the pattern wants a fiber, past its ends included."""
    n_fiber = len(match.vector)
    known = np.flatnonzero(match.vector)
    slot = np.arange(-n_fiber, 2 * n_fiber)
    slot = slot[(slot > known[-1] - n_fiber) & (slot < known[0] + n_fiber) & ~np.isin(slot, known)]
    place = fill_pattern(known, match.row[known], slot)
    spacing = float(np.median(np.diff(match.row))) if n_fiber > 1 else 12.0
    faint = peaks.find_candidates(deep, variance, least_significance=FAINT_SIGNIFICANCE, least_contrast=FAINT_CONTRAST)
    new = [k for k, row in enumerate(faint.row) if np.min(np.abs(place - row), initial=np.inf) < 0.25 * spacing]
    rows = np.sort(np.concatenate([found.center[:, 0], faint.row[new]]))
    fit = _fit_profile(deep, variance, rows)
    sigma = float(np.median(found.sigma))
    return fit.of(_as_wide(fit, sigma))


def _fit_profile(deep: Floats, variance: Floats, row: Floats) -> CentroidFit:
    """Fit candidates in one profile, first with a usual width, then with theirs."""
    fit = fit_centroids(deep[:, None], variance[:, None], row[:, None], 1.2, half_window=half_window_of(1.2, row))
    if not fit.usable.any():
        raise BadFrame("no fiber found: no candidate has the shape of a fiber")
    sigma = float(np.nanmedian(fit.sigma))
    half_window = half_window_of(sigma, row)
    return fit_centroids(deep[:, None], variance[:, None], row[:, None], sigma, half_window=half_window)


def half_window_of(sigma: float, row: Floats) -> int:
    """Rows on either side of a fiber to fit: its core, and not past the gap to its neighbour."""
    spacing = float(np.median(np.diff(row))) if len(row) > 1 else 12.0
    return int(np.clip(np.ceil(3.2 * sigma + 0.5), 2, max(2, np.floor(0.55 * spacing))))
