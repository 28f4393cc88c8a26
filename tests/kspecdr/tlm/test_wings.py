import numpy as np
import pytest
from scipy.special import ndtr

from kspecdr.tlm.peaks import bin_columns
from kspecdr.tlm.profile import FAR_REACH, N_WING, far_grid, profile_matrix
from kspecdr.tlm.wings import N_ZONE, core_light, measure_wings

WING_SIGMA = 4.2  # px, three core widths of the slits here


def true_wings(truth):
    light = truth.wing * (ndtr(far_grid() / WING_SIGMA) - ndtr(-FAR_REACH / WING_SIGMA))
    return np.vstack([np.zeros(N_WING), np.tile(light, (N_ZONE, 1))])


def observed(slit, rng, **changes):
    truth = slit(first_row=70.3, **changes)
    flux, variance, bad = truth.observe(rng)
    binned = bin_columns(flux, variance, bad)
    center = truth.center().reshape(truth.n_fiber, len(binned.column), -1).mean(axis=2)
    return truth, binned, center, np.full(center.shape, truth.sigma)


def shares(center, width, wings):
    """The profile on the rows about a fiber, (n_window, n_bin)."""
    return profile_matrix(center[:1], width[:1], 16, wings).share[0]


def test_wings_are_measured_to_a_ten_thousandth_of_the_light(slit, rng):
    truth, binned, center, width = observed(slit, rng, level=80_000.0)
    found = shares(center, width, measure_wings(binned, center, width))
    error = found - shares(center, width, true_wings(truth))
    assert np.abs(error).max() < 3e-3
    beside = np.abs(np.arange(-16, 17)) > 6
    assert np.abs(error[beside]).max() < 1e-4


@pytest.mark.parametrize("wing", [0.0, 0.025, 0.06])
def test_a_faint_flat_does_not_broaden_the_profile(slit, wing):
    errors = []
    for seed in range(4):
        _, binned, center, width = observed(slit, np.random.default_rng(seed), shape=(300, 800), level=900.0, wing=wing)
        truth = slit(first_row=70.3, shape=(300, 800), level=900.0, wing=wing)
        found = shares(center, width, measure_wings(binned, center, width))
        errors.append((found - shares(center, width, true_wings(truth)))[13:20].sum(axis=0).mean())
    assert abs(np.mean(errors)) < 0.005  # of the light within 3 px


@pytest.mark.parametrize("wing", [0.0, 0.025])
def test_errors_of_the_map_are_not_taken_for_wings(slit, rng, wing):
    truth, binned, center, width = observed(slit, rng, level=80_000.0, wing=wing)
    off = rng.normal(0, 0.02, (len(center), 1))
    found = shares(center, width, measure_wings(binned, center + off, 1.02 * width))
    beside = np.abs(np.arange(-16, 17)) > 6
    assert np.abs(found - shares(center, width, true_wings(truth)))[beside].max() < 1e-4


def test_core_light_is_gaussian_and_free_of_neighbors(slit, rng):
    truth, binned, center, width = observed(slit, rng)
    core = core_light(binned, center, width, true_wings(truth))
    middle = 10
    between = np.round((center[5, middle] + center[6, middle]) / 2).astype(int)
    assert binned.flux[between, middle] > 30
    assert abs(core[between, middle]) < 20


def test_there_is_no_negative_light_past_the_core(slit):
    for seed in range(6):
        _, binned, center, width = observed(slit, np.random.default_rng(seed), wing=0.0)
        density = np.diff(measure_wings(binned, center, width)[1:], axis=1)
        assert density.min() > -1e-12
