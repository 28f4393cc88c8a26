"""Is a file all there? The structure of the file against its size on disk.

A header alone, a truncated file and a pre-allocated one all read without complaint, so the blocks are
walked here: FITS standard 4.0, section 3: headers and data fill whole blocks of 2880 bytes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

BLOCK = 2880
CARD = 80
HEADER_LIMIT = 1 << 22  # bytes; far beyond any settings tree, and a bound for damaged files
FIRST_CARD = b"SIMPLE  ="


class Incomplete(Exception):  # noqa: N818 - it is a state, not an error
    """The file lacks something that its structure promises; the message says what."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One header and data unit: where its data lie."""

    start: int  # byte
    n_byte: int
    row: int  # bytes of the last row
    unsigned: bool  # stored with an offset, so that no real pixel is a zero word


def check_fits(path: Path) -> None:
    """Walk the units of a FITS file; what is no FITS file at all passes, for its reader to refuse.

    Raises Incomplete with what is missing, OSError where the file cannot be read.
    """
    with path.open("rb") as stream:
        size = path.stat().st_size
        first = stream.read(len(FIRST_CARD))
        if not FIRST_CARD.startswith(first) and first.strip(b"\0"):
            return
        if size == 0:
            raise Incomplete("the file is empty")
        if not first.strip(b"\0"):
            raise Incomplete("the file begins with zero bytes: space that was set aside and not yet written")
        for unit in _units(stream, size):
            _check_written(stream, unit)


CHECKS: Mapping[str, Callable[[Path], None]] = {
    ".fits": check_fits,
    ".fit": check_fits,
    ".fts": check_fits,
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
    return Unit(start, n_byte, item * axes[0] if axes else 0, unsigned=offset != 0 and item > 1)


def _check_written(stream: BinaryIO, unit: Unit) -> None:
    """See that the last row holds something: a pre-allocated file ends in zero bytes."""
    if not unit.unsigned or not unit.n_byte:
        return
    stream.seek(unit.start + unit.n_byte - unit.row)
    if not stream.read(unit.row).strip(b"\0"):
        raise Incomplete("the last row holds only zero bytes: space that was set aside and not yet written")


def _padded(n_byte: int) -> int:
    return -(-n_byte // BLOCK) * BLOCK
