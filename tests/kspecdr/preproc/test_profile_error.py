import numpy as np
import pytest

from kspecdr.preproc.profile_error import HALO, OTHERS, OWN, Bound, Source, Sources, mean_light, measured_error
from kspecdr.preproc.robust_light import full_columns, robust_light
from kspecdr.products import MaskBit
from kspecdr.tlm.light import scatter
from kspecdr.tlm.windows import Seen, Windows

SHAPE = (4, 7, 900)
FREE = Bound(usual=0.3, least=0.0, largest=10.0, quantile=0.75)
LINES = 10.0 ** np.random.default_rng(5).uniform(1, 5, SHAPE[2])


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def measured(error, rng, hits=0.0, light=LINES):
    """Measure an error of lines whose light varies by four orders along the columns."""
    source = np.broadcast_to(light, SHAPE)
    noise = 200.0 + source
    residual = rng.normal(0, np.sqrt(noise)) + error * rng.normal(0, 1, SHAPE) * source
    residual += np.where(rng.random(SHAPE) < hits, 50_000.0, 0.0)
    return error_of(residual, noise, source)


def error_of(residual, noise, light):
    """Measure an error where its light is brightest; all pixels count."""
    there = Source(light, FREE).brightest.of
    return measured_error(there(residual), there(noise), there(light), there(np.ones(SHAPE, dtype=bool)), FREE)


@pytest.mark.parametrize("error", [0.03, 0.2])
@pytest.mark.parametrize("hits", [0.0, 0.05])
def test_the_error_is_found_with_and_without_hits(error, hits, rng):
    assert np.median(measured(error, rng, hits)) == pytest.approx(error, rel=0.25)


def test_noise_alone_is_no_error(rng):
    assert np.median(measured(0.0, rng)) < 0.005


def test_what_no_fiber_tells_is_as_usual(rng):
    np.testing.assert_allclose(measured(0.0, rng, light=np.full(SHAPE[2], 5.0)), FREE.usual)


def test_a_fiber_without_light_errs_like_the_others(rng):
    light = np.broadcast_to(LINES, SHAPE).copy()
    light[2] = 5.0
    noise = 200.0 + light
    residual = rng.normal(0, np.sqrt(noise)) + 0.4 * rng.normal(0, 1, SHAPE) * light
    error = error_of(residual, noise, light)
    np.testing.assert_allclose(error[2], 0.4, rtol=0.35)


def arc(width=1.4, halo=0.0):
    """Return windows, and an arc without noise whose profile is not quite theirs."""
    center = np.array([20.2, 32.1, 44.4])[:, None] + np.linspace(0, 2, 700)
    column = np.arange(700)
    at = np.arange(40, 700, 60)[:, None]
    light = np.sum(4e4 * np.exp(-0.5 * ((column - at) / 1.5) ** 2), axis=0) * np.ones((3, 1))
    true = Windows.of(center, np.full(center.shape, width))
    flux = scatter(true.own * light[:, None], true.first, 65)
    if halo:
        wide = Windows.of(center, np.full(center.shape, 2.5))
        shifted = np.roll(light, 3, axis=1) + np.roll(light, -3, axis=1)
        flux += halo * scatter(wide.own * shifted[:, None], wide.first, 65)
    return Windows.of(center, np.full(center.shape, 1.4)), flux


def light_of_rows(seen, windows):
    light = robust_light(seen, windows)
    return mean_light(seen, windows.own, windows.of_others(light), light)


def doubted(seen, windows, light, judge):
    sources = Sources.of(seen, windows, light, windows.of_others(light), full_columns(seen))
    return sources.doubt(sources.errors(judge))


def seen_and_doubt(width, halo, rng, judge=robust_light):
    """Return the frame, the model of its light and the doubt about it, all in the windows; shares too."""
    windows, clean = arc(width, halo)
    flux = rng.poisson(clean) + rng.normal(0, 16, clean.shape)
    seen = Seen.of(flux, 256 + flux, np.zeros(flux.shape, dtype=np.uint8), windows)
    light = robust_light(seen, windows)
    judge = judge(seen, windows)
    doubt = doubted(seen, windows, light, judge)
    return seen, windows.own * judge[:, None] + windows.of_others(light), doubt


@pytest.mark.parametrize("judge", [robust_light, light_of_rows])
@pytest.mark.parametrize(("width", "halo"), [(1.4, 0.0), (1.6, 0.0), (1.2, 0.0), (1.4, 0.02)])
def test_what_the_profiles_err_is_within_the_doubt(width, halo, judge, rng):
    seen, model, doubt = seen_and_doubt(width, halo, rng, judge)
    off = np.abs(seen.flux - model) / np.sqrt(seen.dark_variance + doubt)
    assert np.mean(off > 5.5) < 1e-4


def test_right_profiles_are_trusted_and_wrong_ones_are_not(rng):
    error = {}
    for width in (1.4, 1.6):
        _, model, doubt = seen_and_doubt(width, 0.0, rng)
        bright = model > 1000
        error[width] = np.median(np.sqrt(doubt - model)[bright] / model[bright])
    assert error[1.4] < 0.015
    assert error[1.6] > 0.03


def test_near_a_full_core_nothing_can_be_judged():
    windows, flux = arc()
    mask = np.zeros(flux.shape, dtype=np.uint8)
    mask[round(windows.center[1, 100]), 100] = MaskBit.SATURATED
    seen = Seen.of(flux, 256 + flux, mask, windows)
    light = robust_light(seen, windows)
    doubt = doubted(seen, windows, light, light)
    assert (doubt[1, :, 97:104] > 1e12).all()
    assert (doubt[[0, 2]] < 1e10).all()
    assert (doubt[1, :, 104:] < 1e10).all()


def test_errors_are_bounded():
    for bound in (OWN, OTHERS, HALO):
        assert 0 <= bound.least <= bound.usual <= bound.largest
