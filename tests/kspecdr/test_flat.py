import numpy as np
import pytest

from kspecdr.errors import BadFrame
from kspecdr.flat import fiber_response
from kspecdr.options import FlatOptions

N_FIBER, N_COLUMN = 8, 1340
COLUMN = np.arange(N_COLUMN)


def flat_of(rng, throughput, *, structure=0.0, dead=()):
    wave = 4000 + 3.9 * COLUMN + 2.0 * np.arange(N_FIBER)[:, None]
    lamp = 8e4 * np.exp(-(((wave - 6500) / 1800) ** 2))
    response = throughput * (1 + structure * np.sin(2 * np.pi * COLUMN / 14))
    light = lamp * response
    light[list(dead)] = 0
    flux = rng.normal(light, np.sqrt(light + 900))
    return flux, light + 900, np.ones(flux.shape, bool), wave, response


def slow_throughput():
    level = np.array([1.0, 0.8, 1.1, 0.05, 0.9, 1.2, 1.0, 0.7])[:, None]
    slope = np.linspace(-0.1, 0.1, N_FIBER)[:, None]
    return level * (1 + slope * (COLUMN / N_COLUMN - 0.5))


def test_throughputs_are_recovered_to_half_a_percent(rng):
    *flat, truth = flat_of(rng, slow_throughput())
    response = fiber_response(*flat, FlatOptions(bssmooth=True)).response
    ratio = response / truth
    ratio /= np.median(ratio)
    bright = slow_throughput()[:, 0] > 0.1
    assert np.std(ratio[bright]) < 0.002
    assert np.abs(ratio[bright, 50:-50] - 1).max() < 0.005


def test_etaloning_is_kept_where_the_flat_shows_it(rng):
    *flat, truth = flat_of(rng, slow_throughput(), structure=0.025)
    response = fiber_response(*flat).response
    ratio = (response / truth)[0, 300:1000]
    assert np.std(ratio / np.median(ratio)) < 0.006
    smooth = fiber_response(*flat, FlatOptions(bssmooth=True)).response[0, 300:1000]
    assert np.std(smooth / truth[0, 300:1000]) > 0.012


def test_the_nearest_fibers_alone_may_tell_the_lamp(rng):
    *flat, truth = flat_of(rng, slow_throughput())
    response = fiber_response(*flat, FlatOptions(laf_flag=True, laf_par=3, bssmooth=True)).response
    tilt = np.ptp(slow_throughput()[:3] / slow_throughput()[:3, :1], axis=1)  # neighbours' slopes stay in
    assert np.std((response / truth)[0, 300:1000]) < tilt.max() / 4


def test_a_fiber_without_light_has_no_response(rng):
    *flat, _ = flat_of(rng, slow_throughput(), dead=[2])
    response = fiber_response(*flat).response
    assert np.isnan(response[2]).all()
    assert np.isfinite(np.delete(response, 2, axis=0)).all()


def test_a_dark_flat_is_refused(rng):
    flux, variance, good, wave, _ = flat_of(rng, slow_throughput(), dead=range(N_FIBER))
    with pytest.raises(BadFrame, match="no fiber of the flat has light"):
        fiber_response(flux, variance, good, wave)


def test_a_fiber_without_wavelengths_has_no_response(rng):
    flux, variance, good, wave, truth = flat_of(rng, slow_throughput())
    wave[5] = np.nan
    response = fiber_response(flux, variance, good, wave).response
    assert np.isnan(response[5]).all()
    ratio = np.delete(response / truth, 5, axis=0)
    assert np.std(ratio / np.median(ratio)) < 0.02


def test_the_structure_of_a_faint_fiber_is_not_its_noise(rng):
    *flat, truth = flat_of(rng, np.full((N_FIBER, 1), 1.0) * np.where(np.arange(N_FIBER) == 3, 0.01, 1.0)[:, None])
    result = fiber_response(*flat)
    ratio = (result.response / truth)[3, 300:1000]
    assert np.std(ratio / np.median(ratio)) < 0.01  # a sample's noise is 0.05
    pull = (result.response / np.median(result.response) - truth)[:3, 300:1000] / np.sqrt(result.variance[:3, 300:1000])
    assert np.std(pull) < 1.3
