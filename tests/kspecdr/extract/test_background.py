import numpy as np
import pytest
from scipy.special import ndtr

from kspecdr.extract.background import scattered_light, smooth_surface
from kspecdr.extract.optimal import extract_optimal
from kspecdr.tlm.windows import Windows

SIGMA, READ_NOISE, SHAPE = 1.4, 16.0, (220, 500)


def scene(rng, glow):
    center = 60.2 + 12.06 * np.arange(9)[:, None] + np.linspace(0, 2.7, SHAPE[1])
    light = np.geomspace(100, 10_000, 9)[:, None] * (1 + 0.3 * np.sin(np.arange(SHAPE[1]) / 30))
    row = np.arange(SHAPE[0])[:, None]
    total = glow.copy()
    for where, electrons in zip(center, light, strict=True):
        total += electrons * (ndtr((row + 0.5 - where) / SIGMA) - ndtr((row - 0.5 - where) / SIGMA))
    flux = rng.poisson(total) + rng.normal(0, READ_NOISE, SHAPE)
    variance = np.maximum(READ_NOISE**2 + flux, READ_NOISE**2 / 2)
    return light, (flux, variance, np.zeros(SHAPE, np.uint8), Windows.of(center, np.full(center.shape, SIGMA)))


def surface_of(*inputs):
    return scattered_light(*inputs).on_frame(SHAPE[0])


def glow_of(level):
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return level * (0.6 + 0.4 * row / SHAPE[0]) * np.exp(-0.5 * ((column - 300) / 250) ** 2)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("level", [0.0, 60.0])
def test_scattered_light_is_recovered_under_the_fibers(rng, level):
    _, inputs = scene(rng, glow_of(level))
    error = surface_of(*inputs) - glow_of(level)
    assert np.abs(error[60:160]).max() < 4.0
    assert np.sqrt(np.mean(error[60:160] ** 2)) < 1.2


def test_spectra_freed_of_it_have_no_bias(rng):
    light, (flux, variance, mask, windows) = scene(rng, glow_of(60.0))
    spectra = extract_optimal(scattered_light(flux, variance, mask, windows).rest, windows)
    bias = np.mean(spectra.flux - light, axis=1)
    error = np.sqrt(np.sum(spectra.variance, axis=1)) / SHAPE[1]
    assert np.all(np.abs(bias) < 4 * error + 4.0)
    assert np.std((spectra.flux - light) / np.sqrt(spectra.variance)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("pedestal", [-2.0, -40.0])
def test_a_pedestal_below_zero_is_taken_off_too(rng, pedestal):
    _, (flux, *others) = scene(rng, glow_of(20.0))
    error = surface_of(flux + pedestal, *others) - glow_of(20.0) - pedestal
    assert np.abs(error[60:160]).max() < 4.0
    assert abs(np.mean(error[60:160])) < 0.5


def test_a_pedestal_is_known_in_spite_of_ghosts_far_off(rng):
    _, (flux, *others) = scene(rng, glow_of(0.0))
    flux[:25] += 80.0  # a ghost over all the rows below the fibers
    error = surface_of(flux - 5.0, *others) + 5.0
    assert abs(np.mean(error[60:160])) < 0.5


def test_it_is_zero_far_from_the_fibers(rng):
    _, inputs = scene(rng, glow_of(60.0))
    assert not surface_of(*inputs)[:20].any()


def test_nothing_usable_gives_nothing():
    nothing = np.zeros(0)
    surface = smooth_surface(nothing, nothing, nothing, nothing, nothing, shape=(50, 60))
    np.testing.assert_array_equal(surface, np.zeros((50, 60)))


def test_hits_past_the_outer_fibers_do_not_bend_it(rng):
    _, (flux, *others) = scene(rng, glow_of(60.0))
    clean = surface_of(flux, *others)
    hit, variance = flux.copy(), others[0].copy()
    for row, column in zip(rng.integers(170, 195, 300), rng.integers(0, 480, 300), strict=True):
        hit[row, column : column + 12] += 1500.0
        variance[row, column : column + 12] += 1500.0
    assert np.abs(surface_of(hit, variance, *others[1:]) - clean)[55:165].max() < 1.5


def test_what_profiles_leave_behind_does_not_make_light_negative():
    row, column = (place.ravel() for place in np.mgrid[5:200:14j, 5:1300:30j])
    value = 40.0 - 300.0 * np.exp(-0.5 * ((column - 900) / 150) ** 2)
    surface = smooth_surface(row, column, value, np.full(row.size, 3.0), np.zeros(row.size), shape=(205, 1305))
    assert surface.min() > -30.0
    np.testing.assert_allclose(surface[:, :400], 40.0, atol=15.0)
