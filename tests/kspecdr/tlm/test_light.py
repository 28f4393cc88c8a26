import numpy as np
import pytest

from kspecdr.tlm.light import Factored, fit_light, gather, scatter, variance_without_light
from kspecdr.tlm.profile import profile_matrix


@pytest.fixture
def rng():
    return np.random.default_rng(10)


def crowded(n_fiber=7, n_column=5, spacing=4.0):
    center = 15.3 + spacing * np.arange(n_fiber)[:, None] + np.linspace(0, 1, n_column)
    return profile_matrix(center, np.full(center.shape, 1.3), 8)


def test_blended_fibers_are_solved_together(rng):
    windows = crowded()
    light = rng.uniform(10, 1000, windows.first.shape)
    flux = scatter(windows.share * light[:, None], windows.first, 60)
    solved, _ = fit_light(gather(flux, windows.first, 17), np.ones(windows.share.shape), windows)
    np.testing.assert_allclose(solved, light, rtol=1e-8)


@pytest.mark.parametrize("n_band", [0, 1, 3])
def test_band_factors_agree_with_dense_algebra(rng, n_band):
    n_fiber, n_column = 8, 3
    band = rng.uniform(-0.3, 0.3, (n_band + 1, n_fiber, n_column))
    band[0] = rng.uniform(2, 3, (n_fiber, n_column))
    right = rng.normal(size=(n_fiber, n_column, 2))
    factored = Factored.of(band)
    solved, variance = factored.solve(right), factored.variance()
    for k in range(n_column):
        dense = np.diag(band[0, :, k])
        for m in range(1, n_band + 1):
            dense += np.diag(band[m, : n_fiber - m, k], m) + np.diag(band[m, : n_fiber - m, k], -m)
        np.testing.assert_allclose(solved[:, k], np.linalg.solve(dense, right[:, k]), rtol=1e-10)
        np.testing.assert_allclose(variance[:, k], np.diag(np.linalg.inv(dense)), rtol=1e-10)


def test_past_the_frame_nothing_is_gathered_or_scattered():
    windows = profile_matrix(np.array([[1.0, 8.5]]), np.full((1, 2), 1.0), 3)
    image = np.arange(20.0).reshape(10, 2)
    seen = gather(image, windows.first, 7, outside=-1.0)
    np.testing.assert_array_equal(seen[0, :, 0], [-1, -1, 0, 2, 4, 6, 8])
    total = scatter(np.ones(windows.share.shape), windows.first, 10)
    np.testing.assert_array_equal(total.sum(axis=0), [5, 4])


def frame_with_dark(rng, shape=(40, 400), read_noise=16.0, dark_noise=9.0):
    """Faint light, less a dark with noise of its own; the datum's noise is in the variance."""
    light = np.full(shape, 20.0)
    counted = rng.poisson(light) + rng.normal(0, read_noise, shape)
    flux = counted - rng.normal(0, dark_noise, shape)
    return flux, read_noise**2 + dark_noise**2 + counted


def test_variance_without_light_holds_no_noise_of_the_dark(rng):
    flux, variance = frame_with_dark(rng)
    dark = variance_without_light(flux, variance, np.ones(flux.shape, dtype=bool))
    np.testing.assert_allclose(dark, 256 + 81, rtol=0.03)
    assert abs(np.corrcoef(dark.ravel(), flux.ravel())[0, 1]) < 0.05


def test_a_hot_pixel_keeps_its_own_variance(rng):
    flux, variance = frame_with_dark(rng)
    variance[7, 33] += 5000.0
    dark = variance_without_light(flux, variance, np.ones(flux.shape, dtype=bool))
    assert dark[7, 33] == pytest.approx(5000 + 256 + 81, abs=60)
    assert np.delete(dark[7], 33).max() < 400


def test_bad_pixels_do_not_tell_the_variance_without_light(rng):
    flux, variance = frame_with_dark(rng)
    good = np.ones(flux.shape, dtype=bool)
    good[:30, :200] = False
    flux[~good], variance[~good] = np.nan, np.inf
    dark = variance_without_light(flux, variance, good)
    np.testing.assert_allclose(dark[good], 256 + 81, rtol=0.05)


def test_nothing_good_has_some_variance():
    nothing = np.full((3, 30), np.nan)
    assert np.all(variance_without_light(nothing, nothing, np.zeros(nothing.shape, dtype=bool)) > 0)
