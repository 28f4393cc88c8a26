import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from kspecdr.tlm.profile import FAR_REACH, N_WING, core_grid, far_grid, profile_matrix


def flat_topped(share=0.03, ratio=1.3):
    """A core that is no Gaussian."""
    return share * (ndtr(core_grid() / ratio) - ndtr(core_grid()))


def wings_of(shares, sigma):
    """The cumulative light of Gaussian wings in zones of columns."""
    return np.array(shares)[:, None] * (ndtr(far_grid() / sigma) - ndtr(-FAR_REACH / sigma))


def in_pixels(windows, center, sigma):
    low, high = ((windows.rows + half - center[:, None]) / sigma for half in (-0.5, 0.5))
    return ndtr(high) - ndtr(low)


@given(st.floats(5.0, 20.0), st.floats(0.7, 2.0))
def test_shares_are_those_of_a_gaussian_and_sum_to_one(center, width):
    windows = profile_matrix(np.array([[center]]), np.array([[width]]), 14)
    np.testing.assert_allclose(windows.share, in_pixels(windows, np.array([[center]]), width), atol=3e-6)
    assert windows.share.sum() == pytest.approx(1, abs=1e-5)


def test_the_core_scales_with_its_width():
    center, width = np.array([[30.3, 30.8]]), np.array([[1.4, 1.9]])
    windows = profile_matrix(center, width, 17, flat_topped())
    exact = 0.97 * in_pixels(windows, center, width) + 0.03 * in_pixels(windows, center, 1.3 * width)
    np.testing.assert_allclose(windows.share, exact, atol=2e-5)


@given(st.floats(29.5, 30.5), st.floats(0.7, 2.0))
def test_wings_do_not_and_change_along_the_columns(row, width):
    center, shares = np.full((1, 4), row), [0.01, 0.05]
    windows = profile_matrix(center, np.full((1, 4), width), 24, np.vstack([np.zeros(N_WING), wings_of(shares, 4.0)]))
    share = np.repeat(shares, 2)
    exact = (1 - share) * in_pixels(windows, center, width) + share * in_pixels(windows, center, 4.0)
    np.testing.assert_allclose(windows.share, exact, atol=2e-5)
    np.testing.assert_allclose(windows.share.sum(axis=1), 1, atol=2e-4)


def test_no_light_lies_past_the_reach_of_the_wings():
    wings = np.vstack([np.zeros(N_WING), wings_of([0.05], 8.0)])
    windows = profile_matrix(np.array([[60.2]]), np.array([[1.4]]), 50, wings)
    away = np.abs(windows.rows - 60.2) > FAR_REACH + 0.6
    assert away.sum() > 40
    np.testing.assert_allclose(windows.share[away], 0, atol=1e-12)


def test_wings_of_another_length_are_refused():
    with pytest.raises(ValueError, match=rf"\(7,\), expected \(\.\.\., {N_WING}\)"):
        profile_matrix(np.array([[3.0]]), np.array([[1.0]]), 4, np.zeros(7))
