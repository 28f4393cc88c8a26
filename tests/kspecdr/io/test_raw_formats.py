import gzip
import hashlib
import tracemalloc
from datetime import UTC, datetime

import numpy as np
import pytest
from astropy.io import fits

from kspecdr.errors import BadFrame
from kspecdr.inst.isoplane import convert, describe_header
from kspecdr.io.fits import read_frame, read_raw, write_frame
from kspecdr.io.gzipped import MOST_MEMBERS, SMALL
from kspecdr.io.names import product_path
from kspecdr.io.raw_file import LARGEST
from kspecdr.io.raw_header import HEADER_LIMIT, image_shape, read_header
from kspecdr.products import Fibers
from kspecdr.simulate import lightfield
from kspecdr.simulate.presets import PRESETS
from kspecdr.simulate.spe import write_spe

CARDS = lightfield.lightfield_cards(
    PRESETS["small"].instrument, 10.0, datetime(2026, 1, 27, 14, 53, 58, tzinfo=UTC)
) | {"PI CAMERA EXPERIMENT COMMENT": "a long text, 'quoted', that needs more room than a single card has to give"}
SUFFIXES = (".fits", ".FIT", ".fts", ".fits.gz", ".fits.fz", ".spe")


@pytest.fixture
def counts(rng):
    return rng.poisson(700, (2, 40, 60)).astype(np.uint16)


@pytest.fixture
def written(tmp_path, counts):
    """Write the same exposures in any of the formats."""

    def write(suffix, method="RICE_1"):
        path, plain = tmp_path / f"arc_hgar_00001{suffix}", tmp_path / "plain"
        lightfield.write_frame(plain, CARDS, counts, lightfield.BROKEN_CHAIN)
        if suffix == ".spe":
            write_spe(path, CARDS, counts)
        elif suffix.endswith(".gz"):
            path.write_bytes(gzip.compress(plain.read_bytes()))
        elif suffix.endswith(".fz"):
            path.write_bytes(tiled(plain, counts, method))
        else:
            path.write_bytes(plain.read_bytes())
        return path

    return write


def tiled(plain, counts, method):
    """Return a file as fpack writes it: the cards of the image, unchanged, behind those of the table."""
    cards = read_header(plain)
    structure = ("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "EXTEND", "BZERO", "BSCALE")
    header = fits.Header([card for card in cards.cards if card.keyword not in structure][: len(CARDS)])
    path = plain.with_name("tiled")
    hdus = [fits.PrimaryHDU(), fits.CompImageHDU(counts, header, compression_type=method)]
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path.read_bytes()


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_frames(written, counts, suffix):
    path = written(suffix)
    raw, header = read_raw(path), read_header(path)
    np.testing.assert_array_equal(raw.cube, counts)
    assert raw.cube.dtype == np.uint16
    assert raw.provenance.sources[0].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert image_shape(header) == counts.shape
    known = describe_header(header, "MFARC")
    assert known == describe_header(raw.header, "MFARC") == describe_header(read_header(written(".fits")), "MFARC")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_can_be_converted_and_read_again(written, counts, tmp_path, suffix):
    frames = convert(written(suffix), "MFARC", Fibers.of(2))
    again = read_frame(write_frame(tmp_path / "a_converted.fits", frames[1]))
    np.testing.assert_array_equal(again.counts, counts[1])
    assert again.setup == frames[1].setup
    if suffix != ".spe":
        assert again.header["PI CAMERA EXPERIMENT COMMENT"] == CARDS["PI CAMERA EXPERIMENT COMMENT"]


@pytest.mark.parametrize("method", ["RICE_1", "GZIP_1", "GZIP_2"])
def test_tiles_of_each_method_are_read(written, counts, method):
    np.testing.assert_array_equal(read_raw(written(".fits.fz", method)).cube, counts)


def test_a_compression_for_masks_is_refused_by_name(written):
    path = written(".fits.fz")
    path.write_bytes(path.read_bytes().replace(b"'RICE_1  '", b"'PLIO_1  '"))
    with pytest.raises(BadFrame, match=r"compressed by 'PLIO_1', expected one of RICE_1, GZIP_1"):
        read_raw(path)


@pytest.mark.parametrize(
    ("bits", "zero", "scale", "kind"),
    [
        (8, 0, 1, "u1"),
        (16, 0, 1, "i2"),
        (16, 32768, 1, "u2"),
        (32, 0, 1, "i4"),
        (32, 2**31, 1, "u4"),
        (-32, 0, 1, "f4"),
        (-64, 0, 1, "f8"),
        (16, 100.5, 2, "f8"),
    ],
)
def test_pixels_are_scaled_as_the_header_says(tmp_path, bits, zero, scale, kind):
    stored = np.arange(24).reshape(1, 4, 6) + 1
    header = fits.Header([("SIMPLE", True), ("BITPIX", bits), ("NAXIS", 3), ("NAXIS1", 6), ("NAXIS2", 4)])
    header["NAXIS3"], header["BZERO"], header["BSCALE"] = 1, zero, scale
    code = f">{'f' if bits < 0 else 'u' if bits == 8 else 'i'}{abs(bits) // 8}"
    path = tmp_path / "a.fits"
    path.write_bytes(header.tostring().encode() + stored.astype(code).tobytes())
    cube = read_raw(path).cube
    np.testing.assert_array_equal(cube, stored * scale + zero)
    assert cube.dtype == kind


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz", ".fits.fz", ".spe"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.7])
@pytest.mark.parametrize("reader", [read_raw, read_header])
def test_a_part_of_a_file_is_refused_in_one_sentence(written, suffix, part, reader):
    path = written(suffix)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(BadFrame, match=rf"^arc_hgar_00001{suffix}[: ]"):
        reader(path)


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz", ".fits.fz"])
@pytest.mark.usefixtures("traced")
def test_a_header_that_promises_too_much_costs_nothing(tmp_path, suffix):
    header = fits.Header([("SIMPLE", True), ("BITPIX", 16), ("NAXIS", 2), ("NAXIS1", 10**6), ("NAXIS2", 10**5)])
    if suffix == ".fits.fz":
        table = fits.BinTableHDU.from_columns([fits.Column("COMPRESSED_DATA", "1PB", array=[np.arange(9)])])
        table.header.update(
            {"ZIMAGE": True, "ZCMPTYPE": "RICE_1"} | {f"Z{key}": header[key] for key in list(header)[1:]}
        )
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "a")
        data = (tmp_path / "a").read_bytes()
    else:
        data = header.tostring().encode() + bytes(28800)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(data) if suffix == ".fits.gz" else data)
    with pytest.raises(BadFrame, match=rf"promises an image of 200000000000 bytes, expected at most {LARGEST}"):
        read_raw(path)
    assert tracemalloc.get_traced_memory()[1] < 1e7


@pytest.mark.parametrize("reader", [read_raw, read_header])
def test_a_file_larger_than_any_frame_is_not_read(tmp_path, reader):
    path = tmp_path / "a.fits"
    with path.open("wb") as stream:
        stream.truncate(LARGEST + 1)
    with pytest.raises(BadFrame, match=rf"it has {LARGEST + 1} bytes, expected at most {LARGEST}"):
        reader(path)


def test_a_bomb_of_gzip_is_not_expanded(tmp_path):
    path = tmp_path / "a.fits.gz"
    path.write_bytes(gzip.compress(bytes(2 * SMALL), 1))
    for reader in (read_raw, read_header):
        with pytest.raises(BadFrame, match=rf"bytes of gzip expand to more than {SMALL}, which no frame does"):
            reader(path)


def test_a_bomb_in_a_tile_is_not_expanded(written):
    path = written(".fits.fz", "GZIP_1")
    data = path.read_bytes()
    with fits.open(path, disable_image_compression=True) as hdul:
        header = hdul[1].header.copy()
        tiles = [gzip.compress(bytes(2**24))] + [bytes(tile) for tile in hdul[1].data["COMPRESSED_DATA"][1:]]
    column = fits.Column("COMPRESSED_DATA", "1QB()", array=np.array([np.frombuffer(t, "u1") for t in tiles], object))
    table = fits.BinTableHDU.from_columns([column])
    table.header.update({card.keyword: card.value for card in header.cards if card.keyword.startswith(("Z", "BZ"))})
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)
    assert path.read_bytes() != data
    with pytest.raises(BadFrame, match="tile expands to more than 480 bytes"):
        read_raw(path)


@pytest.mark.parametrize("reader", [read_raw, read_header])
def test_a_header_without_end_is_read_no_further_than_any_header_goes(tmp_path, reader):
    path = tmp_path / "a.fits"
    path.write_bytes(b"SIMPLE  =                    T".ljust(80) + b"COMMENT ".ljust(80) * (HEADER_LIMIT // 40))
    with pytest.raises(BadFrame, match=r"^a\.fits: it has no END card"):
        reader(path)


def test_gzip_may_come_in_members(tmp_path, counts):
    lightfield.write_frame(tmp_path / "plain", CARDS, counts)
    data = (tmp_path / "plain").read_bytes()
    path = tmp_path / "a.fits.gz"
    path.write_bytes(gzip.compress(data[:5000]) + gzip.compress(data[5000:]))
    np.testing.assert_array_equal(read_raw(path).cube, counts)


def test_gzip_in_parts_without_number_is_refused_before_it_costs_time(tmp_path):
    path = tmp_path / "a.fits.gz"
    path.write_bytes(gzip.compress(b"") * (MOST_MEMBERS + 1))
    for reader in (read_raw, read_header):
        with pytest.raises(BadFrame, match=r"its gzip stream has more than 10000 parts"):
            reader(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_products_are_named_after_the_exposure_whatever_its_format(suffix):
    assert product_path(f"night/Bias 2026 January 29 06_44_37 5{suffix}", "im") == (
        "night/Bias 2026 January 29 06_44_37 5_im.fits"
    )


def test_real_frames_read_as_astropy_reads_them(real):
    for path in sorted((real / "llamas").glob("*.fits"))[:3]:
        with fits.open(path) as hdul:
            expected = hdul[0].data
        np.testing.assert_array_equal(np.squeeze(read_raw(path).cube), np.squeeze(expected))
