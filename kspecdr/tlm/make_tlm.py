"""make_tlm: from the image of a fiber flat to a tramline map."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from kspecdr.arrays import Floats
from kspecdr.errors import BadFrame, BadOption, named
from kspecdr.io.fits import read_image, write_tramlines
from kspecdr.io.names import product_path
from kspecdr.legacy import NO_TYPES, documented
from kspecdr.options import TramlineOptions, recorded
from kspecdr.products import LIT_TYPES, Image, MaskBit, Setup, TramlineMap, flagged
from kspecdr.tlm.trace import Traces, trace_fibers
from kspecdr.wavecal.grating import predicted_wavelengths

log = logging.getLogger(__name__)

STEP = 20  # columns in a bin, in which a trace is measured
QUICK_STEP = 80  # the same for a quick look
SATURATED_SHARE = 0.2  # full pixels per fiber and column from which on they are why fibers are missed


def trace(flat: Image, options: TramlineOptions = TramlineOptions()) -> TramlineMap:
    """Trace the fibers of a flat, one trace a fiber of its table, dead ones interpolated.

    A column `row` of the fiber table says where the fibers are expected, up to a shift and a stretch.

    Raises BadFrame where there is no light, the light is no pattern of fibers, or saturation hides it.
    """
    fibers = flat.fibers
    traces = _traced_or_saturated(flat, options)
    wave = predict(flat.setup, flat.flux.shape[1])
    return TramlineMap(
        center=traces.center,
        width=traces.width,
        wave=np.tile(wave, (len(fibers), 1)),
        status=traces.status,
        setup=flat.setup,
        fibers=fibers,
        wings=traces.wings,
        doubt=traces.doubt,
        fit_residual=traces.residual if options.tlm_fit_res else None,
        provenance=flat.provenance.with_options(recorded("tlm", options)),
    )


def _traced_or_saturated(flat: Image, options: TramlineOptions) -> Traces:
    """Trace the fibers; where saturation hides them, say that rather than what is missing."""
    try:
        return _traced(flat, options)
    except BadFrame as error:
        full = np.count_nonzero(flagged(flat.mask, MaskBit.SATURATED)) / (len(flat.fibers) * flat.flux.shape[1])
        if full < SATURATED_SHARE:
            raise
        raise BadFrame(
            f"the flat is saturated: {full:.1f} pixels per fiber and column are full, expected none; "
            f"expose it for a shorter time ({error})"
        ) from error


def _traced(flat: Image, options: TramlineOptions) -> Traces:
    """Trace the fibers on the rows of the sensor, which are those that a fiber table counts.

    Where it is not known at which end the overscan rows are, that at which the fibers lie nearest to the rows of
    the table is the right one, since the slit moves by a few pixels at most.
    """
    fibers, overscan = flat.fibers, flat.setup.overscan_rows
    nominal = np.asarray(fibers.columns["row"], dtype=float) if "row" in fibers.columns else None
    ends = _first_rows(flat)
    if nominal is None and len(ends) > 1:
        return _traced_on(flat, slice(None), None, options)
    found = [_traced_on(flat, slice(first, len(flat.flux) - overscan + first), nominal, options) for first in ends]
    if nominal is None or len(found) == 1:
        return found[0]
    middle = flat.flux.shape[1] // 2
    away = [abs(np.median(t.center[:, middle] - first - nominal)) for t, first in zip(found, ends, strict=True)]
    return found[int(np.argmin(away))]


def _first_rows(flat: Image) -> tuple[int, ...]:
    """Return the row at which the sensor begins, several where it is not known."""
    overscan = flat.setup.overscan_rows
    first, last = (bool(flagged(flat.mask[end, 0], MaskBit.NO_DATA)) for end in (0, -1))
    if last or not overscan:
        return (0,)
    return (overscan,) if first else (0, overscan)


def _traced_on(flat: Image, rows: slice, nominal: Floats | None, options: TramlineOptions) -> Traces:
    """Trace the fibers on some rows of the image; the traces count all of them."""
    bad = flagged(flat.mask[rows], MaskBit.BAD_PIXEL | MaskBit.SATURATED | MaskBit.COSMIC)
    lit = np.isin(flat.fibers.type, list(LIT_TYPES))
    step = QUICK_STEP if options.qad_pksearch else STEP
    found = trace_fibers(
        flat.flux[rows],
        flat.variance[rows],
        bad,
        len(flat.fibers),
        nominal=nominal,
        lit=lit,
        step=step,
        sparse=options.sparse_fibs,
    )
    return replace(found, center=found.center + (rows.start or 0))


def predict(setup: Setup, n_column: int) -> Floats:
    """Return the wavelengths (n_column,) that a header predicts, ascending; the true direction is unknown.

    The grating equation gives them where the header has its angles, else the datasheet's dispersion.
    """
    angles = (setup.focal_length, setup.inclusion_angle, setup.detector_angle)
    if all(angles) and setup.lines_per_mm:
        focal_length, inclusion, tilt = (float(angle or 0.0) for angle in angles)
        return predicted_wavelengths(
            n_column,
            setup.lambda_center,
            lines_per_mm=setup.lines_per_mm,
            pixel_um=setup.pixel_um * setup.binning[1],
            focal_length=focal_length,
            inclusion_angle=inclusion,
            detector_angle=tilt,
        )
    return setup.lambda_center + setup.dispersion * (np.arange(n_column) - (n_column - 1) / 2)


def missing_warning(tlm: TramlineMap) -> str:
    """Name the fibers without light that should have some; empty where there are none."""
    due = np.isin(tlm.fibers.type, list(LIT_TYPES))
    dark = np.flatnonzero(due & (tlm.status == "interpolated"))
    if not dark.size:
        return ""
    row = tlm.center[dark, tlm.center.shape[1] // 2]
    where = ", ".join(f"row {at:.0f}, fiber {k + 1}" for at, k in zip(row, dark, strict=True))
    n_due, it = int(due.sum()), "it" if dark.size == 1 else "them"
    seen = f"{n_due - dark.size} of {n_due} fibers found"
    return f"{seen} (no light at {where}); mark {it} N in the fiber table or check {it}"


def summary(tlm: TramlineMap) -> str:
    """Say in a few words what was found; the fibers without light by their names."""
    dark = [f"{k + 1} ({tlm.fibers.name[k]})" for k in np.flatnonzero(tlm.status == "interpolated")]
    said = f"{len(tlm.fibers) - len(dark)} of {len(tlm.fibers)} fibers traced"
    if dark:
        said += f", without light: {', '.join(dark)}"
    return f"{said}; {tlm.doubt}" if tlm.doubt else said


@documented(TramlineOptions)
def make_tlm(
    image_filename: str | Path,
    tlmap_filename: str | Path | None = None,
    *,
    options: TramlineOptions = TramlineOptions(),
    fiber_types: Mapping[int, str] = NO_TYPES,
) -> str:
    """Trace the fibers of a flat's *_im.fits; return the path of the *_tlm.fits.

    Parameters
    ----------
    image_filename : *_im.fits of a fiber flat
    tlmap_filename : where the map goes; `X_im.fits` -> `X_tlm.fits` by default
    options : sparse_fibs, tlm_fit_res, qad_pksearch
    fiber_types : FIBn, the types of fibers, over those of the table

    Raises
    ------
    BadFrame
        No flat, no light, or fewer than half of the fibers.
    """
    name = Path(image_filename).name
    flat = read_image(image_filename)
    if flat.setup.frame_class != "MFFFF":
        raise BadOption(f"{name} is of class {flat.setup.frame_class}, expected a fiber flat (MFFFF)")
    with named(name):
        tlm = trace(replace(flat, fibers=flat.fibers.retyped(fiber_types)), options)
    path = write_tramlines(tlmap_filename or product_path(image_filename, "tlm"), tlm)
    for warning in filter(None, (missing_warning(tlm), tlm.doubt)):
        log.warning("%s: %s", name, warning)
    log.info("%s: %s", Path(path).name, summary(tlm))
    return path
