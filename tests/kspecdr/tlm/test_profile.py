import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from kspecdr.tlm.profile import N_WING, light_within, profile_matrix, wing_grid


def two_gaussians(share=0.03, ratio=3.0):
    grid = wing_grid()
    return share * (ndtr(grid / ratio) - ndtr(grid))


@given(st.floats(5.0, 20.0), st.floats(0.7, 2.0))
def test_shares_are_those_of_a_gaussian_and_sum_to_one(center, width):
    windows = profile_matrix(np.array([[center]]), np.array([[width]]), 14)
    rows = windows.rows[0, :, 0]
    exact = ndtr((rows + 0.5 - center) / width) - ndtr((rows - 0.5 - center) / width)
    np.testing.assert_allclose(windows.share[0, :, 0], exact, atol=3e-6)
    assert windows.share.sum() == pytest.approx(1, abs=1e-5)


def test_wings_are_part_of_the_profile():
    center, width = np.array([[30.3, 30.8]]), np.array([[1.4, 1.5]])
    windows = profile_matrix(center, width, 17, two_gaussians())
    for k in range(2):
        low, high = ((windows.rows[0, :, k] + half - center[0, k]) / width[0, k] for half in (-0.5, 0.5))
        exact = 0.97 * (ndtr(high) - ndtr(low)) + 0.03 * (ndtr(high / 3) - ndtr(low / 3))
        np.testing.assert_allclose(windows.share[0, :, k], exact, atol=2e-5)


def test_light_within_an_aperture():
    width = np.array([1.0, 1.4, 2.0])
    exact = 0.97 * (1 - 2 * ndtr(-2.5 / width)) + 0.03 * (1 - 2 * ndtr(-2.5 / width / 3))
    np.testing.assert_allclose(light_within(2.5, width, two_gaussians()), exact, atol=2e-5)


def test_wings_of_another_length_are_refused():
    with pytest.raises(ValueError, match=rf"\(7,\), expected \({N_WING},\)"):
        profile_matrix(np.array([[3.0]]), np.array([[1.0]]), 4, np.zeros(7))
