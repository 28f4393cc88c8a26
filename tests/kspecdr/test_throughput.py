import numpy as np
import pytest

from kspecdr.throughput import beyond_flat, separate, strength_of_structure

N_FIBER, N_COLUMN = 14, 1340
PLACE = np.linspace(-0.5, 0.5, N_COLUMN)
LEVEL = np.array([0.015, 0.8, 1.1, 0.9, 0.05, 1.2, 1.0, 0.7, 0.85, 0.95, 1.0, 0.6, 0.9, 0.02])[:, None]


def lamp_of(wave):
    """A halogen lamp through glass that cuts off at 4200 Angstrom, 150000 electrons at its brightest."""
    hot = wave**-4 / np.expm1(1.438777e8 / (wave * 3200.0)) / (1 + np.exp(-(wave - 4200.0) / 90.0))
    return 1.5e5 * hot / hot.max()


def flat_of(rng, shape, *, read_noise=40.0, dead_end=0):
    wave = 3570 + 3.9 * np.arange(N_COLUMN) + rng.normal(0, 2.0, (N_FIBER, 1))
    light = lamp_of(wave) * shape
    light[:, :dead_end] = 0
    variance = light + read_noise**2
    return rng.normal(light, np.sqrt(variance)), variance, np.ones(wave.shape, bool), wave


def slopes(rng, *, bend=0.0):
    return LEVEL * np.exp(rng.normal(0, 0.03, (N_FIBER, 1)) * PLACE + rng.normal(0, bend, (N_FIBER, 1)) * PLACE**2)


def errors(parts, truth):
    """Relative error of the throughputs in blocks of 67 columns, what is common to all fibers left out."""
    ratio = np.log(parts.shape / truth).reshape(N_FIBER, -1, 67).mean(axis=2)
    return ratio - np.median(ratio, axis=0)


@pytest.mark.parametrize("bend", [0.0, 0.2])
def test_the_throughput_of_a_fiber_of_one_percent_is_good_to_half_a_percent(rng, bend):
    truth = slopes(rng, bend=bend)
    off = errors(separate(*flat_of(rng, truth)), truth)[:, 2:]
    assert np.std(off, axis=1).max() < 0.005
    assert np.abs(np.median(off, axis=1)).max() < 0.005
    assert np.abs(off[LEVEL[:, 0] > 0.5]).max() < 0.001


def test_the_spectrum_follows_the_cutoff(rng):
    truth = slopes(rng)
    flat = flat_of(rng, truth)
    parts = separate(*flat)
    ratio = (parts.spectrum * parts.shape / (lamp_of(flat[3]) * truth))[LEVEL[:, 0] > 0.5]
    assert np.abs(ratio[:, 120:] - 1).max() < 0.02
    assert np.std(ratio[:, 200:]) < 0.001


def test_columns_without_any_light_do_not_disturb_the_others(rng):
    truth = slopes(rng)
    parts = separate(*flat_of(rng, truth, dead_end=134))
    assert np.isfinite(parts.shape).all()
    assert np.std(errors(parts, truth)[:, 4:], axis=1).max() < 0.005


def test_outliers_and_bad_samples_are_left_out(rng):
    truth = slopes(rng)
    flux, variance, good, wave = flat_of(rng, truth)
    flux[3, 300::200] += 1e5
    flux[7, 600:640], good[7, 600:640] = 0.0, False
    off = errors(separate(flux, variance, good, wave), truth)[:, 2:]
    assert np.abs(off[[3, 7]]).max() < 0.001


def test_curves_are_constant_where_nothing_counts(rng):
    flux, variance, good, wave = flat_of(rng, slopes(rng))
    good[:, 1000:] = False
    shape = separate(flux, variance, good, wave).shape
    np.testing.assert_array_equal(shape[:, 1000:], np.broadcast_to(shape[:, 999:1000], (N_FIBER, 340)))


def test_structure_is_told_from_noise(rng):
    error2 = np.full((N_FIBER, N_COLUMN), 0.005**2)
    true = np.where(np.arange(N_COLUMN) < 670, 0.0, 0.018)
    off = rng.normal(0, np.sqrt(error2 + true**2))
    off[2, 100] = 0.8
    found = np.sqrt(strength_of_structure(off, error2, np.ones(off.shape, bool)))
    assert found[:600].max() < 0.002
    assert np.abs(found[740:] - 0.018).max() < 0.002


def twilight(rng, shape):
    """Sunlight with lines narrower than a knot of a lamp's curve, as each fiber sees it."""
    wave = 4000 + 3.9 * np.arange(N_COLUMN) + rng.normal(0, 2.0, (N_FIBER, 1))
    lines = sum(0.3 * np.exp(-0.5 * ((wave - line) / 8.0) ** 2) for line in (4340.5, 4861.3, 5175.0, 5892.9, 6562.8))
    light = 3000.0 * (1 - lines) * shape
    variance = light + 16.0**2
    return rng.normal(light, np.sqrt(variance)), variance, np.ones(wave.shape, bool), wave


def test_a_sky_that_agrees_with_the_flat_changes_nothing(rng):
    found = beyond_flat(*twilight(rng, np.ones((N_FIBER, 1))))
    np.testing.assert_allclose(found.shape, 1.0, atol=0.001)


def test_a_flat_that_is_two_percent_wrong_is_put_right_by_the_sky(rng):
    truth = np.exp(rng.normal(0, 0.02, (N_FIBER, 1)) + rng.normal(0, 0.01, (N_FIBER, 1)) * PLACE)
    found = beyond_flat(*twilight(rng, truth))
    ratio = found.shape / truth
    assert np.std(ratio / ratio.mean(axis=0)) < 0.002
    assert np.sqrt(found.uncertain).max() < 0.003
