"""The step make_throughput: from a frame of even sky to the fibers' throughputs beyond the fiber flat."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from kspecdr.errors import BadFrame, named
from kspecdr.io.fits import read_spectra, write_spectra
from kspecdr.io.names import PathLike, product_path
from kspecdr.legacy import documented
from kspecdr.products import MaskBit, Spectra
from kspecdr.reduce_object import divide_response
from kspecdr.throughput import beyond_flat
from kspecdr.wavecal.scrunch import check_arc, read_arc, solved_fibers

log = logging.getLogger(__name__)


def throughput_of(sky: Spectra, arc: Spectra, fflat: Spectra) -> Spectra:
    """Return the throughputs beyond the flat's, near 1, that extracted spectra of even sky tell.

    Raises BadFrame where fewer than two fibers have light.
    """
    check_arc(sky, arc)
    native = divide_response(replace(sky, wave=arc.wave, calibrated=True), fflat)
    good = (native.mask == 0) & np.isfinite(native.flux) & (native.variance > 0)
    lit = good.any(axis=1) & solved_fibers(arc)
    if lit.sum() < 2:
        raise BadFrame(f"{lit.sum()} fibers of the sky have light, a flat and wavelengths; expected 2 or more")
    flux, variance = np.where(good, native.flux, 0.0)[lit], np.where(good, native.variance, 1.0)[lit]
    found = beyond_flat(flux, variance, good[lit], native.wave[lit])
    throughput, noise = np.full(native.flux.shape, np.nan), np.full(native.flux.shape, np.nan)
    throughput[lit], noise[lit] = found.shape, found.shape**2 * found.uncertain
    mask = np.where(np.isfinite(throughput), np.uint8(0), np.uint8(MaskBit.NO_DATA))
    provenance = native.provenance | arc.provenance.seen_from("arc")
    return replace(native, flux=throughput, variance=noise, mask=mask, unit="", provenance=provenance)


@documented()
def make_throughput(
    extrac_filename: PathLike,
    wavel_filename: PathLike,
    fflat_filename: PathLike,
    thput_filename: PathLike | None = None,
) -> str:
    """Measure the fibers' throughputs on twilight or even night sky (class MFSKY); return the path of the product.

    Parameters
    ----------
    extrac_filename : *_ex.fits of the sky
    wavel_filename, fflat_filename : *_red.fits of an arc; the fiber flat's response, which the throughputs
        go beyond: where the sky agrees with it they are 1
    thput_filename : where they go; `X_ex.fits` -> `X_thput.fits` by default. reduce_object takes it as
        THPUT_FILENAME, together with the same flat

    Raises
    ------
    BadOption, BadFrame, MissingCalibration
        Naming the file, the value and the expectation.
    """
    sky, arc, fflat = read_spectra(extrac_filename), read_arc(wavel_filename), read_spectra(fflat_filename, "fflat")
    with named(extrac_filename):
        found = throughput_of(sky, arc, fflat)
    path = write_spectra(thput_filename or product_path(extrac_filename, "thput"), found)
    log.info("%s: throughputs of %d fibers", Path(path).name, int((found.mask == 0).any(axis=1).sum()))
    return path
