"""Frames without pixels, and a catalog in memory that runs plans to their end."""

import ctypes
import hashlib
import os
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.catalog import Catalog
from daemon.cli import main
from daemon.records import (
    FrameInfo,
    FrameState,
    Job,
    Made,
    Neighbourhood,
    Outcome,
    Plan,
    ProductState,
    Quality,
    Setup,
    Written,
)
from daemon.rulebook import Rulebook
from daemon.rules import plan
from daemon.store.rows import MAIN_KIND

EVENING = datetime(2026, 1, 27, 10, 0, tzinfo=UTC)
SETUP = Setup(readout="2 MHz LowNoise Low", shape="1300x1340", binning="1x1", grating=150, center_nm=620)


def make_frame(name, frame_class, minute, **changes):
    """A frame taken some minutes after the beginning of the evening, landed when it was read."""
    digest = hashlib.sha256(changes.pop("content", name).encode()).hexdigest()
    obs_time = EVENING + timedelta(minutes=minute)
    exposure_s = changes.pop("exposure_s", 1.0)
    return FrameInfo(
        path=name,
        content_hash=digest,
        size=1,
        mtime_ns=1,
        landed=changes.pop("landed", obs_time + timedelta(seconds=exposure_s + 1)),
        frame_class=frame_class,
        exposure_s=exposure_s,
        readout_s=1.0,
        obs_time=obs_time,
        night=changes.pop("night", "2026-01-27"),
        setup=changes.pop("setup", SETUP),
        **changes,
    )


def make_night(shift=0.0):
    """One small, complete night: three biases, two darks, a flat, an arc and two objects."""
    return [
        *(make_frame(f"bias_{n}.fits", "BIAS", shift + n * 0.1, exposure_s=0.0) for n in range(3)),
        *(make_frame(f"dark_{n}.fits", "DARK", shift + 5 + n, exposure_s=50.0) for n in range(2)),
        make_frame("flat_0.fits", "MFFFF", shift + 10),
        make_frame("arc_0.fits", "MFARC", shift + 12, lamp="HgAr"),
        make_frame("object_0.fits", "MFOBJECT", shift + 14, exposure_s=50.0),
        make_frame("object_1.fits", "MFOBJECT", shift + 16, exposure_s=50.0),
    ]


def more_objects():
    """Objects beyond those of the small night."""
    return [make_frame(f"object_{n}.fits", "MFOBJECT", 18 + n, exposure_s=50.0) for n in range(2, 12)]


@dataclass
class World:
    """What the catalog, the workers and the clock do, in memory."""

    book: Rulebook = field(default_factory=Rulebook)
    batch: bool = False
    fails: object = None  # Job -> sentence or None
    frames: dict = field(default_factory=dict)
    made: dict = field(default_factory=dict)
    failed: dict = field(default_factory=dict)
    ran: list = field(default_factory=list)
    now: datetime = EVENING

    def land(self, *frames):
        for frame in frames:
            self.frames[frame.path, frame.part] = frame
            self.now = max(self.now, frame.landed)

    def plan(self) -> Plan:
        found = plan(self.neighbourhood(), self.book, self.now, batch=self.batch)
        for print_, mark in found.marks.items():
            self.made[print_] = replace(self.made[print_], state=mark.state, provisional=mark.provisional)
        return found

    def neighbourhood(self):
        return Neighbourhood(tuple(self.frames.values()), self.made, self.failed)

    def finish(self, job: Job):
        self.ran.append(job)
        error = self.fails(job) if self.fails else None
        if error:
            self.failed[job.fingerprint] = error
            return
        keys = frozenset(frame.key for frame in job.frames)
        for print_, other in self.made.items():
            if other.rule == job.rule and other.keys & keys and other.state is ProductState.CURRENT:
                self.made[print_] = replace(other, state=ProductState.SUPERSEDED)
        self.made[job.fingerprint] = Made(
            job.fingerprint,
            job.rule,
            keys,
            {name: each.fingerprint for name, each in job.calibrations.items()},
            provisional=job.provisional,
            exposure_s=max(frame.exposure_s for frame in job.frames),
            recipe=job.recipe,
        )

    def settle(self, most=2000):
        """Run everything, letting time pass where only that helps; return the last plan."""
        for _ in range(most):
            found = self.plan()
            if found.jobs:
                self.finish(found.jobs[0])
            elif found.next_wake is not None:
                self.now = max(self.now, found.next_wake)
            elif not found.marks:  # what a plan has said of a product may change what the next one says
                return found
        raise AssertionError(f"no end after {most} steps")

    def products(self, rule):
        """The current products of a rule."""
        return [made for made in self.made.values() if made.rule == rule and made.state is ProductState.CURRENT]

    def current(self):
        """What may not depend on the order of arrival."""
        return {
            (made.rule, made.keys, made.fingerprint, made.provisional)
            for made in self.made.values()
            if made.state is ProductState.CURRENT
        }

    def states(self):
        return {each.frame.path: (each.state, each.reason) for each in self.plan().standings}


@pytest.fixture
def world():
    """A world; `world(batch=True)` and the like make others."""
    return World


@pytest.fixture
def frame_of():
    """Make a frame without pixels: name, class, minute of the evening, any field."""
    return make_frame


@pytest.fixture
def night_of():
    """Make the frames of a small night, shifted by some minutes."""
    return make_night


@pytest.fixture
def done():
    """The states in which a frame needs nothing more."""
    return {FrameState.REDUCED, FrameState.USED}


def write_names(job: Job) -> Outcome:
    """A recipe without pixels: every kind as a file that says what it was made from."""
    directory = Path(job.directory)
    written = []
    for frame in job.frames:
        stem = frame.path.rsplit("/", 1)[-1].removesuffix(".fits")
        for kind in ("converted", "im"):
            (directory / f"{stem}_{kind}.fits").write_text(frame.content_hash)
            written.append(Written(kind, f"{stem}_{kind}.fits", frame.key))
    kind = MAIN_KIND[job.rule]
    used = sorted(str(job.calibration_path(name, MAIN_KIND[name])) for name in job.calibrations)
    assert all(Path(path).is_file() for path in used)
    name = f"{job.frames[0].path.rsplit('/', 1)[-1].removesuffix('.fits')}_{kind}.fits"
    (directory / name).write_text("\n".join(used))
    quality = Quality("frames", float(len(job.frames)), 1.0)
    return Outcome(job.fingerprint, (*written, Written(kind, name)), (quality,))


def slow_write_names(job: Job) -> Outcome:
    """The same, slowly enough to be interrupted in the middle."""
    outcome = write_names(job)
    time.sleep(0.05)
    return outcome


def die_on_arcs(job: Job) -> Outcome:
    """A recipe whose worker is killed by every arc."""
    if job.rule == "arc":
        os.kill(os.getpid(), signal.SIGKILL)
    return write_names(job)


def never_end_on_objects(job: Job) -> Outcome:
    """A recipe that hangs with every object, half of its products written."""
    outcome = write_names(job)
    if job.rule == "object":
        time.sleep(600)
    return outcome


@pytest.fixture
def recipe():
    """A recipe without pixels, picklable."""
    return write_names


@pytest.fixture
def catalog(tmp_path):
    """An empty catalog in tmp_path/out."""
    opened = Catalog.open(str(tmp_path / "out"))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def exit_code():
    """Run a command; return its exit code."""

    def run(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["kspecdr", *map(str, arguments)])
            with pytest.raises(SystemExit) as ended:
                main()
        return ended.value.code or 0

    return run


@pytest.fixture
def kspecdr(exit_code, capsys):
    """Run a command; return exit code, standard output and standard error."""

    def run(*arguments):
        code = exit_code(*arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@contextmanager
def as_an_ordinary_user():
    """Without root's right to read every file (capabilities 1 and 2 of capability.h), in this thread alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    held = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, held) == 0
    lesser = (ctypes.c_uint32 * 6)(*held)
    lesser[0] &= ~0b110
    assert libc.capset(header, lesser) == 0
    try:
        yield
    finally:
        assert libc.capset(header, held) == 0


@pytest.fixture
def ordinary_user():
    """A context without root's right to read and write every file."""
    return as_an_ordinary_user
