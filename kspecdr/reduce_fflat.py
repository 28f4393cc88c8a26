"""The step reduce_fflat: from a fiber flat to its tramline map, its spectra and the response of fibers and pixels."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from kspecdr.errors import BadOption, named
from kspecdr.extract.make_ex import make_ex
from kspecdr.flat import fiber_response
from kspecdr.io.fits import read_spectra, write_spectra
from kspecdr.io.names import PathLike, product_path
from kspecdr.legacy import NO_TYPES, documented
from kspecdr.options import FlatOptions, recorded
from kspecdr.preproc.make_im import make_im
from kspecdr.products import MaskBit, Spectra
from kspecdr.tlm.make_tlm import make_tlm
from kspecdr.wavecal.scrunch import check_arc, read_arc

log = logging.getLogger(__name__)


def respond(spectra: Spectra, arc: Spectra, options: FlatOptions = FlatOptions()) -> Spectra:
    """Return the response of fibers and pixels, near 1, of an extracted flat with an arc's wavelengths.

    Raises BadFrame where flat and arc do not belong together or no fiber has light, MissingCalibration where
    the arc has no solution.
    """
    check_arc(spectra, arc)
    good = (spectra.mask == 0) & np.isfinite(spectra.flux) & (spectra.variance > 0)
    if options.truncflat:
        column = np.arange(spectra.flux.shape[1])
        good &= (column >= options.useflatstart) & (column <= (options.useflatend or column[-1]))
    result = fiber_response(
        np.where(good, spectra.flux, 0.0), np.where(good, spectra.variance, 1.0), good, arc.wave, options
    )
    mask = np.where(np.isfinite(result.response), np.uint8(0), np.uint8(MaskBit.NO_DATA))
    return replace(
        spectra,
        flux=result.response,
        variance=result.variance,
        mask=mask,
        wave=arc.wave,
        lamp=result.lamp,
        unit="",
        calibrated=True,
        provenance=(spectra.provenance | arc.provenance.seen_from("arc")).with_options(recorded("flat", options)),
    )


@documented(FlatOptions)
def reduce_fflat(
    raw_filename: PathLike | None = None,
    image_filename: PathLike | None = None,
    tlmap_filename: PathLike | None = None,
    extrac_filename: PathLike | None = None,
    output_filename: PathLike | None = None,
    wavel_filename: PathLike | None = None,
    bias_filename: PathLike | None = None,
    dark_filename: PathLike | None = None,
    lflat_filename: PathLike | None = None,
    lampname: str | None = None,
    do_tlmap: bool = True,
    do_extra: bool = True,
    do_redfl: bool = True,
    make_tlm_only: bool = False,
    *,
    options: FlatOptions = FlatOptions(),
    fiber_types: Mapping[int, str] = NO_TYPES,
) -> str:
    """Reduce a fiber flat step by step; return the path of the last product made.

    Parameters
    ----------
    raw_filename, image_filename : converted flat, or its *_im.fits; the image is made where it is missing
    tlmap_filename, extrac_filename, output_filename : where TLM, EX and the response (*_red.fits) go
    wavel_filename : *_red.fits of a calibrated arc; needed for the response
    bias_filename, dark_filename, lflat_filename : calibrations of the image
    lampname : name of the flat lamp, kept for the record
    do_tlmap, do_extra, do_redfl : which steps are run; make_tlm_only stops after the first
    options : laf_flag, laf_par, truncflat, useflatstart, useflatend, bssmooth, bssnpars, bssnsigm

    Raises
    ------
    BadOption, BadFrame, MissingCalibration
        Naming the file, the value and the expectation.
    """
    origin = image_filename or raw_filename
    if origin is None:
        raise BadOption("reduce_fflat needs RAW_FILENAME or IMAGE_FILENAME")
    image = Path(image_filename or product_path(origin, "im"))
    if not image.exists():
        calibrations = {"bias": bias_filename, "dark": dark_filename, "lflat": lflat_filename}
        used = {f"use_{role}": path is not None for role, path in calibrations.items()}
        files = {f"{role}_filename": path for role, path in calibrations.items()}
        make_im(raw_filename, image, **used, **files)
    tlmap = tlmap_filename or product_path(image, "tlm")
    if do_tlmap:
        make_tlm(image, tlmap, fiber_types=fiber_types)
    if make_tlm_only:
        return str(tlmap)
    extracted = extrac_filename or product_path(image, "ex")
    if do_extra:
        make_ex(image, tlmap, extracted, fiber_types=fiber_types)
    if not do_redfl:
        return str(extracted)
    if wavel_filename is None:
        raise BadOption(f"the response of {image.name} needs WAVEL_FILENAME, the *_red.fits of a calibrated arc")
    with named(extracted):
        response = respond(read_spectra(extracted), read_arc(wavel_filename), options)
    response = replace(response, setup=replace(response.setup, lamp=lampname or response.setup.lamp))
    path = write_spectra(output_filename or product_path(image, "red"), response)
    log.info("%s: response of %d fibers", Path(path).name, len(response.fibers))
    return path
