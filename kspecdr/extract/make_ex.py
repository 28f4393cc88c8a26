"""make_ex: from an image and a tramline map to one spectrum a fiber."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from kspecdr.errors import BadOption, named
from kspecdr.extract.aperture import any_in_aperture
from kspecdr.extract.background import scattered_light
from kspecdr.extract.boxcar import Extracted, extract_boxcar
from kspecdr.extract.optimal import extract_optimal, gaussian_cores
from kspecdr.extract.strange import strange_light
from kspecdr.io.fits import read_image, read_tramlines, write_image, write_spectra
from kspecdr.io.names import product_path
from kspecdr.legacy import NO_TYPES, documented
from kspecdr.options import ExtractOptions, recorded
from kspecdr.preproc.cosmic import without_hits
from kspecdr.products import Image, MaskBit, Note, Spectra, TramlineMap, flagged
from kspecdr.tlm.placement import Placed, place
from kspecdr.tlm.windows import Seen

log = logging.getLogger(__name__)

UNLIT_TYPES = ("D", "N")
FULL_WITHIN = 1.5  # core widths of the center: a saturated pixel there cannot be bridged by the profile


def extract(
    image: Image,
    tramlines: TramlineMap,
    options: ExtractOptions = ExtractOptions(),
    *,
    placed: Placed | None = None,
) -> Spectra:
    """Extract every fiber of an image along a tramline map.

    placed : the map on this image, where it has been measured already
    """
    placed = placed or place(image, tramlines, options.tlm_shift)
    here = placed.tramlines
    result, strange = _summed_or_fitted(image, placed, options)
    saturated = flagged(image.mask, MaskBit.SATURATED)
    full = any_in_aperture(saturated, here.center, FULL_WITHIN * tramlines.median_width)
    dark = np.isin(image.fibers.type, UNLIT_TYPES)[:, None] & np.ones_like(full)
    bits = np.where(full, np.uint8(MaskBit.SATURATED), 0) | np.where(dark, np.uint8(MaskBit.NO_DATA), 0)
    provenance = image.provenance | tramlines.provenance.seen_from("tlm")
    return Spectra(
        flux=np.where(full | dark, np.nan, result.flux),
        variance=np.where(full | dark, np.nan, result.variance),
        mask=(result.mask | bits).astype(np.uint8),
        wave=here.wave,
        setup=image.setup,
        fibers=replace(image.fibers, columns={**image.fibers.columns, "status": tramlines.status}),
        tramline_shift=placed.shift.offset,
        notes={Note.STRANGE: strange}
        | {key: said for key, said in ((Note.ALARM, placed.alarm), (Note.DOUBT, tramlines.doubt)) if said},
        provenance=provenance.with_options(recorded("extract", options)),
    )


def _summed_or_fitted(image: Image, placed: Placed, options: ExtractOptions) -> tuple[Extracted, float]:
    """Extract by the operation of the options; return the share of light that is strange too."""
    traces = (placed.tramlines.center, placed.tramlines.width, placed.tramlines.wings)
    windows, light = placed.windows, (image.flux, image.variance, image.mask)
    seen = Seen.of(*light, windows)
    summed = options.extr_operation in ("SUM", "TRAM")
    if not summed and not flagged(image.mask, MaskBit.COSMIC).any():
        seen = without_hits(seen, windows)
    flux = image.flux
    if options.scatsub:
        scattered = scattered_light(*light, windows, seen=seen)
        seen = scattered.rest
        flux = flux - scattered.on_frame(len(flux)) if summed else flux
    if summed:
        result = extract_boxcar(flux, image.variance, image.mask, *traces, width=options.sum_width)
    else:
        gaussian = options.extr_operation == "GAUSS"
        result = extract_optimal(seen, windows, gaussian_cores(windows) if gaussian else None)
    traced = placed.tramlines.status[:, None] != "interpolated"
    return result, strange_light(seen, windows, np.where(traced, result.flux, np.nan))


def residual(image: Image, spectra: Spectra, placed: Placed) -> Image:
    """Return the image less the light of the spectra laid out by the fibers' profiles."""
    return replace(image, flux=image.flux - placed.windows.light_image(spectra.flux, len(image.flux)))


@documented(ExtractOptions)
def make_ex(
    image_filename: str | Path,
    tlmap_filename: str | Path,
    extrac_filename: str | Path | None = None,
    *,
    options: ExtractOptions = ExtractOptions(),
    fiber_types: Mapping[int, str] = NO_TYPES,
) -> str:
    """Extract an *_im.fits along a *_tlm.fits; return the path of the *_ex.fits.

    Parameters
    ----------
    image_filename, tlmap_filename : image, and tramline map of the same fibers
    extrac_filename : where the spectra go; `X_im.fits` -> `X_ex.fits` by default
    options : extr_operation, sum_width, tlm_shift (None: measured), scatsub, wtscheme, optex_mkres
    fiber_types : FIBn, the types of fibers, over those of the table

    Raises
    ------
    BadOption, BadFrame
        Naming the file, the value and the expectation.
    """
    image, tramlines = read_image(image_filename), read_tramlines(tlmap_filename)
    name = Path(image_filename).name
    if len(image.fibers) != len(tramlines.fibers):
        raise BadOption(
            f"{name} has {len(image.fibers)} fibers, {Path(tlmap_filename).name} has {len(tramlines.fibers)}"
        )
    with named(name):
        image = replace(image, fibers=image.fibers.retyped(fiber_types))
        placed = place(image, tramlines, options.tlm_shift)
        spectra = extract(image, tramlines, options, placed=placed)
    if placed.alarm:
        log.warning("%s: %s", name, placed.alarm)
    path = write_spectra(extrac_filename or product_path(image_filename, "ex"), spectra)
    if options.optex_mkres:
        write_image(product_path(path, "res"), residual(image, spectra, placed))
    log.info("%s: %d fibers, traces moved by %+.3f px", Path(path).name, len(image.fibers), placed.shift.offset)
    return path
