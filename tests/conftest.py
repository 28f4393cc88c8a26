"""Fixtures of all tests."""

import logging
from pathlib import Path

import numpy as np
import pytest

REAL = Path(__file__).resolve().parents[2] / "shared" / "real"


@pytest.fixture
def rng():
    return np.random.default_rng(20260122)


@pytest.fixture(scope="session")
def real():
    """Return the folder of real frames; skip where it is absent."""
    if not REAL.is_dir():
        pytest.skip(f"real frames are not at {REAL}")
    return REAL


@pytest.fixture(autouse=True)
def _loggers_as_they_were():
    """Give the loggers their levels and handlers back, which the command line sets for its process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    names = [name for name in root.manager.loggerDict if name.startswith("kspecdr")]
    levels = {name: logging.getLogger(name).level for name in ["kspecdr", "kspecdr.intake.states", *names]}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
