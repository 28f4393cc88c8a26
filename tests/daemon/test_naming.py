import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.naming import base_name, lamp_name


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("tile_046_150_620 2026 January 27 14_53_58 1.fits", "tile_046_150_620"),
        ("Bias 2026 Januar 29 06_44_37 5.fits", "Bias"),
        ("object_NGC1234 2026년 1월 27일 14_53_58 1.fits", "object_NGC1234"),
        ("hgcd 2025-12-24.fits", "hgcd"),
        ("arc_300_490_2026-01-25.fits", "arc_300_490"),
        ("object_NGC_2023_00001.fits", "object_NGC_2023"),
        ("tile_046.fit", "tile_046"),
        ("flat 12.fits.gz", "flat"),
        ("2026 January 27 14_53_58 1.fits", ""),
    ],
)
def test_base_has_neither_suffix_nor_date_nor_number(name, base):
    assert base_name(name) == base


@given(st.text(max_size=60))
def test_any_name_has_a_base_that_it_begins_with(name):
    assert name.startswith(base_name(name))


@pytest.mark.parametrize(
    ("captured", "lamp"),
    [("hgar", "HgAr"), ("KRNEAR", "KrNeAr"), ("HgArNeKrCd", "HgArNeKrCd"), ("halogen", "halogen"), ("", "")],
)
def test_lamps_are_written_as_chemical_symbols(captured, lamp):
    assert lamp_name(captured) == lamp
