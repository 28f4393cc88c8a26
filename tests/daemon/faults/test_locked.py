"""A catalog that another process holds for as long as six times a writer queues for it: 30 s with the usual wait."""

import sqlite3
from contextlib import closing
from time import monotonic

import pytest

from daemon.config import load
from daemon.records import FrameState
from daemon.service import opened
from kspecdr.errors import KspecError

QUEUED_MS = 150


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("daemon.store.engines.BUSY_TIMEOUT_MS", QUEUED_MS)


@pytest.fixture
def holder(site):
    """Another process with the catalog in its hands."""
    site.out.mkdir(parents=True)
    with closing(sqlite3.connect(site.out / "catalog.db", isolation_level=None)) as connection:
        yield connection


@pytest.fixture
def config(site):
    return load(
        None,
        {
            "paths": {"watch": [str(site.raw)], "out": str(site.out)},
            "instrument": {"fibers": 6},
            "plan": {"quiet": 0.2, "like_wait": 0.2},
            "watch": {"settle": 0.1, "rescan": 0.5},
            "workers": {"count": 0},
        },
    )


def turn(service, condition, limit=90.0):
    end = monotonic() + limit
    while not condition(service.step()):
        assert monotonic() < end
        service.wait(0.05)


@pytest.mark.usefixtures("impatient")
def test_a_catalog_that_stays_locked_stops_the_work_and_loses_nothing(night, calm, site, config, holder):
    """Whatever the daemon is about to write when the lock comes is written when it goes."""
    site.land(night[:3])
    with opened(config, batch=False, command="test") as service:
        for number in range(4):
            turn(service, lambda step: step.tick.started)
            holder.execute("BEGIN IMMEDIATE")
            site.land(night[: 5 + number])
            refused = [service.step() for _ in range(6)]
            assert all("database is locked" in step.tick.paused for step in refused)
            assert not any(step.landed or step.tick.started or step.tick.finished for step in refused)
            holder.execute("ROLLBACK")
        site.land(night)
        turn(service, lambda step: not step.tick.paused)
        turn(service, lambda step: step.tick.idle and not step.tick.settling and service.idle_s > 1.0)
        assert {frame.state for frame in service.catalog.frames()} == {FrameState.USED, FrameState.REDUCED}
    assert site.content() == calm


@pytest.mark.usefixtures("impatient")
def test_a_catalog_that_is_locked_at_the_start_is_said_so(night, site, config, holder):
    site.land(night[:3])
    with opened(config, batch=False, command="test"):
        pass
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises((KspecError, OSError), match="database is locked"), opened(config, batch=False, command="test"):
        pass
    holder.execute("ROLLBACK")
    with opened(config, batch=False, command="test") as service:
        turn(service, lambda _: any(frame.state is FrameState.USED for frame in service.catalog.frames()))
