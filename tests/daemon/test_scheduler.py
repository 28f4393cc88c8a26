import importlib
import itertools
import threading
import time
from concurrent.futures import Future
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.catalog import Catalog
from daemon.executor import SerialExecutor, make_executor
from daemon.outage import WorkerDied
from daemon.records import FrameState, ProductState, Setup
from daemon.rulebook import Limits, Rulebook
from daemon.scheduler import Places, Scheduler
from daemon.store.engines import CatalogUnavailable

ROOT = Path(__file__).resolve().parents[2]


def settle(scheduler, now, most=500):
    """Tick until nothing is left to do, letting time pass where only that helps."""
    ticks = []
    for _ in range(most):
        tick = scheduler.tick(now)
        ticks.append(tick)
        if tick.idle and tick.next_wake is None:
            return now, ticks
        if not tick.started and not tick.finished and tick.next_wake is not None:
            now = max(now, tick.next_wake)
    raise AssertionError(f"no end after {most} ticks")


@pytest.fixture
def scheduler_of(catalog, tmp_path, recipe):
    watched = tmp_path / "raw"
    watched.mkdir()
    (watched / "frame.fits").touch()  # an empty directory would be taken for one that is not mounted

    def make(run=recipe, executor=None, **changes):
        limits = changes.pop("limits", Limits(workers=0))
        return Scheduler(
            changes.pop("catalog", catalog),
            Rulebook(),
            executor or SerialExecutor(),
            run,
            places=Places((watched,), catalog.out),
            limits=limits,
            owner=changes.pop("owner", "test"),
            **changes,
        )

    return make


def test_a_night_goes_from_frames_to_products(catalog, scheduler_of, night_of, done):
    frames = night_of()
    catalog.add_frames(frames)
    settle(scheduler_of(), max(frame.landed for frame in frames))
    assert {frame.state for frame in catalog.frames()} == done
    reds = catalog.latest("red", "MFOBJECT")
    assert [product.raw for product in reds] == [("object_0.fits",), ("object_1.fits",)]
    for product in reds:
        assert product.path.is_file()
        assert not product.provisional
        link = catalog.out / product.night / product.path.name
        assert link.resolve() == product.path
    assert not list(catalog.out.glob("*/.*"))


def test_an_upgrade_moves_the_link_and_keeps_the_old_product(catalog, scheduler_of, night_of, frame_of):
    frames = night_of()
    catalog.add_frames(frames)
    scheduler = scheduler_of(batch=True)
    now, _ = settle(scheduler, frames[-1].landed)
    old = catalog.latest("red", "MFOBJECT")
    catalog.add_frames([frame_of("arc_1.fits", "MFARC", 13, lamp="Ne")])
    settle(scheduler, now)
    new = catalog.latest("red", "MFOBJECT")
    assert len(new) == len(old)
    assert not {p.fingerprint for p in new} & {p.fingerprint for p in old}
    for before, after in zip(old, new, strict=True):
        assert before.path.is_file()
        assert (catalog.out / after.night / after.path.name).resolve() == after.path


def test_a_failure_is_recorded_once_and_said(catalog, scheduler_of, night_of, recipe):
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


def test_what_the_machine_does_is_tried_again_a_bounded_number_of_times(catalog, scheduler_of, frame_of):
    ran = []

    def run(job):
        ran.append(job.rule)
        raise OSError(5, "Input/output error", "raw/x.fits")

    catalog.add_frames([frame_of("bias_0.fits", "BIAS", 0)])
    scheduler = scheduler_of(run, batch=True, limits=Limits(workers=0, attempts=3))
    settle(scheduler, frame_of("x", "BIAS", 0).landed)
    assert ran == ["bias"] * 3
    assert catalog.find_frames("bias_0.fits")[0].reason == ("bias_0.fits: Input/output error (raw/x.fits)")


def test_a_full_disk_is_waited_for_without_end_and_counts_as_no_attempt(catalog, scheduler_of, frame_of, recipe):
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


def test_at_the_end_no_frame_is_left_as_queued(catalog, scheduler_of, night_of):
    class Never(SerialExecutor):
        def submit(self, *_job):
            return Future()

    frames = night_of()
    catalog.add_frames(frames)
    scheduler = scheduler_of(executor=Never(), batch=True, limits=Limits(workers=1))
    assert scheduler.tick(frames[-1].landed).started
    assert scheduler.stop(frames[-1].landed, 0.0) == ()
    assert {frame.state for frame in catalog.frames()} == {FrameState.WAITING}


def test_requests_are_applied_at_the_next_tick(catalog, scheduler_of, night_of, frame_of):
    frames = night_of()
    catalog.add_frames(
        [
            *frames,
            frame_of(
                "what.fits",
                "UNCLASSIFIED",
                18,
                exposure_s=50.0,
                state=FrameState.UNCLASSIFIED,
                reason="no rule",
            ),
        ]
    )
    scheduler = scheduler_of(batch=True)
    now, _ = settle(scheduler, frames[-1].landed)
    assert catalog.find_frames("what.fits")[0].state is FrameState.UNCLASSIFIED
    catalog.request("classify", "what.fits", {"frame_class": "MFOBJECT", "target": "M31"}, now)
    now, ticks = settle(scheduler, now)
    assert ticks[0].answers == ("what.fits: classified as MFOBJECT",)
    assert catalog.find_frames("what.fits")[0].state is FrameState.REDUCED
    assert catalog.latest("red", "MFOBJECT")[-1].target == "M31"
    bad = catalog.latest("red", "MFOBJECT")[-1]
    catalog.request("mark-bad", str(bad.path.relative_to(catalog.out)), {}, now)
    settle(scheduler, now)
    assert bad.fingerprint not in {each.fingerprint for each in catalog.latest("red", "MFOBJECT")}
    assert catalog.job(bad.fingerprint)["product_state"] == ProductState.BAD


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


def test_without_room_on_the_disk_no_job_begins(catalog, scheduler_of, night_of, monkeypatch):
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


def test_an_idle_tick_changes_nothing(catalog, scheduler_of, night_of):
    frames = night_of()
    catalog.add_frames(frames)
    scheduler = scheduler_of(batch=True)
    now, _ = settle(scheduler, frames[-1].landed)
    before = catalog.revision
    tick = scheduler.tick(now + timedelta(days=1))
    assert catalog.revision == before
    assert tick.idle
    assert (tick.started, tick.finished, tick.changed) == ((), (), ())


def refuse(job):
    raise AssertionError(f"{job.rule} is made again")


def of_products(catalog):
    """Return what the catalog says of products, and what the file system does."""
    return {
        (each.path, each.state, each.provisional, each.flag, each.quality, each.path.stat().st_mtime_ns)
        for kind in ("bias", "dark", "tlm", "red", "fflat", "im", "converted")
        for each in catalog.latest(kind)
    }


def test_after_the_loss_of_its_catalog_nothing_is_made_again(catalog, scheduler_of, night_of, tmp_path):
    frames = night_of()
    catalog.add_frames(frames)
    settle(scheduler_of(batch=True), frames[-1].landed)
    with closing(Catalog.open(f"sqlite:///{tmp_path / 'other.db'}", catalog.out)) as other:
        other.add_frames(frames)
        _, ticks = settle(scheduler_of(refuse, batch=True, catalog=other), frames[-1].landed)
        finished = [outcome for tick in ticks for _, outcome in tick.finished]
        assert [outcome.adopted for outcome in finished] == [True] * 7
        assert of_products(other) == of_products(catalog)
        assert set(other.frames()) == set(catalog.frames())


def test_what_was_finished_and_not_recorded_is_adopted(catalog, scheduler_of, night_of):
    """The daemon ends between the renaming of each directory and its commit."""
    frames = night_of()
    catalog.add_frames(frames)
    now, made = frames[-1].landed, 0
    for number in range(20):
        first = scheduler_of(batch=True, owner=f"dead {number}")
        first.recover()
        made += sum(outcome.adopted for _, outcome in first.tick(now).finished)  # of the one before
        tick = first.tick(now)  # records what ran, and leaves the next one unrecorded
        made += sum(outcome.adopted for _, outcome in tick.finished)
        if tick.idle:
            break
    settle(scheduler_of(refuse, batch=True, owner="the last"), now)
    assert made
    assert {frame.state for frame in catalog.frames()} == {FrameState.USED, FrameState.REDUCED}


def test_what_a_worker_had_finished_when_it_died_is_adopted(catalog, scheduler_of, frame_of, recipe):
    class DiesBeforeItAnswers(SerialExecutor):
        def submit(self, function, run, job):
            future = Future()
            future.set_exception(WorkerDied(-9)) if function(run, job) else None
            return future

    catalog.add_frames([frame_of("bias_0.fits", "BIAS", 0)])
    dying = scheduler_of(recipe, DiesBeforeItAnswers(), batch=True)
    now = frame_of("x", "BIAS", 0).landed
    (job,) = dying.tick(now).started
    ((_, outcome),) = dying.tick(now).finished
    assert outcome.error.endswith("the worker died (exit code -9)")
    now, ticks = settle(scheduler_of(refuse, batch=True), now)
    finished = [(done.fingerprint, outcome.adopted) for tick in ticks for done, outcome in tick.finished]
    assert finished == [(job.fingerprint, True)]
    assert catalog.find_frames("bias_0.fits")[0].state is FrameState.USED


def test_a_job_that_was_given_back_and_that_nobody_wants_any_more_is_forgotten(catalog, scheduler_of, frame_of):
    bias = frame_of("bias_0.fits", "BIAS", 0)
    catalog.add_frames([bias])
    dead = scheduler_of(batch=True, owner="dead")
    (job,) = dead.tick(bias.landed).started  # done, and never recorded
    directory = catalog.directory(job.fingerprint, job.night)
    assert directory.is_dir()
    catalog.add_frames([frame_of("bias_1.fits", "BIAS", 0.1)])
    scheduler = scheduler_of(batch=True)
    scheduler.recover()
    assert catalog.summary().jobs == {"open": 1}
    settle(scheduler, bias.landed + timedelta(hours=1))
    assert catalog.summary().jobs == {"done": 1}
    assert not directory.exists()
    assert catalog.job(job.fingerprint) is None


def test_who_is_held_collects_what_runs_and_begins_nothing(catalog, scheduler_of, night_of):
    frames = night_of()
    catalog.add_frames(frames)
    scheduler, now = scheduler_of(batch=True), frames[-1].landed
    (first,) = scheduler.tick(now).started
    held = [scheduler.tick(now, "others want something else") for _ in range(3)]
    assert [[job for job, _ in tick.finished] for tick in held] == [[first], [], []]
    assert not any(tick.started or tick.changed or tick.idle for tick in held)
    assert {tick.paused for tick in held} == {"others want something else"}
    settle(scheduler, now)
    assert catalog.summary().jobs == {"done": 7}


def test_who_is_held_is_not_due_for_what_it_may_not_plan(catalog, scheduler_of, frame_of):
    catalog.add_frames([frame_of("bias_0.fits", "BIAS", 0)])
    scheduler = scheduler_of()
    quiet_until = scheduler.tick(frame_of("x", "BIAS", 0).landed).next_wake
    tick = scheduler.tick(quiet_until + timedelta(seconds=1), "others want something else")
    assert (tick.next_wake, tick.idle) == (None, False)


def test_what_others_change_while_a_plan_is_made_is_looked_at_next(catalog, scheduler_of, frame_of, monkeypatch):
    """Another process writes between what a plan has read and what it writes."""
    first, *more = (frame_of(f"bias_{n}.fits", "BIAS", 0.1 * n) for n in range(3))
    catalog.add_frames([first])
    scheduler, whole = scheduler_of(batch=True), catalog.apply
    with closing(Catalog.open(str(catalog.out))) as other:

        def overtaken(standings, marks):
            if more and all(each.state is FrameState.USED for each in standings):  # the last that this plan would do
                other.add_frames([more.pop()])
            return whole(standings, marks)

        monkeypatch.setattr(catalog, "apply", overtaken)
        settle(scheduler, first.landed)
    assert {frame.path: frame.state for frame in catalog.frames()} == {
        f"bias_{n}.fits": FrameState.USED for n in range(3)
    }


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


def test_while_all_workers_are_busy_no_tick_is_due_for_a_job_that_might_begin(catalog, scheduler_of, frame_of, recipe):
    class Busy(SerialExecutor):
        """Takes jobs and does none but the first, which fails."""

        n_job = 0

        def submit(self, *_):
            self.n_job += 1
            future = Future()
            if self.n_job == 1:
                future.set_exception(WorkerDied(-9))
            return future

    catalog.add_frames([frame_of(f"d_{n}.fits", "BIAS", 0, setup=Setup(readout=f"mode {n}")) for n in range(3)])
    scheduler, now = scheduler_of(recipe, Busy(), batch=True), frame_of("x", "BIAS", 0).landed
    scheduler.tick(now)
    scheduler.tick(now)
    tick = scheduler.tick(now + timedelta(seconds=10))
    assert not tick.started
    assert tick.next_wake is None
