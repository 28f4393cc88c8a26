"""A daemon on a directory in which frames land, and what its tests look at."""

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from time import monotonic

import numpy as np
import pytest

from daemon.config import load
from daemon.records import FrameState
from daemon.service import opened
from kspecdr.simulate import PRESETS
from kspecdr.simulate.lightfield import lightfield_cards, write_frame

START = datetime(2026, 1, 27, 14, 0, tzinfo=UTC)
SHAPE = (1, 20, 30)


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


@pytest.fixture
def written():
    """Write a bias, one of its own by its number."""

    def write(path, number, writer=write_frame):
        path.parent.mkdir(parents=True, exist_ok=True)
        cards = lightfield_cards(PRESETS["small"].instrument, 0.0, START + timedelta(seconds=10 * number))
        writer(path, cards, np.random.default_rng(number).poisson(600, SHAPE).astype(np.uint16))
        return path

    return write


@pytest.fixture
def daemon(tmp_path, raw):
    """Start a daemon on `raw`, without workers; all that are started end with the test."""
    with ExitStack() as stack:

        def start(*roots, **changes):
            watched = [str(root) for root in roots or (raw,)]
            settings = {
                "paths": {"watch": watched, "out": str(tmp_path / "out")},
                "instrument": {"fibers": 6},
                "plan": {"quiet": 0.3},
                "watch": {"settle": 0.2},
                "workers": {"count": 0},
            }
            return stack.enter_context(opened(load(None, {**settings, **changes}), batch=False, command="test"))

        start.stop = stack.close
        yield start


@pytest.fixture
def until():
    """Let the daemon turn until something is true; return where the frames stand, by path."""
    return turn_until


def turn_until(service, condition, limit=20.0):
    end = monotonic() + limit
    while monotonic() < end:
        service.step()
        found = {frame.path: frame for frame in service.catalog.frames()}
        if condition({path: frame.state for path, frame in found.items()}):
            return found
        service.wait(0.05)
    raise AssertionError({path: (str(frame.state), frame.reason) for path, frame in found.items()})


@pytest.fixture
def all_used():
    """Whether so many frames are all there are, and all used; of states by path."""
    return lambda number: lambda states: len(states) == number and set(states.values()) == {FrameState.USED}


@pytest.fixture
def masters():
    """The raw frames of each master bias that is current."""
    return lambda service: [product.raw for product in service.catalog.latest("bias", None, 0)]
