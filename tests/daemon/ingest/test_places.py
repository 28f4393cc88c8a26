"""Where frames may land: any name, any folder, several roots that come and go, clocks of other machines."""

import logging
import os
import shutil
import time
import unicodedata
from contextlib import ExitStack

import pytest
from astropy.io import fits

from daemon.config import load
from daemon.records import FrameState
from daemon.service import opened

SHAPE = (1, 20, 30)
NAMES = (
    "two  words",
    'it\'s "quoted"',
    "two\nlines",
    unicodedata.normalize("NFC", "Grün März"),
    unicodedata.normalize("NFD", "Grün April"),
    "-rf",
    "$(x) `y` %s {0} \\ & <b>",
    "n" * 240,
)


def test_any_name_goes_all_the_way(daemon, raw, written, until, all_used, masters):
    service = daemon()
    service.step()
    paths = [written(raw / "bias" / f"{name}.fits", k) for k, name in enumerate(NAMES)]
    until(service, all_used(len(NAMES)))
    assert masters(service) == [tuple(f"bias/{path.name}" for path in paths)]
    (product,) = service.catalog.latest("bias", None, 0)
    assert fits.getdata(product.path).shape == SHAPE[1:]
    assert product.path.is_relative_to(service.catalog.out)


def test_a_name_that_is_not_utf_8_is_told_once_and_taken_in_when_renamed(daemon, raw, written, until, caplog):
    caplog.set_level(logging.WARNING, "kspecdr.intake.states")  # whatever a command in this process has made of it
    odd, other = written(raw / "bias_\udce9t\udce9.fits", 0), written(raw / "bias_1.fits", 1)
    service = daemon()
    stored = r"bias_\udce9t\udce9.fits"
    wanted = {stored: FrameState.INVALID, other.name: FrameState.USED}
    found = until(service, lambda states: states == wanted)
    assert found[stored].reason == "its name is not UTF-8; rename it, it is then taken in"
    assert service.watcher.poll(time.monotonic(), observe=False) == []  # a scan of everything
    odd.rename(raw / "bias_0.fits")
    used = dict.fromkeys(("bias_0.fits", other.name), FrameState.USED)
    until(service, lambda states: states == {**used, stored: FrameState.ABSENT})
    assert [each.getMessage() for each in caplog.records].count(f"{stored} is invalid: {found[stored].reason}") == 1


def test_products_that_are_copied_among_the_frames_are_no_frames(daemon, raw, written, until, all_used, masters):
    service = daemon()
    written(raw / "bias_0.fits", 0)
    until(service, all_used(1))
    (converted,) = service.catalog.latest("converted")
    shutil.copy(converted.path, raw / "bias_0_converted.fits")
    found = until(service, lambda states: len(states) == 2 and FrameState.IGNORED in states.values())
    assert found["bias_0_converted.fits"].reason == "a product of kspecdr, not a raw frame"
    assert masters(service) == [("bias_0.fits",)]


def test_new_folders_are_seen_at_once_with_all_that_is_in_them(daemon, raw, written, until, all_used):
    service = daemon(watch={"settle": 0.2, "rescan": 1000.0, "observer": "inotify"})
    service.step()
    for k in range(4):
        written(raw / "2026-01-28" / f"more {k}" / "bias" / f"{k}.fits", k)
    until(service, all_used(4))


@pytest.mark.parametrize("number", [300, pytest.param(8000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_thousands_at_once_are_all_taken_in(daemon, raw, written, number, until):
    service = daemon(plan={"quiet": 600.0})
    service.step()
    first = written(raw / "dark_0.fits", 0).read_bytes()
    for k in range(1, number):
        (raw / f"dark_{k}.fits").write_bytes(first[:-2000] + k.to_bytes(2, "big") + first[-1998:])
    found = until(service, lambda states: len(states) == number and FrameState.INCOMPLETE not in states.values(), 300)
    assert {frame.state for frame in found.values()} == {FrameState.WAITING}


@pytest.mark.parametrize("seconds", [-1e9, 1e9])
def test_a_clock_of_another_machine_is_no_harm(daemon, raw, written, seconds, until, all_used):
    service = daemon()
    service.step()
    for k in range(3):
        path = written(raw / f"bias_{k}.fits", k)
        status = path.stat()
        os.utime(path, (status.st_atime + seconds, status.st_mtime + seconds))
    until(service, all_used(3))


def test_the_night_is_that_of_the_observatory(daemon, raw, written, until, all_used):
    service = daemon(site={"timezone": "Pacific/Honolulu"})  # 10 h behind UTC: at 14:00 UTC its noon has not come yet
    for k in range(3):
        written(raw / f"bias_{k}.fits", k)
    until(service, all_used(3))
    (product,) = service.catalog.latest("bias", None, 0)
    assert product.path.relative_to(service.catalog.out).parts[0] == "2026-01-26"


def test_two_roots_are_told_apart_and_one_may_be_lost_and_come_back(daemon, raw, written, tmp_path, until):
    other = tmp_path / "other"
    for k in range(3):
        written(raw / f"bias_{k}.fits", k)
        written(other / f"bias_{k}.fits", 3 + k)
    service = daemon(raw, other, watch={"settle": 0.2, "rescan": 0.3})
    service.run(until_idle=0.6)
    frames = service.catalog.frames()
    assert {(frame.root, frame.state) for frame in frames} == {(0, FrameState.USED), (1, FrameState.USED)}
    assert len(frames) == 6
    other.rename(tmp_path / "away")
    until(service, lambda _: service.surroundings.lost == (str(other),))
    assert service.catalog.frames() == frames
    (tmp_path / "away").rename(other)
    written(other / "bias_9.fits", 9)
    until(service, lambda states: states.get("bias_9.fits") is FrameState.USED)
    assert service.surroundings.lost == ()
    assert len(service.catalog.frames()) == 7


def test_a_root_that_has_moved_brings_no_duplicates(daemon, raw, written, tmp_path, until, all_used, masters):
    with ExitStack() as first:
        settings = {"paths": {"watch": [str(raw)], "out": str(tmp_path / "out")}, "instrument": {"fibers": 6}}
        quiet = {"plan": {"quiet": 0.3}, "workers": {"count": 0}}
        service = first.enter_context(opened(load(None, {**settings, **quiet}), batch=False, command="test"))
        for k in range(3):
            written(raw / f"bias_{k}.fits", k)
        until(service, all_used(3))
        before = service.catalog.latest("bias", None, 0)
    shutil.copytree(raw, tmp_path / "mounted here")  # with other times of change
    shutil.rmtree(raw)
    service = daemon(tmp_path / "mounted here")
    service.run(until_idle=0.6)
    assert [(frame.root, frame.state) for frame in service.catalog.frames()] == 3 * [(0, FrameState.USED)]
    assert service.catalog.latest("bias", None, 0) == before
    written(tmp_path / "mounted here" / "bias_3.fits", 3)
    until(service, all_used(4))
    assert masters(service) == [tuple(f"bias_{k}.fits" for k in range(4))]


def test_a_root_that_does_not_exist_is_told_loudly(daemon, tmp_path, caplog):
    service = daemon(tmp_path / "typo")
    service.step()
    assert service.surroundings.lost == (str(tmp_path / "typo"),)
    (said,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert said.startswith(f"{tmp_path / 'typo'} does not exist; make it, mount it, or mend its name")


@pytest.mark.parametrize(("remake", "expected"), [("all", {"5"}), ("tonight", {"6"}), ("nothing", {"6"})])
def test_another_number_of_fibers_concerns_the_frames_that_are_to_be_made_again(
    tmp_path, raw, written, remake, expected, until, all_used
):
    def settings(fibers):
        table = {
            "paths": {"watch": [str(raw)], "out": str(tmp_path / "out")},
            "instrument": {"fibers": fibers},
            "plan": {"quiet": 0.3, "remake": remake},
            "watch": {"settle": 0.2},
            "workers": {"count": 0},
        }
        return load(None, table)

    written(raw / "bias_0.fits", 0)  # of another night than this one
    with opened(settings(6), batch=False, command="test") as service:
        until(service, all_used(1))
    with opened(settings(5), batch=False, command="test") as service:
        for _ in range(5):
            service.step()
        until(service, all_used(1))
        assert {frame.fibers for frame in service.catalog.frames()} == expected
