import shutil
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.records import FrameState


@pytest.fixture
def started(scheduler_of):
    """Make schedulers that have looked at what there is."""

    def make(**settings):
        made = scheduler_of(**settings)
        made.recover()
        return made

    return make


def told(ticks):
    """Return the rules of what was made, and what was said."""
    return [job.rule for tick in ticks for job, _ in tick.finished], [each for tick in ticks for each in tick.answers]


@pytest.fixture
def night(catalog, started, night_of, settle):
    """Reduce a night; return when it ended."""
    frames = night_of()
    catalog.add_frames(frames)
    now = max(frame.landed for frame in frames)
    settle(started(batch=True), now)
    return now


def current(catalog):
    return {(each.fingerprint, each.path, each.provisional) for each in catalog.latest(n=0)}


def test_what_somebody_removed_is_made_again_at_the_next_start(catalog, started, night, settle):
    before = current(catalog)
    links = {each for each in catalog.out.glob("*/*.fits") if each.is_symlink()}
    assert links
    for folder in catalog.out.glob("20*"):
        shutil.rmtree(folder)
    _, said = told(settle(started(), night)[1])
    assert any("bias_0_bias.fits is gone" in each for each in said)
    assert current(catalog) == before
    assert all(path.is_file() for _, path, _ in before)
    assert all(link.is_file() for link in links)


@pytest.mark.usefixtures("night")
def test_a_calibration_that_somebody_removed_is_made_again_before_it_is_used(catalog, started, frame_of, settle):
    before = current(catalog)
    scheduler = started()
    (bias,) = catalog.latest("bias")
    shutil.rmtree(bias.path.parent)
    fresh = frame_of("object_9.fits", "MFOBJECT", 16)
    catalog.add_frames([fresh])
    made, said = told(settle(scheduler, fresh.landed)[1])
    assert made == ["bias", "object"]
    assert said == [f"{bias.path.relative_to(catalog.out)} is gone; it is made again where it is wanted"]
    assert before < current(catalog)
    assert bias.path.is_file()


def test_products_of_old_are_left_to_whoever_removed_them(catalog, started, night, monkeypatch, settle):
    monkeypatch.setattr("daemon.output.LAST", 0)
    for folder in catalog.out.glob("20*"):
        shutil.rmtree(folder)
    assert told(settle(started(), night)[1]) == ([], [])


def test_a_batch_looks_after_products_of_any_age(catalog, started, night, monkeypatch, settle):
    monkeypatch.setattr("daemon.output.LAST", 0)
    before = current(catalog)
    shutil.rmtree(next(catalog.out.glob("20*")))
    settle(started(batch=True), night)
    assert all(path.is_file() for _, path, _ in before)


def test_an_output_that_is_not_mounted_has_lost_nothing(catalog, started, night, monkeypatch):
    monkeypatch.setattr(type(catalog), "is_elsewhere", True)
    for folder in catalog.out.glob("20*"):
        folder.rename(catalog.out / f"away_{folder.name}")
    before = current(catalog)
    scheduler = started()
    tick = scheduler.tick(night)
    assert "mount it" in tick.paused
    assert (tick.started, tick.answers) == ((), ())
    assert not tick.idle
    assert tick.next_wake is None  # it is looked for now and then, not without a pause
    assert current(catalog) == before


def leading(catalog):
    """Return the names of links to spectra, and whether each leads to a file that is current."""
    paths = {each.path for each in catalog.latest("red", n=0)}
    return {link.name: link.resolve() in paths for link in catalog.out.glob("*/o*_red.fits") if link.is_symlink()}


@pytest.mark.usefixtures("night")
def test_no_link_leads_to_what_is_no_longer_current(catalog, started, settle):
    """A file of the same content and a shorter name comes to count: its products have other names."""
    scheduler = started()
    (before,) = (each for each in catalog.frames() if each.path == "object_0.fits")
    fresh = replace(before, path="o_0.fits", state=FrameState.WAITING, target="other")
    catalog.add_frames([fresh])
    now, _ = settle(scheduler, before.landed + timedelta(hours=1))
    assert leading(catalog) == {"o_0_red.fits": True, "object_1_red.fits": True}
    catalog.request("prune", "", {"before": (now + timedelta(days=1)).isoformat()}, now)
    settle(scheduler, now)
    assert not [link for link in catalog.out.glob("*/*") if link.is_symlink() and not link.exists()]
