import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from kspecdr.io.blocks import (
    BLOCK,
    card_text,
    empty_unit,
    encoded_sum,
    image_unit,
    ones_sum,
    text_table_unit,
    unit_of,
)

DTYPES = ("u1", "u2", "u4", "i2", "i4", "i8", "f4", "f8")
CARDS = [("LAMPNAME", "hgar", "arc lamps"), ("OBJECT", "it's " + 30 * "long ", ""), ("GAIN", 4.09, "[electron/adu]")]


def opened(tmp_path, *units):
    """The units as astropy reads them, every structure and checksum found right."""
    path = tmp_path / "x.fits"
    path.write_bytes(b"".join(bytes(piece) for unit in units for piece in unit.pieces()))
    assert path.stat().st_size % BLOCK == 0
    with fits.open(path, checksum=True, memmap=False) as hdul:
        hdul.verify("exception")
        assert [(hdu.verify_checksum(), hdu.verify_datasum()) for hdu in hdul] == len(units) * [(1, 1)]
        assert len([hdu.data for hdu in hdul]) == len(units)  # read before the file is closed
    return hdul


@pytest.mark.parametrize("code", DTYPES)
@pytest.mark.parametrize("order", "<>")
def test_arrays_come_back_as_they_were(tmp_path, rng, code, order):
    whole = rng.integers(0, 256, (5, 7, 8), np.uint8)
    array = (whole.view(code)[..., 0] if code[0] != "f" else rng.normal(size=(5, 7))).astype(order + code)
    before = array.copy()
    first, second = opened(tmp_path, image_unit(array, CARDS), image_unit(array[:, ::-2], (), name="VARIANCE"))
    np.testing.assert_array_equal(first.data, before)
    np.testing.assert_array_equal(second.data, before[:, ::-2])
    np.testing.assert_array_equal(array, before)
    assert first.data.dtype.kind == code[0]
    assert second.name == "VARIANCE"


def test_cards_come_back_as_they_were(tmp_path):
    carried = fits.Header([("HIERARCH PI CAMERA GAIN", "High"), ("OLD", 3)]).tostring(endcard=False, padding=False)
    twice = [("GAIN", 1.0, "replaced"), ("TARGET", "K\u00e4fer", ""), *CARDS]
    (hdu,) = opened(tmp_path, image_unit(np.zeros((2, 3)), twice, carried=carried))
    assert (hdu.header["PI CAMERA GAIN"], hdu.header["OLD"], hdu.header["GAIN"]) == ("High", 3, 4.09)
    assert hdu.header["OBJECT"] == CARDS[1][1].rstrip()
    assert hdu.header["TARGET"] == "K?fer"
    assert hdu.header.comments["LAMPNAME"] == "arc lamps"


def test_a_true_card_is_no_one():
    assert [card_text("A", value, "")[10:30].strip() for value in (1, True, 1.0)] == ["1", "T", "1.0"]


def test_tables_come_back_as_they_were(tmp_path):
    columns = {"ROLE": ["raw", "bias raw"], "NAME": ["", "b"], "VALUE": ["x" * 70, ""]}
    numbers = fits.BinTableHDU.from_columns([fits.Column("W", "D", unit="nm", array=[1.5, np.nan])], name="LINES")
    _, texts, lines = opened(tmp_path, empty_unit(), text_table_unit("PROVENANCE", columns), unit_of(numbers))
    assert {name: texts.data[name].tolist() for name in texts.data.names} == columns
    np.testing.assert_array_equal(lines.data["W"], [1.5, np.nan])
    assert (lines.name, lines.columns[0].unit) == ("LINES", "nm")


@given(st.binary(max_size=50), st.integers(0, 2**32 - 1))
def test_a_sum_of_words_does_not_depend_on_where_it_is_cut(data, start):
    words = [int.from_bytes(data[k : k + 4].ljust(4, b"\0"), "big") for k in range(0, len(data), 4)]
    total = ones_sum(data, start)
    assert total < 2**32
    assert total % (2**32 - 1) == (sum(words) + start) % (2**32 - 1)
    assert ones_sum(data[8:], ones_sum(data[:8], start)) == total


@given(st.integers(0, 2**32 - 1))
def test_an_encoded_sum_is_of_letters_and_digits_and_sums_to_what_it_encodes(total):
    encoded = encoded_sum(total)
    assert encoded.isascii()
    assert encoded.isalnum()
    shifted = (encoded[1:] + encoded[:1]).encode()  # it stands one byte beyond a word's beginning
    zeros = ones_sum(b"0" * 16)
    assert (ones_sum(shifted) - zeros - total) % (2**32 - 1) == 0


def test_an_array_is_not_changed_while_it_is_written():
    array = np.ones((3, 4), np.float32)
    unit = image_unit(array, ())
    assert not np.shares_memory(np.frombuffer(unit.data, np.uint8), array)
