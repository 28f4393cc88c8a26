"""A seeded source of mutated frames.

The mutations know the structure of what they change: cards, extensions, tiles, compressed streams, the preamble
and the footer of SPE files. A failure can be had again by its seed.
"""

import gzip
import re
import struct
from datetime import UTC, datetime
from io import BytesIO

import numpy as np
import pytest
from astropy.io import fits

from kspecdr.simulate.lightfield import BLOCK, BROKEN_CHAIN, CARD, lightfield_cards, write_frame
from kspecdr.simulate.presets import PRESETS
from kspecdr.simulate.spe import PREAMBLE, write_spe

START = datetime(2026, 1, 27, 14, 53, 58, tzinfo=UTC)
VALUES = (  # of a card, an attribute or an element
    *(
        "0",
        "-1",
        "1",
        "2",
        "3",
        "999",
        "1E400",
        "-1E400",
        "NaN",
        "inf",
        "1.5",
        "T",
        "F",
        "'T'",
        "''",
        "'",
        "",
        "/",
        "&",
    ),
    *("2147483648", "100000000000", "-9223372036854775808", "9" * 60, "0x10", "1_0", "1D5", "(1, 2)", "'1340'", "16"),
    *("'../../etc/passwd'", "'a\0b'", "'<script>alert(1)</script>'", "'; DROP TABLE frames; --'", "'$(rm -rf /)'"),
    *("'two\nlines'", "'\x1b[2J'", "'\xe4\xf6\xfc\xff'", "'%s%n{0}'", "'FlippedHorizontally'", "'[,][0]'", "'[a,0]'"),
    *("'0001-01-01T00:00:00'", "'9999-12-31T23:59:59'", "'2024-02-30T00:00:00'", "'2024-01-01T00:00:00+23:59'"),
    *("'[1nm,0.0000001]'", "'[1nm,99999999999999999999]'", "'" + "&" * 60 + "'", "'&apos;&lt;'", "'1e308'", "'1e-320'"),
    *("'0001-01-01'", "'9999-12-31T23:59:59-12:00'", "' '", "'nan'", "'-inf'", "'\xb2'", "'2 '", "'HCOMPRESS_1'"),
)
KEYWORDS = (
    *("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "EXTEND", "BZERO", "BSCALE", "BLANK", "DATE-OBS"),
    *(
        "EXPTIME",
        "OBJECT",
        "LAMPNAME",
        "PCOUNT",
        "GCOUNT",
        "TFIELDS",
        "TFORM1",
        "TTYPE1",
        "THEAP",
        "XTENSION",
        "GROUPS",
    ),
    *("ZIMAGE", "ZBITPIX", "ZNAXIS", "ZNAXIS1", "ZNAXIS2", "ZNAXIS3", "ZTILE1", "ZTILE2", "ZTILE3", "ZCMPTYPE"),
    *("ZNAME1", "ZVAL1", "ZVAL2", "ZSCALE", "ZZERO", "ZBLANK", "ZQUANTIZ"),
)


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """Return a whole file of each format, by its suffix."""
    path = tmp_path_factory.mktemp("originals") / "frame"
    counts = np.random.default_rng(1).poisson(700, (2, 20, 30)).astype(np.uint16)
    cards = lightfield_cards(PRESETS["small"].instrument, 10.0, START) | {"OBJECT": "M 31", "LAMPNAME": "HgAr"}
    made = {}
    write_frame(path, cards, counts, BROKEN_CHAIN)
    made[".fits"] = made[".fits.gz"] = path.read_bytes()
    write_spe(path, cards, counts, stamps=[(0.0, 10.0), (11.0, 21.0)])
    made[".spe"] = path.read_bytes()
    header = fits.Header()
    for keyword, value in cards.items():
        header[keyword if len(keyword) < 9 else f"HIERARCH {keyword}"] = value
    for suffix, method in ((".fits.fz", "RICE_1"), (".fit.fz", "GZIP_1")):
        buffer = BytesIO()
        tiles = fits.CompImageHDU(counts, header, compression_type=method)
        fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(buffer)
        made[suffix] = buffer.getvalue()
    return made


@pytest.fixture(scope="session")
def mutant(originals):
    """Return a function: seed -> suffix and content of a mutated frame."""

    def mutated(seed):
        rng = np.random.default_rng(seed)
        suffix = choice(rng, sorted(originals))
        data = originals[suffix]
        changes = SPE_CHANGES if suffix == ".spe" else FITS_CHANGES
        for _ in range(rng.integers(1, 4)):
            data = choice(rng, (*changes, *changes, *BYTE_CHANGES))(rng, data)
        if suffix.endswith(".gz"):
            data = gzip.compress(data, 1)
            if rng.random() < 0.3:
                data = choice(rng, BYTE_CHANGES)(rng, data)
        return suffix, data

    return mutated


def choice(rng, options):
    return options[rng.integers(len(options))]


def place(rng, data, share=1.0):
    """Return a place in the first part of the data."""
    return int(rng.integers(max(int(share * len(data)), 1)))


def truncated(rng, data):
    return data[: place(rng, data)]


def zero_tailed(rng, data):
    kept = place(rng, data)
    return data[:kept] + bytes(len(data) - kept)


def flipped(rng, data):
    """Change some bytes, most of them near the beginning."""
    changed = bytearray(data)
    for _ in range(min(int(rng.integers(1, 20)), len(data))):
        changed[place(rng, data, choice(rng, (0.3, 1.0)))] = int(rng.integers(256))
    return bytes(changed)


def spliced(rng, data):
    """Repeat or drop a piece."""
    begin, length = place(rng, data), int(rng.integers(1, 4000))
    return data[:begin] + data[begin : begin + length] * int(rng.integers(3)) + data[begin + length :]


def lengthened(rng, data):
    return data + choice(rng, (b"\0", b" ", b"XTENSION", data[:BLOCK])) * int(rng.integers(1, 3000))


# ---- FITS: cards of 80 bytes


def cards_of(data):
    """Return where the cards of all headers begin."""
    return [k for k in range(0, len(data) - CARD + 1, CARD) if re.match(rb"[A-Z0-9_-]{1,8} *[ =]", data[k : k + 10])]


def revalued(rng, data):
    """Give a card another value; one in two cards is of those that decide how the file is read."""
    places = cards_of(data)
    wanted = [k for k in places if data[k : k + 8].decode("latin1").strip() in KEYWORDS]
    places = wanted if wanted and rng.random() < 0.5 else places
    if not places:
        return data
    k = choice(rng, places)
    keyword, equals, _ = data[k : k + CARD].partition(b"=")
    card = keyword + (equals or b"=") + b" " + choice(rng, VALUES).encode("latin1")
    return data[:k] + card.ljust(CARD)[:CARD] + data[k + CARD :]


def rekeyed(rng, data):
    places = cards_of(data)
    if not places:
        return data
    k = choice(rng, places)
    return data[:k] + choice(rng, KEYWORDS).ljust(8).encode() + data[k + 8 :]


def swapped_cards(rng, data):
    places = cards_of(data)
    if len(places) < 2:
        return data
    first, second = sorted(int(k) for k in rng.choice(places, 2, replace=False))
    between = data[first + CARD : second]
    return data[:first] + data[second:][:CARD] + between + data[first:][:CARD] + data[second + CARD :]


def repeated_card(rng, data):
    """Write a card, or END, over another."""
    places = cards_of(data)
    if not places:
        return data
    card = choice(rng, [data[k : k + CARD] for k in places] + [b"END".ljust(CARD)] * len(places))
    k = choice(rng, places)
    return data[:k] + card + data[k + CARD :]


def promised_extension(rng, data):
    """Append the header of an extension that promises what is not there."""
    size = choice(rng, (0, 1, 10**5, 10**11, -5))
    cards = (
        "XTENSION= 'IMAGE   '",
        "BITPIX  =  16",
        "NAXIS   =  1",
        f"NAXIS1  =  {size}",
        "PCOUNT  =  0",
        "GCOUNT  = 1",
    )
    return data + "".join(card.ljust(CARD) for card in (*cards, "END")).ljust(BLOCK).encode()


# ---- SPE: preamble and footer


def preamble_changed(rng, data):
    if len(data) < PREAMBLE:
        return data
    changed = bytearray(data)
    code, at = choice(rng, (("<Q", 678), ("<f", 1992), ("<h", 108), ("<H", 42), ("<H", 656), ("<i", 1446)))
    value = choice(rng, (0, 1, 3, 4, 4100, 32767, len(data) - 1, len(data)))
    struct.pack_into(code, changed, at, value if code in "<Q<f" else min(value, 32767))
    return bytes(changed)


def footer_changed(rng, data, pattern):
    """Replace a piece of the footer that a pattern finds by a value."""
    found = list(re.finditer(pattern, data[PREAMBLE:]))
    if not found:
        return data
    match = choice(rng, found)
    value = choice(rng, VALUES).strip("'").encode(choice(rng, ("latin1", "utf-8")))
    begin, end = (PREAMBLE + at for at in match.span(1))
    return data[:begin] + value + data[end:]


def attribute_changed(rng, data):
    return footer_changed(rng, data, rb'="([^"]*)"')


def text_changed(rng, data):
    return footer_changed(rng, data, rb">([^<>]+)<")


def tag_changed(rng, data):
    return footer_changed(rng, data, rb"</?([A-Za-z]+)")


def tag_moved(rng, data):
    """Put a piece of the footer, or what no footer has, somewhere else in it."""
    found = list(re.finditer(rb"<[^<>]*>", data[PREAMBLE:]))
    if not found:
        return data
    strange = (b"<a>" * 300, b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"<!--", b"]]>", b"<?xml version='1.1'?>")
    piece = choice(rng, [match.group() for match in found] + list(strange) * 3)
    at = PREAMBLE + choice(rng, found).start()
    return data[:at] + piece + data[at:]


BYTE_CHANGES = (truncated, zero_tailed, flipped, spliced, lengthened)
FITS_CHANGES = (revalued, revalued, revalued, rekeyed, swapped_cards, repeated_card, promised_extension)
SPE_CHANGES = (preamble_changed, attribute_changed, attribute_changed, text_changed, tag_changed, tag_moved)
