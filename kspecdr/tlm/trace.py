"""The tramline map of a fiber flat: find the fibers, name them, follow them, model them.

Centers are measured by Gaussian fits in bins of columns and held together by one smooth
distortion; a fiber without light lies where the pattern of the slit and that distortion put it.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from kspecdr.arrays import Bools, Floats, Strings
from kspecdr.errors import BadFrame
from kspecdr.tlm import peaks
from kspecdr.tlm.centroid import CentroidFit, fit_centroids
from kspecdr.tlm.distortion import SmoothField, fit_smooth_field, shrink_levels
from kspecdr.tlm.profile import GAUSSIAN
from kspecdr.tlm.slit import Slit, drift, half_window_of, identify, rough_field
from kspecdr.tlm.slots import fill_pattern
from kspecdr.tlm.wings import core_light, measure_wings

FAINT = 0.05  # of the typical fiber's light
LEAST_BINS = 5  # bins in which a fiber must be measured to be called traced
WING_ERROR = 0.0001  # of a bright fiber's light, that may disturb the width of a faint neighbour
PASSES = 2  # wings and traces, each with the other
CORE_SLOPE = 0.00003  # per row, what is left of a neighbour's wings once these are taken off
CORE_ERROR = 0.003  # of the light, what the core departs from a Gaussian once the wings are taken off


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


def trace_fibers(
    flux: Floats,
    variance: Floats,
    bad: Bools,
    n_fiber: int,
    *,
    nominal: ArrayLike | None = None,
    lit: ArrayLike | None = None,
    step: int = 20,
    sparse: bool = False,
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
    sparse : bool
        Fewer than half of the fibers may be lit.

    Raises
    ------
    BadFrame
        If no fiber is found, or fewer than half of those expected.

    Notes
    -----
    Limits of the method: a Gaussian of width s px and N electrons has its center to s / sqrt(N).
    """
    binned = peaks.bin_columns(flux, variance, bad, step=step)
    rough = rough_field(binned, flux.shape[1])
    slit = identify(binned, rough, n_fiber, nominal, lit, flux.shape, sparse=sparse)
    place = slit.row[slit.lit, None] + drift(rough, binned.column, slit.row[slit.lit], flux.shape[1])
    half_window = half_window_of(slit.sigma, slit.row)
    fit = fit_centroids(binned.flux, binned.variance, place, slit.sigma, half_window=half_window)
    traces = _assemble(binned, fit, slit, flux.shape[1], GAUSSIAN)
    for _ in range(PASSES):
        traces = _without_wings(binned, traces, slit, half_window)
    return traces


def _in_bins(value: Floats, column: Floats) -> Floats:
    """Return (n_fiber, n_column) at the middle of bins, which may lie between two columns."""
    low, high = np.floor(column).astype(int), np.ceil(column).astype(int)
    return np.asarray((value[:, low] + value[:, high]) / 2)


def _without_wings(binned: peaks.BinnedFlat, first: Traces, slit: Slit, half_window: int) -> Traces:
    """Measure the wings along the first traces, take them off, and trace the cores that remain."""
    traced: Bools = first.status != "interpolated"
    center, width = _in_bins(first.center, binned.column), _in_bins(first.width, binned.column)
    wings = measure_wings(binned, center[traced], width[traced])
    core = core_light(binned, center[traced], width[traced], wings)
    place = center[slit.lit]
    fit = fit_centroids(
        core,
        binned.variance,
        place,
        slit.sigma,
        half_window=half_window,
        model_error=CORE_ERROR,
        wing_slope=CORE_SLOPE,
    )
    slope = _in_bins(np.gradient(first.center, axis=1), binned.column)
    fit = _at_bin_middle(fit, slope[slit.lit], binned.step)
    return _assemble(binned, fit, slit, first.center.shape[1], wings)


def _at_bin_middle(fit: CentroidFit, slope: Floats, step: float) -> CentroidFit:
    """Move the centers from where the light of a bin is to the bin's middle.

    Light that grows along the columns has its mean column past the middle, by its relative growth times
    step**2 / 12; at the blue end, where a flat fades, that matters.
    """
    light = np.nan_to_num(fit.flux)
    growth = np.gradient(light, axis=1) / step / np.maximum(light, 1e-30)
    lead = np.clip(growth * step**2 / 12, -step / 4, step / 4)
    return replace(fit, center=fit.center - slope * lead)


def _assemble(binned: peaks.BinnedFlat, fit: CentroidFit, slit: Slit, n_column: int, wings: Floats) -> Traces:
    """Model the measured centers and widths and complete the fibers without light."""
    traced = slit.lit.copy()
    traced[slit.lit] = enough = fit.usable.sum(axis=1) >= LEAST_BINS
    if not traced.any():
        raise BadFrame(
            f"no fiber can be followed over {LEAST_BINS} bins of columns; expected the light of a fiber flat"
        )
    fit = fit.of(enough)
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
        value[missing] = fill_pattern(index, start, missing)[:, None] + drift(field, column, row[missing], n_column)
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
