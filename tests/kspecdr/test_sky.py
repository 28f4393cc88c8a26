import numpy as np
import pytest

from kspecdr.errors import BadFrame
from kspecdr.sky import fit_sky

COLUMN = np.arange(1340)
LINES = np.array([5577.3, 5889.9, 6300.3, 6863.9, 7276.4, 7340.9, 7750.6, 8344.6])


def spectrum(wave):
    lines = 300 * np.exp(-0.5 * ((wave[..., None] - LINES) / 6.0) ** 2)
    return 20 + 5 * np.sin(wave / 700) + lines.sum(axis=-1)


def sky_fibers(rng, n):
    wave = 4000 + 3.9 * COLUMN + rng.uniform(-2, 2, (n, 1))
    truth = spectrum(wave)
    variance = truth + 40.0
    return rng.normal(truth, np.sqrt(variance)), variance, np.ones(wave.shape, bool), wave


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_sky_in_another_fiber_is_left_at_the_noise(rng, n):
    sky = fit_sky(*sky_fibers(rng, n))
    wave = 4000 + 3.9 * COLUMN[20:-20] + 0.7
    truth = spectrum(wave)
    pull = (sky.at(wave) - truth) / np.sqrt((truth + 40) / n)
    assert abs(np.mean(pull)) < 0.2
    assert np.std(pull) < 1.25


def test_a_cosmic_ray_in_a_sky_fiber_does_not_become_sky(rng):
    density, variance, good, wave = sky_fibers(rng, 4)
    density[1, 400] += 4000
    sky = fit_sky(density, variance, good, wave)
    near, truth = wave[1, 395:406], spectrum(wave[1, 395:406])
    assert np.abs((sky.at(near) - truth) / np.sqrt((truth + 40) / 4)).max() < 4


def test_sky_fibers_without_data_are_refused(rng):
    density, variance, good, wave = sky_fibers(rng, 2)
    with pytest.raises(BadFrame, match="0 of 2680 samples of the sky fibers are good"):
        fit_sky(density, variance, good & False, wave)
