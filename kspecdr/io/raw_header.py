"""The header of a raw file, whatever its format, without its pixels."""

import re
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from astropy.io import fits
from astropy.io.fits import Header

from kspecdr.errors import BadFrame
from kspecdr.io.gzipped import GZIP, first_bytes
from kspecdr.io.raw_file import LARGEST, file_size, is_spe, named
from kspecdr.io.spe import read_spe_header
from kspecdr.io.tiles import check_table, image_header, is_tiled, read_tiles

__all__ = ["Header", "image_shape", "read_header"]  # who reads headers need not know who parses them

BLOCK, CARD = 2880, 80
FIRST_CARD = b"SIMPLE  ="
HEADER_LIMIT = 1 << 20  # bytes; a settings tree has some 40 kB
MOST_FRAMES = 10_000  # in one file
_ILLEGAL = re.compile(rb"[^ -~]")  # what FITS does not allow in a header
_BITPIX = (8, 16, 32, 64, -32, -64)


@dataclass(frozen=True)
class Unit:
    """The header and data unit that holds the image."""

    header: Header  # of the image, as if it were not compressed
    table: Header | None  # of the table that holds its tiles
    start: int  # byte at which the pixels or the rows of the table begin


def read_header(path: Path, *, whole: bool = False) -> Header:
    """Return the header of the image in a raw file: FITS, FITS compressed by gzip or in tiles, or SPE 3.0.

    whole : expand the tiles of an image too, where its pixels lie in some: nothing else tells that they are whole

    Bytes that FITS does not allow in a header are read as question marks; astropy warns of keywords and
    cards that it does not understand, now or when they are used.

    Raises BadFrame where the file cannot be read, is none of these, is larger than a raw file can be, or lacks
    what its header promises.
    """
    with named(path), path.open("rb") as stream:
        size = file_size(path)
        if is_spe(path):
            return read_spe_header(stream, size)
        first = stream.read(len(GZIP))
        stream.seek(0)
        if first != GZIP:
            unit = fits_unit(stream, size)
            if whole and unit.table is not None:
                stream.seek(0)
                tiled_image(stream.read(), unit.header, unit.table)
            return unit.header
        begin, size = first_bytes(stream, size, 2 * (HEADER_LIMIT + BLOCK))
        return fits_unit(BytesIO(begin), size).header


def fits_unit(stream: BinaryIO, size: int) -> Unit:
    """Return the unit of the image in a FITS file of `size` bytes, of which the stream needs to hold the headers.

    Raises BadFrame where the file has no room for what the header promises. What is no image at all passes.
    """
    header, table = _headers(stream)
    unit = Unit(header, table, stream.tell())
    try:
        shape = image_shape(header)
    except BadFrame:  # whoever needs the shape says so; the header alone tells what is to be ignored
        return unit
    if table is not None:
        check_table(table, unit.start, size)
        return unit
    end = unit.start + prod(shape) * abs(int(header["BITPIX"])) // 8
    if end > size:
        pixels = " x ".join(map(str, shape))
        raise BadFrame(f"{size} bytes on disk, expected at least {end} for {pixels} pixels: it is truncated")
    scaling(header)
    return unit


def tiled_image(data: bytes, header: Header, table: Header) -> Any:
    """Return the pixels (n_exposure, n_row, n_column) of an image, by its header and that of the table of its tiles.

    data : the whole file

    Raises BadFrame where they are damaged or do not make up the image.
    """
    n_frame, rows, columns = shape = image_shape(header)
    pixels = read_tiles(data, table)
    if pixels is None or pixels.size != prod(shape):
        raise BadFrame(f"its tiles do not make up an image of {n_frame} x {rows} x {columns} pixels")
    return pixels.reshape(shape)


def _headers(stream: BinaryIO) -> tuple[Header, Header | None]:
    """Return the header of the image, and that of the table of its tiles if it has one."""
    header = Header.fromstring(_header_text(stream))
    if header.get("NAXIS") != 0:
        return header, None
    following = stream.read(BLOCK)
    if not following.startswith(b"XTENSION"):
        return header, None
    table = Header.fromstring(_header_text(stream, following))
    return (image_header(table), table) if is_tiled(table) else (header, None)


def _header_text(stream: BinaryIO, begun: bytes = b"") -> bytes:
    """Return the header at which the stream stands, with what FITS does not allow as question marks."""
    text = bytearray(begun or stream.read(BLOCK))
    if not begun and not text.startswith(FIRST_CARD):
        what = "it is no FITS file (its first bytes are not SIMPLE)" if text else "it is empty"
        raise BadFrame(f"{what}; expected a FITS file")
    while not _ends(text):
        block = stream.read(BLOCK)
        if not block or len(text) > HEADER_LIMIT:
            raise BadFrame("it has no END card in its header; write it again")
        text += block
    return _ILLEGAL.sub(b"?", text)


def _ends(text: bytearray) -> bool:
    """Tell whether the last block holds the END card."""
    begin = (len(text) - 1) // BLOCK * BLOCK
    return any(text[k : k + CARD].rstrip() == b"END" for k in range(begin, len(text), CARD))


def image_shape(header: Header) -> tuple[int, int, int]:
    """Return (frames, rows, columns) of the primary image.

    Raises BadFrame for anything but one image or a cube of them, or for more pixels than a raw file can have.
    """
    try:
        axes = [header.get(f"NAXIS{k}") for k in range(1, 4)][: _whole(header.get("NAXIS", 0))]
        bits = _whole(header.get("BITPIX"))
    except fits.VerifyError as error:
        raise BadFrame(f"its NAXIS cards cannot be read ({error}); write it again") from error
    if len(axes) not in (2, 3) or not all(_whole(axis) > 0 for axis in axes):
        found = " x ".join(str(axis) for axis in reversed(axes)) or "none"
        raise BadFrame(f"the image has axes {found}, expected (rows, columns) or (frames, rows, columns)")
    if bits not in _BITPIX:
        raise BadFrame(f"card BITPIX is {header.get('BITPIX')!r}, expected one of {_BITPIX}")
    if len(axes) == 3 and axes[2] > MOST_FRAMES:
        raise BadFrame(f"its header promises {axes[2]} frames, expected at most {MOST_FRAMES}")
    n_byte = prod(axes) * abs(bits) // 8
    if n_byte > LARGEST:
        raise BadFrame(f"its header promises an image of {n_byte} bytes, expected at most {LARGEST}")
    columns, rows, *frames = (_whole(axis) for axis in axes)
    return (frames[0] if frames else 1), rows, columns


def scaling(header: Header) -> tuple[float, float]:
    """Return BSCALE and BZERO, by which stored pixels are multiplied and which is added then."""
    values = [header.get(keyword, default) for keyword, default in (("BSCALE", 1.0), ("BZERO", 0.0))]
    for keyword, value in zip(("BSCALE", "BZERO"), values, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
            raise BadFrame(f"card {keyword} is {value!r}, expected a number")
    return float(values[0]), float(values[1])


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
