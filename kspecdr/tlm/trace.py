"""The tramline map of a fiber flat: find the fibers, name them, follow them, model them.

Centers are measured by Gaussian fits in bins of columns and held together by one smooth
distortion; a fiber without light lies where the pattern of the slit and that distortion put it.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from kspecdr.arrays import Bools, Floats, Ints, Strings
from kspecdr.errors import BadFrame
from kspecdr.tlm import peaks
from kspecdr.tlm.centroid import CentroidFit, fit_centroids
from kspecdr.tlm.distortion import SmoothField, fit_smooth_field, shrink_levels
from kspecdr.tlm.match_fibers import Match, fill_pattern, match_fibers
from kspecdr.tlm.profile import GAUSSIAN
from kspecdr.tlm.wings import core_light, measure_wings

FAINT = 0.05  # of the typical fiber's light
LEAST_BINS = 5  # bins in which a fiber must be measured to be called traced
WING_ERROR = 0.002  # of a bright fiber's light, that may disturb the width of a faint neighbour
CORE_ERROR = 0.003  # of the light, what the core departs from a Gaussian once the wings are taken off
FAINT_SIGNIFICANCE = 4.0  # at a place where the pattern expects a fiber
FAINT_CONTRAST = 0.0005  # of the typical fiber, there


@dataclass(frozen=True)
class Traces:
    """The fibers of the slit on the detector."""

    center: Floats  # (n_fiber, n_column) row
    width: Floats  # (n_fiber, n_column) sigma of the core, px
    status: Strings  # (n_fiber,) traced, faint or interpolated
    flux: Floats  # (n_fiber,) light in the flat, electron per column; 0 where interpolated
    wings: Floats  # what the common profile has beyond the core, see kspecdr.tlm.profile
    residual: Floats  # (n_fiber, n_bin) measured minus modelled row, px; NaN where not used
    column: Floats  # (n_bin,) columns of the residuals
    doubt: str  # why the identity of fibers is not beyond doubt; empty where it is


@dataclass(frozen=True)
class _Slit:
    """The fibers at the middle column, all (n_fiber,)."""

    row: Floats
    light: Floats  # electron per column; 0 where no trace was found
    sigma: float  # px, of the typical fiber
    doubt: str

    @property
    def lit(self) -> Bools:
        return self.light > 0


def trace_fibers(
    flux: Floats,
    variance: Floats,
    bad: Bools,
    n_fiber: int,
    *,
    nominal: ArrayLike | None = None,
    lit: ArrayLike | None = None,
    step: int = 20,
) -> Traces:
    """Make the tramlines of a fiber flat.

    Parameters
    ----------
    flux, variance : (n_row, n_column)
        Electron, electron**2.
    bad : (n_row, n_column) bool
        Pixels to leave out: bad, hit, saturated.
    n_fiber : int
        Fibers in the slit.
    nominal : (n_fiber,), optional
        Rows of the fibers at the middle column, up to a common shift and stretch.
    lit : (n_fiber,) bool, optional
        Fibers that are expected to give light.
    step : int
        Columns in a bin.

    Raises
    ------
    BadFrame
        If no fiber is found, or fewer than half of those expected.

    Notes
    -----
    Limits of the method: a Gaussian of width s px and N electrons has its center to s / sqrt(N).
    """
    binned = peaks.bin_columns(flux, variance, bad, step=step)
    rough = _rough_field(binned, flux.shape[1])
    slit = _identify(binned, rough, n_fiber, nominal, lit, flux.shape)
    place = slit.row[slit.lit, None] + _drift(rough, binned.column, slit.row[slit.lit], flux.shape[1])
    half_window = _half_window(slit.sigma, slit.row)
    fit = fit_centroids(binned.flux, binned.variance, place, slit.sigma, half_window=half_window)
    return _without_wings(binned, _assemble(binned, fit, slit, flux.shape[1], GAUSSIAN), slit, half_window)


def _without_wings(binned: peaks.BinnedFlat, first: Traces, slit: _Slit, half_window: int) -> Traces:
    """Measure the wings along the first traces, take them off, and trace the cores that remain."""
    traced: Bools = first.status != "interpolated"
    bins: Ints = binned.column.round().astype(int)
    center, width = first.center[:, bins], first.width[:, bins]
    wings = measure_wings(binned, center[traced], width[traced])
    core = core_light(binned, center[traced], width[traced], wings)
    fit = fit_centroids(
        core, binned.variance, center[slit.lit], slit.sigma, half_window=half_window, model_error=CORE_ERROR
    )
    return _assemble(binned, fit, slit, first.center.shape[1], wings)


def _rough_field(binned: peaks.BinnedFlat, n_column: int) -> SmoothField:
    """Follow the bright peaks over all bins; return how rows move against the middle column."""
    sharp, noise = peaks.sharpen(binned.flux, binned.variance)
    first = peaks.brightest_bin(sharp)
    bright = peaks.find_candidates(
        binned.flux[:, first], binned.variance[:, first], least_contrast=0.05, least_significance=12.0
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
    drift = _drift(rough, binned.column, row, n_column)
    light = np.nansum(np.clip(peaks.sharpen(binned.flux, binned.variance)[0], 0, None), axis=0)
    bright = np.flatnonzero(light > 0.2 * light.max())
    scale = light[bright] / np.mean(light[bright])
    shifted = [np.interp(row + drift[:, k], row, np.nan_to_num(binned.flux[:, k])) for k in bright]
    noise = [np.interp(row + drift[:, k], row, np.nan_to_num(binned.variance[:, k])) for k in bright]
    deep = np.median(np.array(shifted).T / scale, axis=1)
    variance = np.mean(np.array(noise).T / scale**2, axis=1) * (np.pi / 2 / len(bright))
    return deep, variance


def _drift(rough: SmoothField, column: Floats, row: Floats, n_column: int) -> Floats:
    """Return how far light at `row` of the middle column has moved at `column`, (n_row, n)."""
    middle = rough.shared_change(np.array([(n_column - 1) / 2]), row)
    return rough.shared_change(column, row) - middle


def _identify(
    binned: peaks.BinnedFlat,
    rough: SmoothField,
    n_fiber: int,
    nominal: ArrayLike | None,
    lit: ArrayLike | None,
    shape: tuple[int, ...],
) -> _Slit:
    """Find the fibers at the middle column and name them."""
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
    if count < max(1, expected / 2):
        raise BadFrame(
            f"{count} of {expected} fibers found; expected more than half of them to be lit in a fiber flat"
        )
    hit = match.vector > 0
    rows = np.where(hit, found.center[match.vector - 1, 0], match.row)
    light = np.where(hit, found.flux[match.vector - 1, 0], 0.0)
    return _Slit(rows, light, float(np.median(found.sigma)), match.doubt)


def _true_fibers(deep: Floats, variance: Floats, candidates: peaks.Peaks) -> CentroidFit:
    """Fit the candidates and keep those as wide as the fibers are."""
    if not candidates.row.size:
        raise BadFrame("no fiber found: no light stands out of the noise at the scale of a fiber")
    fit = _fit_profile(deep, variance, candidates.row)
    sigma = float(np.median(fit.sigma[fit.flux >= np.nanmedian(fit.flux)]))
    fits_in = fit.usable & (np.abs(np.log(fit.sigma / sigma)) < np.log(1.6))
    return _chosen(fit, fits_in[:, 0])


def _with_faint(deep: Floats, variance: Floats, found: CentroidFit, match: Match) -> CentroidFit:
    """Add fainter candidates that lie where the pattern wants a fiber, past its ends included."""
    n_fiber = len(match.vector)
    known = np.flatnonzero(match.vector)
    slot = np.arange(-n_fiber, 2 * n_fiber)
    slot = slot[(slot > known[-1] - n_fiber) & (slot < known[0] + n_fiber) & ~np.isin(slot, known)]
    place = fill_pattern(known, match.row[known], slot)
    spacing = float(np.median(np.diff(match.row))) if n_fiber > 1 else 12.0
    faint = peaks.find_candidates(
        deep, variance, least_significance=FAINT_SIGNIFICANCE, least_contrast=FAINT_CONTRAST
    )
    new = [
        k for k, row in enumerate(faint.row) if np.min(np.abs(place - row), initial=np.inf) < 0.25 * spacing
    ]
    rows = np.sort(np.concatenate([found.center[:, 0], faint.row[new]]))
    fit = _fit_profile(deep, variance, rows)
    sigma = float(np.median(found.sigma))
    return _chosen(fit, (fit.usable & (np.abs(np.log(fit.sigma / sigma)) < np.log(1.6)))[:, 0])


def _fit_profile(deep: Floats, variance: Floats, row: Floats) -> CentroidFit:
    """Fit candidates in one profile, first with a usual width, then with theirs."""
    fit = fit_centroids(
        deep[:, None], variance[:, None], row[:, None], 1.2, half_window=_half_window(1.2, row)
    )
    if not fit.usable.any():
        raise BadFrame("no fiber found: no candidate has the shape of a fiber")
    sigma = float(np.nanmedian(fit.sigma))
    half_window = _half_window(sigma, row)
    return fit_centroids(deep[:, None], variance[:, None], row[:, None], sigma, half_window=half_window)


def _half_window(sigma: float, row: Floats) -> int:
    """Rows on either side of a fiber to fit: its core, and not past the gap to its neighbour."""
    spacing = float(np.median(np.diff(row))) if len(row) > 1 else 12.0
    return int(np.clip(np.ceil(3.2 * sigma + 0.5), 2, max(2, np.floor(0.55 * spacing))))


def _chosen(fit: CentroidFit, keep: Bools) -> CentroidFit:
    return CentroidFit(*(getattr(fit, field.name)[keep] for field in fields(CentroidFit)))


def _assemble(
    binned: peaks.BinnedFlat, fit: CentroidFit, slit: _Slit, n_column: int, wings: Floats
) -> Traces:
    """Model the measured centers and widths and complete the fibers without light."""
    traced = slit.lit.copy()
    traced[slit.lit] = enough = fit.usable.sum(axis=1) >= LEAST_BINS
    if not traced.any():
        raise BadFrame(
            f"no fiber can be followed over {LEAST_BINS} bins of columns; expected the light of a fiber flat"
        )
    fit = _chosen(fit, enough)
    field = fit_smooth_field(binned.column, fit.center, fit.error, slit.row[traced], n_column)
    center = _completed(field, slit.row, traced, n_column)
    residual = np.full((len(slit.row), len(binned.column)), np.nan)
    residual[traced] = fit.center - field.at(binned.column)
    width = _widths(binned, fit, field, slit.row, traced, n_column)
    status = np.where(slit.light < FAINT * np.median(slit.light[traced]), "faint", "traced")
    return Traces(
        center, width, np.where(traced, status, "interpolated"), np.where(traced, slit.light, 0.0),
        wings, residual, binned.column, slit.doubt,
    )  # fmt: skip


def _completed(field: SmoothField, row: Floats, traced: Bools, n_column: int) -> Floats:
    """Evaluate the model of the traced fibers on every column and put the others between them."""
    column, index = np.arange(n_column, dtype=float), np.flatnonzero(traced)
    value = np.empty((len(row), n_column))
    value[traced] = field.at(column)
    missing = np.flatnonzero(~traced)
    if missing.size:
        start = field.at(np.array([(n_column - 1) / 2]))[:, 0]
        value[missing] = fill_pattern(index, start, missing)[:, None] + _drift(
            field, column, row[missing], n_column
        )
    return value


def _widths(
    binned: peaks.BinnedFlat,
    fit: CentroidFit,
    centers: SmoothField,
    row: Floats,
    traced: Bools,
    n_column: int,
) -> Floats:
    """Model the widths, those freed of the slope of the trace within a bin."""
    slope = np.gradient(centers.at(binned.column), binned.column, axis=1)
    sigma = np.sqrt(np.maximum(fit.sigma**2 - (slope * binned.step) ** 2 / 12, 0.25 * fit.sigma**2))
    light = np.nanmedian(fit.flux, axis=1)
    error = np.hypot(fit.sigma_error, 0.002)
    field = fit_smooth_field(binned.column, sigma, error, row[traced], n_column, order=2)
    own_error = np.nanmedian(error, axis=1) / np.sqrt(fit.usable.sum(axis=1))
    field = shrink_levels(field, np.hypot(own_error, WING_ERROR * np.median(light) / light))
    width = _completed(field, row, traced, n_column)
    typical = np.nanmedian(sigma)
    return np.clip(width, 0.5 * typical, 2 * typical)
