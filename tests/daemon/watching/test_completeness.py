import gzip
from contextlib import suppress

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.watching.completeness import Incomplete, check, suffix_of
from kspecdr.io.gzipped import SMALL


@pytest.fixture
def whole(tmp_path, rng):
    """A LightField-like cube and an extension behind it."""
    path = tmp_path / "frame.fits"
    counts = rng.integers(500, 700, (2, 30, 40)).astype(np.uint16)
    hdus = [fits.PrimaryHDU(counts), fits.ImageHDU(np.ones((5, 7), np.float32))]
    fits.HDUList(hdus).writeto(path)
    return path


def test_a_whole_file_passes(whole):
    check(whole)


@pytest.mark.parametrize("n_byte", [1, 9, 80, 2879, 2880, 2881, 5000, 8700, 11519])
def test_a_part_of_a_file_is_incomplete(whole, n_byte):
    part = whole.read_bytes()[:n_byte]
    whole.write_bytes(part)
    with pytest.raises(Incomplete, match=r"END|expected \d+|describe"):
        check(whole)


def test_the_pixels_that_are_missing_are_counted(whole):
    whole.write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(Incomplete, match="5000 bytes on disk, expected 8640 by the header"):
        check(whole)


def test_a_missing_padding_of_the_last_block_is_no_harm(tmp_path):
    path = tmp_path / "frame.fits"
    fits.PrimaryHDU(np.full((10, 10), 7, np.uint16)).writeto(path)
    path.write_bytes(path.read_bytes()[: 2880 + 200])
    check(path)


def test_an_empty_file_is_incomplete(tmp_path):
    (tmp_path / "a.fits").touch()
    with pytest.raises(Incomplete, match="the file is empty"):
        check(tmp_path / "a.fits")


@pytest.mark.parametrize("kept", [0, 2880, 2880 + 1000])
def test_space_that_was_set_aside_is_no_frame(tmp_path, kept):
    path = tmp_path / "frame.fits"
    fits.PrimaryHDU(np.full((30, 40), 700, np.uint16)).writeto(path)
    data = path.read_bytes()
    path.write_bytes(data[:kept] + bytes(len(data) - kept))
    with pytest.raises(Incomplete, match="set aside and not yet written"):
        check(path)


def test_bytes_behind_the_last_unit_are_incomplete(whole):
    with whole.open("ab") as stream:
        stream.write(b"more" * 100)
    with pytest.raises(Incomplete, match="400 bytes follow the last unit"):
        check(whole)


def test_a_header_that_promises_more_than_any_frame_holds_has_nothing_to_wait_for(tmp_path):
    path = tmp_path / "frame.fits"
    header = fits.Header({"SIMPLE": True, "BITPIX": 16, "NAXIS": 2, "NAXIS1": 10**6, "NAXIS2": 10**9})
    path.write_bytes(header.tostring().encode())
    check(path)


@pytest.mark.parametrize("content", [b"hello", b"SIMPLY wrong", b"\x89PNG"])
def test_what_is_no_fits_file_has_nothing_to_wait_for(tmp_path, content):
    (tmp_path / "a.fits").write_bytes(content)
    check(tmp_path / "a.fits")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(position=st.integers(0, 2879), byte=st.integers(0, 255), n_byte=st.integers(0, 14400))
def test_a_damaged_file_is_complete_or_incomplete_but_never_a_crash(whole, position, byte, n_byte):
    data = bytearray(whole.read_bytes())
    data[position] = byte
    damaged = whole.with_name("damaged.fits")
    damaged.write_bytes(bytes(data[:n_byte]))
    with suppress(Incomplete):
        check(damaged)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.fits", ".fits"),
        ("A.FIT", ".fit"),
        ("a.fits.tmp", ""),
        ("a.txt", ""),
        ("b.fts", ".fts"),
        ("c.FITS.gz", ".fits.gz"),
        ("d.fits.fz", ".fits.fz"),
        ("e.spe", ".spe"),
    ],
)
def test_suffixes_of_frames(name, suffix):
    assert suffix_of(name) == suffix


@pytest.mark.parametrize("n_byte", [0, 1, 11, 100, -1])
def test_a_gzip_file_is_complete_at_the_end_of_its_stream(whole, n_byte):
    data = gzip.compress(whole.read_bytes())
    path = whole.with_name("frame.fits.gz")
    path.write_bytes(data)
    check(path)
    path.write_bytes(data[:n_byte])
    with pytest.raises(Incomplete, match=r"breaks off|empty|least gzip"):
        check(path)


def test_space_that_was_set_aside_behind_gzip_is_no_frame(whole):
    data = gzip.compress(whole.read_bytes(), 1)
    path = whole.with_name("frame.fits.gz")
    path.write_bytes(data[: len(data) // 2] + bytes(len(data)))
    with pytest.raises(Incomplete, match=r"set aside|breaks off"):
        check(path)


def test_a_damaged_gzip_file_and_a_bomb_have_nothing_to_wait_for(whole):
    data = bytearray(gzip.compress(whole.read_bytes()))
    data[-6] ^= 1
    path = whole.with_name("frame.fits.gz")
    path.write_bytes(data)
    check(path)
    path.write_bytes(gzip.compress(bytes(SMALL + 2**22), 1)[:-10])
    check(path)


@pytest.mark.parametrize("method", ["RICE_1", "GZIP_1"])
def test_tiles_are_complete_with_the_heap(tmp_path, rng, method):
    path = tmp_path / "frame.fits.fz"
    counts = rng.integers(500, 700, (2, 60, 100)).astype(np.uint16)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(counts, compression_type=method)]).writeto(path)
    check(path)
    data = path.read_bytes()
    for cut in (data[: len(data) // 2], data[:-2880], data[: len(data) // 2] + bytes(len(data) - len(data) // 2)):
        path.write_bytes(cut)
        with pytest.raises(Incomplete, match=r"expected \d+|END|set aside"):
            check(path)


def test_what_is_no_gzip_or_spe_file_has_nothing_to_wait_for(whole):
    for name in ("a.fits.gz", "a.spe"):
        path = whole.with_name(name)
        path.write_bytes(b"anything" * 1000)
        check(path)


def test_a_real_spe_file_is_complete_with_its_footer(real, tmp_path):
    data = next((real / "spe").glob("*.spe")).read_bytes()
    path = tmp_path / "a.SPE"
    path.write_bytes(data)
    check(path)
    for n_byte in (0, 4000, 5000, len(data) // 2, len(data) - 40):
        path.write_bytes(data[:n_byte])
        with pytest.raises(Incomplete, match=r"empty|header of an SPE|footer"):
            check(path)


def test_real_frames_are_whole(real):
    for path in (real / "llamas").glob("*.fits"):
        check(path)
