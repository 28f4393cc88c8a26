"""Files compressed by gzip (RFC 1952), expanded within bounds."""

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from kspecdr.errors import BadFrame
from kspecdr.io.raw_file import LARGEST

GZIP = b"\x1f\x8b"  # with what a file begins
LEAST = 18  # bytes of the shortest file: header and trailer
EXPANSION = 32  # times that a file may expand; noise of the camera alone keeps frames below 6
SMALL = 1 << 26  # bytes that any file may expand to
MOST_MEMBERS = 10_000  # parts that a file may have, each of which costs time even if it is empty
CHUNK = 1 << 14  # bytes at a time: they expand to 16 MiB at most


def expanding(stream: BinaryIO, n_byte: int) -> Iterator[bytes]:
    """Yield what a gzip stream of `n_byte` bytes holds, piece by piece.

    Raises EOFError where it breaks off, zlib.error where it is damaged, and BadFrame where it expands beyond
    what a frame does.
    """
    limit, total = min(max(SMALL, EXPANSION * n_byte), LARGEST), 0
    chunk = stream.read(CHUNK)
    for _ in range(MOST_MEMBERS):
        member = zlib.decompressobj(31)
        while not member.eof:
            if not chunk:
                raise EOFError("it breaks off")
            piece = member.decompress(chunk)
            total += len(piece)
            if total > limit:
                raise BadFrame(f"{n_byte} bytes of gzip expand to more than {limit}, which no frame does")
            yield piece
            chunk = member.unused_data or stream.read(CHUNK)
        chunk += stream.read(CHUNK) if len(chunk) < len(GZIP) else b""
        if not chunk.startswith(GZIP):
            return
    raise BadFrame(f"its gzip stream has more than {MOST_MEMBERS} parts; compress it as one")


def first_bytes(stream: BinaryIO, n_byte: int, wanted: int) -> tuple[bytes, int]:
    """Return at least the first `wanted` bytes of what a gzip stream holds, if it holds as many, and how many it holds.

    Raises as `expanding` does.
    """
    found, total = bytearray(), 0
    for piece in expanding(stream, n_byte):
        total += len(piece)
        if len(found) < wanted:
            found += piece
    return bytes(found), total
