"""Names of files, targets and lamps that mean something to a terminal, a shell, a page, a query or a log."""

import io
import json
import logging
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.journal import line_handler
from daemon.records import FrameState, Job, Outcome, Quality, Waiting, Written
from daemon.store.pages import PageReader

NAMES = (
    "<script>alert(1)</script>.fits",
    "'; DROP TABLE frames; --.fits",
    'a" OR 1=1.fits',
    "$(touch gone) `touch gone`; touch gone.fits",
    "two\nlines\r.fits",
    "\x1b[31mred\x1b]0;title\x07\x9b2J.fits",
    "\u202egnp.fits",
    "[bold red]:smile:[/].fits",
    "100%_.fits",
    "not utf-8 \udcff.fits",
    "--json.fits",
)
STORED = tuple(name for name in NAMES if "\udcff" not in name)  # no encoding has it: intake refuses such a file


@pytest.fixture
def out(catalog, frame_of):
    """An output directory whose frames, targets, reasons and products bear every name."""
    for minute, name in enumerate(STORED):
        frame = frame_of(f"night/{name}", "MFOBJECT", minute, target=name)
        failed = frame_of(f"failed/{name}", "MFOBJECT", 20 + minute, lamp=name)
        catalog.add_frames([frame, failed])
        job = Job("object", f"{minute:064d}", (frame,), {}, {}, frame.night, provisional=(f"until {name}",))
        assert catalog.claim(replace(job, out=str(catalog.out)), "me", frame.landed)
        written = Written("red", f"{name}_red.fits", frame.key)
        outcome = Outcome(job.fingerprint, (written,), (Quality("level_e", 1.0),), (f"look at {name}",))
        catalog.finish(job, outcome, frame.landed + timedelta(seconds=1))
        standings = [Waiting(frame, "", state=FrameState.REDUCED), Waiting(failed, name, state=FrameState.FAILED)]
        catalog.apply(standings, {})
    return catalog.out


def is_plain(text):
    """Whether a text holds nothing that a terminal obeys, and can be written."""
    return all(letter.isprintable() or letter == "\n" for letter in text)


def n_frames(out):
    with closing(sqlite3.connect(out / "catalog.db")) as database:
        return database.execute("SELECT count(*) FROM frames").fetchone()[0]


@pytest.mark.parametrize("command", [("status",), ("frames",), ("latest", "--kind", "red"), ("needed",)])
@pytest.mark.parametrize("terminal", [False, True])
def test_what_is_listed_is_plain_text(kspecdr, out, monkeypatch, command, terminal):
    if terminal:
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        monkeypatch.setenv("NO_COLOR", "1")
    code, text, err = kspecdr(*command, "--out", out)
    assert code == 0
    assert is_plain(text.replace("\x1b[0m", "").replace("\x1b[1m", "").replace("\x1b[2m", ""))
    assert is_plain(err)
    if command[0] in ("frames", "status"):
        assert all(part in text for part in ("[bold red]:smile:[/]", "\\x1b[31mred", "two\\nlines\\r", "\\u202egnp"))


def test_json_says_the_names_as_they_are_in_plain_text(kspecdr, out):
    text = kspecdr("frames", "--out", out, "--json")[1]
    assert is_plain(text)
    assert {each["path"] for each in json.loads(text)} == {
        f"{folder}/{n}" for folder in ("night", "failed") for n in STORED
    }


@pytest.mark.parametrize("name", STORED)
def test_a_frame_is_found_by_exactly_its_name(kspecdr, catalog, out, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = n_frames(out)
    code, text, _ = kspecdr("why", "--out", out, "--", f"night/{name}")
    assert (code, is_plain(text)) == (0, True)
    code, text, _ = kspecdr("mark-bad", "--out", out, "--", f"night/{name}")
    assert (code, text.count("\n"), is_plain(text)) == (0, 3, True)
    assert [frame.path for frame in catalog.frames(state="bad")] == [f"night/{name}"]
    assert n_frames(out) == before
    assert not (tmp_path / "gone").exists()


def test_a_wildcard_means_itself(kspecdr, out):
    assert kspecdr("why", "%", "--out", out)[0] == 2
    assert kspecdr("show", "%_red.fits", "--out", out)[0] == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_not_known_is_told_in_one_plain_line(kspecdr, out, name):
    code, text, err = kspecdr("show", "--out", out, "--", f"no {name}")
    assert (code, text, err.count("\n"), is_plain(err)) == (2, "", 1, True)


@pytest.mark.parametrize("name", NAMES)
def test_a_log_line_stays_one_line(name):
    stream = io.StringIO()
    handler = line_handler(stream, {})
    handler.emit(logging.LogRecord("kspecdr", logging.INFO, "", 0, "%s landed", (name,), None))
    assert stream.getvalue().count("\n") == 1
    assert is_plain(stream.getvalue())


def test_the_pages_ask_for_a_name_as_a_value(out):
    reader = PageReader(str(out), out)
    try:
        for name in STORED:
            assert [frame.path for frame in reader.frame(f"night/{name}")] == [f"night/{name}"]
            assert reader.frames(state=name) == []
    finally:
        reader.close()
