"""Header and data units as FITS stores them (FITS Standard 4.0): whole blocks, with CHECKSUM and DATASUM.

A product has a handful of small units beside its images, and a night has thousands of products: formatting
each card once, and copying each array once, is what makes them cheap to write.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from astropy.io import fits

from kspecdr.io.cards import Card

BLOCK = 2880
CARD = 80
_STORED = {  # dtype -> BITPIX and what is subtracted of an unsigned number; sections 4.4.1.1 and 4.4.2.5
    "u1": (8, 0),
    "i2": (16, 0),
    "i4": (32, 0),
    "i8": (64, 0),
    "f4": (-32, 0),
    "f8": (-64, 0),
    "u2": (16, 1 << 15),
    "u4": (32, 1 << 31),
}
_PUNCTUATION = frozenset(b":;<=>?@[\\]^_`")  # which no checksum has
_NO_SUM = "0" * 16  # what CHECKSUM says while it is computed


@dataclass(frozen=True)
class Unit:
    """One header and data unit, ready to be written."""

    header: bytes  # whole blocks
    data: memoryview  # without the padding of its last block

    def pieces(self) -> Iterable[bytes | memoryview]:
        """Yield its bytes, one after the other."""
        yield self.header
        yield self.data
        yield bytes(-len(self.data) % BLOCK)


def image_unit(array: Any, cards: Iterable[Card], *, name: str = "", carried: str = "") -> Unit:
    """Return an image as a unit; the array is copied, or only read.

    Parameters
    ----------
    array : numbers of any shape and byte order
    cards : what its header says beside the structure; of several of one keyword the last holds
    name : EXTNAME of an extension; without it the unit is the first of its file
    carried : cards of another header, formatted, that come before `cards`
    """
    bitpix, zero = _STORED[array.dtype.str[1:]]
    first: list[Card] = [("XTENSION", "IMAGE", "Image extension")] if name else [("SIMPLE", True, "standard FITS")]
    first += [("BITPIX", bitpix, "bits of a number"), ("NAXIS", array.ndim, "axes")]
    first += [(f"NAXIS{k}", length, "") for k, length in enumerate(array.shape[::-1], 1)]
    first += [("PCOUNT", 0, ""), ("GCOUNT", 1, "")] if name else [("EXTEND", True, "")]
    first += [("BSCALE", 1, ""), ("BZERO", zero, "unsigned numbers")] if zero else []
    first += [("EXTNAME", name, "extension name")] if name else []
    signed = array ^ np.array(zero, array.dtype) if zero else array
    stored = np.ascontiguousarray(signed, array.dtype.newbyteorder(">"))
    return _unit(_text(first) + carried + _text(cards), stored.reshape(-1).view(np.uint8).data)


def empty_unit() -> Unit:
    """Return the unit without data that a file of tables begins with."""
    cards: list[Card] = [("SIMPLE", True, "standard FITS"), ("BITPIX", 8, ""), ("NAXIS", 0, ""), ("EXTEND", True, "")]
    return _unit(_text(cards), memoryview(b""))


def text_table_unit(name: str, columns: Mapping[str, Sequence[str]]) -> Unit:
    """Return a table of texts, plain ASCII, as a unit (section 7.3).

    columns : texts of each column, equally many
    """
    widths = [max((len(text) for text in texts), default=0) or 1 for texts in columns.values()]
    rows = b"".join(
        text.encode("ascii").ljust(width, b"\0")
        for row in zip(*columns.values(), strict=True)
        for text, width in zip(row, widths, strict=True)
    )
    cards: list[Card] = [("XTENSION", "BINTABLE", "binary table extension"), ("BITPIX", 8, ""), ("NAXIS", 2, "")]
    cards += [("NAXIS1", sum(widths), "bytes of a row"), ("NAXIS2", len(rows) // sum(widths), "rows")]
    cards += [("PCOUNT", 0, ""), ("GCOUNT", 1, ""), ("TFIELDS", len(widths), "columns")]
    for k, (column, width) in enumerate(zip(columns, widths, strict=True), 1):
        cards += [(f"TTYPE{k}", column, ""), (f"TFORM{k}", f"{width}A", "")]
    return _unit(_text([*cards, ("EXTNAME", name, "extension name")]), memoryview(rows))


def unit_of(hdu: Any) -> Unit:
    """Return any extension of astropy's as a unit."""
    buffer = BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    written = buffer.getvalue()[BLOCK:]  # the first unit is a header of one block
    end = next(k for k in range(0, len(written), CARD) if written[k : k + CARD].rstrip() == b"END")
    begin = -(-(end + CARD) // BLOCK) * BLOCK
    return _unit(written[:end].decode("ascii"), memoryview(written)[begin:])


@lru_cache(maxsize=4096, typed=True)
def card_text(keyword: str, value: Any, comment: str) -> str:
    """Return a card as it stands in a header: 80 letters, or several times as many for a long text."""
    return str(fits.Card(keyword, _printable(value), comment))


def _printable(value: Any) -> Any:
    """Return a text as a card can hold it: printable ASCII."""
    if not isinstance(value, str):
        return value
    return "".join(letter if " " <= letter <= "~" else "?" for letter in value)


def _text(cards: Iterable[Card]) -> str:
    last = {keyword: (value, comment) for keyword, value, comment in cards}
    return "".join(card_text(keyword, *said) for keyword, said in last.items())


def _unit(text: str, data: memoryview) -> Unit:
    """Return a unit with its checksums: of the data, and one with which the whole unit sums to all ones."""
    of_data = ones_sum(data)
    datasum = card_text("DATASUM", str(of_data), "data unit checksum")
    blank = _blocks(text + card_text("CHECKSUM", _NO_SUM, "HDU checksum") + datasum)
    encoded = encoded_sum(~ones_sum(blank, of_data) & 0xFFFFFFFF)
    return Unit(_blocks(text + card_text("CHECKSUM", encoded, "HDU checksum") + datasum), data)


def _blocks(text: str) -> bytes:
    ended = text + "END".ljust(CARD)
    return ended.ljust(-(-len(ended) // BLOCK) * BLOCK).encode("ascii")


def ones_sum(data: bytes | memoryview, start: int = 0) -> int:
    """Return the sum of the 32-bit words of `data`, carries added at the end (FITS 4.0, section 4.4.2.7)."""
    whole = len(data) // 4 * 4
    total = start + int(np.frombuffer(data[:whole], ">u4").sum(dtype=np.uint64))
    total += int.from_bytes(bytes(data[whole:]).ljust(4, b"\0"), "big")
    while carry := total >> 32:
        total = (total & 0xFFFFFFFF) + carry
    return total


def encoded_sum(total: int) -> str:
    """Return a sum as the 16 letters and digits of a CHECKSUM card (FITS 4.0, appendix J)."""
    letters = bytearray(16)
    for k, byte in enumerate(total.to_bytes(4, "big")):
        four = [byte // 4 + 48 + (byte % 4 if first else 0) for first in (True, False, False, False)]
        while _PUNCTUATION.intersection(four):
            for pair in (0, 2):
                if _PUNCTUATION.intersection(four[pair : pair + 2]):
                    four[pair] += 1
                    four[pair + 1] -= 1
        for j in range(4):
            letters[(4 * j + k + 1) % 16] = four[j]
    return letters.decode("ascii")
