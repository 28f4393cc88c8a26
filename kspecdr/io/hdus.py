"""Whole files and single HDUs: opening with a hash, writing whole or not at all, the PROVENANCE table."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from kspecdr.io.blocks import Unit, image_unit, text_table_unit
from kspecdr.io.cards import Card, from_ascii, to_ascii
from kspecdr.io.disk import sync
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
        raise BadFrame(f"{path.name}: {error}") from error
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


def find_hdu(hdul: fits.HDUList, name: str) -> Any:
    """Return the HDU `name`; a missing one is a BadFrame that lists those that are there."""
    if name not in hdul:
        present = ", ".join(hdu.name for hdu in hdul)
        raise BadFrame(f"there is no HDU {name} (there are {present})")
    return hdul[name]


def bare_header(header: fits.Header | None, cards: Iterable[Card]) -> fits.Header:
    """Return `header` without what describes the array of its own file, and without the keywords of `cards`.

    A card of a damaged file may be too broken even to be overwritten. None is an empty header.
    """
    if header is None:
        return fits.Header()
    replaced = {keyword for keyword, _, _ in cards}
    kept = (card for card in header.cards if card.keyword not in replaced and not STRUCTURE.match(card.keyword))
    return fits.Header(list(kept))


MASK_CARDS = tuple(
    (f"BIT{bit}", bit, meaning)
    for bit, meaning in ((1, "bad pixel"), (2, "saturated"), (4, "cosmic ray"), (8, "no data"))
)


def primary_unit(array: Any, cards: Iterable[Card], header: fits.Header | None = None) -> Unit:
    """Return the first unit of a product: an array with `cards`, and what of a raw header is carried along."""
    said = list(cards)
    carried = bare_header(header, said).tostring(endcard=False, padding=False) if header is not None else ""
    return image_unit(array, said, carried=carried)


def array_unit(array: Any, name: str, unit: str = "") -> Unit:
    """Return an image extension; BUNIT says the unit where there is one."""
    return image_unit(array, [("BUNIT", unit, "")] if unit else [], name=name)


def mask_unit(mask: Ints) -> Unit:
    """Return the MASK, its bits explained in its header."""
    return image_unit(mask.astype(np.uint8, copy=False), MASK_CARDS, name="MASK")


@cache
def _software() -> tuple[tuple[str, str, str], ...]:
    return tuple(("software", name, version(name)) for name in SOFTWARE)


def provenance_unit(provenance: Provenance) -> Unit:
    """Return the PROVENANCE table: inputs with their hashes, options, versions of the software."""
    rows = [(source.role, to_ascii(source.name), source.sha256) for source in provenance.sources]
    rows += [("option", key, to_ascii(value)) for key, value in provenance.options]
    rows += _software()
    return text_table_unit("PROVENANCE", dict(zip(("ROLE", "NAME", "VALUE"), zip(*rows, strict=True), strict=True)))


def provenance_of(hdul: fits.HDUList) -> Provenance:
    """Return what the PROVENANCE table says; empty where there is none."""
    if "PROVENANCE" not in hdul:
        return Provenance()
    rows = [tuple(from_ascii(str(text)) for text in row) for row in hdul["PROVENANCE"].data]
    return Provenance(
        tuple(Source(*row) for row in rows if row[0] not in ("option", "software")),
        tuple((name, value) for role, name, value in rows if role == "option"),
    )


def is_product(path: str | Path) -> bool:
    """Tell whether a file is a product of kspecdr."""
    return PRODUCT_MARK in Path(path).read_bytes()


@dataclass(frozen=True)
class Content:
    """What a product's file has."""

    units: tuple[Unit, ...]
    provenance: Provenance  # stands behind them

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Yield its bytes, one after the other."""
        for unit in (*self.units, provenance_unit(self.provenance)):
            yield from unit.pieces()


def write_content(path: str | Path, content: Content) -> str:
    """Write a product to `path`, whole or not at all; return the path.

    A file that is there already is replaced only if it is a product itself: raw files are never touched.

    A temporary file in the same directory is written, synced and moved into place, so that a reader
    or a crash never meets half a product. No time is written: the same inputs give the same bytes.
    """
    if Path(path).exists() and not is_product(path):
        raise BadOption(f"{path} exists and is no product of kspecdr; raw files are never overwritten")
    write_bytes(Path(path), *content.pieces())
    return str(path)


def lay_down(path: str | Path, content: Content) -> str:
    """Write a product to `path` in a directory that nobody looks into yet; return the path.

    The disk need not have it when this returns: `sync` waits for that.
    """
    with Path(path).open("wb") as file:
        file.writelines(content.pieces())
    return str(path)


def write_bytes(path: Path, *pieces: bytes | memoryview) -> None:
    """Write `pieces`, one after the other, to `path`: a temporary neighbour, synced, then moved into place.

    Raises BadOption where the folder does not exist.
    """
    if not path.parent.is_dir():
        raise BadOption(f"the folder {path.parent} of {path.name} does not exist; make it first")
    temporary = path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)
