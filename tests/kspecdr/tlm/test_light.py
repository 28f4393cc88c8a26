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


def test_variance_without_light_takes_off_the_signed_datum():
    flux = np.array([[100.0, -20.0], [0.0, 50.0]])
    np.testing.assert_allclose(variance_without_light(flux, 256 + flux), 256.0)
