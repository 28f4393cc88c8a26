"""SPE 3.0, the format that LightField itself writes -> a header like that of its FITS files, and the pixels.

A file is a header of 4100 bytes, of which only its version and the place of the footer are used, the
frames, each followed by its metadata, and an XML footer, which is the truth where both speak. All numbers
are little-endian.
"""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

import numpy as np
from astropy.io.fits import Card, Header

from kspecdr.arrays import Ints
from kspecdr.errors import BadFrame
from kspecdr.io.spe_footer import FOOTER_LIMIT, Attributes, Footer, read_footer

PREAMBLE = 4100  # bytes before the first pixel
VERSION_AT, FOOTER_AT = 1992, 678
PIXELS = {  # pixelFormat -> type of a pixel, BITPIX of the header
    "MonochromeUnsigned16": ("<u2", 16),
    "MonochromeUnsigned32": ("<u4", 32),
    "MonochromeFloating32": ("<f4", -32),
}
LONGEST_KEYWORD = 60  # characters that leave room in a card for a value


@dataclass(frozen=True)
class Layout:
    """Where the pixels of each frame lie."""

    n_frame: int
    n_row: int
    n_column: int
    stride: int  # bytes from a frame to the next: pixels and metadata
    pixel_format: str

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""
        return np.dtype(PIXELS[self.pixel_format][0])

    @property
    def frame_size(self) -> int:
        """Bytes of the pixels of one frame."""
        return self.n_row * self.n_column * self.dtype.itemsize

    @property
    def end(self) -> int:
        """Byte behind the last pixel."""
        return PREAMBLE + (self.n_frame - 1) * self.stride + self.frame_size


def footer_offset(preamble: bytes) -> int:
    """Return the byte at which the footer begins, 0 while it is not written.

    Raises BadFrame where the first bytes are not those of an SPE 3 file.
    """
    if len(preamble) < PREAMBLE:
        raise BadFrame(f"{len(preamble)} bytes on disk, but the header of an SPE file has {PREAMBLE}: it is truncated")
    (version,) = struct.unpack_from("<f", preamble, VERSION_AT)
    if not 3.0 <= version < 4.0:
        raise BadFrame(f"it is no SPE 3.0 file (its version is {version:g}); save it with LightField")
    (offset,) = struct.unpack_from("<Q", preamble, FOOTER_AT)
    return int(offset)


def read_spe_header(stream: BinaryIO, size: int) -> Header:
    """Return the header of an SPE file of `size` bytes: its shape, its start and LightField's settings.

    The keywords are those of LightField's FITS cards. Raises BadFrame where the file is damaged, or holds
    several regions of interest.
    """
    return _header(stream, *_structure(stream, size))


def read_spe(stream: BinaryIO, size: int) -> tuple[Header, Ints]:
    """Return the header and the pixels (n_exposure, n_row, n_column), ADU, of an SPE file of `size` bytes."""
    footer, layout = _structure(stream, size)
    header = _header(stream, footer, layout)
    stream.seek(PREAMBLE)
    data = stream.read(layout.end - PREAMBLE)
    strides = (layout.stride, layout.n_column * layout.dtype.itemsize, layout.dtype.itemsize)
    shape = (layout.n_frame, layout.n_row, layout.n_column)
    frames: Ints = np.ndarray(shape, layout.dtype, data, strides=strides)
    return header, frames.astype(layout.dtype.newbyteorder("="))


def _header(stream: BinaryIO, footer: Footer, layout: Layout) -> Header:
    header = Header([("SIMPLE", True), ("BITPIX", PIXELS[layout.pixel_format][1]), ("NAXIS", 3)])
    for k, length in enumerate((layout.n_column, layout.n_row, layout.n_frame), 1):
        header[f"NAXIS{k}"] = length
    start = _first_stamp(stream, footer, layout) or _moment(footer.created)
    if start:
        text = start.replace(tzinfo=None).isoformat(timespec="milliseconds")
        header["DATE-OBS"] = (text, "start of the first exposure, UTC")
        header["HIERARCH PI ACQUISITION STARTED"] = text
    for keyword, value in (*footer.settings, *_binning(footer)):
        header.append(_card(keyword, value), end=True)
    return header


def _structure(stream: BinaryIO, size: int) -> tuple[Footer, Layout]:
    """Return the footer, and the layout that it promises and the file has room for."""
    stream.seek(0)
    offset = footer_offset(stream.read(PREAMBLE))
    if not PREAMBLE <= offset < size:
        raise BadFrame(f"its footer is said to begin at byte {offset} of {size}: it is truncated")
    if size - offset > FOOTER_LIMIT:
        raise BadFrame(f"its footer has {size - offset} bytes, expected at most {FOOTER_LIMIT}")
    stream.seek(offset)
    footer = read_footer(stream.read(size - offset))
    layout = _layout(footer)
    if layout.end > offset:
        raise BadFrame(
            f"its footer promises {layout.n_frame} frames of {layout.n_row} x {layout.n_column} up to byte "
            f"{layout.end}, but begins at byte {offset}: frames are missing"
        )
    return footer, layout


def _layout(footer: Footer) -> Layout:
    if len(footer.regions) != 1 or footer.regions[0].get("count", "1") != "1":
        raise BadFrame(
            f"it holds {_region_count(footer)} regions of interest, expected one; read out one region, "
            "or export each as a file of its own"
        )
    (region,) = footer.regions
    pixel_format = footer.frame.get("pixelFormat", "")
    if pixel_format not in PIXELS:
        raise BadFrame(f"its pixel format is {pixel_format!r}, expected one of {', '.join(PIXELS)}")
    size = _count(footer.frame, "size")
    layout = Layout(
        _count(footer.frame, "count"),
        _count(region, "height"),
        _count(region, "width"),
        _count(footer.frame, "stride"),
        pixel_format,
    )
    if layout.frame_size != size or layout.stride < size:
        raise BadFrame(
            f"a frame of {layout.n_row} x {layout.n_column} pixels needs {layout.frame_size} bytes, "
            f"its footer says size {size} and stride {layout.stride}"
        )
    return layout


def _region_count(footer: Footer) -> str:
    if len(footer.regions) == 1:
        return footer.regions[0]["count"][:20]
    return str(len(footer.regions))


def _count(attributes: Attributes, name: str) -> int:
    """Return a whole number above zero from the footer."""
    text = attributes.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) > 0):
        raise BadFrame(f"its footer says {name} = {text[:40]!r}, expected a whole number above 0")
    return int(text)


def _first_stamp(stream: BinaryIO, footer: Footer, layout: Layout) -> datetime | None:
    """Return when the first exposure began by its own time stamp, None where there is none."""
    place = PREAMBLE + layout.frame_size
    for stamp in footer.stamps:
        n_byte = _count(stamp, "bitDepth") // 8 if "bitDepth" in stamp else 8
        if stamp.get("event") == "ExposureStarted":
            began, ticks = _moment(stamp.get("absoluteTime", "")), _count(stamp, "resolution")
            if began is None or place + 8 > PREAMBLE + layout.stride:
                return None
            stream.seek(place)
            (elapsed,) = struct.unpack("<q", stream.read(8))
            try:
                return began + timedelta(seconds=elapsed / ticks)
            except OverflowError:
                return None
        place += n_byte
    return None


def _moment(text: str) -> datetime | None:
    """Return the moment that a text such as 2016-06-09T14:38:50.9500885-04:00 tells, UTC."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _binning(footer: Footer) -> list[tuple[str, str]]:
    """Return the binning by the mapping to the sensor, for a footer whose settings do not tell it."""
    prefix = "PI CAMERA READOUTCONTROL REGIONSOFINTEREST RESULT"
    known = {keyword for keyword, _ in footer.settings}
    pairs = [(f"{prefix} {name.upper()}", footer.mapping.get(name, "")) for name in ("xBinning", "yBinning")]
    return [(keyword, value) for keyword, value in pairs if value and keyword not in known]


def _card(keyword: str, value: str) -> Card:
    """Return a setting as a card; too long a keyword loses what it begins with, for its end is looked up."""
    while len(keyword) > LONGEST_KEYWORD and " " in keyword:
        keyword = keyword.partition(" ")[2]
    text = "".join(letter if " " <= letter <= "~" else "?" for letter in value)
    return Card(f"HIERARCH {keyword[-LONGEST_KEYWORD:]}", text)
