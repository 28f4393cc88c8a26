import os
import shutil
import threading
import time

import numpy as np
import pytest
from astropy.io import fits

from daemon.sections import Watch
from daemon.watcher import Standing, Watcher

SETTLE = Watch(settle=1.0, rescan=15.0, stuck_after=60.0)


def frame_bytes(level=600):
    hdu = fits.PrimaryHDU(np.full((20, 30), level, np.uint16))
    return hdu.header.tostring().encode() + hdu.data.astype(">u2").tobytes().ljust(2880, b"\0")


def old(path, seconds=100):
    """Make a file look as if it had been at rest for long."""
    then = time.time_ns() - int(seconds * 1e9)
    os.utime(path, ns=(then, then))
    return path


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


@pytest.fixture
def watched(raw):
    """Make watchers of `raw`, which are stopped in the end."""
    watchers = []

    def make(settings=SETTLE, **options):
        watchers.append(Watcher({0: raw}, settings, **options))
        return watchers[-1]

    yield make
    for watcher in watchers:
        watcher.stop()


def told(sightings, raw):
    return [
        (s.standing, s.path.relative_to(raw).as_posix())
        for s in sightings
        if s.standing not in (Standing.ROOT_FOUND, Standing.ROOT_LOST)
    ]


class Remembered:
    """Files of the only root that were handed on before, by path."""

    def __init__(self, files):
        self.known = files
        self.fails = False

    def files(self, root, folder):
        assert root == 0
        if self.fails:
            raise OSError("database is locked")
        return {name.rpartition("/")[2]: of for name, of in self.known.items() if name.rpartition("/")[0] == folder}

    def folders(self, root):
        assert root == 0
        return {name.rpartition("/")[0] for name in self.known}


class Live:
    """A watcher on the real clock, polled whenever it asks to be."""

    def __init__(self, raw, settings, **options):
        self.raw, self.event = raw, threading.Event()
        self.watcher = Watcher({0: raw}, settings, wake=self.event.set, **options)
        self.seen = []

    def until(self, condition, limit=10.0):
        end = time.monotonic() + limit
        while not condition(self.seen) and time.monotonic() < end:
            self.event.wait(max(0.0, min(self.watcher.next_wake() - time.monotonic(), 0.2)))
            self.event.clear()
            self.seen += told(self.watcher.poll(time.monotonic()), self.raw)
        return self.seen


@pytest.fixture
def live(raw):
    watchers = []

    def make(settings=SETTLE, **options):
        watchers.append(Live(raw, settings, **options))
        watchers[-1].until(lambda _: True)
        watchers[-1].seen += told(watchers[-1].watcher.poll(time.monotonic()), raw)
        return watchers[-1]

    yield make
    for each in watchers:
        each.watcher.stop()


def test_what_was_there_before_is_found_in_every_folder(raw, watched):
    (raw / "night" / "deep").mkdir(parents=True)
    for name in ("a.fits", "night/b.FIT", "night/deep/c d.fts", "notes.txt", ".a.fits.part", ".hidden.fits"):
        old_path = raw / name
        old_path.write_bytes(frame_bytes())
        old(old_path)
    found = told(watched().poll(0.0), raw)
    assert sorted(found) == [
        (Standing.COMPLETE, "a.fits"),
        (Standing.COMPLETE, "night/b.FIT"),
        (Standing.COMPLETE, "night/deep/c d.fts"),
    ]


def test_a_file_is_handed_on_when_it_has_settled_and_only_once(raw, watched):
    watcher = watched(Watch(settle=1.0, observer="polling", poll=0.5))
    (raw / "a.fits").write_bytes(frame_bytes())
    assert told(watcher.poll(10.0), raw) == []
    assert watcher.n_settling == 1
    assert told(watcher.poll(10.9), raw) == []
    assert told(watcher.poll(11.1), raw) == [(Standing.COMPLETE, "a.fits")]
    assert told(watcher.poll(100.0), raw) == []


def test_a_growing_file_is_incomplete_once_and_complete_in_the_end(raw, watched):
    watcher, data = watched(Watch(settle=1.0, observer="polling", poll=0.1)), frame_bytes()
    stages = []
    for k in range(1, 5):
        (raw / "a.fits").write_bytes(data[: len(data) * k // 4])
        stages += told(watcher.poll(k * 1.0), raw)
    stages += told(watcher.poll(5.1), raw)
    assert stages == [(Standing.INCOMPLETE, "a.fits"), (Standing.COMPLETE, "a.fits")]


def test_a_file_that_stays_incomplete_is_called_stuck_once(raw, watched):
    watcher = watched(Watch(settle=1.0, observer="polling", poll=0.1, stuck_after=30.0))
    (raw / "a.fits").write_bytes(frame_bytes()[:3000])
    assert told(watcher.poll(0.0), raw) == []
    sightings = watcher.poll(1.1) + watcher.poll(29.0) + watcher.poll(30.1) + watcher.poll(99.0)
    assert told(sightings, raw) == [(Standing.INCOMPLETE, "a.fits"), (Standing.STUCK, "a.fits")]
    assert "3000 bytes on disk, expected 5760 by the header, and nothing was added for 30 s" in sightings[-1].reason
    (raw / "a.fits").write_bytes(frame_bytes())
    assert told(watcher.poll(100.0) + watcher.poll(101.1), raw) == [(Standing.COMPLETE, "a.fits")]


def test_a_changed_file_is_handed_on_again(raw, watched):
    watcher = watched()
    (raw / "a.fits").write_bytes(frame_bytes())
    old(raw / "a.fits")
    assert told(watcher.poll(0.0), raw) == [(Standing.COMPLETE, "a.fits")]
    (raw / "a.fits").write_bytes(frame_bytes(level=9))
    old(raw / "a.fits", seconds=50)
    assert told(watcher.poll(20.0), raw) == [(Standing.COMPLETE, "a.fits")]


def test_a_sidecar_that_comes_later_has_its_frame_looked_at_again(raw, watched):
    watcher = watched(Watch(observer="polling"))
    (raw / "a.fits").write_bytes(frame_bytes())
    watcher.poll(0.0)
    assert told(watcher.poll(1.1), raw) == [(Standing.COMPLETE, "a.fits")]
    (raw / "a.fits.toml").write_text('class = "DARK"\n')
    watcher.poll(3.0)
    assert told(watcher.poll(4.1), raw) == [(Standing.COMPLETE, "a.fits")]


def test_known_files_are_not_handed_on_again(raw, watched):
    for name in ("a.fits", "b.fits"):
        (raw / name).write_bytes(frame_bytes())
        old(raw / name)
    status = (raw / "a.fits").stat()
    watcher = watched(known=Remembered({"a.fits": (status.st_size, status.st_mtime_ns), "c.fits": (1, 1)}))
    assert sorted(told(watcher.poll(0.0), raw)) == [(Standing.COMPLETE, "b.fits"), (Standing.GONE, "c.fits")]


def test_what_is_seen_while_the_catalog_cannot_be_asked_is_said_afterwards(raw, watched):
    (raw / "night").mkdir()
    for name in ("a.fits", "night/b.fits"):
        (raw / name).write_bytes(frame_bytes())
        old(raw / name)
    known = Remembered({})
    watcher = watched(known=known)
    known.fails = True
    for now in (0.0, 1.0):
        with pytest.raises(OSError, match="locked"):
            watcher.poll(now)
    known.fails = False
    found = watcher.poll(2.0)
    assert found[0].standing is Standing.ROOT_FOUND
    assert sorted(told(found, raw)) == [(Standing.COMPLETE, "a.fits"), (Standing.COMPLETE, "night/b.fits")]


def test_the_output_inside_the_watched_directory_is_not_looked_into(raw, watched):
    (raw / "out" / "n").mkdir(parents=True)
    (raw / "out" / "n" / "x_red.fits").write_bytes(frame_bytes())
    assert told(watched(exclude=[raw / "out"]).poll(0.0), raw) == []


def test_an_unreadable_file_is_handed_on_to_be_described_as_such(raw, watched):
    (raw / "a.fits").mkdir()
    (raw / "b.fits").symlink_to(raw / "nowhere.fits")
    (raw / "c.fits").write_text("no FITS file")
    old(raw / "c.fits")
    assert told(watched().poll(0.0), raw) == [(Standing.COMPLETE, "c.fits")]


def test_a_lost_root_says_nothing_of_its_files_and_is_taken_up_again(raw, watched):
    (raw / "a.fits").write_bytes(frame_bytes())
    old(raw / "a.fits")
    watcher = watched()
    watcher.poll(0.0)
    raw.rename(raw.with_name("away"))
    assert [s.standing for s in watcher.poll(10.0)] == [Standing.ROOT_LOST]
    assert watcher.poll(20.0) == []
    raw.mkdir()
    assert [s.standing for s in watcher.poll(30.0)] == [Standing.ROOT_FOUND]
    raw.rmdir()
    raw.with_name("away").rename(raw)
    (raw / "b.fits").write_bytes(frame_bytes())
    old(raw / "b.fits")
    assert told(watcher.poll(40.0), raw) == [(Standing.COMPLETE, "b.fits")]


def test_a_root_that_does_not_exist_yet_is_waited_for(raw, watched):
    raw.rmdir()
    watcher = watched()
    lost = watcher.poll(0.0)
    assert [s.standing for s in lost] == [Standing.ROOT_LOST]
    assert "does not exist; make it, mount it, or mend its name" in lost[0].reason


def test_look_again_says_it_anew(raw, watched):
    (raw / "a.fits").write_bytes(frame_bytes())
    old(raw / "a.fits")
    watcher = watched()
    watcher.poll(0.0)
    watcher.look_again(0, raw / "a.fits")
    assert told(watcher.poll(1.0), raw) == [(Standing.COMPLETE, "a.fits")]


def test_inotify_lets_a_closed_file_go_without_settling(raw, live):
    watch = live(Watch(settle=3600.0))
    with (raw / "a.fits").open("wb") as stream:
        for k in range(0, 5760, 960):
            stream.write(frame_bytes()[k : k + 960])
            stream.flush()
            watch.until(lambda _: True)
    assert watch.until(lambda seen: (Standing.COMPLETE, "a.fits") in seen)[-1] == (
        Standing.COMPLETE,
        "a.fits",
    )


def test_inotify_sees_moves_deletions_and_new_folders_without_a_rescan(raw, live, tmp_path):
    watch = live(Watch(settle=0.3, rescan=3600.0))
    (tmp_path / "outside.fits").write_bytes(frame_bytes())
    (tmp_path / "outside.fits").rename(raw / "in.fits")
    (raw / "night").mkdir()
    (raw / "night" / "x.fits").write_bytes(frame_bytes())
    expected = {(Standing.COMPLETE, "in.fits"), (Standing.COMPLETE, "night/x.fits")}
    assert set(watch.until(expected.issubset)) >= expected
    (raw / "in.fits").rename(raw / "moved.fits")
    (raw / "night" / "x.fits").unlink()
    expected |= {
        (Standing.GONE, "in.fits"),
        (Standing.COMPLETE, "moved.fits"),
        (Standing.GONE, "night/x.fits"),
    }
    assert set(watch.until(expected.issubset)) >= expected


def test_a_root_that_is_deleted_and_made_again_is_not_blind(raw, live):
    watch = live(Watch(settle=0.2, rescan=3600.0))
    shutil.rmtree(raw)
    raw.mkdir()
    (raw / "a.fits").write_bytes(frame_bytes())
    assert (Standing.COMPLETE, "a.fits") in watch.until(lambda seen: (Standing.COMPLETE, "a.fits") in seen)
    (raw / "b.fits").write_bytes(frame_bytes())
    assert (Standing.COMPLETE, "b.fits") in watch.until(lambda seen: (Standing.COMPLETE, "b.fits") in seen)


def test_more_files_than_the_kernel_queues_are_all_found(raw, live):
    watch, data, n_file = live(Watch(settle=0.2, rescan=2.0)), frame_bytes(), 6000
    for k in range(n_file):
        (raw / f"f{k:05d}.fits").write_bytes(data)
    found = watch.until(lambda seen: len(set(seen)) == n_file, limit=60.0)
    assert {name for standing, name in found if standing is Standing.COMPLETE} == {
        f"f{k:05d}.fits" for k in range(n_file)
    }
