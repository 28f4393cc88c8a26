import numpy as np
import pytest

from kspecdr.extract.optimal import extract_optimal
from kspecdr.extract.strange import strange_light
from kspecdr.tlm.windows import Seen, Windows

SIGMA, READ_NOISE, SHAPE = 1.4, 16.0, (180, 800)
CENTER = 40.2 + 12.06 * np.arange(9)[:, None] + np.linspace(0, 2.7, SHAPE[1])
WIDTH = np.full(CENTER.shape, SIGMA)
LIGHT = np.geomspace(200, 20_000, 9)[:, None] * (1 + 0.3 * np.sin(np.arange(SHAPE[1]) / 30))


@pytest.fixture
def share(rng):
    """Return what is found where `added` (n_row, n_column) electrons lie on a frame of fibers."""

    def measured(added=0.0, light=LIGHT):
        windows = Windows.of(CENTER, WIDTH)
        total = Windows.of(CENTER, WIDTH).light_image(light, SHAPE[0]) + added
        flux = rng.poisson(total) + rng.normal(0, READ_NOISE, SHAPE)
        seen = Seen.of(flux, READ_NOISE**2 + flux, np.zeros(SHAPE, np.uint8), windows)
        return strange_light(seen, windows, extract_optimal(seen, windows).flux)

    return measured


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def band(level, *, tilt=0.0):
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return level * np.exp(-0.5 * ((row - 60 - tilt * (column - 400)) / 4) ** 2)


def test_nothing_but_fibers_is_not_strange(share):
    assert share() < 0.02


def test_a_frame_without_light_tells_nothing(share):
    assert share(light=0 * LIGHT) == 0


@pytest.mark.parametrize("tilt", [0.0, 0.01])
def test_a_ghost_across_faint_fibers_is_strange(share, tilt):
    assert share(band(60.0, tilt=tilt)) > 0.1


def test_the_same_ghost_does_not_matter_to_bright_fibers(share):
    assert share(band(60.0), light=np.full(LIGHT.shape, 20_000.0)) < 0.05


def test_samples_without_a_value_are_left_out(rng):
    windows = Windows.of(CENTER, WIDTH)
    flux = Windows.of(CENTER, WIDTH).light_image(LIGHT, SHAPE[0]) + rng.normal(0, READ_NOISE, SHAPE)
    flux[:, 100:300] += 1000.0
    seen = Seen.of(flux, READ_NOISE**2 + flux, np.zeros(SHAPE, np.uint8), windows)
    light = extract_optimal(seen, windows).flux
    light[:, 100:300] = np.nan
    assert strange_light(seen, windows, light) < 0.02
