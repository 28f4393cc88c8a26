"""make_tlm: from the image of a fiber flat to a tramline map."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from kspecdr.arrays import Floats
from kspecdr.errors import BadFrame, BadOption
from kspecdr.io.fits import read_image, write_tramlines
from kspecdr.io.names import product_path
from kspecdr.legacy import NO_TYPES, documented
from kspecdr.options import TramlineOptions, recorded
from kspecdr.products import LIT_TYPES, Image, MaskBit, Setup, TramlineMap
from kspecdr.tlm.trace import Traces, trace_fibers
from kspecdr.wavecal.grating import predicted_wavelengths

log = logging.getLogger(__name__)

STEP = 20  # columns in a bin, in which a trace is measured
QUICK_STEP = 80  # the same for a quick look
SATURATED_SHARE = 0.2  # full pixels per fiber and column from which on they are why fibers are missed
ACTIVE_ROWS = 1300  # of the PIXIS 1300BX; further rows are overscan


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
        full = np.count_nonzero(flat.mask & MaskBit.SATURATED) / (len(flat.fibers) * flat.flux.shape[1])
        if full < SATURATED_SHARE:
            raise
        raise BadFrame(
            f"the flat is saturated: {full:.1f} pixels per fiber and column are full, expected none; "
            f"expose it for a shorter time ({error})"
        ) from error


def _traced(flat: Image, options: TramlineOptions) -> Traces:
    """Trace the fibers; expected rows that do not count overscan rows are tried on either side of these.

    Overscan rows lie before or behind the image and show nothing that tells which; the side on which the
    fibers lie nearest to their expected rows is the right one, since the slit moves by a few pixels at most.
    """
    fibers, bad = flat.fibers, (flat.mask & (MaskBit.BAD_PIXEL | MaskBit.SATURATED | MaskBit.COSMIC)) != 0
    lit = np.isin(fibers.type, list(LIT_TYPES))
    step = QUICK_STEP if options.qad_pksearch else STEP

    def traced(rows: Floats | None) -> Traces:
        flux, variance = flat.flux, flat.variance
        return trace_fibers(
            flux, variance, bad, len(fibers), nominal=rows, lit=lit, step=step, sparse=options.sparse_fibs
        )

    if "row" not in fibers.columns:
        return traced(None)
    nominal = np.asarray(fibers.columns["row"], dtype=float)
    overscan = flat.flux.shape[0] - ACTIVE_ROWS // flat.setup.binning[0]
    trials = [nominal, nominal + overscan] if overscan > 0 else [nominal]
    found = [traced(rows) for rows in trials]
    middle = flat.flux.shape[1] // 2
    away = [abs(np.median(t.center[:, middle] - rows)) for t, rows in zip(found, trials, strict=True)]
    return found[int(np.argmin(away))]


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
    try:
        tlm = trace(replace(flat, fibers=flat.fibers.retyped(fiber_types)), options)
    except BadFrame as error:
        raise type(error)(f"{name}: {error}") from error
    path = write_tramlines(tlmap_filename or product_path(image_filename, "tlm"), tlm)
    log.info("%s: %s", Path(path).name, summary(tlm))
    return path
