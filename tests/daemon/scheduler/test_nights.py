"""From frames to products, tick by tick."""

from concurrent.futures import Future
from contextlib import closing
from datetime import timedelta

from daemon.catalog import Catalog
from daemon.executor import SerialExecutor
from daemon.outage import WorkerDied
from daemon.records import FrameState, ProductState, Setup
from daemon.rulebook import Limits


def test_a_night_goes_from_frames_to_products(catalog, scheduler_of, night_of, done, settle):
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


def test_an_upgrade_moves_the_link_and_keeps_the_old_product(catalog, scheduler_of, night_of, frame_of, settle):
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


def test_requests_are_applied_at_the_next_tick(catalog, scheduler_of, night_of, frame_of, settle):
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


def test_an_idle_tick_changes_nothing(catalog, scheduler_of, night_of, settle):
    frames = night_of()
    catalog.add_frames(frames)
    scheduler = scheduler_of(batch=True)
    now, _ = settle(scheduler, frames[-1].landed)
    before = catalog.revision
    tick = scheduler.tick(now + timedelta(days=1))
    assert catalog.revision == before
    assert tick.idle
    assert (tick.started, tick.finished, tick.changed) == ((), (), ())


def test_who_is_held_collects_what_runs_and_begins_nothing(catalog, scheduler_of, night_of, settle):
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


def test_what_others_change_meanwhile_is_looked_at_next(catalog, scheduler_of, frame_of, monkeypatch, settle):
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
