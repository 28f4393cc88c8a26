"""Is a file all there? The structure of the file against its size on disk.

A header alone, a truncated file and a pre-allocated one all read without complaint, so the structure is
walked here. FITS Standard 4.0, section 3: headers and data fill whole blocks of 2880 bytes; tiles lie in the
heap of a table. A gzip file ends with a checksum (RFC 1952), an SPE file with the closing tag of its footer.
What no wait can mend, because it is another format or too large, passes, for its reader to refuse.
"""

import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kspecdr.errors import BadFrame
from kspecdr.io.gzipped import GZIP, expanding
from kspecdr.io.gzipped import LEAST as GZIP_LEAST
from kspecdr.io.raw_file import LARGEST
from kspecdr.io.raw_header import BLOCK, CARD, FIRST_CARD, HEADER_LIMIT
from kspecdr.io.spe import PREAMBLE, footer_offset

FOOTER_END = b"</SpeFormat>"
TAIL = 256  # bytes at the end of compressed or written data, which are never all zero
SET_ASIDE = "space that was set aside and not yet written"


class Incomplete(Exception):  # noqa: N818 - it is a state, not an error
    """The file lacks something that its structure promises; the message says what."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One header and data unit: where its data lie."""

    start: int  # byte
    n_byte: int
    tail: int  # bytes at its end that hold something once it is written, 0: nothing is known of them


def check_fits(path: Path) -> None:
    """Walk the units of a FITS file, one in tiles too.

    Raises Incomplete with what is missing, OSError where the file cannot be read.
    """
    with path.open("rb") as stream:
        size = path.stat().st_size
        first = stream.read(len(FIRST_CARD))
        if not FIRST_CARD.startswith(first) and first.strip(b"\0"):
            return
        _check_begun(first, size)
        for unit in _units(stream, size):
            _check_written(stream, unit)


def check_gzip(path: Path) -> None:
    """Expand a gzip file to its checksum, keeping nothing.

    Raises Incomplete with what is missing, OSError where the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        first = stream.read(len(GZIP))
        _check_begun(first, size)
        if not GZIP.startswith(first):
            return
        if size < GZIP_LEAST:
            raise Incomplete(f"{size} bytes on disk, but the least gzip file has {GZIP_LEAST}")
        stream.seek(0)
        try:
            deque(expanding(stream, size), maxlen=0)
        except EOFError:
            raise Incomplete(f"its gzip stream breaks off ({size} bytes on disk)") from None
        except zlib.error:
            _check_end(stream, size)
        except BadFrame:
            return


def check_spe(path: Path) -> None:
    """See that the footer of an SPE file, which is written last, is there to its closing tag.

    Raises Incomplete with what is missing, OSError where the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        preamble = stream.read(PREAMBLE)
        _check_begun(preamble, size)
        if len(preamble) < PREAMBLE:
            raise Incomplete(f"{size} bytes on disk, but the header of an SPE file has {PREAMBLE}")
        try:
            offset = footer_offset(preamble)
        except BadFrame:
            return
        if not 0 < offset < size:
            raise Incomplete(f"its footer is not written yet ({size} bytes on disk)")
        stream.seek(max(offset, size - TAIL))
        if not stream.read(TAIL).rstrip(b"\0 \r\n\t").endswith(FOOTER_END):
            raise Incomplete(f"its footer does not end with {FOOTER_END.decode()} ({size} bytes on disk)")


CHECKS: Mapping[str, Callable[[Path], None]] = {
    **{f"{suffix}{packed}": check_fits for suffix in (".fits", ".fit", ".fts") for packed in ("", ".fz")},
    **{f"{suffix}.gz": check_gzip for suffix in (".fits", ".fit", ".fts")},
    ".spe": check_spe,
}


def suffix_of(name: str) -> str:
    """Return which of the known suffixes a file name has, or an empty text."""
    lower = name.lower()
    return next((suffix for suffix in CHECKS if lower.endswith(suffix)), "")


def check(path: Path) -> None:
    """Raise Incomplete unless the file holds everything that its structure promises."""
    CHECKS[suffix_of(path.name)](path)


def _units(stream: BinaryIO, size: int) -> Iterator[Unit]:
    """Yield every unit of the file; the walk ends at the size on disk or raises Incomplete."""
    offset = 0
    while offset < size:
        cards, start = _header(stream, offset, size)
        if not cards:
            return
        unit = _unit(cards, start)
        if unit is None:  # sizes that are no numbers: nothing to wait for
            return
        end = unit.start + unit.n_byte
        if end > LARGEST:  # no frame is so large: nothing to wait for
            return
        if end > size:
            raise Incomplete(f"{size} bytes on disk, expected {_padded(end)} by the header")
        yield unit
        offset = _padded(end)


def _header(stream: BinaryIO, offset: int, size: int) -> tuple[dict[bytes, bytes], int]:
    """Return the cards of the header at `offset` and where its data begin; no cards: no header there."""
    stream.seek(offset)
    blocks = b""
    while block := stream.read(BLOCK):
        if not blocks and offset and not block.startswith(b"XTENSION"[: len(block)]):
            raise Incomplete(f"{size - offset} bytes follow the last unit that the headers describe")
        known = len(blocks)
        blocks += block
        end = _end_card(blocks, known)
        if end is not None:
            if len(blocks) % BLOCK:
                break
            return _cards(blocks[:end]), offset + len(blocks)
        if len(blocks) > HEADER_LIMIT:
            return {}, offset
    raise Incomplete(f"the header has no END card yet ({size} bytes on disk)")


def _end_card(blocks: bytes, begin: int) -> int | None:
    position = blocks.find(b"END ", begin)
    while position >= 0:
        if position % CARD == 0 and not blocks[position + 3 : position + CARD].strip():
            return position
        position = blocks.find(b"END ", position + 1)
    return None


def _cards(header: bytes) -> dict[bytes, bytes]:
    lines = (header[k : k + CARD] for k in range(0, len(header), CARD))
    return {line[:8].strip(): line[10:].split(b"/")[0].strip() for line in lines if line[8:10] == b"= "}


def _unit(cards: Mapping[bytes, bytes], start: int) -> Unit | None:
    try:
        axes = [int(cards[b"NAXIS%d" % k]) for k in range(1, int(cards[b"NAXIS"]) + 1)]
        item = abs(int(cards[b"BITPIX"])) // 8
        extra, groups = int(cards.get(b"PCOUNT", b"0")), int(cards.get(b"GCOUNT", b"1"))
        offset = float(cards.get(b"BZERO", b"0"))
    except (KeyError, ValueError):
        return None
    n_pixel = 1 if axes else 0
    for length in axes:
        n_pixel *= length
    n_byte = item * groups * (extra + n_pixel)
    if n_byte < 0:
        return None
    if cards.get(b"ZIMAGE") == b"T":
        return Unit(start, n_byte, min(extra, TAIL))
    unsigned = offset != 0 and item > 1 and axes  # stored with an offset: no real pixel is a zero word
    return Unit(start, n_byte, item * axes[0] if unsigned else 0)


def _check_written(stream: BinaryIO, unit: Unit) -> None:
    """See that the last row holds something: a pre-allocated file ends in zero bytes."""
    if not 0 < unit.tail <= unit.n_byte:
        return
    stream.seek(unit.start + unit.n_byte - unit.tail)
    if not stream.read(unit.tail).strip(b"\0"):
        raise Incomplete(f"the last row holds only zero bytes: {SET_ASIDE}")


def _check_begun(first: bytes, size: int) -> None:
    """See that the file begins with something."""
    if size == 0:
        raise Incomplete("the file is empty")
    if not first.strip(b"\0"):
        raise Incomplete(f"the file begins with zero bytes: {SET_ASIDE}")


def _check_end(stream: BinaryIO, size: int) -> None:
    """See that the file ends with something."""
    stream.seek(max(size - TAIL, 0))
    if not stream.read(TAIL).strip(b"\0"):
        raise Incomplete(f"the file ends with zero bytes: {SET_ASIDE}")


def _padded(n_byte: int) -> int:
    return -(-n_byte // BLOCK) * BLOCK
