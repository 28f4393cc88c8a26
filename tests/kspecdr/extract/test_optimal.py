import numpy as np
import pytest
from scipy.special import ndtr

from kspecdr.extract.optimal import extract_optimal, gaussian_cores
from kspecdr.products import MaskBit
from kspecdr.tlm.profile import core_grid
from kspecdr.tlm.windows import Seen, Windows

SIGMA, WING, WING_SIGMA, READ_NOISE, N_COLUMN, N_ROW = 1.4, 0.025, 4.0, 16.0, 400, 130


def wings():
    """What the true profile has beyond its core, by its analytic form."""
    u = core_grid() * SIGMA
    return (1 - WING) * ndtr(u / SIGMA) + WING * ndtr(u / WING_SIGMA) - ndtr(u / SIGMA)


def center_of(spacing=12.06, n_fiber=6):
    return 30.2 + spacing * np.arange(n_fiber)[:, None] + np.linspace(0, 2.7, N_COLUMN)


def light_of(center):
    level = np.array([20_000.0, 200.0, 15_000.0, 3000.0, 0.0, 50.0])[:, None]
    return level * (1 + 0.4 * np.sin(np.arange(center.shape[1]) / 9))


def expected(center, light):
    row = np.arange(N_ROW)[:, None]
    total = np.zeros((N_ROW, center.shape[1]))
    for share, sigma in ((1 - WING, SIGMA), (WING, WING_SIGMA)):
        low, high = (ndtr((row + half - center[:, None]) / sigma) for half in (-0.5, 0.5))
        total += np.sum(light[:, None] * share * (high - low), axis=0)
    return total


def scene(rng=None, spacing=12.06):
    center = center_of(spacing)
    light = light_of(center)
    flux = expected(center, light)
    if rng is not None:
        flux = rng.poisson(flux) + rng.normal(0, READ_NOISE, flux.shape)
    mask = np.zeros(flux.shape, np.uint8)
    return light, (flux, READ_NOISE**2 + flux, mask, center, np.full(center.shape, SIGMA), wings())


def extracted(flux, variance, mask, center, width, table, *, gaussian_weights=False):
    windows = Windows.of(center, width, table)
    weighting = gaussian_cores(windows) if gaussian_weights else None
    return extract_optimal(Seen.of(flux, variance, mask, windows), windows, weighting)


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.mark.parametrize("gaussian_weights", [False, True], ids=["OPTEX", "GAUSS"])
@pytest.mark.parametrize("spacing", [12.06, 6.4])
def test_noise_free_light_is_recovered_and_stays_in_its_fiber(gaussian_weights, spacing):
    light, inputs = scene(spacing=spacing)
    spectra = extracted(*inputs, gaussian_weights=gaussian_weights)
    assert np.abs(spectra.flux - light).max() < 2e-4 * light.max()
    assert not spectra.mask.any()


@pytest.mark.parametrize("gaussian_weights", [False, True], ids=["OPTEX", "GAUSS"])
def test_pulls_have_unit_scatter_and_faint_light_no_bias(rng, gaussian_weights):
    pulls, mean, error = [], 0.0, 0.0
    n_draw = 12
    for _ in range(n_draw):
        light, inputs = scene(rng)
        spectra = extracted(*inputs, gaussian_weights=gaussian_weights)
        pulls.append((spectra.flux - light) / np.sqrt(spectra.variance))
        mean = mean + np.mean(spectra.flux - light, axis=1) / n_draw
        error = error + np.sum(spectra.variance, axis=1) / (n_draw * N_COLUMN) ** 2
    assert np.std(pulls) == pytest.approx(1.0, abs=0.02)
    assert np.all(np.abs(mean) < 4 * np.sqrt(error) + 2e-4 * np.mean(light_of(center_of()), axis=1))


def test_it_beats_the_box_in_faint_light():
    _, inputs = scene()
    spectra = extracted(*inputs)
    box = 7 * READ_NOISE**2
    assert np.median(spectra.variance[5]) < 0.85 * box


def test_a_bad_pixel_is_bridged():
    light, (flux, variance, mask, center, width, table) = scene()
    row, column = np.round(center[2]).astype(int), np.arange(N_COLUMN)
    flux[row, column], mask[row, column] = np.nan, MaskBit.BAD_PIXEL
    spectra = extracted(flux, variance, mask, center, width, table)
    np.testing.assert_allclose(spectra.flux[2], light[2], rtol=1e-3)


def test_a_misfit_of_the_profile_loses_no_light(rng):
    light, (flux, variance, mask, center, width, table) = scene(rng)
    spectra = extracted(flux, variance, mask, center + 0.15, 1.1 * width, table)
    assert np.isfinite(spectra.flux).all()
    np.testing.assert_allclose(spectra.flux[0], light[0], rtol=0.1)


def test_a_lost_core_is_nan_with_its_reason():
    _, (flux, variance, mask, center, width, table) = scene()
    row = int(center[0, 50])
    mask[row - 2 : row + 4, 50] = MaskBit.SATURATED
    spectra = extracted(flux, variance, mask, center, width, table)
    assert np.isnan(spectra.flux[0, 50])
    assert np.isnan(spectra.variance[0, 50])
    assert spectra.mask[0, 50] == MaskBit.SATURATED
    assert np.isfinite(spectra.flux[1:]).all()


def test_the_model_image_is_the_light_laid_out():
    light, (flux, _, _, center, width, table) = scene()
    np.testing.assert_allclose(Windows.of(center, width, table).light_image(light, N_ROW), flux, atol=1e-4 * flux.max())


@pytest.mark.parametrize("found", [(-3, -2, -1, 2, 3, 4), (0, 1)], ids=["most rows", "few rows"])
def test_a_track_along_a_whole_column_loses_the_sample_though_part_of_it_was_not_found(rng, found):
    _, (flux, variance, mask, center, *profile) = scene(rng)
    fiber, column = 3, 120
    row = int(center[fiber, column])
    flux[row - 4 : row + 6, column] += 4500.0
    mask[row + np.array(found), column] = MaskBit.COSMIC
    spectra = extracted(flux, variance, mask, center, *profile)
    assert np.isnan(spectra.flux[fiber, column])
    assert spectra.mask[fiber, column] == MaskBit.COSMIC
    assert np.count_nonzero(spectra.mask) == 1


def test_what_few_hits_leave_of_bright_and_faint_light_is_kept(rng):
    light, (flux, variance, mask, center, *profile) = scene(rng)
    for fiber in range(len(center)):
        for column in range(5, N_COLUMN, 10):
            row = round(float(center[fiber, column])) + int(rng.integers(-2, 3))
            flux[row : row + 2, column] += 3000.0
            mask[row : row + 2, column] = MaskBit.COSMIC
    spectra = extracted(flux, variance, mask, center, *profile)
    hit = np.s_[:, 5::10]
    assert np.mean(spectra.mask[hit] == 0) > 0.75  # two central rows of a narrow profile are half of its light
    pull = ((spectra.flux - light) / np.sqrt(spectra.variance))[hit]
    assert np.abs(pull[np.isfinite(pull)]).max() < 6
