"""What a job has left is adopted, or removed where nobody wants it."""

from concurrent.futures import Future
from contextlib import closing
from datetime import timedelta

from daemon.catalog import Catalog
from daemon.executor import SerialExecutor
from daemon.outage import WorkerDied
from daemon.records import FrameState


def refuse(job):
    raise AssertionError(f"{job.rule} is made again")


def of_products(catalog):
    """Return what the catalog says of products, and what the file system does."""
    return {
        (each.path, each.state, each.provisional, each.flag, each.quality, each.path.stat().st_mtime_ns)
        for kind in ("bias", "dark", "tlm", "red", "fflat", "im", "converted")
        for each in catalog.latest(kind)
    }


def test_after_the_loss_of_its_catalog_nothing_is_made_again(catalog, scheduler_of, night_of, tmp_path, settle):
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


def test_what_was_finished_and_not_recorded_is_adopted(catalog, scheduler_of, night_of, settle):
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


def test_what_a_worker_had_finished_when_it_died_is_adopted(catalog, scheduler_of, frame_of, recipe, settle):
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


def test_a_job_that_was_given_back_and_that_nobody_wants_any_more_is_forgotten(catalog, scheduler_of, frame_of, settle):
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
