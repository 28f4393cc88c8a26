"""Fixtures of all tests."""

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
