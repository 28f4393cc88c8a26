import numpy as np
import pytest

from kspecdr.preproc.combine import Combination, combine, level_factors, level_offsets

READ_NOISE = 16.0


def biases(rng, n, shape=(80, 60)):
    flux = rng.normal(2500.0, READ_NOISE, (n, *shape)).astype(np.float32)
    return flux, np.full(flux.shape, READ_NOISE**2, np.float32), np.zeros(flux.shape, np.uint8)


@pytest.mark.parametrize("n", [2, 3, 5, 15])
def test_a_single_hit_does_not_survive_however_few_the_exposures(rng, n):
    flux, variance, mask = biases(rng, n)
    flux[1, 40, 30] += 6000
    mean, spread, _ = combine(flux, variance, mask, Combination(poisson=False))
    sigma = READ_NOISE / np.sqrt(n)
    assert np.abs(mean - 2500).max() < 7 * sigma
    assert mean.std() < 1.02 * sigma
    assert np.median(spread) == pytest.approx(READ_NOISE**2 / n, rel=1e-3)


@pytest.mark.parametrize("method", ["MEAN", "MEDIAN", "SIGMA_CLIP"])
def test_the_variance_is_that_of_the_result(rng, method):
    flux, variance, mask = biases(rng, 5, (300, 200))
    mean, spread, _ = combine(flux, variance, mask, Combination(method=method, poisson=False))
    assert np.mean((mean - 2500) ** 2 / spread) == pytest.approx(1.0, abs=0.03)


def test_photon_noise_of_a_hit_does_not_hide_it(rng):
    light = 900.0
    flux = rng.poisson(light, (3, 50, 40)).astype(np.float32)
    flux[0, 10, 10] += 2000
    variance = np.maximum(flux, 0) + READ_NOISE**2
    mean, _, _ = combine(flux, variance, np.zeros(flux.shape, np.uint8), Combination())
    assert mean[10, 10] == pytest.approx(light, abs=6 * np.sqrt((light + READ_NOISE**2) / 2))


def test_masked_pixels_do_not_count_and_a_pixel_masked_everywhere_says_so(rng):
    flux, variance, mask = biases(rng, 3)
    flux[:, 5, 5], mask[:, 5, 5] = 9e4, 2
    flux[0, 6, 6], mask[0, 6, 6] = 9e4, 2
    mean, spread, bits = combine(flux, variance, mask, Combination(poisson=False))
    assert bits[5, 5] == 3
    assert bits[6, 6] == 0
    assert mean[6, 6] == pytest.approx(2500, abs=5 * READ_NOISE)
    assert spread[6, 6] == pytest.approx(READ_NOISE**2 / 2)


def test_levels_are_brought_together(rng):
    flux, _, _ = biases(rng, 3)
    drifted = flux + np.array([-5.0, 0.0, 8.0])[:, None, None]
    offsets = level_offsets(drifted)
    np.testing.assert_allclose(np.diff(offsets), [-5, -8], atol=1.5)
    lamps = np.ones((2, 40, 40)) * np.array([1.0, 1.15])[:, None, None]
    np.testing.assert_allclose(lamps[:, 0, 0] * level_factors(lamps), 1.075)


def test_an_unknown_method_lists_the_known():
    with pytest.raises(ValueError, match="'MODE', expected one of MEDIAN, MEAN, SIGMA_CLIP"):
        Combination(method="MODE")
