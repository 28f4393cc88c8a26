import numpy as np
from scipy.special import ndtr

from kspecdr.tlm.peaks import bin_columns
from kspecdr.tlm.profile import light_within, wing_grid
from kspecdr.tlm.wings import core_light, measure_wings


def true_wings(truth):
    grid = wing_grid()
    return truth.wing * (ndtr(grid / 3) - ndtr(grid))


def observed(slit, rng, **changes):
    truth = slit(first_row=70.3, **changes)
    flux, variance, bad = truth.observe(rng, added=changes.get("glow", 0.0))
    binned = bin_columns(flux, variance, bad)
    center = truth.center().reshape(truth.n_fiber, len(binned.column), -1).mean(axis=2)
    return truth, binned, center, np.full(center.shape, truth.sigma)


def test_wings_are_measured_to_a_thousandth_of_the_light(slit, rng):
    truth, binned, center, width = observed(slit, rng)
    wings = measure_wings(binned, center, width)
    assert np.abs(wings - true_wings(truth)).max() < 1.5e-3
    within = light_within(2.5, np.array(truth.sigma), wings)
    assert abs(within - light_within(2.5, np.array(truth.sigma), true_wings(truth))) < 1e-3


def test_a_pure_gaussian_has_none(slit, rng):
    _, binned, center, width = observed(slit, rng, wing=0.0)
    assert np.abs(measure_wings(binned, center, width)).max() < 1e-3


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
        density = np.diff(measure_wings(binned, center, width))
        away = np.abs(wing_grid()[1:]) > 5
        assert density[away].min() > -1e-7
