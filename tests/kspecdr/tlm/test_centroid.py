import numpy as np
import pytest
from scipy.special import ndtr

from kspecdr.tlm.centroid import fit_centroids


def profiles(centers, light, sigma, n_row=60):
    """Noise-free bins, (n_row, n_bin), of fibers at `centers` (n_fiber, n_bin)."""
    row = np.arange(n_row)[:, None]
    total = np.zeros((n_row, centers.shape[1]))
    for where, electrons in zip(centers, light, strict=True):
        total += electrons * (ndtr((row + 0.5 - where) / sigma) - ndtr((row - 0.5 - where) / sigma))
    return total


@pytest.mark.parametrize(("spacing", "sigma", "half"), [(12.0, 1.4, 5), (6.4, 0.88, 3)])
def test_centers_widths_and_light_without_noise(spacing, sigma, half):
    phase = np.linspace(0, 1, 11)
    centers = 20.0 + spacing * np.arange(3)[:, None] + phase
    flux = profiles(centers, [20_000, 5000, 12_000], sigma) + 40.0
    fit = fit_centroids(flux, flux / 20 + 10, np.round(centers), 1.1, half_window=half)
    assert np.abs(fit.center - centers).max() < 1e-5
    assert np.abs(fit.sigma - sigma).max() < 1e-5
    assert np.abs(fit.flux / [[20_000], [5000], [12_000]] - 1).max() < 1e-5


def test_wings_of_a_bright_neighbor_neither_draw_nor_widen_a_faint_fiber():
    centers = np.array([[20.0], [30.0]]) + np.linspace(0, 1, 11)
    flux = profiles(centers, [1000, 95_000], 1.4) + profiles(centers[1:], [5000], 4.2)
    fit = fit_centroids(flux, np.full(flux.shape, 30.0), np.round(centers), 1.4, half_window=5)
    assert np.abs(fit.center - centers)[0].max() < 0.15
    assert np.abs(fit.sigma - 1.4)[0].max() < 0.5


def test_errors_speak_the_truth():
    rng = np.random.default_rng(6)
    centers = 20.0 + rng.uniform(-0.5, 0.5, (1, 3000))
    light = profiles(centers, [3000], 1.4, n_row=40)
    variance = light + 256
    flux = light + rng.normal(0, np.sqrt(variance))
    fit = fit_centroids(flux, variance, np.full(centers.shape, 20.0), 1.4, half_window=6, model_error=0.0)
    pull = ((fit.center - centers) / fit.error)[fit.usable]
    assert np.std(pull) == pytest.approx(1, abs=0.06)
    assert abs(np.mean(pull)) < 0.08


def test_masked_cores_are_fitted_by_their_flanks():
    centers = np.full((1, 4), 20.2)
    flux = profiles(centers, [50_000], 1.4, n_row=40)
    flux[20] = np.nan
    fit = fit_centroids(flux, np.full(flux.shape, 100.0), centers + 0.3, 1.3, half_window=5)
    assert np.abs(fit.center - centers).max() < 0.01


def test_no_light_is_no_center():
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 4, (40, 50))
    fit = fit_centroids(noise, np.full(noise.shape, 16.0), np.full((1, 50), 20.0), 1.4, half_window=5)
    assert fit.usable.mean() < 0.05
