"""The step make_transfer: from the reduced spectra of a standard star and its table to a transfer function."""

import logging
from pathlib import Path

import numpy as np

from kspecdr.arrays import Floats
from kspecdr.errors import BadFrame, BadOption, named
from kspecdr.flux import Standard, Transfer, measure_transfer
from kspecdr.io.fits import read_curve, read_spectra, source_of, write_curve
from kspecdr.io.names import PathLike, product_path
from kspecdr.legacy import documented
from kspecdr.products import Note, Provenance, Spectra
from kspecdr.wavecal.rebin import edges_of

log = logging.getLogger(__name__)


def star_fiber(reduced: Spectra) -> int:
    """Return the fiber that holds the star, from 0: the brightest over the grid.

    Raises BadFrame where no fiber has light.
    """
    level = np.nansum(np.where(reduced.mask == 0, reduced.flux, 0.0), axis=1)
    if not (level > 0).any():
        raise BadFrame("no fiber of the standard star's frame has light")
    return int(np.argmax(level))


def transfer_of(
    reduced: Spectra, standard: Standard, fflat: Spectra | None = None, *, fiber: int | None = None
) -> Transfer:
    """Return the sensitivity that a standard star's reduced spectra (in electrons, on one grid) give.

    fflat : the flat that they were divided by; its lamp guides the curve where the star is faint
    fiber : that holds the star, from 0; None: the brightest

    Raises BadFrame where the spectra are not in electrons on one grid, or star and table hardly overlap.
    """
    if not reduced.scrunched or reduced.unit != "electron":
        raise BadFrame(
            f"the standard star's spectra are in {reduced.unit!r}, expected electrons on one wavelength grid"
        )
    k = star_fiber(reduced) if fiber is None else fiber
    wave = reduced.wave[k]
    width = np.abs(np.diff(edges_of(wave)))
    per_second = width * reduced.setup.exposure
    good = reduced.mask[k] == 0
    return measure_transfer(
        np.where(good, reduced.flux[k] / per_second, np.nan),
        reduced.variance[k] / per_second**2,
        wave,
        standard,
        fwhm=float(reduced.notes.get(Note.FWHM, 0.0)) * float(np.median(width)),
        lamp=None if fflat is None or fflat.lamp is None else _lamp_on(wave, fflat.lamp[k], fflat.wave[k]),
    )


def _lamp_on(wave: Floats, lamp: Floats, native: Floats) -> Floats:
    """Return the lamp's light per Angstrom at the wavelengths `wave`; NaN where it was not seen."""
    order = np.argsort(native)
    density = (lamp / np.abs(np.diff(edges_of(native))))[order]
    return np.interp(wave, native[order], density, left=np.nan, right=np.nan)


@documented()
def make_transfer(
    red_filename: PathLike,
    table_filename: PathLike,
    transfunc: PathLike | None = None,
    fflat_filename: PathLike | None = None,
    extinct_filename: PathLike | None = None,
    airmass: float | None = None,
    fiber: int | None = None,
) -> str:
    """Measure the transfer function with a standard star; return the path of the table.

    Parameters
    ----------
    red_filename : *_red.fits of the star (class MFFLX), not flux-calibrated
    table_filename : the star's flux: a CSV, ECSV or FITS table of wavelength (Angstrom in air) and flux density
        (erg / (s cm2 Angstrom)), the first two columns
    transfunc : where the table goes; `X_red.fits` -> `X_transfer.fits` by default. reduce_object takes it as
        TRANSFUNC with CALIBFLUX=True
    fflat_filename : the fiber flat that the spectra were divided by
    extinct_filename, airmass : a table of wavelength and magnitudes at an airmass of 1, and the airmass of the
        star. With them the transfer function is the one above the atmosphere, and reduce_object needs AIRMASS
    fiber : that holds the star, from 1; the brightest by default

    Raises
    ------
    BadOption, BadFrame
        Naming the file, the value and the expectation.
    """
    if (extinct_filename is None) != (airmass is None):
        raise BadOption("make_transfer needs EXTINCT_FILENAME and AIRMASS together, or neither")
    reduced = read_spectra(red_filename, "red")
    fflat = None if fflat_filename is None else read_spectra(fflat_filename, "fflat")
    if fiber is not None and not 1 <= fiber <= len(reduced.fibers):
        name = Path(red_filename).name
        raise BadOption(
            f"{name}: FIBER is {fiber}, expected 1 to {len(reduced.fibers)}; leave it out for the brightest"
        )
    with named(red_filename, table_filename, together=" with "):
        standard = Standard(*read_curve(table_filename))
        transfer = transfer_of(reduced, standard, fflat, fiber=None if fiber is None else fiber - 1)
    if extinct_filename is not None and airmass is not None:
        wave, magnitude = read_curve(extinct_filename)
        transfer = transfer.above_atmosphere(wave, magnitude, airmass)
    if reduced.sky is None:
        log.warning("%s: the sky was not subtracted from the standard star", Path(red_filename).name)
    used = (
        ("red", red_filename),
        ("standard", table_filename),
        ("fflat", fflat_filename),
        ("extinction", extinct_filename),
    )
    sources = Provenance(tuple(source_of(path, role) for role, path in used if path is not None))
    return write_transfer(transfunc or product_path(red_filename, "transfer"), transfer, sources)


def write_transfer(path: PathLike, transfer: Transfer, provenance: Provenance) -> str:
    """Write a transfer function as a table; return its path."""
    per_flux = "cm2 / erg"  # electron / (s Angstrom) for one erg / (s cm2 Angstrom): electrons have no unit
    columns = {"WAVE": (transfer.wave, "Angstrom"), "SENSITIVITY": (transfer.sensitivity, per_flux)}
    if transfer.extinction is not None:
        columns["EXTINCTION"] = (transfer.extinction, "mag")
    return write_curve(path, "TRANSFER", columns, provenance)


def read_transfer(path: PathLike) -> Transfer:
    """Read a transfer function: that of make_transfer, or any table of wavelength and sensitivity."""
    return Transfer(*read_curve(path, "EXTINCTION"))
