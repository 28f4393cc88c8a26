import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from kspecdr.errors import BadFrame, BadOption
from kspecdr.inst.isoplane import (
    add_fiber_table,
    convert_isoplane_header,
    describe_header,
    flips,
    get_isoplane_readout_settings,
    sanitize_header_drop_unparsable,
    write_isoplane_converted_image,
)
from kspecdr.io.fits import read_frame

BOTH_FLIPPED = "FlippedHorizontally, FlippedVertically"


def lightfield_header(**changes):
    cards = {
        "DATE-OBS": "2024-08-24T13:47:39",
        "EXPTIME": "1000    ",
        "HIERARCH PI CAMERA SHUTTERTIMING EXPOSURETIME": "999.99999999999989",
        "HIERARCH PI CAMERA EXPERIMENT ADC SPEED": "2",
        "HIERARCH PI CAMERA EXPERIMENT ADC ANALOGGAIN": "Low",
        "HIERARCH PI CAMERA EXPERIMENT ADC QUALITY": "LowNoise",
        "HIERARCH PI CAMERA SENSOR INFORMATION PIXEL WIDTH": 20,
        "HIERARCH PI ACQUISITION ORIENTATION LIGHTPATHORIENTATIONUNCORRECTED": "Normal",
        "HIERARCH PI CAMERA EXPERIMENT ACQUISITION ORIENTATION RESULT": BOTH_FLIPPED,
        "HIERARCH PI SPECTROMETER GRATING SELECTED": "[500nm,150][2][0]",
        "HIERARCH PI SPECTROMETER GRATING CENTERWAVELENGTH": "619.988",
    } | {f"HIERARCH {key}" if " " in key else key: value for key, value in changes.items()}
    header = fits.Header()
    for key, value in cards.items():
        if value is not None:
            header[key] = value
    return header


def raw_file(path, cube, **changes):
    fits.PrimaryHDU(cube, lightfield_header(**changes)).writeto(path)
    return path


def test_header_values_are_read_in_the_units_of_the_package():
    setup = describe_header(lightfield_header(), "MFARC")
    assert setup.exposure == 1.0
    assert (setup.gain, setup.read_noise) == (4.09, 16.03)
    assert setup.lambda_center == pytest.approx(6199.88)
    assert setup.dispersion == pytest.approx(3.68)
    assert setup.lines_per_mm == 150
    assert setup.start.isoformat() == "2024-08-24T13:47:39+00:00"


def test_date_obs_may_mark_the_end():
    setup = describe_header(lightfield_header(), "MFARC", date_obs="end")
    assert setup.end.isoformat() == "2024-08-24T13:47:39+00:00"


def test_a_mirror_entry_still_tells_the_lines():
    header = lightfield_header(**{"PI SPECTROMETER GRATING SELECTED": "[Mirror,1200][1][0]"})
    assert describe_header(header, "MFARC").lines_per_mm == 1200


def test_missing_quality_means_low_noise():
    header = lightfield_header(**{"PI CAMERA EXPERIMENT ADC QUALITY": None})
    assert get_isoplane_readout_settings(header).name == "2 MHz LowNoise Low"


@pytest.mark.parametrize(
    ("card", "value", "sentence"),
    [
        ("PI SPECTROMETER GRATING CENTERWAVELENGTH", None, "CENTERWAVELENGTH is missing"),
        ("PI SPECTROMETER GRATING CENTERWAVELENGTH", "near 620", "'near 620', expected a number"),
        ("PI CAMERA SHUTTERTIMING EXPOSURETIME", "nan", "'nan', expected a number"),
        ("PI CAMERA EXPERIMENT ADC ANALOGGAIN", "Huge", "'2 MHz LowNoise Huge' has no measured gain"),
        ("PI SPECTROMETER GRATING SELECTED", "empty slot", "expected such as"),
        ("DATE-OBS", "yesterday", "'yesterday', expected a date"),
    ],
)
def test_a_bad_card_is_named_with_value_and_expectation(card, value, sentence):
    with pytest.raises(BadFrame, match=sentence):
        describe_header(lightfield_header(**{card: value}), "MFARC")


@pytest.mark.parametrize(
    ("uncorrected", "result", "reverse"),
    [
        ("Normal", "Normal", (True, True)),
        ("FlippedHorizontally, FlippedVertically", "Normal", (False, False)),
        ("FlippedHorizontally", "FlippedHorizontally", (True, True)),
        ("FlippedVertically", "Normal", (False, True)),
    ],
)
def test_an_axis_is_reversed_where_the_cards_agree(uncorrected, result, reverse):
    header = lightfield_header(
        **{
            "PI ACQUISITION ORIENTATION LIGHTPATHORIENTATIONUNCORRECTED": uncorrected,
            "PI CAMERA EXPERIMENT ACQUISITION ORIENTATION RESULT": result,
        }
    )
    assert flips(header) == reverse


def test_a_broken_continue_chain_goes_and_the_rest_stays():
    text = lightfield_header().tostring(endcard=False)
    broken = "LONGCARD= 'a text that never ends".ljust(80) + "CONTINUE  and is no string".ljust(80)
    header = fits.Header.fromstring(text + broken + "AFTER   =                    1".ljust(80))
    clean = sanitize_header_drop_unparsable(header)
    assert "LONGCARD" not in clean
    assert clean["AFTER"] == 1
    assert clean.tostring()


def test_conversion_keeps_pixels_and_adds_cards_and_fibers(tmp_path):
    counts = np.arange(12, dtype=np.uint16).reshape(1, 3, 4)
    raw = raw_file(tmp_path / "flat.fits", counts)
    before = raw.read_bytes()
    path = write_isoplane_converted_image(str(raw), str(tmp_path / "flat_converted.fits"), "MFFFF", n_fibers=2)
    with fits.open(path) as hdul:
        header = hdul[0].header
        assert header["INSTRUME"] == "ISOPLANE"
        assert (header["RO_GAIN"], header["DISPAXIS"], header["NDFCLASS"]) == (4.09, 1, "MFFFF")
        assert {"LAMBDAC", "DISPERS", "EXPOSED", "UTDATE", "UTSTART", "UTEND", "UTMJD", "GRATLPMM"} <= set(header)
        assert list(hdul["FIBRES"].data["TYPE"]) == ["P", "P"]
        np.testing.assert_array_equal(hdul[0].data, counts[0])
    assert raw.read_bytes() == before


def test_a_cube_is_split_or_refused(tmp_path):
    raw = raw_file(tmp_path / "bias.fits", np.ones((3, 4, 5), np.uint16))
    with pytest.raises(ValueError, match="holds 3 exposures; call with split_frames=True"):
        write_isoplane_converted_image(raw, tmp_path / "bias_converted.fits", "BIAS", n_fibers=1)
    paths = write_isoplane_converted_image(raw, tmp_path / "bias_converted.fits", "BIAS", n_fibers=1, split_frames=True)
    assert [path.rsplit("/", 1)[1] for path in paths] == [f"bias_f00{k}_converted.fits" for k in (1, 2, 3)]
    assert read_frame(paths[1]).setup.start > read_frame(paths[0]).setup.start


def test_the_number_of_fibers_must_be_said(tmp_path):
    raw = raw_file(tmp_path / "bias.fits", np.ones((1, 4, 5), np.uint16))
    with pytest.raises(ValueError, match="neither n_fibers nor fiber_table"):
        write_isoplane_converted_image(raw, tmp_path / "out.fits", "BIAS")


def test_fiber_tables_are_sorted_by_fiber_and_checked(tmp_path):
    table = tmp_path / "tile.csv"
    table.write_text("TYPE,Name,fibre,ra\nS,blank,2,10.5\nP,star,1,11.5\n")
    hdul = add_fiber_table(fits.HDUList([fits.PrimaryHDU()]), None, table)
    assert list(hdul["FIBRES"].data["NAME"]) == ["star", "blank"]
    assert list(hdul["FIBRES"].data["RA"]) == [11.5, 10.5]
    with pytest.raises(BadOption, match=r"tile.csv has 2 rows, expected 14 fibers"):
        add_fiber_table(hdul, 14, table)
    with pytest.raises(BadOption, match="fiber type 'X' is not known"):
        add_fiber_table(hdul, None, Table({"type": ["X"], "name": ["a"]}))


def test_a_converted_header_can_be_printed():
    assert "NDFCLASS= 'BIAS" in str(convert_isoplane_header(lightfield_header(), "BIAS"))


@pytest.mark.parametrize(
    ("card", "value", "sentence"),
    [
        ("PI CAMERA EXPERIMENT ACQUISITION ORIENTATION RESULT", None, "ORIENTATION RESULT is missing"),
        ("PI SPECTROMETER GRATING CENTERWAVELENGTH", "1e308", "'1e308', expected a number"),
        ("PI CAMERA SHUTTERTIMING EXPOSURETIME", "1e8", r"1e\+08 ms, expected 0 to 8.64e\+07"),
        ("DATE-OBS", "0001-01-01T00:00:00+12:00", "expected a date"),
        ("DATE-OBS", "1601-01-01T00:00:00", "expected a year from 1901 to 2199"),
        ("PI CAMERA READOUTCONTROL REGIONSOFINTEREST RESULT YBINNING", "1.5", "BINNING is 1.5, expected a whole"),
        ("PI SPECTROMETER GRATING SELECTED", "[500nm,99999999999]", "expected such as"),
    ],
)
def test_a_value_beyond_any_instrument_is_refused_before_anything_is_computed(card, value, sentence):
    with pytest.raises(BadFrame, match=sentence):
        describe_header(lightfield_header(**{card: value}), "MFARC")


def test_the_binning_is_that_of_the_region_that_was_read():
    regions = "PI CAMERA READOUTCONTROL REGIONSOFINTEREST"
    header = lightfield_header(
        **{
            f"{regions} CUSTOMREGIONS REGIONOFINTEREST YBINNING": "8",
            f"{regions} RESULT REGIONOFINTEREST YBINNING": "2",
            f"{regions} RESULT REGIONOFINTEREST XBINNING": "4",
        }
    )
    assert describe_header(header, "MFARC").binning == (2, 4)


def test_a_card_too_broken_to_be_set_gives_way(tmp_path):
    raw = raw_file(tmp_path / "a.fits", np.ones((1, 4, 5), np.uint16))
    data = raw.read_bytes()
    raw.write_bytes(data.replace(b"EXTEND  =                    T", b"EXTEND   is no card, OBJECT? "))
    (path,) = write_isoplane_converted_image(raw, tmp_path / "a_converted.fits", "BIAS", n_fibers=1, split_frames=True)
    assert read_frame(path).counts.shape == (4, 5)


@pytest.mark.parametrize(
    ("rows", "columns", "cards", "overscan"),
    [
        (1330, 1340, {}, 30),
        (1300, 1340, {}, 0),
        (1150, 1240, {}, 0),
        (1054, 1024, {"PI CAMERA SENSOR INFORMATION SENSORNAME": "E2V 1024 x 1024 (CCD 47-10)(B)"}, 30),
        (1054, 1024, {"PI CAMERA SENSOR INFORMATION ACTIVEAREA HEIGHT": "1024"}, 30),
        (400, 1340, {}, 0),
    ],
)
def test_rows_beyond_those_of_the_sensor_are_counted(rows, columns, cards, overscan):
    header = lightfield_header()
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, columns, rows
    for keyword, value in {"PI CAMERA SENSOR INFORMATION SENSORNAME": "E2V", **cards}.items():
        header[f"HIERARCH {keyword}"] = value
    assert describe_header(header, "BIAS").overscan_rows == overscan
