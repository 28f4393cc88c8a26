"""make_red: from extracted to reduced spectra: flat and wavelengths applied, on one grid."""

import logging
from pathlib import Path

from kspecdr.errors import BadOption, named
from kspecdr.io.fits import read_spectra, write_spectra
from kspecdr.io.names import product_path
from kspecdr.legacy import documented
from kspecdr.options import ObjectOptions
from kspecdr.reduce_object import SpectralCalibrations, calibrate, summary
from kspecdr.wavecal.scrunch import read_arc

log = logging.getLogger(__name__)


@documented(ObjectOptions)
def make_red(
    extrac_filename: str | Path,
    output_filename: str | Path | None = None,
    flat_filename: str | Path | None = None,
    wavel_filename: str | Path | None = None,
    *,
    options: ObjectOptions = ObjectOptions(),
) -> str:
    """Reduce an *_ex.fits; return the path of the *_red.fits.

    Parameters
    ----------
    extrac_filename : *_ex.fits
    output_filename : where the spectra go; `X_ex.fits` -> `X_red.fits` by default
    flat_filename : *_fflat.fits, the response of fibers and pixels; not applied where none is given
    wavel_filename : *_red.fits of a calibrated arc

    Raises
    ------
    BadOption, BadFrame, MissingCalibration
        Naming the file, the value and the expectation.
    """
    name = Path(extrac_filename).name
    if wavel_filename is None:
        raise BadOption(f"make_red of {name} needs wavel_filename, the *_red.fits of a calibrated arc")
    by = SpectralCalibrations(read_arc(wavel_filename), read_spectra(flat_filename, "fflat") if flat_filename else None)
    with named(name):
        reduced = calibrate(read_spectra(extrac_filename), by, options)
    path = write_spectra(output_filename or product_path(extrac_filename, "red"), reduced)
    log.info("%s: %s", Path(path).name, summary(reduced))
    return path
