"""Whole files and single HDUs: opening with a hash, writing whole or not at all, the PROVENANCE table."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from kspecdr.arrays import Ints
from kspecdr.errors import BadFrame, BadOption
from kspecdr.io.cards import Card, from_ascii, to_ascii
from kspecdr.products import Provenance, Source

STRUCTURE = re.compile(
    "(?:SIMPLE|XTENSION|BITPIX|NAXIS[0-9]*|EXTEND|GROUPS|PCOUNT|GCOUNT|BZERO|BSCALE|BLANK|TFIELDS|THEAP|CHECKSUM|"
    "DATASUM|END)$",
    re.IGNORECASE,
)
PRODUCT_MARK = b"'PROVENANCE'"  # the name of the table that every product has
SOFTWARE = ("kspecdr", "numpy", "scipy", "astropy", "astroscrappy")


@contextmanager
def opened(path: str | Path, role: str) -> Iterator[tuple[fits.HDUList, Provenance]]:
    """Open a FITS file from memory, so that bytes and hash belong together.

    Raises BadFrame in one sentence for a file that is no FITS file, is empty or truncated.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise BadFrame(f"{path} does not exist") from None
    except OSError as error:
        raise BadFrame(f"{path.name} cannot be read: {error.strerror}") from error
    if not data.startswith(b"SIMPLE  ="):
        what = "is empty" if not data else "is no FITS file (its first bytes are not SIMPLE)"
        raise BadFrame(f"{path.name} {what}; expected a FITS file")
    source = Source(role, path.name, hashlib.sha256(data).hexdigest())
    try:
        _check_size(fits.Header.fromfile(BytesIO(data)), len(data))
        with fits.open(BytesIO(data), memmap=False, lazy_load_hdus=False, output_verify="ignore") as hdul:
            yield hdul, Provenance((source,))
    except BadFrame as error:
        raise type(error)(f"{path.name}: {error}") from error
    except (OSError, KeyError, TypeError, IndexError, ValueError, fits.VerifyError) as error:
        raise BadFrame(f"{path.name} is damaged: {' '.join(str(error).split())}") from error


def _check_size(header: fits.Header, n_byte: int) -> None:
    """Raise BadFrame where the primary image that the header promises is longer than the file.

    Done before astropy opens it: a header that promises 100 GB must cost nothing.
    """
    axes = [int(header[f"NAXIS{k}"]) for k in range(1, int(header["NAXIS"]) + 1)]
    expected = abs(int(header["BITPIX"])) // 8 * prod(axes) if axes else 0
    if n_byte < expected:
        raise BadFrame(f"{n_byte} bytes on disk, expected at least {expected} for {axes} pixels: it is truncated")


def native(array: Any) -> Any:
    """Return a big-endian FITS array in the byte order of this machine, which numpy computes with."""
    return None if array is None else np.asarray(array).astype(array.dtype.newbyteorder("="), copy=False)


def stored(array: Any) -> Any:
    """Return an array as FITS stores it, big-endian: a copy wherever a number has more than one byte.

    Given an array of this machine's byte order, astropy swaps its bytes in place while it writes and back
    again when it has written; another thread that reads the array meanwhile would see garbage.
    """
    if array is None or array.dtype.kind not in "if" or array.dtype.itemsize == 1:
        return array  # unsigned numbers are stored with an offset, for which astropy makes its own copy
    return array.astype(array.dtype.newbyteorder(">"))


def find_hdu(hdul: fits.HDUList, name: str) -> Any:
    """Return the HDU `name`; a missing one is a BadFrame that lists those that are there."""
    if name not in hdul:
        present = ", ".join(hdu.name for hdu in hdul)
        raise BadFrame(f"there is no HDU {name} (there are {present})")
    return hdul[name]


def put_cards(header: fits.Header, cards: Iterable[Card]) -> None:
    """Set each card in `header` (in place)."""
    for keyword, value, comment in cards:
        header[keyword] = (_printable(value), comment)


def bare_header(header: fits.Header | None, cards: Iterable[Card]) -> fits.Header:
    """Return `header` without what describes the array of its own file, and without the keywords of `cards`.

    A card of a damaged file may be too broken even to be overwritten. None is an empty header.
    """
    if header is None:
        return fits.Header()
    replaced = {keyword for keyword, _, _ in cards}
    kept = (card for card in header.cards if card.keyword not in replaced and not STRUCTURE.match(card.keyword))
    return fits.Header(list(kept))


def _printable(value: Any) -> Any:
    """Return a text as a card can hold it: printable ASCII."""
    if not isinstance(value, str):
        return value
    return "".join(letter if " " <= letter <= "~" else "?" for letter in value)


def primary_hdu(array: Any, cards: Iterable[Card]) -> fits.PrimaryHDU:
    """Return a PRIMARY HDU of `array` with `cards`."""
    hdu = fits.PrimaryHDU(stored(array))
    put_cards(hdu.header, cards)
    return hdu


def array_hdu(array: Any, name: str, unit: str = "") -> fits.ImageHDU:
    """Return an image HDU; BUNIT says the unit where there is one."""
    hdu = fits.ImageHDU(stored(array), name=name)
    if unit:
        hdu.header["BUNIT"] = unit
    return hdu


def mask_hdu(mask: Ints) -> fits.ImageHDU:
    """Return the MASK HDU, its bits explained in its header."""
    hdu = fits.ImageHDU(mask.astype(np.uint8), name="MASK")
    for bit, meaning in ((1, "bad pixel"), (2, "saturated"), (4, "cosmic ray"), (8, "no data")):
        hdu.header[f"BIT{bit}"] = (bit, meaning)
    return hdu


@cache
def _software() -> tuple[tuple[str, str, str], ...]:
    return tuple(("software", name, version(name)) for name in SOFTWARE)


def provenance_hdu(provenance: Provenance) -> fits.BinTableHDU:
    """Return the PROVENANCE table: inputs with their hashes, options, versions of the software."""
    rows = [(source.role, to_ascii(source.name), source.sha256) for source in provenance.sources]
    rows += [("option", key, to_ascii(value)) for key, value in provenance.options]
    rows += _software()
    columns = [
        fits.Column(name, f"{max(len(row[k]) for row in rows) or 1}A", array=[row[k] for row in rows])
        for k, name in enumerate(("ROLE", "NAME", "VALUE"))
    ]
    return fits.BinTableHDU.from_columns(columns, name="PROVENANCE")


def provenance_of(hdul: fits.HDUList) -> Provenance:
    """Return what the PROVENANCE table says; empty where there is none."""
    if "PROVENANCE" not in hdul:
        return Provenance()
    rows = [tuple(from_ascii(str(text)) for text in row) for row in hdul["PROVENANCE"].data]
    return Provenance(
        tuple(Source(*row) for row in rows if row[0] not in ("option", "software")),
        tuple((name, value) for role, name, value in rows if role == "option"),
    )


def write_hdus(path: str | Path, hdus: list[Any], provenance: Provenance) -> str:
    """Write the HDUs with checksums to `path`, whole or not at all; return the path.

    A file that is there already is replaced only if it is a product itself: raw files are never touched.

    A temporary file in the same directory is written, synced and moved into place, so that a reader
    or a crash never meets half a product. No time is written: the same inputs give the same bytes.
    """
    if Path(path).exists() and PRODUCT_MARK not in Path(path).read_bytes():
        raise BadOption(f"{path} exists and is no product of kspecdr; raw files are never overwritten")
    hdul = fits.HDUList([*hdus, provenance_hdu(provenance)])
    for hdu in hdul:
        hdu.add_checksum(when="")
    buffer = BytesIO()
    hdul.writeto(buffer)
    write_bytes(Path(path), buffer.getbuffer())
    return str(path)


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write `data` to `path`: a temporary neighbour, synced, then moved into place.

    Raises BadOption where the folder does not exist.
    """
    if not path.parent.is_dir():
        raise BadOption(f"the folder {path.parent} of {path.name} does not exist; make it first")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
