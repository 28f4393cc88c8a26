"""The step reduce_object: from a converted object frame to calibrated spectra.

image -> cosmic rays -> extraction -> flat -> sky -> rebinning; everything before the last step happens on
native pixels, and the light is rebinned once.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from kspecdr.arrays import Floats, Ints
from kspecdr.errors import BadFrame, BadOption, named
from kspecdr.extract.make_ex import extract, residual
from kspecdr.flux import Transfer
from kspecdr.io.fits import (
    read_frame,
    read_plane,
    read_spectra,
    read_tramlines,
    source_of,
    write_image,
    write_spectra,
)
from kspecdr.io.names import PathLike, product_path
from kspecdr.legacy import NO_TYPES, documented
from kspecdr.make_transfer import read_transfer
from kspecdr.options import ImageOptions, ObjectOptions, ReductionOptions, recorded
from kspecdr.preproc.make_im import full_well_warning, load_calibrations, preprocess
from kspecdr.preproc.reject import reject_cosmics
from kspecdr.products import OBJECT_CLASSES, MaskBit, Provenance, Spectra
from kspecdr.sky import fit_sky
from kspecdr.tlm.placement import place
from kspecdr.wavecal.rebin import edges_of
from kspecdr.wavecal.scrunch import check_arc, read_arc, scrunch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpectralCalibrations:
    """What extracted spectra are calibrated with; what is None is not applied."""

    arc: Spectra
    fflat: Spectra | None = None  # response of fibers and pixels
    throughput: Floats | None = None  # (n_fiber, 1 or n_column) relative, beyond the flat's
    transfer: Transfer | None = None  # electrons to flux
    provenance: Provenance = field(default_factory=Provenance)  # of throughput and transfer function


def calibrate(spectra: Spectra, by: SpectralCalibrations, options: ObjectOptions = ObjectOptions()) -> Spectra:
    """Return extracted spectra with flat, sky, wavelengths and flux applied, on one grid.

    The sky is subtracted where the fiber table has sky fibers and flat or throughputs have brought all fibers to
    one scale; without them it would stay in the residuals, and it is left in.

    Raises BadOption where calibflux is asked for without a transfer function.
    """
    check_arc(spectra, by.arc)
    if options.calibflux and by.transfer is None:
        raise BadOption("calibflux=True needs a transfer function: transfunc of reduce_object, made by make_transfer")
    provenance = (spectra.provenance | by.provenance).with_options(recorded("object", options))
    native = replace(spectra, wave=by.arc.wave, calibrated=True, provenance=provenance)
    if by.fflat is not None:
        native = divide_response(native, by.fflat)
    if by.throughput is not None:
        native = divide_throughput(native, by.throughput)
    sky = None
    one_scale = by.fflat is not None or by.throughput is not None
    if options.skysub and one_scale and (spectra.fibers.type == "S").any():
        sky = sky_of(native, options)
    if sky is None:
        done = scrunch(native, by.arc, log_wave=options.log_wave)
    else:
        done = _less_sky(native, sky, by.arc, options)
    return by.transfer.apply(done, options.airmass) if options.calibflux and by.transfer is not None else done


def divide_throughput(spectra: Spectra, throughput: Floats) -> Spectra:
    """Divide native spectra by the fibers' throughputs (n_fiber, 1 or n_column); 0 is no data."""
    if throughput.shape not in ((len(spectra.flux), 1), spectra.flux.shape):
        raise BadFrame(f"the throughput has shape {throughput.shape}, expected ({len(spectra.flux)}, 1)")
    safe = np.where(throughput > 0, throughput, np.nan)
    mask = np.where(throughput > 0, spectra.mask, spectra.mask | np.uint8(MaskBit.NO_DATA))
    return replace(spectra, flux=spectra.flux / safe, variance=spectra.variance / safe**2, mask=mask)


def divide_response(spectra: Spectra, fflat: Spectra) -> Spectra:
    """Divide native spectra by the response of fibers and pixels; a fiber that the flat lacks is NaN."""
    if fflat.flux.shape != spectra.flux.shape:
        raise BadFrame(f"the fiber flat has shape {fflat.flux.shape}, the spectra have {spectra.flux.shape}")
    response = fflat.flux
    flux = spectra.flux / response
    variance = (spectra.variance + flux**2 * fflat.variance) / response**2
    dark = ~np.isfinite(response)
    mask = np.where(dark, spectra.mask | np.uint8(MaskBit.NO_DATA), spectra.mask)
    return replace(
        spectra,
        flux=flux,
        variance=variance,
        mask=mask,
        provenance=spectra.provenance | fflat.provenance.seen_from("fflat"),
    )


@dataclass(frozen=True)
class SkyLight:
    """The sky in every native pixel, (n_fiber, n_column) each."""

    flux: Floats  # electron
    variance: Floats  # electron**2


def sky_of(native: Spectra, options: ObjectOptions = ObjectOptions()) -> SkyLight | None:
    """Return the sky in every native pixel, None where no sky fiber has light."""
    width = np.abs(np.diff(np.apply_along_axis(edges_of, 1, native.wave), axis=1))
    sky_fibers = np.flatnonzero(native.fibers.type == "S")
    good = (native.mask == 0) & np.isfinite(native.flux) & (native.variance > 0) & np.isfinite(native.wave)
    lit = [k for k in sky_fibers if good[k].mean() > 0.5]
    if not lit:
        return None
    sky = fit_sky(
        native.flux[lit] / width[lit],
        native.variance[lit] / width[lit] ** 2,
        good[lit],
        native.wave[lit],
        supersample=options.skysprsmp,
    )
    return SkyLight(sky.at(native.wave) * width, sky.variance_at(native.wave) * width**2)


def _less_sky(native: Spectra, sky: SkyLight, arc: Spectra, options: ObjectOptions) -> Spectra:
    """Subtract the sky and rebin; keep the sky, and the flux before it where that is wanted, on the same grid."""

    def rebinned(flux: Floats, variance: Floats, mask: Ints) -> Spectra:
        return scrunch(replace(native, flux=flux, variance=variance, mask=mask), arc, log_wave=options.log_wave)

    done = rebinned(native.flux - sky.flux, native.variance + sky.variance, native.mask)
    on_grid = rebinned(sky.flux, sky.variance, np.zeros_like(native.mask)).flux
    fullest = int(np.argmax(np.isfinite(on_grid).sum(axis=1)))
    without = rebinned(native.flux, native.variance, native.mask).flux if options.inc_rwss else None
    return replace(done, sky=on_grid[fullest], without_sky=without)


@documented(ReductionOptions)
def reduce_object(
    raw_filename: PathLike,
    tlmap_filename: PathLike,
    wavel_filename: PathLike,
    output_filename: PathLike | None = None,
    image_filename: PathLike | None = None,
    extrac_filename: PathLike | None = None,
    bias_filename: PathLike | None = None,
    dark_filename: PathLike | None = None,
    lflat_filename: PathLike | None = None,
    fflat_filename: PathLike | None = None,
    thput_filename: PathLike | None = None,
    transfunc: PathLike | None = None,
    out_dirname: PathLike | None = None,
    *,
    options: ReductionOptions = ReductionOptions(),
    fiber_types: Mapping[int, str] = NO_TYPES,
) -> str:
    """Reduce a converted object frame; return the path of its *_red.fits.

    Parameters
    ----------
    raw_filename : *_converted.fits
    tlmap_filename, wavel_filename : tramline map, and the *_red.fits of an arc extracted along it
    output_filename, image_filename, extrac_filename : where RED, IM and EX go; beside the frame, or in
        `out_dirname`, by default
    bias_filename, dark_filename, lflat_filename, fflat_filename, thput_filename, transfunc : calibrations
        to apply; those not given are not
    options : see ReductionOptions; fiber_types : FIBn

    Raises
    ------
    BadOption, BadFrame, MissingCalibration
        Naming the file, the value and the expectation.
    """
    home = Path(out_dirname or Path(raw_filename).parent) / Path(raw_filename).name
    if options.calibflux and not transfunc:
        raise BadOption("calibflux=True needs transfunc, the file of the transfer function")
    image_options = ImageOptions(cosmic_ray_method=options.cosmic_ray_method)
    detector = load_calibrations(bias_filename, dark_filename if options.usedarkim else None, lflat_filename, [])
    tramlines = read_tramlines(tlmap_filename)
    by = _spectral_calibrations(wavel_filename, fflat_filename, thput_filename, transfunc)
    frame = read_frame(raw_filename)
    if frame.setup.frame_class not in OBJECT_CLASSES:
        name, found = Path(raw_filename).name, frame.setup.frame_class
        raise BadOption(f"{name} is of class {found}, expected one of {', '.join(OBJECT_CLASSES)}")
    Path(home).parent.mkdir(parents=True, exist_ok=True)
    with named(raw_filename):
        image = preprocess(replace(frame, fibers=frame.fibers.retyped(fiber_types)), detector, image_options)
        if warning := full_well_warning(image, frame):
            log.warning("%s: %s", Path(raw_filename).name, warning)
        placed = place(image, tramlines, options.tlm_shift)
        for _ in range(2 if options.dpcrrex else 1):
            image = reject_cosmics(image, image_options, placed=placed)
        spectra = extract(image, tramlines, options, placed=placed)
        reduced = calibrate(spectra, by, options)
    write_image(image_filename or product_path(home, "im"), image)
    extracted = write_spectra(extrac_filename or product_path(home, "ex"), spectra)
    if options.optex_mkres:
        write_image(product_path(extracted, "res"), residual(image, spectra, placed))
    path = write_spectra(output_filename or product_path(home, "red"), reduced)
    if placed.alarm:
        log.warning("%s: %s", Path(path).name, placed.alarm)
    log.log(logging.INFO if options.verbose else logging.DEBUG, "%s: %s", Path(path).name, summary(reduced))
    return path


def _spectral_calibrations(
    arc: PathLike, fflat: PathLike | None, throughput: PathLike | None, transfer: PathLike | None
) -> SpectralCalibrations:
    """Read the calibrations of extracted spectra; those that are None are not applied."""
    return SpectralCalibrations(
        read_arc(arc),
        read_spectra(fflat, "fflat") if fflat else None,
        read_plane(throughput) if throughput else None,
        read_transfer(transfer) if transfer else None,
        Provenance(
            tuple(source_of(path, role) for path, role in ((throughput, "throughput"), (transfer, "transfer")) if path)
        ),
    )


def summary(reduced: Spectra) -> str:
    """Say in a few words what the spectra are."""
    low, high = reduced.wave[0, [0, -1]]
    sky = "sky subtracted" if reduced.sky is not None else "sky left in"
    return f"{len(reduced.fibers)} fibers, {low:.1f} to {high:.1f} A, {sky}"
