import numpy as np
import pytest
from scipy.special import erf

from kspecdr.extract.boxcar import extract_boxcar
from kspecdr.products import MaskBit

SIGMA, N_COLUMN = 1.4, 300


def pixels(center, light, n_row=120, sigma=SIGMA):
    """Noise-free frame of Gaussian fibers, (n_row, n_column)."""
    row = np.arange(n_row)[:, None]
    edges = [erf((row + half - center[:, None]) / (np.sqrt(2) * sigma)) for half in (0.5, -0.5)]
    return np.sum(light[:, None] * 0.5 * (edges[0] - edges[1]), axis=0)


@pytest.fixture
def scene():
    start = 30.2 + 12.06 * np.arange(5)
    center = start[:, None] + np.linspace(0, 2.7, N_COLUMN)
    light = np.array([1000.0, 10.0, 2000.0, 500.0, 800.0])[:, None] * (1 + 0.3 * np.sin(np.arange(N_COLUMN) / 9))
    return center, light, np.full(center.shape, SIGMA)


@pytest.mark.parametrize("width", [3.0, 5.0, 6.4, 9.0])
def test_light_is_recovered_at_any_width_and_phase(scene, width):
    center, light, core = scene
    flux = pixels(center, light)
    spectra = extract_boxcar(flux, np.ones_like(flux), np.zeros(flux.shape, np.uint8), center, core, width=width)
    np.testing.assert_allclose(spectra.flux, light, rtol=2e-5)
    assert not spectra.mask.any()


def test_partial_pixels_count_with_the_square_of_their_part():
    center = np.array([[20.0, 20.25]])
    flux = np.zeros((40, 2))
    spectra = extract_boxcar(
        flux,
        np.full(flux.shape, 9.0),
        np.zeros(flux.shape, np.uint8),
        center,
        np.full((1, 2), 0.1),
        width=5.0,
    )
    np.testing.assert_allclose(spectra.variance, [[45.0, 9 * (4 + 0.75**2 + 0.25**2)]], rtol=1e-6)


def test_pulls_have_unit_scatter(scene):
    center, light, core = scene
    rng = np.random.default_rng(5)
    expected = pixels(center, light)
    flux = rng.poisson(expected) + rng.normal(0, 4, expected.shape)
    spectra = extract_boxcar(flux, expected + 16, np.zeros(flux.shape, np.uint8), center, core)
    pull = (spectra.flux - light) / np.sqrt(spectra.variance)
    assert np.std(pull) == pytest.approx(1.0, abs=0.06)
    assert abs(np.mean(pull)) < 0.08


def test_a_track_over_most_of_the_aperture_loses_the_sample_though_the_core_was_not_found(scene):
    center, light, core = scene
    flux = pixels(center, light)
    mask = np.zeros(flux.shape, np.uint8)
    row = int(np.floor(center[2, 40]))
    flux[row - 3 : row + 4, 40] += 4500.0
    mask[[row - 2, row - 1, row + 2, row + 3], 40] = MaskBit.COSMIC
    spectra = extract_boxcar(flux, np.ones_like(flux), mask, center, core)
    assert np.isnan(spectra.flux[2, 40])
    assert spectra.mask[2, 40] == MaskBit.COSMIC
    assert np.count_nonzero(spectra.mask) == 1


def test_one_bad_pixel_is_bridged_with_the_profile(scene):
    center, light, core = scene
    flux = pixels(center, light)
    mask = np.zeros(flux.shape, np.uint8)
    row = np.round(center[2]).astype(int) + 1
    flux[row, np.arange(N_COLUMN)] = 1e6
    mask[row, np.arange(N_COLUMN)] = MaskBit.COSMIC
    spectra = extract_boxcar(flux, np.ones_like(flux), mask, center, core)
    np.testing.assert_allclose(spectra.flux[2], light[2], rtol=1e-4)
    assert not spectra.mask.any()


def test_a_lost_core_is_nan_with_its_reason(scene):
    center, light, core = scene
    flux = pixels(center, light)
    mask = np.zeros(flux.shape, np.uint8)
    mask[40:47, 100] = MaskBit.SATURATED
    spectra = extract_boxcar(flux, np.ones_like(flux), mask, center, core)
    assert np.isnan(spectra.flux[1, 100])
    assert np.isnan(spectra.variance[1, 100])
    assert spectra.mask[1, 100] == MaskBit.SATURATED
    assert np.isfinite(np.delete(spectra.flux, 100, axis=1)).all()


def test_past_the_frame_there_is_no_data():
    center = np.array([[-6.0], [0.3], [20.0]])
    flux = pixels(center, np.full((3, 1), 100.0), n_row=40)
    spectra = extract_boxcar(flux, np.ones_like(flux), np.zeros(flux.shape, np.uint8), center, np.full((3, 1), SIGMA))
    assert np.isnan(spectra.flux[0, 0])
    assert spectra.mask[0, 0] == MaskBit.NO_DATA
    np.testing.assert_allclose(spectra.flux[1:, 0], 100.0, rtol=1e-4)


def test_width_must_be_positive(scene):
    center, _, core = scene
    flux = np.zeros((120, N_COLUMN))
    with pytest.raises(ValueError, match="0 px wide"):
        extract_boxcar(flux, flux + 1, np.zeros(flux.shape, np.uint8), center, core, width=0.0)
