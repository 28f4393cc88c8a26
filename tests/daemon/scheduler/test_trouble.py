"""What the scheduler does when jobs, workers, the disk or the catalog fail."""

import importlib
import itertools
import threading
import time
from pathlib import Path

import pytest

from daemon.executor import make_executor
from daemon.records import FrameState
from daemon.rulebook import Limits
from daemon.store.engines import CatalogUnavailable

ROOT = Path(__file__).resolve().parents[3]


def test_a_failure_is_recorded_once_and_said(catalog, scheduler_of, night_of, recipe, settle):
    ran = []

    def run(job):
        ran.append(job.rule)
        if job.rule == "arc":
            raise ValueError("no lines")
        return recipe(job)

    frames = night_of()
    catalog.add_frames(frames)
    scheduler = scheduler_of(run, batch=True)
    now, _ = settle(scheduler, frames[-1].landed)
    settle(scheduler, now)
    assert ran.count("arc") == 1
    arc = catalog.find_frames("arc_0.fits")[0]
    assert arc.state is FrameState.FAILED
    assert arc.reason == "arc_0.fits: unexpected ValueError: no lines"
    assert catalog.find_frames("object_0.fits")[0].reason == (
        "provisional: arc arc_0.fits failed, wavelengths predicted, no arc"
    )
    catalog.request("retry", "arc_0.fits", {}, now)
    settle(scheduler, now)
    assert ran.count("arc") == 2


def test_what_the_machine_does_is_tried_again_a_bounded_number_of_times(catalog, scheduler_of, frame_of, settle):
    ran = []

    def run(job):
        ran.append(job.rule)
        raise OSError(5, "Input/output error", "raw/x.fits")

    catalog.add_frames([frame_of("bias_0.fits", "BIAS", 0)])
    scheduler = scheduler_of(run, batch=True, limits=Limits(workers=0, attempts=3))
    settle(scheduler, frame_of("x", "BIAS", 0).landed)
    assert ran == ["bias"] * 3
    assert catalog.find_frames("bias_0.fits")[0].reason == ("bias_0.fits: Input/output error (raw/x.fits)")


def test_a_full_disk_is_waited_for_and_counts_as_no_attempt(catalog, scheduler_of, frame_of, recipe, settle):
    full = [True]

    def run(job):
        if full[0]:
            raise OSError(28, "No space left on device", None)
        return recipe(job)

    catalog.add_frames([frame_of("bias_0.fits", "BIAS", 0)])
    scheduler = scheduler_of(run, batch=True, limits=Limits(workers=0, attempts=1))
    now = frame_of("x", "BIAS", 0).landed
    for _ in range(4):
        assert scheduler.tick(now).started
        tick = scheduler.tick(now)
        assert "No space left on device" in tick.paused
        assert not tick.started
        assert tick.next_wake > now
        now = tick.next_wake
    full[0] = False
    settle(scheduler, now)
    assert catalog.find_frames("bias_0.fits")[0].state is FrameState.USED


def test_what_could_not_be_recorded_is_recorded_at_the_next_tick(catalog, scheduler_of, night_of, monkeypatch):
    """The catalog refuses every second write, as one that another process holds."""
    frames = night_of()
    catalog.add_frames(frames)
    scheduler = scheduler_of(batch=True)
    whole, calls = catalog._write, itertools.count()

    def every_other():
        if next(calls) % 2:
            raise CatalogUnavailable("locked")
        return whole()

    monkeypatch.setattr(catalog, "_write", every_other)
    now = frames[-1].landed
    for _ in range(400):
        try:
            tick = scheduler.tick(now)
        except CatalogUnavailable:
            continue
        if tick.idle and tick.next_wake is None:
            break
    assert {frame.state for frame in catalog.frames()} == {FrameState.USED, FrameState.REDUCED}
    assert catalog.summary().jobs == {"done": 7}


def run_with_workers(scheduler, awake, now, until, most=60.0):
    """Tick whenever a worker has done something, until a condition on the tick holds."""
    end = time.monotonic() + most
    while time.monotonic() < end:
        tick = scheduler.tick(now)
        if until(tick):
            return now
        if tick.next_wake is not None and not scheduler.busy:
            now = max(now, tick.next_wake)
        awake.wait(0.2)
        awake.clear()
    raise AssertionError("the workers do not come to an end")


@pytest.fixture
def with_workers(monkeypatch, scheduler_of):
    """Make a scheduler with worker processes that can import the recipes of the tests."""
    monkeypatch.syspath_prepend(str(ROOT))
    made, awake = [], threading.Event()

    def make(name, **changes):
        limits = Limits(workers=2, **changes)
        conftest = importlib.import_module("tests.daemon.conftest")
        executor = make_executor(limits, conftest.__name__)
        made.append(executor)
        run = getattr(conftest, name)
        return scheduler_of(run, executor, limits=limits, batch=True, wake=awake.set), awake

    yield make
    for executor in made:
        executor.shutdown(cancel_futures=True)


def test_a_job_that_kills_its_workers_fails_alone_after_its_attempts(catalog, with_workers, night_of):
    frames = night_of()
    catalog.add_frames(frames)
    scheduler, awake = with_workers("die_on_arcs", attempts=2)
    run_with_workers(scheduler, awake, frames[-1].landed, lambda t: t.idle and t.next_wake is None)
    arc = catalog.find_frames("arc_0.fits")[0]
    assert arc.state is FrameState.FAILED
    assert arc.reason.startswith("arc_0.fits: the worker died")
    assert [event.kind for event in catalog.events() if event.subject == "arc of arc_0.fits"] == [
        "retry",
        "failed",
    ]
    assert {frame.state for frame in catalog.frames(frame_class="BIAS")} == {FrameState.USED}
    assert not list(catalog.out.glob("*/.*"))


def test_at_the_end_what_runs_too_long_is_given_back_without_remains(catalog, with_workers, night_of):
    frames = night_of()
    catalog.add_frames(frames)
    scheduler, awake = with_workers("never_end_on_objects")

    def two_objects_run(_):
        return sum(frame.state is FrameState.RUNNING for frame in catalog.frames()) == 2

    now = run_with_workers(scheduler, awake, frames[-1].landed, two_objects_run)
    scheduler.stop(now, 0.1)
    assert catalog.summary().jobs == {"done": 5, "open": 2}
    assert catalog.latest("red", "MFOBJECT") == []
    assert not list(catalog.out.glob("*/.*"))


def test_without_room_on_the_disk_no_job_begins(catalog, scheduler_of, night_of, monkeypatch, settle):
    frames = night_of()
    catalog.add_frames(frames)
    scheduler = scheduler_of(batch=True)
    monkeypatch.setattr("daemon.scheduler.LEAST_FREE_BYTES", 10**30)
    tick = scheduler.tick(frames[-1].landed)
    assert "make room" in tick.paused
    assert not tick.started
    assert not tick.idle
    monkeypatch.undo()
    settle(scheduler, frames[-1].landed)
    assert len(catalog.latest("red", "MFOBJECT")) == 2


def test_what_was_recorded_before_a_tick_was_broken_off_is_told_by_the_next(
    catalog, scheduler_of, frame_of, monkeypatch
):
    catalog.add_frames([frame_of("bias_0.fits", "BIAS", 0)])
    scheduler, now = scheduler_of(batch=True), frame_of("x", "BIAS", 0).landed
    (job,) = scheduler.tick(now).started
    catalog.request("retry", "bias_0.fits", {}, now)

    def refuse_to_write(*_):
        raise CatalogUnavailable("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(catalog, "apply", refuse_to_write)
        with pytest.raises(CatalogUnavailable):
            scheduler.tick(now)
    tick = scheduler.tick(now)
    assert ([done for done, _ in tick.finished], len(tick.answers)) == ([job], 1)
    tick = scheduler.tick(now)
    assert (tick.finished, tick.answers) == ((), ())
