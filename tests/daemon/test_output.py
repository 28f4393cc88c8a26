import shutil

import pytest

from daemon.executor import SerialExecutor
from daemon.rulebook import Limits, Rulebook
from daemon.scheduler import Places, Scheduler


@pytest.fixture
def scheduler_of(catalog, tmp_path, recipe):
    watched = tmp_path / "raw"
    watched.mkdir()
    (watched / "frame.fits").touch()  # an empty directory would be taken for one that is not mounted

    def make(*, batch=False):
        places = Places((watched,), catalog.out)
        limits = Limits(workers=0)
        made = Scheduler(
            catalog, Rulebook(), SerialExecutor(), recipe, places=places, limits=limits, owner="test", batch=batch
        )
        made.recover()
        return made

    return make


def settle(scheduler, now):
    """Tick until nothing is left to do; return what was made and said."""
    made, said = [], []
    for _ in range(200):
        tick = scheduler.tick(now)
        made += [job.rule for job, _ in tick.finished]
        said += tick.answers
        if tick.idle and tick.next_wake is None:
            return made, said
        if not tick.started and not tick.finished and tick.next_wake is not None:
            now = max(now, tick.next_wake)
    raise AssertionError("no end")


@pytest.fixture
def night(catalog, scheduler_of, night_of):
    """Reduce a night; return when it ended."""
    frames = night_of()
    catalog.add_frames(frames)
    now = max(frame.landed for frame in frames)
    settle(scheduler_of(batch=True), now)
    return now


def current(catalog):
    return {(each.fingerprint, each.path, each.provisional) for each in catalog.latest(n=0)}


def test_what_somebody_removed_is_made_again_at_the_next_start(catalog, scheduler_of, night):
    before = current(catalog)
    links = {each for each in catalog.out.glob("*/*.fits") if each.is_symlink()}
    assert links
    for folder in catalog.out.glob("20*"):
        shutil.rmtree(folder)
    _, said = settle(scheduler_of(), night)
    assert any("bias_0_bias.fits is gone" in each for each in said)
    assert current(catalog) == before
    assert all(path.is_file() for _, path, _ in before)
    assert all(link.is_file() for link in links)


@pytest.mark.usefixtures("night")
def test_a_calibration_that_somebody_removed_is_made_again_before_it_is_used(catalog, scheduler_of, frame_of):
    before = current(catalog)
    scheduler = scheduler_of()
    (bias,) = catalog.latest("bias")
    shutil.rmtree(bias.path.parent)
    fresh = frame_of("object_9.fits", "MFOBJECT", 16)
    catalog.add_frames([fresh])
    made, said = settle(scheduler, fresh.landed)
    assert made == ["bias", "object"]
    assert said == [f"{bias.path.relative_to(catalog.out)} is gone; it is made again where it is wanted"]
    assert before < current(catalog)
    assert bias.path.is_file()


def test_products_of_old_are_left_to_whoever_removed_them(catalog, scheduler_of, night, monkeypatch):
    monkeypatch.setattr("daemon.output.LAST", 0)
    for folder in catalog.out.glob("20*"):
        shutil.rmtree(folder)
    assert settle(scheduler_of(), night) == ([], [])


def test_a_batch_looks_after_products_of_any_age(catalog, scheduler_of, night, monkeypatch):
    monkeypatch.setattr("daemon.output.LAST", 0)
    before = current(catalog)
    shutil.rmtree(next(catalog.out.glob("20*")))
    settle(scheduler_of(batch=True), night)
    assert all(path.is_file() for _, path, _ in before)


def test_an_output_that_is_not_mounted_has_lost_nothing(catalog, scheduler_of, night, monkeypatch):
    monkeypatch.setattr(type(catalog), "is_elsewhere", True)
    for folder in catalog.out.glob("20*"):
        folder.rename(catalog.out / f"away_{folder.name}")
    before = current(catalog)
    scheduler = scheduler_of()
    tick = scheduler.tick(night)
    assert "mount it" in tick.paused
    assert (tick.started, tick.answers) == ((), ())
    assert not tick.idle
    assert tick.next_wake is None  # it is looked for now and then, not without a pause
    assert current(catalog) == before
