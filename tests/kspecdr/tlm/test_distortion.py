import numpy as np
import pytest

from kspecdr.tlm.distortion import fit_smooth_field, shrink_levels

N_COLUMN = 1340
COLUMN = np.linspace(9.5, 1329.5, 67)


def truth(column, row):
    x, r = column / 670 - 1, (row - 640) / 80
    return row[:, None] - 1.8 * x + 0.4 * x**2 + r[:, None] * (0.3 * x + 0.2 * x**2) + 0.1 * x**3


@pytest.fixture
def rng():
    return np.random.default_rng(9)


def test_many_fibers_hold_a_faint_one(rng):
    row = 569 + 12.06 * np.arange(14) + rng.normal(0, 0.2, 14)
    error = np.full((14, 67), 0.003)
    error[0] = 0.12
    value = truth(COLUMN, row) + rng.normal(0, 1, error.shape) * error
    everywhere = np.arange(N_COLUMN, dtype=float)
    off = fit_smooth_field(COLUMN, value, error, row, N_COLUMN).at(everywhere) - truth(everywhere, row)
    assert np.sqrt(np.mean(off[1:] ** 2)) < 0.0015
    assert np.ptp(off[0]) < 0.01
    assert np.abs(off[0]).max() < 4 * 0.12 / np.sqrt(67)


def test_outliers_and_gaps_do_no_harm(rng):
    row = 569 + 12.06 * np.arange(14)
    error = np.full((14, 67), 0.003)
    value = truth(COLUMN, row) + rng.normal(0, 1, error.shape) * error
    value[3, 10:20] += 0.7
    value[5, ::3] = np.nan
    off = fit_smooth_field(COLUMN, value, error, row, N_COLUMN).at(COLUMN) - truth(COLUMN, row)
    assert np.abs(off).max() < 0.006


@pytest.mark.parametrize("seed", range(5))
def test_dark_columns_are_extrapolated_within_bounds_whatever_noise_is_measured_there(seed):
    rng = np.random.default_rng(seed)
    row = 569 + 12.06 * np.arange(14) + rng.normal(0, 0.2, 14)
    error = np.full((14, 67), 0.003)
    error[:, 20:33] = 0.003 * 1.4 ** np.arange(13, 0, -1)  # the light fades
    value = truth(COLUMN, row) + rng.normal(0, 1, error.shape) * error
    value[:, :20] = np.nan
    stray = rng.integers(0, 14, 8), rng.integers(0, 20, 8)
    value[stray], error[stray] = truth(COLUMN, row)[stray] + rng.normal(0, 4, 8), 0.1  # hits
    off = fit_smooth_field(COLUMN, value, error, row, N_COLUMN).at(COLUMN) - truth(COLUMN, row)
    assert np.abs(off[:, 33:]).max() < 0.006
    assert np.abs(off[:, :20]).max() < 0.5


def test_true_departures_of_single_fibers_are_kept(rng):
    row = 569 + 12.06 * np.arange(14)
    own = rng.normal(0, 0.05, 14)[:, None] * (COLUMN / 670 - 1)
    error = np.full((14, 67), 0.003)
    value = truth(COLUMN, row) + own + rng.normal(0, 1, error.shape) * error
    field = fit_smooth_field(COLUMN, value, error, row, N_COLUMN)
    assert np.sqrt(np.mean((field.at(COLUMN) - truth(COLUMN, row) - own) ** 2)) < 0.002


def test_uncertain_levels_are_pulled_to_their_neighbors(rng):
    row = 569 + 12.06 * np.arange(14)
    width = 1.4 + 0.0005 * (row - 640)
    value = np.tile(width[:, None], 67) + rng.normal(0, 0.002, (14, 67))
    value[0] += 0.3
    error = np.r_[0.3, np.full(13, 0.001)]
    field = fit_smooth_field(COLUMN, value, np.full(value.shape, 0.002), row, N_COLUMN, order=2)
    assert np.abs(shrink_levels(field, error).at(COLUMN) - width[:, None]).max() < 0.02
