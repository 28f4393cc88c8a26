from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.classify import assign, describe, night_of
from daemon.config import Config, load
from daemon.records import FrameState
from kspecdr.simulate.lightfield import write_frame

LANDED = datetime(2026, 1, 28, tzinfo=UTC)
CARDS = {
    "DATE-OBS": "2026-01-27T14:53:58",
    "EXPTIME": "999.99999999999989",
    "PI CAMERA SHUTTERTIMING EXPOSURETIME": "240000",
    "PI CAMERA ADC SPEED": 2,
    "PI CAMERA ADC ANALOGGAIN": "Low",
    "PI CAMERA ADC QUALITY": "LowNoise",
    "PI CAMERA SENSOR INFORMATION PIXEL WIDTH": "20",
    "PI ACQUISITION ORIENTATION LIGHTPATHORIENTATIONUNCORRECTED": "Normal",
    "PI CAMERA EXPERIMENT ACQUISITION ORIENTATION RESULT": "Normal",
    "PI SPECTROMETER GRATING SELECTED": "[500nm,150][2][0]",
    "PI SPECTROMETER GRATING CENTERWAVELENGTH": "619.988",
}


@pytest.fixture
def written(tmp_path):
    def write(name="object_00001.fits", cards=CARDS, *, n_frame=1, broken=(), **changes):
        path = tmp_path / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_frame(path, {**cards, **changes}, np.full((n_frame, 20, 30), 700), broken)
        return path

    return write


@pytest.fixture
def described(tmp_path):
    def frames_of(path, config=Config()):  # noqa: B008 - frozen
        return describe(path, tmp_path / "raw", config, landed=LANDED)

    return frames_of


@pytest.mark.parametrize(
    ("name", "frame_class", "lamp", "target"),
    [
        ("bias_00001.fits", "BIAS", "", ""),
        ("dark_300s_00001.fits", "DARK", "", ""),
        ("flat_00001.fits", "MFFFF", "", ""),
        ("lflat_00001.fits", "LFLAT", "", ""),
        ("arc_hgar_00001.fits", "MFARC", "HgAr", ""),
        ("arc_KrNeAr_00001.fits", "MFARC", "KrNeAr", ""),
        ("object_00001.fits", "MFOBJECT", "", ""),
        ("object_M31_00001.fits", "MFOBJECT", "", "M31"),
        ("object_NGC_0628_300_490_60s_00007.fits", "MFOBJECT", "", "NGC_0628"),
        ("sky_00001.fits", "MFSKY", "", ""),
        ("std_HR1544_00001.fits", "MFFLX", "", "HR1544"),
        ("flux_feige34_150_620_60s 2026 March 1.fits", "MFFLX", "", "feige34"),
        ("focus_00001.fits", "IGNORE", "", ""),
        ("flat_test 2026 March 1.fits", "IGNORE", "", ""),
        ("tile_046_150_620 2026 January 27 14_53_58 1.fits", "MFOBJECT", "", "tile_046"),
        ("Tile 46 2026년 1월 27일 14_53_58 1.fits", "MFOBJECT", "", "Tile 46"),
        ("Bias 2026 January 29 06_44_37 5.fits", "BIAS", "", ""),
        ("Bias 2018 Januar 26 16_31_05 122.fits", "BIAS", "", ""),
        ("Bias 2018 Januar 26 16_31_05 122-raw.fits", "IGNORE", "", ""),
        ("Arc_300_490_240s 2026 January 25.fits", "MFARC", "", ""),
        ("Flat_150_620 2026 January 29.fits", "MFFFF", "", ""),
        ("flat_150_490_1sec 2025-12-24.fits", "MFFFF", "", ""),
        ("hgcd 2025-12-24.fits", "MFARC", "HgCd", ""),
        ("ne_00001.fits", "MFARC", "Ne", ""),
        ("CD_45_1234.fits", "UNCLASSIFIED", "", ""),
        ("Arcturus 2026 March 1.fits", "UNCLASSIFIED", "", ""),
        ("darkcloud_00001.fits", "UNCLASSIFIED", "", ""),
        ("2026-01-27/Arcs/1.fits", "MFARC", "", ""),
        ("science/M33 2026 March 1 12_00_00 3.fits", "MFOBJECT", "", "M33"),
        ("focus/flat_00001.fits", "IGNORE", "", ""),
    ],
)
def test_names_and_folders_say_what_a_frame_is(name, frame_class, lamp, target):
    found = assign(Path(name), None, Config())
    assert (found.frame_class, found.lamp, found.target) == (frame_class, lamp, target)


@given(st.text(min_size=1, max_size=80))
def test_any_name_has_one_class_and_a_reason_where_it_is_not_reduced(name):
    found = assign(Path("night") / name, None, Config())
    assert found.reason if found.frame_class in ("UNCLASSIFIED", "IGNORE") else not found.reason


def test_a_frame_is_what_its_header_says(written, described):
    path = written("night 1/tile_046_150_620 2026 January 27 14_53_58 1.fits")
    (frame,) = described(path).frames
    assert frame.path == "night 1/tile_046_150_620 2026 January 27 14_53_58 1.fits"
    assert (frame.frame_class, frame.target, frame.state) == ("MFOBJECT", "tile_046", FrameState.WAITING)
    assert (frame.exposure_s, frame.night, frame.landed) == (240.0, "2026-01-27", LANDED)
    assert frame.obs_time == datetime(2026, 1, 27, 14, 53, 58, tzinfo=UTC)
    assert dict(frame.setup) == {
        "readout": "2 MHz LowNoise Low",
        "shape": "20x30",
        "binning": "1x1",
        "grating": 150,
        "center_nm": 620,
    }
    assert (frame.fibers, frame.size, frame.mtime_ns) == ("14", path.stat().st_size, path.stat().st_mtime_ns)
    assert len(frame.content_hash) == 64


def test_each_exposure_of_a_cube_is_a_frame(written, described):
    frames = described(written(n_frame=3)).frames
    assert [frame.part for frame in frames] == [1, 2, 3]
    assert [(frame.obs_time - frames[0].obs_time).total_seconds() for frame in frames] == [0, 240, 480]
    assert len({frame.key for frame in frames}) == 3


def test_a_broken_continue_chain_is_read_past(written, described):
    broken = ("HIERARCH PI X = 'Average of&'", "CONTINUE  all frames, 'not&", "CONTINUE  ' / tree")
    assert described(written(broken=broken)).frames[0].state is FrameState.WAITING


def test_the_header_decides_about_the_setting_and_a_disagreement_is_said(written, described):
    found = described(written("tile_001_300_490_60s 2026 January 27 14_53_58 1.fits"))
    assert (found.frames[0].setup["grating"], found.frames[0].exposure_s) == (150, 240.0)
    assert [each.split(".fits ")[1] for each in found.warnings] == [
        "says 300 lines/mm, its header 150 lines/mm; the header is used",
        "says 490 nm, its header 620 nm; the header is used",
        "says 60 s, its header 240 s; the header is used",
    ]


def test_a_lamp_that_no_name_tells_is_the_default_lamp(written, described):
    assert described(written("Arc_150_620_240s 2026 January 25.fits")).frames[0].lamp == "HgArNeKrCd"
    assert described(written("arc_ne_00001.fits")).frames[0].lamp == "Ne"
    assert described(written("flat_00001.fits")).frames[0].lamp == ""


def test_a_header_card_can_decide(written, described, tmp_path):
    (tmp_path / "config.toml").write_text(
        '[[classify]]\nclass = "MFARC"\nheader = [{ card = "EXPERIMENT NOTE", match = "lamp (?P<lamp>\\\\w+)" }]\n'
    )
    config = load(tmp_path / "config.toml")
    path = written("x.fits", **{"PI CAMERA EXPERIMENT NOTE": "Lamp krne"})
    assert [f.lamp for f in described(path, config).frames] == ["KrNe"]
    assert described(written("y.fits"), config).frames[0].state is FrameState.UNCLASSIFIED


@pytest.mark.parametrize("name", ["focus_1.fits.toml", "focus_1.toml"])
def test_a_sidecar_decides_over_the_name(written, described, name):
    path = written("focus_1.fits")
    path.with_name(name).write_text('class = "MFARC"\nlamp = "HgNe"\nfibers = 16\n')
    (frame,) = described(path).frames
    assert (frame.frame_class, frame.lamp, frame.fibers, frame.state) == (
        "MFARC",
        "HgNe",
        "16",
        FrameState.WAITING,
    )


def test_a_sidecar_that_is_not_understood_is_said(written, described):
    path = written()
    path.with_name("object_00001.toml").write_text('clas = "MFARC"\n')
    (frame,) = described(path).frames
    assert frame.state is FrameState.UNCLASSIFIED
    assert "object_00001.toml: clas is not a known key; did you mean class?" in frame.reason


def test_a_name_that_no_rule_knows_is_unclassified_and_told_what_to_do(written, described):
    (frame,) = described(written("M31.fits")).frames
    assert (frame.frame_class, frame.state) == ("UNCLASSIFIED", FrameState.UNCLASSIFIED)
    assert "kspecdr classify" in frame.reason
    assert frame.setup["grating"] == 150


def test_fiber_tables_are_chosen_by_the_name_and_known_by_their_content(written, described, tmp_path):
    (tmp_path / "t.csv").write_text("type,name\nP,a\n")
    (tmp_path / "config.toml").write_text(
        '[instrument]\nfibers = 16\nfibre_tables = [{ match = "tile_046*", table = "t.csv" }]\n'
    )
    config = load(tmp_path / "config.toml")
    one, other = (described(written(n), config).frames[0] for n in ("tile_046_00001.fits", "tile_047_00001.fits"))
    assert (one.fibers, other.fibers, other.fibers_hash) == (str(tmp_path / "t.csv"), "16", "16")
    (tmp_path / "t.csv").write_text("type,name\nS,a\n")
    again = described(tmp_path / "raw" / "tile_046_00001.fits", config).frames[0]
    assert (again.content_hash, again.fibers_hash != one.fibers_hash) == (one.content_hash, True)
    (tmp_path / "t.csv").unlink()
    lost = described(tmp_path / "raw" / "tile_046_00001.fits", config).frames[0]
    assert lost.state is FrameState.INVALID
    assert "its fibre table" in lost.reason


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"PI CAMERA ADC SPEED": 7}, "readout mode '7 MHz LowNoise Low' has no measured gain"),
        ({"PI CAMERA SHUTTERTIMING EXPOSURETIME": "long"}, "EXPOSURETIME is 'long', expected a number"),
        ({"PI SPECTROMETER GRATING CENTERWAVELENGTH": "nan"}, "CENTERWAVELENGTH is 'nan', expected a number"),
        ({"PI SPECTROMETER GRATING SELECTED": "Mirror"}, "GRATING SELECTED is 'Mirror'"),
        ({"DATE-OBS": "yesterday"}, "DATE-OBS is 'yesterday', expected a date"),
    ],
)
def test_a_card_that_cannot_be_used_is_named(written, described, changes, says):
    (frame,) = described(written(**changes)).frames
    assert (frame.state, frame.frame_class) == (FrameState.INVALID, "MFOBJECT")
    assert frame.reason.startswith("object_00001.fits: ")
    assert says in frame.reason


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"hello", "is no FITS file"),
        (b"SIMPLE  =                    T".ljust(2880), "no END card"),
        (fits.PrimaryHDU().header.tostring().encode(), "the image has axes none"),
        (fits.PrimaryHDU(np.zeros(9, np.uint16)).header.tostring().encode(), "the image has axes 9,"),
    ],
)
def test_what_is_no_frame_is_invalid_and_told_why(tmp_path, described, content, says):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "object_1.fits").write_bytes(content)
    (frame,) = described(tmp_path / "raw" / "object_1.fits").frames
    assert frame.state is FrameState.INVALID
    assert says in frame.reason


def test_what_is_ignored_need_not_be_a_frame(tmp_path, described):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "focus.fits").write_bytes(b"hello")
    (frame,) = described(tmp_path / "raw" / "focus.fits").frames
    assert (frame.state, frame.reason) == (
        FrameState.IGNORED,
        "the name says that it is a focus or test exposure",
    )


def test_a_file_that_vanished_is_invalid(tmp_path, described):
    (tmp_path / "raw").mkdir()
    (frame,) = described(tmp_path / "raw" / "object_1.fits").frames
    assert (frame.state, frame.content_hash) == (FrameState.INVALID, "")
    assert "cannot be read (No such file or directory)" in frame.reason


@pytest.mark.parametrize(
    ("name", "stored", "what"),
    [
        ("object_\udcff_00001.fits", rb"object_\udcff_00001.fits", "name"),
        ("focus_\udcff_00001.fits", rb"focus_\udcff_00001.fits", "name"),
        ("night_\udcff/object_00001.fits", rb"night_\udcff/object_00001.fits", "folder"),
    ],
)
def test_a_name_that_is_not_utf_8_can_be_stored_and_is_told(written, described, name, stored, what):
    (frame,) = described(written(name)).frames
    assert frame.path.encode() == stored
    assert frame.state is FrameState.INVALID
    assert frame.reason == f"its {what} is not UTF-8; rename it, it is then taken in"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(data=st.data())
def test_a_mutated_header_gives_one_state_and_one_sentence(written, described, data):
    path = written("object_00002.fits")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, 2879))
        junk = data.draw(st.binary(min_size=1, max_size=12))
        content[position : position + len(junk)] = junk
    mutant = path.with_name("object_00003.fits")
    mutant.write_bytes(bytes(content))
    for frame in described(mutant).frames[:3]:
        assert frame.state in (FrameState.WAITING, FrameState.INVALID)
        assert bool(frame.reason) == (frame.state is FrameState.INVALID)
        assert "\n" not in frame.reason


@pytest.mark.parametrize(
    ("obs_time", "timezone", "night"),
    [
        ("2026-01-27T11:59:59+00:00", "UTC", "2026-01-26"),
        ("2026-01-27T12:00:00+00:00", "UTC", "2026-01-27"),
        ("2026-01-27T03:30:00+00:00", "Asia/Seoul", "2026-01-27"),
        ("2026-01-27T02:30:00+00:00", "Asia/Seoul", "2026-01-26"),
    ],
)
def test_a_night_begins_at_local_noon(obs_time, timezone, night):
    assert night_of(datetime.fromisoformat(obs_time), timezone) == night
