import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version

import pytest

from daemon.cli import app
from daemon.session import locked
from kspecdr.simulate import PRESETS, write_night

FIELDS = [
    "path",
    "kind",
    "frame_class",
    "lamp",
    "target",
    "raw",
    "night",
    "obs_time",
    "provisional",
    "reason",
    "fingerprint",
    "quality",
]


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    return write_night(tmp_path_factory.mktemp("night"), PRESETS["small"])[0].parent


@pytest.fixture(scope="module")
def reduced(exit_code, night, tmp_path_factory):
    """A reduced night, with a frame that cannot be reduced, and one that has no class."""
    place = tmp_path_factory.mktemp("reduced")
    shutil.copytree(night, place / "raw")
    (place / "raw" / "object_00009.fits").write_bytes((night / "object_00001.fits").read_bytes()[:9000])
    shutil.copy(night / "object_00002.fits", place / "raw" / "M31.fits")
    assert exit_code("reduce", place / "raw", "--out", place / "out", "--fibers", 6, "--workers", 0) == 1
    return place


def test_reduce_ends_with_0_when_every_frame_is_done_and_says_what_to_type_next(kspecdr, night, tmp_path):
    out = tmp_path / "out of order"
    for _ in range(2):
        code, _, err = kspecdr("reduce", night, "--out", out, "--fibers", 6, "--workers", 0)
        counts, following = err.splitlines()
        assert (code, counts) == (0, f"10 frames: 2 reduced, 8 used; products in {out}")
        name, *arguments = shlex.split(following.removeprefix("next: "))
        assert (name, arguments[0]) == ("kspecdr", "show")
        assert kspecdr(*arguments[:2])[0] == 0


def test_reduce_names_each_frame_that_failed_with_its_reason(kspecdr, reduced):
    arguments = ("reduce", reduced / "raw", "--out", reduced / "out", "--fibers", 6, "--workers", 0)
    code, _, err = kspecdr(*arguments)
    assert code == 1
    assert "object_00009.fits: incomplete: 9000 bytes on disk, expected" in err
    assert "M31.fits: " in err
    following = shlex.split(err.splitlines()[-1].removeprefix("next: "))
    assert following[:2] == ["kspecdr", "why"]
    assert following[2] in ("M31.fits", "object_00009.fits")
    assert kspecdr(*following[1:])[0] == 0


def test_latest_as_json_has_exactly_the_promised_fields(kspecdr, reduced):
    code, out, _ = kspecdr("latest", "--out", reduced / "out", "--class", "MFOBJECT", "-n", 0, "--json")
    products = json.loads(out)
    assert code == 0
    assert [list(product) for product in products] == [FIELDS, FIELDS]
    assert [product["raw"][0] for product in products] == ["object_00001.fits", "object_00002.fits"]
    assert products[0]["obs_time"] < products[1]["obs_time"]
    assert all((reduced / "out").as_posix() in product["path"] for product in products)
    assert json.loads(kspecdr("latest", "--out", reduced / "out", "-n", 1, "--json")[1]) == products[-1:]
    assert kspecdr("latest", "--out", reduced / "out", "-n", 1)[2].startswith("1 product; paths are below")


@pytest.mark.parametrize("kind", ["bias", "dark", "converted", "im", "tlm", "ex", "red", "lflat"])
def test_latest_knows_every_kind(kspecdr, reduced, kind):
    code, out, _ = kspecdr("latest", "--out", reduced / "out", "--kind", kind, "-n", 0, "--json")
    assert code == 0
    assert {product["kind"] for product in json.loads(out)} == (set() if kind == "lflat" else {kind})


def test_why_names_what_was_found(kspecdr, reduced):
    code, out, _ = kspecdr("why", "object_00001.fits", "--out", reduced / "out", "--json")
    answer = json.loads(out)
    assert (code, answer["state"]) == (0, "reduced")
    assert {each["rule"] for each in answer["found"]} >= {"bias", "dark", "tlm", "arc"}
    text = kspecdr("why", reduced / "raw" / "object_00001.fits", "--out", reduced / "out")[1]
    assert text.startswith("object_00001.fits: reduced\n")
    assert "found arc: arc_hgar_00001.fits" in text
    assert "before, good: arc residual" in text


def test_why_says_what_is_wrong_with_a_file(kspecdr, reduced):
    out = kspecdr("why", "object_00009.fits", "--out", reduced / "out")[1]
    assert "object_00009.fits: incomplete: not complete: 9000 bytes on disk" in out


def test_frames_can_be_chosen_by_state_and_class(kspecdr, reduced):
    code, out, _ = kspecdr("frames", "--out", reduced / "out", "--class", "BIAS", "--state", "used", "--json")
    assert (code, [each["path"] for each in json.loads(out)]) == (
        0,
        [f"bias_0000{k}.fits" for k in (1, 2, 3)],
    )
    assert "object_00001.fits" in kspecdr("frames", "--out", reduced / "out")[1]


def test_status_counts_and_names_the_faults(kspecdr, reduced):
    code, out, _ = kspecdr("status", "--out", reduced / "out", "--json")
    table = json.loads(out)
    assert (code, table["frames"]["reduced"], table["running"]) == (0, 2, "")
    assert "object_00009.fits" in [fault["frame"] for fault in table["faults"]]
    assert set(table["latency_s"]) >= {"bias", "object"}
    assert "daemon: not running" in kspecdr("status", "--out", reduced / "out")[1]


def test_what_a_killed_process_had_begun_is_called_interrupted(kspecdr, reduced, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(reduced / "out", out)
    with closing(sqlite3.connect(out / "catalog.db")) as database, database:
        database.execute("UPDATE frames SET state = 'running' WHERE path = 'object_00001.fits'")
    before = json.loads(kspecdr("status", "--out", out, "--json")[1])["frames"]
    assert (before["interrupted"], "running" in before) == (1, False)
    listed = kspecdr("frames", "--out", out, "--class", "MFOBJECT")[1].splitlines()
    assert "waiting" in listed[0]
    assert listed[0].endswith("its job was interrupted: nothing runs here now; the next start takes it up again")
    with locked(out, "somebody"):
        held = json.loads(kspecdr("status", "--out", out, "--json")[1])["frames"]
    assert held["running"] == 1


def test_other_settings_than_before_are_told_by_name(kspecdr, night, tmp_path):
    arguments = ("reduce", night, "--out", tmp_path / "out", "--workers", 0, "--fibers")
    assert "other settings" not in kspecdr(*arguments, 6)[2]
    assert "was last reduced with other settings (instrument.fibers: 6 becomes 5)" in kspecdr(*arguments, 5)[2]


def test_a_terminal_of_80_columns_shows_frames_on_a_line_each(kspecdr, reduced, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    out = kspecdr("frames", "--out", reduced / "out")[1]
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in out.splitlines()]
    assert "09:11:00  reduced      MFOBJECT   300 s  object_00001.fits" in lines
    assert max(map(len, lines)) <= 80


def test_a_person_says_what_a_frame_is_and_reduce_goes_on(kspecdr, night, tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(night, raw)
    (raw / "arc_ne_00001.fits").rename(raw / "x7.fits")
    again = ("reduce", raw, "--out", out, "--fibers", 6, "--workers", 0)
    code, _, err = kspecdr(*again)
    assert code == 1
    assert "x7.fits: unclassified: no rule of [[classify]] matches x7.fits" in err
    assert kspecdr("classify", "x7.fits", "MFARC", "--lamp", "Ne", "--out", out)[:2] == (
        0,
        "x7.fits: classified as MFARC\n",
    )
    assert kspecdr(*again)[0] == 0
    arcs = json.loads(kspecdr("latest", "--out", out, "--class", "MFARC", "--json")[1])
    assert "x7.fits" in arcs[0]["raw"]
    assert kspecdr("retry", "--out", out)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("latest", "--kind", "spectrum"), "kind 'spectrum' is not known; expected one of bias, dark"),
        (("latest", "--class", "OBJECT"), "class 'OBJECT' is not known; expected one of BIAS"),
        (("latest", "-n", -1), "-n -1, expected 0 (all) or more"),
        (("why", "nothing.fits"), "nothing.fits: no such frame in the catalog"),
        (("classify", "M31.fits", "STAR"), "class 'STAR' is not known; expected one of BIAS"),
        (("frames", "--state", "lost"), "state 'lost' is not known; expected one of incomplete"),
        (("frames", "--night", "27 Jan"), "--night '27 Jan' is no date; give YYYY-MM-DD"),
        (("show", "2020-01-01/object_00001_red.fits"), "2020-01-01/object_00001_red.fits: no such product in the "),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_2(kspecdr, reduced, arguments, says):
    code, out, err = kspecdr(*arguments, "--out", reduced / "out")
    assert (code, out) == (2, "")
    assert err.startswith(f"kspecdr: {says}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("reduce", "none", "--out", "out"), "none is no directory; give the directory of raw frames"),
        (("status", "--out", "none"), "none: no catalog there"),
        (("run", "--config", "none.toml"), "none.toml: cannot be read (No such file or directory)"),
        (("replay", "none", "raw"), "none holds no frames"),
        (("simulate",), "no directory is named; give the one where the raw frames go"),
        (("simulate", "raw", "--night", "starry"), "night 'starry' is not known; expected one of plain"),
        (("run", "--fibers", "none.csv", "--out", "out"), "none.csv does not exist"),
    ],
)
def test_a_wrong_place_is_one_sentence_and_exit_2(kspecdr, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    code, out, err = kspecdr(*arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert "Traceback" not in err


def test_an_unknown_option_is_told(kspecdr):
    code, _, err = kspecdr("latest", "--kin", "red")
    assert code == 2
    assert "No such option" in err


def test_every_command_has_an_example(kspecdr):
    code, out, _ = kspecdr("--help")
    names = [command.name for command in app.registered_commands]
    assert (code, len(names), [each for each in names if f"  {each} " not in out]) == (0, 19, [])
    assert "Exit codes: 0 all is well; 1" in out
    assert "Begin with `kspecdr demo`" in out
    for name in names:
        assert f"Example: kspecdr {name}" in kspecdr(name, "--help")[1]


def test_the_version_is_said(kspecdr):
    assert kspecdr("--version") == (0, f"kspecdr {version('kspecdr')}\n", "")


def test_a_command_computes_as_a_worker_does():
    program = (
        "import os, sys; from daemon.cli import main; early = 'numpy' in sys.modules; sys.argv = ['kspecdr', '-h']\n"
        "try: main()\n"
        "except SystemExit: print(early, os.environ['OPENBLAS_NUM_THREADS'], file=sys.stderr)"
    )
    bare = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], env=bare, capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stderr == "False 1\n"


def test_simulate_and_replay_write_frames(kspecdr, tmp_path):
    code, out, _ = kspecdr("simulate", tmp_path / "night", "--night", "small", "--truth", tmp_path / "truth")
    assert (code, len(out.split())) == (0, 10)
    assert (tmp_path / "truth" / "night.json").is_file()
    code, out, _ = kspecdr("replay", tmp_path / "night", tmp_path / "raw", "--shuffle", 1)
    assert (code, len(out.split())) == (0, 10)
    assert "demo" in kspecdr("simulate", "--night", "list")[1]
    code, _, err = kspecdr("simulate", tmp_path / "raw", "--night", "small")
    assert (code, "holds 10 frames, such as arc_hgar_00001.fits" in err) == (2, True)


def test_doctor_ends_with_1_where_something_is_wrong(kspecdr, tmp_path):
    code, out, _ = kspecdr("doctor", "--watch", tmp_path, "--out", tmp_path / "out", "--json")
    assert code == 0
    assert {finding["flag"] for finding in json.loads(out)} <= {"ok", "warn"}
    code, out, _ = kspecdr("doctor", "--watch", tmp_path / "none", "--out", tmp_path / "out")
    assert code == 1
    assert "is not there; make it, mount it" in out


def test_doctor_goes_by_the_settings_of_the_output_directory(kspecdr, reduced):
    findings = json.loads(kspecdr("doctor", "--out", reduced / "out", "--json")[1])
    told = {finding["name"]: finding["message"] for finding in findings}
    assert told["fibers"] == "6 P"
    assert f"watch {reduced / 'raw'}" in told
    other = json.loads(kspecdr("doctor", "--out", reduced / "out", "--fibers", 16, "--json")[1])
    assert {each["message"] for each in other if each["name"] == "fibers"} == {"16 P"}
