import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import find_peaks, peak_prominences, peak_widths

from kspecdr.maxima import apart, half_widths, local_maxima, prominences

CURVES = st.lists(st.integers(0, 9), min_size=3, max_size=60).map(lambda each: np.array(each, dtype=float))


@given(CURVES)
def test_maxima_are_those_of_the_reference_flat_tops_included(curve):
    np.testing.assert_array_equal(local_maxima(curve), find_peaks(curve)[0])


@given(CURVES)
def test_prominences_and_widths_are_those_of_the_reference(curve):
    place = local_maxima(curve)
    np.testing.assert_array_equal(prominences(curve, place), peak_prominences(curve, place)[0])
    np.testing.assert_allclose(half_widths(curve, place), peak_widths(curve, place)[0])


@given(st.permutations(range(40)), st.sampled_from([1.0, 2.5, 3.0, 7.0]))
def test_of_close_maxima_the_higher_stay(order, distance):
    curve = np.array(order, dtype=float)
    place = local_maxima(curve)
    kept = place[apart(place, curve[place], distance)]
    np.testing.assert_array_equal(kept, find_peaks(curve, distance=distance)[0])


def test_the_width_of_a_gaussian_is_its_own():
    curve = np.exp(-0.5 * ((np.arange(200) - 100) / 12.0) ** 2)
    assert half_widths(curve, np.array([100]))[0] == pytest.approx(2.3548 * 12, rel=1e-3)


def test_a_sample_on_a_slope_does_not_stand_out():
    np.testing.assert_array_equal(prominences(np.arange(9.0), np.array([4])), [0.0])
