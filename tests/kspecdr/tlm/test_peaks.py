import numpy as np
import pytest

from kspecdr.tlm.peaks import bin_columns, find_candidates, follow, sharpen, sharpening_kernel


def test_binning_leaves_out_bad_pixels_and_says_where_none_is_good():
    flux = np.ones((4, 40))
    bad = np.zeros(flux.shape, dtype=bool)
    flux[1, 3], bad[1, 3] = 1e6, True
    flux[2, :20], bad[2, :20] = 7.0, True
    binned = bin_columns(flux, 4 * flux, bad)
    np.testing.assert_array_equal(binned.column, [9.5, 29.5])
    assert binned.flux[1, 0] == 1
    assert np.isnan(binned.flux[2, 0])
    assert binned.seen[2, 0] == 7
    np.testing.assert_allclose(binned.variance[0], 4 / 20)
    assert binned.variance[1, 0] == pytest.approx(4 / 19)


def test_sharpening_is_blind_to_even_light_and_keeps_the_height_of_a_fiber():
    kernel = sharpening_kernel(1.4)
    assert kernel.sum() == pytest.approx(0, abs=1e-12)
    row = np.arange(-200, 201)
    sharp, _ = sharpen(1000 * np.exp(-0.5 * (row / 1.1) ** 2) + 500.0, np.ones(401))
    assert sharp[200] == pytest.approx(1000, rel=1e-3)
    assert abs(sharp[20]) < 1e-6


def test_a_one_percent_fiber_is_found_between_bright_ones_and_a_ghost_is_not():
    row = np.arange(200)
    rng = np.random.default_rng(4)
    centers, heights = np.array([60.3, 72.4, 84.2, 96.5]), np.array([5000, 60, 5000, 5000])
    profile = np.sum(heights * np.exp(-0.5 * ((row[:, None] - centers) / 1.4) ** 2), axis=1)
    profile += 1400 * np.exp(-0.5 * ((row - 140) / 12) ** 2)
    variance = (profile + 256) / 20
    found = find_candidates(profile + rng.normal(0, np.sqrt(variance)), variance)
    assert np.abs(found.row - centers).max() < 0.3


def test_noise_holds_no_fibers():
    rng = np.random.default_rng(5)
    assert not find_candidates(rng.normal(0, 4, 1300), np.full(1300, 16.0)).row.size


def test_peaks_are_followed_along_a_steep_bend_and_through_a_dark_gap():
    column = np.arange(40)
    truth = np.array([30.0, 42.0, 54.0, 66.0])[:, None] + 0.6 * (column - 20) + 0.006 * (column - 20) ** 2
    row = np.arange(110)[:, None]
    profile = np.sum(1000 * np.exp(-0.5 * ((row - truth[:, None]) / 1.4) ** 2), axis=0)
    profile[:, 28:31] = 0
    sharp, noise = sharpen(profile, np.ones(profile.shape))
    center, seen = follow(sharp, noise, truth[:, 20], 20)
    assert not seen[28:31].any()
    assert np.abs(center - truth)[:, seen > 0].max() < 0.3
