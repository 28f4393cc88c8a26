"""The one door to FITS products: raw files in, products in and out."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.units import Unit

from kspecdr.arrays import Ints
from kspecdr.errors import BadFrame
from kspecdr.io.blocks import empty_unit, unit_of
from kspecdr.io.cards import Card, setup_cards, setup_of
from kspecdr.io.fiber_table import fibers_of, fibers_unit, read_table, table_hdu
from kspecdr.io.hdus import (
    Content,
    array_unit,
    find_hdu,
    mask_unit,
    native,
    opened,
    primary_unit,
    provenance_of,
    write_content,
)
from kspecdr.io.raw_image import read_pixels
from kspecdr.products import Frame, Image, Note, Provenance, Source, Spectra, TramlineMap

NOTES = frozenset(Note)  # numbers and sentences of the quality checklist


@dataclass(frozen=True)
class Raw:
    """A raw file as it lies on disk: its header and its exposures in file order."""

    header: fits.Header
    cube: Ints  # (n_exposure, n_row, n_column) ADU
    provenance: Provenance


def read_raw(path: str | Path) -> Raw:
    """Read a raw LightField file: one exposure or a cube of several.

    FITS, FITS compressed by gzip or in tiles, or SPE 3.0. Raises BadFrame where the file is damaged, holds no
    image, or is larger than a raw file can be.
    """
    path = Path(path)
    header, cube, content = read_pixels(path)
    return Raw(header, cube, Provenance((Source("raw", path.name, content),)))


def read_plane(path: str | Path) -> Any:
    """Read the image of the first HDU that has one, e.g. a bad-pixel mask."""
    with opened(path, "mask") as (hdul, _):
        planes = [native(hdu.data) for hdu in hdul if hdu.is_image and hdu.data is not None]
        if not planes or planes[0].ndim != 2:
            raise BadFrame("there is no two-dimensional image in it")
        return planes[0]


def source_of(path: str | Path, role: str) -> Source:
    """Return what a file is as an input: role, name and hash."""
    return Source(role, Path(path).name, hashlib.sha256(Path(path).read_bytes()).hexdigest())


def read_curve(path: str | Path, *more: str) -> tuple[Any, ...]:
    """Read the first two columns of a table (CSV, ECSV or FITS): wavelength (Angstrom) and value, sorted.

    more : names of further columns, in upper case; None is returned for one that the table lacks

    Raises BadFrame for fewer than two columns or rows, and for what is no finite number.
    """
    table, name = read_table(Path(path)), Path(path).name
    if len(table.colnames) < 2 or len(table) < 2:
        raise BadFrame(f"{name} has columns {table.colnames} and {len(table)} rows, expected wavelengths and values")
    known = {column.upper(): column for column in table.colnames}
    wanted = [*table.colnames[:2], *(known.get(each) for each in more)]
    try:
        columns = [None if each is None else np.asarray(table[each], dtype=float) for each in wanted]
    except (TypeError, ValueError) as error:
        raise BadFrame(f"{name}: expected numbers, the wavelengths first: {error}") from error
    if not all(np.isfinite(column).all() for column in columns if column is not None):
        raise BadFrame(f"{name} has entries that are no finite numbers")
    order = np.argsort(np.asarray(columns[0]), kind="stable")
    return tuple(None if column is None else column[order] for column in columns)


def write_curve(path: str | Path, name: str, columns: Mapping[str, tuple[Any, str]], provenance: Provenance) -> str:
    """Write columns, each with its unit, as a FITS table; return its path."""
    table = [fits.Column(key, "D", unit=unit, array=values) for key, (values, unit) in columns.items()]
    units = (empty_unit(), unit_of(fits.BinTableHDU.from_columns(table, name=name)))
    return write_content(path, Content(units, provenance))


def write_frame(path: str | Path, frame: Frame) -> str:
    """Write a *_converted.fits; return its path."""
    return write_content(path, frame_content(frame))


def frame_content(frame: Frame) -> Content:
    """Return what a *_converted.fits has."""
    cards: list[Card] = [*setup_cards(frame.setup), ("BUNIT", "adu", "unit of the pixels")]
    primary = primary_unit(frame.counts, cards, frame.header)
    return Content((primary, fibers_unit(frame.fibers)), frame.provenance)


def read_frame(path: str | Path) -> Frame:
    """Read a *_converted.fits."""
    with opened(path, "converted") as (hdul, provenance):
        setup, fibers = setup_of(hdul[0].header), fibers_of(find_hdu(hdul, "FIBRES"))
        return Frame(hdul[0].data, setup, fibers, hdul[0].header, provenance_of(hdul) | provenance)


def write_image(path: str | Path, image: Image) -> str:
    """Write an *_im.fits or a master calibration; return its path."""
    return write_content(path, image_content(image))


def image_content(image: Image) -> Content:
    """Return what an *_im.fits or a master calibration has: flux, VARIANCE, MASK, FIBRES."""
    primary = primary_unit(
        image.flux.astype(np.float32, copy=False),
        [*setup_cards(image.setup), ("BUNIT", "electron", "unit of the pixels")],
    )
    variance = array_unit(image.variance.astype(np.float32, copy=False), "VARIANCE", "electron2")
    return Content((primary, variance, mask_unit(image.mask), fibers_unit(image.fibers)), image.provenance)


def read_image(path: str | Path, role: str = "im") -> Image:
    """Read an *_im.fits or a master calibration."""
    with opened(path, role) as (hdul, source):
        header = hdul[0].header
        flux, variance = native(hdul[0].data), native(find_hdu(hdul, "VARIANCE").data)
        mask = find_hdu(hdul, "MASK").data if "MASK" in hdul else np.zeros(flux.shape, np.uint8)
        return Image(
            flux,
            variance,
            mask,
            setup_of(header),
            fibers_of(find_hdu(hdul, "FIBRES")),
            source | provenance_of(hdul),
        )


def write_tramlines(path: str | Path, tlm: TramlineMap) -> str:
    """Write a *_tlm.fits; return its path."""
    return write_content(path, tramlines_content(tlm))


def tramlines_content(tlm: TramlineMap) -> Content:
    """Return what a *_tlm.fits has: tramlines, predicted WAVELA, PROFILE, FIBRES with each trace's status."""
    cards: list[Card] = [("MWIDTH", round(tlm.median_width, 5), "[pix] median sigma of the fiber profiles")]
    if tlm.doubt:
        cards.append((Note.DOUBT, tlm.doubt, "why fibers may be misnamed"))
    units = [
        primary_unit(tlm.center, setup_cards(tlm.setup) + cards),
        array_unit(tlm.wave, "WAVELA", "Angstrom"),
        array_unit(tlm.width, "PROFILE", "pix"),
        array_unit(np.atleast_1d(tlm.wings), "WINGS"),
        fibers_unit(tlm.fibers, STATUS=tlm.status),
    ]
    if tlm.fit_residual is not None:
        units.append(array_unit(tlm.fit_residual, "FITRES", "pix"))
    return Content(tuple(units), tlm.provenance)


def read_tramlines(path: str | Path) -> TramlineMap:
    """Read a *_tlm.fits."""
    with opened(path, "tlm") as (hdul, source):
        header, profile = hdul[0].header, find_hdu(hdul, "PROFILE")
        status = find_hdu(hdul, "FIBRES").data["STATUS"]
        return TramlineMap(
            center=native(hdul[0].data),
            width=native(profile.data),
            wave=native(find_hdu(hdul, "WAVELA").data),
            status=np.char.strip(status.astype(np.str_)),
            setup=setup_of(header),
            fibers=fibers_of(find_hdu(hdul, "FIBRES"), without=("STATUS",)),
            wings=native(find_hdu(hdul, "WINGS").data),
            doubt=header.get(Note.DOUBT, ""),
            fit_residual=native(hdul["FITRES"].data) if "FITRES" in hdul else None,
            provenance=source | provenance_of(hdul),
        )


def write_spectra(path: str | Path, spectra: Spectra) -> str:
    """Write an *_ex.fits or *_red.fits; return its path."""
    return write_content(path, spectra_content(spectra))


def spectra_content(spectra: Spectra) -> Content:
    """Return what an *_ex.fits or *_red.fits has; which HDUs these are follows from what the spectra know."""
    units = [
        primary_unit(spectra.flux.astype(np.float32, copy=False), setup_cards(spectra.setup) + _spectra_cards(spectra)),
        array_unit(spectra.variance.astype(np.float32, copy=False), "VARIANCE", squared(spectra.unit)),
        mask_unit(spectra.mask),
        array_unit(spectra.wave, "WAVELA", "Angstrom"),
        fibers_unit(spectra.fibers),
    ]
    optional = (
        ("COVAR", spectra.covariance, squared(spectra.unit)),
        ("SKY", spectra.sky, spectra.unit),
        ("RWSS", spectra.without_sky, spectra.unit),
        ("LAMP", spectra.lamp, "electron"),
        ("WAVEERR", spectra.wave_error, "Angstrom"),
        ("SHIFTS", spectra.shifts, "pix"),
    )
    units += [
        array_unit(array.astype(np.float32, copy=False), name, unit)
        for name, array, unit in optional
        if array is not None
    ]
    if spectra.lines is not None:
        units.append(unit_of(table_hdu(spectra.lines, "ARCLINES")))
    return Content(tuple(units), spectra.provenance)


@cache
def squared(unit: str) -> str:
    """Return the unit of a variance; "" has none."""
    return str((Unit(unit) ** 2).to_string()) if unit else ""


def _spectra_cards(spectra: Spectra) -> list[Card]:
    cards: list[Card] = [
        ("BUNIT", spectra.unit, "unit of the pixels"),
        ("SCRUNCH", spectra.scrunched, "all fibers are on one wavelength grid"),
        ("WAVECAL", spectra.calibrated, "WAVELA comes from an arc"),
        ("TLMSHIFT", round(float(spectra.tramline_shift), 5), "[pix] shift of the tramlines on this frame"),
    ]
    if spectra.scrunched:
        wave = spectra.wave[0]
        step = (wave[-1] - wave[0]) / (wave.size - 1)
        if np.ptp(np.diff(wave)) > 1e-6 * step:  # equal steps of the logarithm
            step = wave[0] * np.log(wave[-1] / wave[0]) / (wave.size - 1)
            ctype = "AWAV-LOG"
        else:
            ctype = "AWAV"
        cards += [
            ("CTYPE1", ctype, "wavelength in air"),
            ("CUNIT1", "Angstrom", "unit of the wavelength"),
            ("CRPIX1", 1.0, "reference sample"),
            ("CRVAL1", float(wave[0]), "[Angstrom] wavelength of the reference sample"),
            ("CDELT1", float(step), "[Angstrom] step"),
        ]
    return cards + [(key, value, "") for key, value in spectra.notes.items()]


def read_spectra(path: str | Path, role: str = "ex") -> Spectra:
    """Read an *_ex.fits or *_red.fits."""
    with opened(path, role) as (hdul, source):
        header = hdul[0].header

        def get(name: str) -> Any:
            return native(hdul[name].data) if name in hdul else None

        lines = None
        if "ARCLINES" in hdul:
            table = hdul["ARCLINES"].data
            lines = {name: np.array(table[name]) for name in table.columns.names}
        return Spectra(
            flux=native(hdul[0].data),
            variance=native(find_hdu(hdul, "VARIANCE").data),
            mask=find_hdu(hdul, "MASK").data,
            wave=native(find_hdu(hdul, "WAVELA").data),
            setup=setup_of(header),
            fibers=fibers_of(find_hdu(hdul, "FIBRES")),
            covariance=get("COVAR"),
            sky=get("SKY"),
            without_sky=get("RWSS"),
            shifts=get("SHIFTS"),
            wave_error=get("WAVEERR"),
            lamp=get("LAMP"),
            lines=lines,
            calibrated=bool(header.get("WAVECAL", False)),
            scrunched=bool(header.get("SCRUNCH", False)),
            unit=str(header.get("BUNIT", "electron")),
            notes={key: header[key] for key in header if key in NOTES},
            tramline_shift=float(header.get("TLMSHIFT", 0.0)),
            provenance=source | provenance_of(hdul),
        )
