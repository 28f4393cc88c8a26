import csv
import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.verify import VerifyError

from kspecdr.simulate.exposure import Exposure
from kspecdr.simulate.instrument import Camera, Detector, Spectrograph
from kspecdr.simulate.night import Night, simulate_night, write_night
from kspecdr.simulate.presets import PRESETS, SMALL, arcs, calibrations, long_night, targets
from kspecdr.simulate.truthfile import read_truth

SHORT = Night(SMALL, (*calibrations(n_bias=1, darks=(300.0,), n_flat=1), *arcs(("ne",)), *targets(2)))


def with_camera(camera: Camera, **night) -> Night:
    return Night(replace(SMALL, camera=camera), (Exposure("flat", 1.0),), **night)


def test_files_are_named_and_read_as_one_frame_cubes(tmp_path):
    paths = write_night(tmp_path / "raw", SHORT)
    assert [path.name for path in paths] == [
        "bias_00001.fits",
        "dark_300s_00001.fits",
        "flat_00001.fits",
        "arc_ne_00001.fits",
        "object_00001.fits",
        "object_00002.fits",
    ]
    for path in paths:
        with fits.open(path) as hdus:
            hdus.verify("exception")
            assert hdus[0].data.shape == (1, 220, 512)
            assert hdus[0].data.dtype == np.uint16
            assert path.stat().st_size % 2880 == 0


def test_files_hold_the_simulated_counts(tmp_path):
    paths = write_night(tmp_path, SHORT, seed=4)
    for path, frame in zip(paths, simulate_night(SHORT, 4), strict=True):
        np.testing.assert_array_equal(fits.getdata(path), frame.counts)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_night(tmp_path / folder, SHORT, seed=seed)
    name = "object_00001.fits"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / name).read_bytes() != (tmp_path / "c" / name).read_bytes()


def test_a_file_does_not_depend_on_those_before_it():
    whole = list(simulate_night(SHORT, 1))
    changed = replace(SHORT, exposures=(Exposure("bias", n_frames=2), *SHORT.exposures[1:]))
    np.testing.assert_array_equal(list(simulate_night(changed, 1))[3].counts, whole[3].counts)


def test_cards_read_back_with_their_values(tmp_path):
    night = replace(SHORT, start=datetime(2024, 8, 24, 13, 47, 39, tzinfo=UTC), exposures=targets(1))
    [path] = write_night(tmp_path, night)
    header = fits.getheader(path)
    assert header["DATE-OBS"] == "2024-08-24T13:47:39"
    assert header["EXPTIME"] == "300000"
    assert header["PI CAMERA SHUTTERTIMING EXPOSURETIME"] == "300000"
    assert header["PI CAMERA ADC SPEED"] == 2
    assert header["PI CAMERA ADC QUALITY"] == "LowNoise"
    assert header["PI SPECTROMETER GRATING SELECTED"] == "[500nm,150][2][0]"
    assert header["PI SPECTROMETER GRATING CENTERWAVELENGTH"] == "624.988"
    long = "PI ACQUISITION ORIENTATION LIGHTPATHORIENTATIONUNCORRECTED"
    assert header[long] == "FlippedHorizontally, FlippedVertically"


@pytest.mark.parametrize(
    ("light_path", "result", "flip"),
    [
        ("Normal", "Normal", (True, True)),
        ("FlippedHorizontally", "Normal", (False, True)),
        ("FlippedVertically", "FlippedVertically", (True, True)),
        ("FlippedHorizontally, FlippedVertically", "Normal", (False, False)),
        ("FlippedHorizontally", "FlippedVertically", (False, False)),
    ],
)
def test_flips_lead_back_to_the_normalised_frame(light_path, result, flip):
    [frame] = simulate_night(with_camera(Camera(light_path=light_path, result=result)), 1)
    counts = frame.counts[0]
    counts = counts[:, ::-1] if flip[0] else counts
    counts = counts[::-1] if flip[1] else counts
    truth = frame.truths[0]
    residual = (counts - truth.bias) * truth.gain - truth.electrons
    calm = np.ones(counts.shape, dtype=bool)
    calm[tuple(truth.cosmic_rays.T)] = False
    assert (np.abs(residual) < 7.0 * np.sqrt(truth.variance))[calm].all()


def test_odd_cards(tmp_path):
    camera = Camera(
        writes_quality=False,
        writes_angles=False,
        ragged_exposure=True,
        broken_continue=True,
        prefix="PI CAMERA X",
    )
    [path] = write_night(tmp_path, with_camera(camera))
    with fits.open(path) as hdus:
        header = hdus[0].header
        assert header["PI CAMERA X SHUTTERTIMING EXPOSURETIME"] == "999.99999999999989"
        assert not [key for key in header if key.endswith(("QUALITY", "FOCALLENGTH"))]
        assert hdus[0].data.shape == (1, 220, 512)
        with pytest.raises(VerifyError, match="CONTINUE"):
            repr(header)


def test_kspec_names_and_cubes(tmp_path):
    exposures = (
        Exposure("bias", n_frames=3),
        *arcs(("HgArNeKrCd", "hgcd")),
        Exposure("object", 60.0, target="tile_046"),
    )
    paths = write_night(tmp_path, replace(SHORT, exposures=exposures, naming="kspec"), tmp_path / "truth")
    assert [path.name for path in paths] == [
        "Bias 2026 January 27 09_00_00 1.fits",
        "Arc_150_625_10s 2026 January 27 09_00_06 1.fits",
        "hgcd 2026 January 27 09_00_21 1.fits",
        "tile_046_150_625 2026 January 27 09_00_36 1.fits",
    ]
    cube = fits.getdata(paths[0])
    assert cube.shape == (3, 220, 512)
    assert (cube[0] != cube[1]).any()
    assert (tmp_path / "truth" / "Bias 2026 January 27 09_00_00 1_f003.npz").exists()


def test_truth_is_written_and_read_back(tmp_path):
    write_night(tmp_path / "raw", SHORT, tmp_path / "truth", seed=3)
    record = json.loads((tmp_path / "truth" / "night.json").read_text())
    entry = record["frames"][4]
    assert entry["file"] == "object_00001.fits"
    assert entry["target"] == "tile_001"
    truth = read_truth(tmp_path / "truth" / entry["truth"][0])
    expected = list(simulate_night(SHORT, 3))[4].truths[0]
    assert truth.exposure == expected.exposure
    assert truth.gain == expected.gain
    np.testing.assert_array_equal(truth.wavelength, expected.wavelength)
    np.testing.assert_array_equal(truth.flux, expected.flux)
    np.testing.assert_allclose(truth.variance, expected.variance, rtol=1e-6)
    assert truth.saturated.dtype == bool
    assert not list((tmp_path / "raw").glob("*.npz"))


def test_fiber_table_lists_the_slit(tmp_path):
    write_night(tmp_path, replace(SHORT, exposures=()))
    with (tmp_path / "fibers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["type"] for row in rows] == ["P", "P", "S", "P", "P", "P"]
    assert [int(row["fibre"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    spacing = np.diff([float(row["row"]) for row in rows])
    np.testing.assert_allclose(spacing, SMALL.slit.spacing, atol=0.02)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_show_enough_lines_to_be_solved(name):
    night = PRESETS[name]
    detector = replace(night.instrument.detector, n_row=200, overscan_rows=0)
    slit = replace(night.instrument.slit, center_row=100.0)
    lamps = sorted({exposure.lamp for exposure in night.exposures if exposure.kind == "arc"})
    small = replace(
        night,
        instrument=replace(night.instrument, detector=detector, slit=slit),
        exposures=arcs(tuple(lamps)),
    )
    n_line = 0
    for frame in simulate_night(small, 1):
        truth = frame.truths[0]
        bright = truth.throughput[:, 0].argmax()
        n_line += np.count_nonzero(truth.line_flux[bright] > 1000.0)
    assert n_line >= 15


def test_a_long_night_has_the_files_that_were_asked_for():
    night = long_night(1000, SMALL)
    assert len(night.exposures) == 1000
    kinds = [exposure.kind for exposure in night.exposures]
    assert {kind: kinds.count(kind) for kind in ("bias", "dark", "flat")} == {"bias": 5, "dark": 3, "flat": 2}
    assert kinds.count("object") > 700


def test_spectrographs_can_run_backwards():
    night = replace(SHORT, instrument=replace(SMALL, spectrograph=Spectrograph(ascending=False)), exposures=targets(1))
    [frame] = simulate_night(night, 1)
    assert (np.diff(frame.truths[0].wavelength) < 0).all()


def test_detectors_of_any_size_are_rendered():
    detector = Detector(n_row=90, n_column=200)
    night = replace(SHORT, instrument=replace(SMALL, detector=detector, slit=replace(SMALL.slit, center_row=45.0)))
    for frame in simulate_night(night, 1):
        assert frame.counts.shape == (1, 90, 200)
