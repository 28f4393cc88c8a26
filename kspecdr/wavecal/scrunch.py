"""scrunch_from_arc_id: put spectra on one wavelength grid with the solution of an arc, or back."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kspecdr.arrays import Bools, Floats
from kspecdr.errors import BadFrame, BadOption, MissingCalibration, named
from kspecdr.io.fits import read_spectra, write_spectra
from kspecdr.options import reject_unknown
from kspecdr.products import Note, Spectra
from kspecdr.wavecal.rebin import Rebinned, common_edges, edges_of, middles, rebin, unbin

log = logging.getLogger(__name__)

RESOLUTION = (Note.FWHM,)  # notes of an arc that hold for whatever it calibrates
SAME_CENTER = 10.0  # Angstrom: central wavelengths of one setting, as its header writes them


def scrunch(spectra: Spectra, arc: Spectra, *, log_wave: bool = False) -> Spectra:
    """Return native spectra rebinned to one linear grid by the wavelengths of an arc.

    The grid covers every fiber that has a solution, in steps of the median dispersion.

    Raises BadFrame where the two do not belong together, MissingCalibration where the arc has no solution.
    """
    check_arc(spectra, arc)
    if spectra.scrunched:
        raise BadFrame("the spectra are on a wavelength grid already (SCRUNCH = T)")
    usable = solved_fibers(arc)
    edges = common_edges(arc.wave[usable], log_wave=log_wave)
    rows: list[Rebinned | None] = [
        rebin(spectra.flux[k], spectra.variance[k], spectra.mask[k], arc.wave[k], edges) if usable[k] else None
        for k in range(len(usable))
    ]
    wave = np.tile(middles(edges, log_wave=log_wave), (len(usable), 1))
    return _collected(spectra, arc, rows, wave, scrunched=True)


def unscrunch(spectra: Spectra, arc: Spectra) -> Spectra:
    """Return spectra on one grid taken back to the native pixels of an arc: the inverse of `scrunch`."""
    check_arc(spectra, arc, same_columns=False)
    if not spectra.scrunched:
        raise BadFrame("the spectra are on native pixels already (SCRUNCH = F)")
    edges = edges_of(spectra.wave[0])
    rows = [
        unbin(spectra.flux[k], spectra.variance[k], spectra.mask[k], edges, arc.wave[k]) if solved else None
        for k, solved in enumerate(solved_fibers(arc))
    ]
    return _collected(spectra, arc, rows, arc.wave, scrunched=False)


def solved_fibers(arc: Spectra) -> Bools:
    """Return which fibers have wavelengths in all columns, (n_fiber,)."""
    return np.asarray(np.isfinite(arc.wave).all(axis=1), dtype=bool)


def read_arc(path: str | Path) -> Spectra:
    """Read the *_red.fits of an arc; BadFrame where it is of another class."""
    arc = read_spectra(path, "arc")
    if arc.setup.frame_class != "MFARC":
        found = arc.setup.frame_class
        raise BadFrame(f"{Path(path).name}: the wavelengths are those of a {found} frame, expected an arc (MFARC)")
    return arc


def check_arc(spectra: Spectra, arc: Spectra, *, same_columns: bool = True) -> None:
    """Raise where an arc does not belong to the spectra: MissingCalibration without a solution, else BadFrame."""
    if not arc.calibrated:
        raise MissingCalibration("the arc has no wavelength solution (WAVECAL = F); run reduce_arc on it first")
    n_fiber, n_column = spectra.flux.shape
    if arc.wave.shape[0] != n_fiber:
        raise BadFrame(f"the arc has {arc.wave.shape[0]} fibers, the spectra have {n_fiber}")
    if same_columns and arc.wave.shape[1] != n_column:
        raise BadFrame(f"the arc has {arc.wave.shape[1]} columns, the spectra have {n_column}")
    here, there = spectra.setup, arc.setup
    if (here.lines_per_mm, here.binning) != (there.lines_per_mm, there.binning):
        raise BadFrame(
            f"the arc was taken with {there.lines_per_mm:g} lines/mm and binning {there.binning}, "
            f"the spectra with {here.lines_per_mm:g} lines/mm and {here.binning}"
        )
    if abs(here.lambda_center - there.lambda_center) > SAME_CENTER:
        raise BadFrame(
            f"the arc was taken at {there.lambda_center:.1f} A, the spectra at {here.lambda_center:.1f} A; "
            f"expected within {SAME_CENTER:g} A"
        )


def _collected(
    spectra: Spectra, arc: Spectra, rows: list[Rebinned | None], wave: Floats, *, scrunched: bool
) -> Spectra:
    shape = wave.shape
    flux, variance = np.full(shape, np.nan), np.full(shape, np.nan)
    covariance, mask = np.zeros(shape), np.full(shape, 8, np.uint8)
    for k, row in enumerate(rows):
        if row is not None:
            flux[k], variance[k], covariance[k], mask[k] = row.flux, row.variance, row.covariance, row.mask
    return replace(
        spectra,
        flux=flux,
        variance=variance,
        covariance=covariance,
        mask=mask,
        wave=wave,
        wave_error=_error_at(wave, arc) if scrunched else arc.wave_error,
        sky=None,
        without_sky=None,
        calibrated=True,
        scrunched=scrunched,
        notes=dict(spectra.notes) | {name: arc.notes[name] for name in RESOLUTION if name in arc.notes},
        provenance=spectra.provenance | arc.provenance.seen_from("arc"),
    )


def _error_at(wave: Floats, arc: Spectra) -> Floats | None:
    """Return the arc's error of the wavelengths (n_fiber, n_sample) where the samples lie."""
    if arc.wave_error is None:
        return None
    upwards = [np.argsort(row) for row in arc.wave]
    return np.array(
        [np.interp(wave[k], arc.wave[k][order], arc.wave_error[k][order]) for k, order in enumerate(upwards)]
    )


def scrunch_from_arc_id(
    obj_filename: str | Path, arc_filename: str | Path, args: Mapping[str, Any], reverse: bool = False
) -> str:
    """Rebin spectra onto the wavelengths of a calibrated arc, in place; return `obj_filename`.

    Parameters
    ----------
    obj_filename : an *_ex.fits copied to *_red.fits; it is replaced as a whole, and SCRUNCH set
    arc_filename : *_red.fits of a calibrated arc
    args : may hold WAVEL_FILENAME, which then is the arc; may be empty
    reverse : from the grid back to native pixels

    Raises
    ------
    BadOption, BadFrame, MissingCalibration
        Naming the file, the value and the expectation.
    """
    reject_unknown("scrunch_from_arc_id", args, ["WAVEL_FILENAME"])
    arc_path = Path(args.get("WAVEL_FILENAME") or arc_filename)
    if arc_path.resolve() == Path(obj_filename).resolve():
        raise BadOption(f"{arc_path.name} is given as the arc and as the spectra to rebin; give two files")
    spectra, arc = read_spectra(obj_filename, "ex"), read_arc(arc_path)
    with named(obj_filename, arc_path, together=" with "):
        done = unscrunch(spectra, arc) if reverse else scrunch(spectra, arc)
    path = write_spectra(obj_filename, done)
    log.info("%s: %d samples from %.1f to %.1f A", Path(path).name, done.flux.shape[1], *done.wave[0, [0, -1]])
    return path
