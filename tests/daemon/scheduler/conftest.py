"""Schedulers of a catalog without pixels."""

import pytest

from daemon.executor import SerialExecutor
from daemon.rulebook import Limits, Rulebook
from daemon.scheduler import Places, Scheduler


@pytest.fixture
def scheduler_of(catalog, tmp_path, recipe):
    """Make schedulers that do their jobs at once."""
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


@pytest.fixture
def settle():
    """Tick until nothing is left to do, letting time pass where only that helps; return when that is, and all ticks."""

    def ticked(scheduler, now, most=500):
        ticks = []
        for _ in range(most):
            tick = scheduler.tick(now)
            ticks.append(tick)
            if tick.idle and tick.next_wake is None:
                return now, ticks
            if not tick.started and not tick.finished and tick.next_wake is not None:
                now = max(now, tick.next_wake)
        raise AssertionError(f"no end after {most} ticks")

    return ticked
