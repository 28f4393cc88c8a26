import numpy as np
import pytest

from kspecdr.preproc.robust_light import full_columns, robust_light
from kspecdr.products import MaskBit
from kspecdr.tlm.light import scatter
from kspecdr.tlm.windows import Seen, Windows

READ_NOISE, N_ROW, N_COLUMN = 16.0, 60, 200
CENTER = np.array([18.3, 31.0, 42.6])[:, None] + np.linspace(0, 1.4, N_COLUMN)
WINDOWS = Windows.of(CENTER, np.full(CENTER.shape, 1.4))
LIGHT = np.array([0.0, 4000.0, 90_000.0])[:, None] * np.ones(N_COLUMN)
AT = 80  # column


def frame(rng):
    """Return a frame of fibers of even light, (n_row, n_column) electron."""
    return rng.poisson(scatter(WINDOWS.own * LIGHT[:, None], WINDOWS.first, N_ROW)) + rng.normal(
        0, READ_NOISE, (N_ROW, N_COLUMN)
    )


def light_of(flux, mask=None):
    mask = np.zeros(flux.shape, dtype=np.uint8) if mask is None else mask
    return robust_light(Seen.of(flux, READ_NOISE**2 + flux, mask, WINDOWS), WINDOWS)


@pytest.fixture
def rng():
    return np.random.default_rng(41)


def test_the_light_is_that_of_the_fibers(rng):
    light = light_of(frame(rng))
    assert np.median(light[0]) < 60
    np.testing.assert_allclose(np.median(light[1:], axis=1), LIGHT[1:, 0], rtol=0.01)


@pytest.mark.parametrize("fiber", [0, 1])
def test_a_track_over_most_of_the_core_brings_little_light(fiber, rng):
    flux = frame(rng)
    row = round(CENTER[fiber, AT])
    flux[row - 1 : row + 2, AT] += 6000.0  # three of five rows: their median is the track
    assert light_of(flux)[fiber, AT] < LIGHT[fiber, AT] + 3500


def test_one_pixel_that_is_too_dark_is_not_believed(rng):
    flux = frame(rng)
    flux[round(CENTER[2, AT]) + 1, AT] = 0.0
    assert light_of(flux)[2, AT] == pytest.approx(LIGHT[2, AT], rel=0.05)


def test_the_wings_tell_the_light_of_a_full_core(rng):
    flux = frame(rng)
    mask = np.zeros(flux.shape, dtype=np.uint8)
    row = round(CENTER[2, AT])
    core = np.s_[row - 1 : row + 2, AT - 1 : AT + 2]
    flux[core], mask[core] = 9000.0, MaskBit.SATURATED
    assert light_of(flux, mask)[2, AT] == pytest.approx(LIGHT[2, AT], rel=0.1)
    full = full_columns(Seen.of(flux, READ_NOISE**2 + flux, mask, WINDOWS))
    np.testing.assert_array_equal(np.argwhere(full), [[2, AT - 1], [2, AT], [2, AT + 1]])


def test_a_fiber_without_good_pixels_has_no_light(rng):
    flux = frame(rng)
    mask = np.zeros(flux.shape, dtype=np.uint8)
    mask[:, AT] = MaskBit.BAD_PIXEL
    light = light_of(flux, mask)
    assert np.isfinite(light).all()
    assert not light[:, AT].any()
