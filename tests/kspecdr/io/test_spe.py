import struct
import tracemalloc
from datetime import UTC, datetime

import numpy as np
import pytest

from kspecdr.errors import BadFrame
from kspecdr.inst.isoplane import convert, describe_header, flips, write_isoplane_converted_image
from kspecdr.io.fits import read_frame, read_raw
from kspecdr.io.raw_header import image_shape, read_header
from kspecdr.io.spe_footer import FOOTER_LIMIT
from kspecdr.products import Fibers
from kspecdr.simulate.lightfield import lightfield_cards
from kspecdr.simulate.presets import PRESETS
from kspecdr.simulate.spe import PREAMBLE, write_spe

START = datetime(2026, 1, 27, 14, 53, 58, tzinfo=UTC)
CARDS = lightfield_cards(PRESETS["small"].instrument, 10.0, START)


@pytest.fixture
def counts(rng):
    return rng.integers(500, 60000, (3, 20, 30)).astype(np.uint16)


@pytest.fixture
def spe(tmp_path, counts):
    path = tmp_path / "arc_hgar_00001.spe"
    write_spe(path, CARDS, counts)
    return path


def edited(path, *pairs):
    """Replace texts of the footer."""
    data = path.read_bytes()
    for before, after in pairs:
        assert before.encode() in data
        data = data.replace(before.encode(), after.encode())
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["u2", "u4", "f4"])
def test_pixels_come_as_they_were_written(tmp_path, counts, kind):
    path = tmp_path / "a.spe"
    write_spe(path, CARDS, counts.astype(kind), stamps=[(0.0, 10.0), (11.0, 21.0), (22.0, 32.0)])
    cube = read_raw(path).cube
    np.testing.assert_array_equal(cube, counts)
    assert cube.dtype == kind


def test_the_header_says_what_a_fits_header_would(spe, counts):
    header = read_header(spe)
    setup = describe_header(header, "MFARC")
    assert image_shape(header) == counts.shape
    assert (setup.exposure, setup.start, setup.readout) == (10.0, START, "2 MHz LowNoise Low")
    assert setup.lambda_center == pytest.approx(float(CARDS["PI SPECTROMETER GRATING CENTERWAVELENGTH"]) * 10.0)
    assert (setup.lines_per_mm, setup.focal_length) == (150.0, 328.0)
    assert flips(header) == (False, False)


def test_binning_is_that_of_the_region_that_was_read(tmp_path, counts):
    path = tmp_path / "a.spe"
    write_spe(path, CARDS, counts, binning=(2, 4))
    assert describe_header(read_header(path), "MFARC").binning == (2, 4)


@pytest.mark.parametrize("date_obs", ["start", "end"])
def test_the_start_is_known_whatever_the_date_of_fits_cards_means(spe, date_obs):
    assert describe_header(read_header(spe), "BIAS", date_obs=date_obs).start == START


def test_the_stamp_of_the_first_frame_tells_the_start(tmp_path, counts):
    path = tmp_path / "a.spe"
    write_spe(path, CARDS, counts[:1], stamps=[(1.25, 11.25)])
    assert describe_header(read_header(path), "BIAS").start == datetime(2026, 1, 27, 14, 53, 59, 250000, UTC)


def test_a_start_with_an_offset_is_told_in_utc(spe):
    edited(spe, ("14:53:58.0000000+00:00", "23:53:58.1234567+09:00"))
    assert describe_header(read_header(spe), "BIAS").start.isoformat() == "2026-01-27T14:53:58.123000+00:00"


def test_conversion_works_as_on_fits(spe, counts, tmp_path):
    paths = write_isoplane_converted_image(spe, tmp_path / "arc_converted.fits", "MFARC", n_fibers=2, split_frames=True)
    assert len(paths) == 3
    frame = read_frame(paths[1])
    np.testing.assert_array_equal(frame.counts, counts[1])
    assert frame.setup.exposure == 10.0


def test_an_umlaut_in_a_setting_becomes_a_question_mark(spe):
    edited(spe, ("E2V", "Gerät"))
    assert describe_header(read_header(spe), "BIAS").detector.startswith("Ger?t")


def test_only_the_first_camera_counts(spe):
    edited(spe, ("</Camera></Cameras>", "</Camera><Camera><Adc><Quality>Other</Quality></Adc></Camera></Cameras>"))
    assert not [value for value in read_header(spe).values() if value == "Other"]


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ('count="3"', 'count="4"', r"promises 4 frames of 20 x 30 up to byte 8900, but begins at byte 7700"),
        ('count="3"', 'count="0"', r"count = '0', expected a whole number above 0"),
        ('count="3"', 'count="-3"', r"count = '-3', expected"),
        ('count="3"', 'count="9999999999"', r"promises 9999999999 frames"),
        ('width="30"', 'width="NaN"', r"width = 'NaN', expected"),
        ('height="20"', 'height="40"', r"a frame of 40 x 30 pixels needs 2400 bytes, its footer says size 1200"),
        ("MonochromeUnsigned16", "Rgb", r"pixel format is 'Rgb', expected one of MonochromeUnsigned16"),
        ("</DataBlock>", '<DataBlock type="Region" />' * 2 + "</DataBlock>", r"3 regions of interest, expected one"),
        ("</SpeFormat>", "</SpeForm>", r"its footer is no XML \(mismatched tag"),
        ("<SpeFormat", '<!DOCTYPE a [<!ENTITY x "y">]><SpeFormat', "declares a document type"),
        ("<Adc>", "<a>" * 80, "nests elements 65 deep, expected at most 64"),
        ("DataFormat>", "Format>", "describes 0 kinds of frames, expected one"),
    ],
)
def test_a_bad_footer_is_refused_in_one_sentence(spe, before, after, sentence):
    edited(spe, (before, after))
    with pytest.raises(BadFrame, match=rf"^arc_hgar_00001\.spe: .*{sentence}"):
        read_raw(spe)


def test_entities_are_never_expanded(spe, request):
    tracemalloc.start()
    request.addfinalizer(tracemalloc.stop)
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    edited(spe, ("<SpeFormat", bomb + "]><SpeFormat"), ("E2V", "&i;"))
    with pytest.raises(BadFrame, match="document type"):
        read_header(spe)
    assert tracemalloc.get_traced_memory()[1] < 5e6


def test_a_footer_beyond_all_measure_is_not_read(spe):
    with spe.open("ab") as stream:
        stream.truncate(FOOTER_LIMIT + 10000)
    with pytest.raises(BadFrame, match=r"its footer has 167\d+ bytes, expected at most 16777216"):
        read_header(spe)


@pytest.mark.parametrize(("n_byte", "sentence"), [(3000, "3000 bytes on disk"), (7000, "begin at byte 7700 of 7000")])
def test_a_part_of_a_file_is_refused(spe, n_byte, sentence):
    spe.write_bytes(spe.read_bytes()[:n_byte])
    with pytest.raises(BadFrame, match=sentence):
        read_raw(spe)


def test_an_older_version_is_named(spe):
    data = bytearray(spe.read_bytes())
    struct.pack_into("<f", data, 1992, 2.5)
    spe.write_bytes(data)
    with pytest.raises(BadFrame, match=r"no SPE 3.0 file \(its version is 2.5\)"):
        read_header(spe)


def test_a_stamp_beyond_the_calendar_leaves_the_start_of_the_acquisition(tmp_path, counts):
    path = tmp_path / "a.spe"
    write_spe(path, CARDS, counts[:1], stamps=[(0.0, 0.0)])
    data = bytearray(path.read_bytes())
    struct.pack_into("<q", data, PREAMBLE + 1200, 2**63 - 1)
    path.write_bytes(data)
    assert describe_header(read_header(path), "BIAS").start == START


def test_a_file_of_lightfield_reads_as_its_footer_says(real):
    (frame,) = convert(real / "spe" / "full_sensor_image.spe", "MFARC", Fibers.of(14))
    setup = frame.setup
    assert frame.counts.shape == (1024, 1024)
    assert (setup.exposure, setup.readout, setup.pixel_um) == (1.0, "2 MHz LowNoise High", 13.0)
    assert (setup.lines_per_mm, setup.focal_length, setup.binning) == (150.0, 328.0, (1, 1))
    assert setup.inclusion_angle == pytest.approx(17.8)
    assert setup.detector_angle == pytest.approx(8.46)
    assert setup.start == datetime(2016, 6, 9, 18, 38, 50, 950000, UTC)
    assert (setup.detector, setup.temperature) == ("E2V 1024 x 1024 (CCD 47-10)(B)", -70.0)
    assert setup.cosmic_corrected
    first_row = frame.counts[-1, :3]  # LightPathOrientationUncorrected is FlippedHorizontally: rows are reversed
    pixels = np.fromfile(real / "spe" / "full_sensor_image.spe", "<u2", 3, offset=PREAMBLE)
    np.testing.assert_array_equal(first_row, pixels)
