import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kspecdr.errors import BadFrame
from kspecdr.tlm.match_fibers import match_fibers, match_fibers_isoplane


def rows_of(n_fiber, spacing=12.06, first=569.0, stretch=0.0005, seed=0):
    slot = np.arange(n_fiber)
    jitter = np.random.default_rng(seed).normal(0, 0.02 * spacing, n_fiber)
    return first + spacing * slot * (1 + stretch * slot) + jitter


def test_all_fibers_in_order():
    row = rows_of(14)
    vector, positions = match_fibers_isoplane(14, row)
    np.testing.assert_array_equal(vector, np.arange(1, 15))
    assert np.abs(positions - row).max() < 1e-6


def test_dead_fiber_leaves_a_gap_and_renumbers_nobody():
    row = rows_of(14)
    vector, positions = match_fibers_isoplane(14, np.delete(row, 5))
    np.testing.assert_array_equal(vector, [1, 2, 3, 4, 5, 0, 6, 7, 8, 9, 10, 11, 12, 13])
    assert abs(positions[5] - row[5]) < 1.5


@settings(max_examples=60, deadline=None)
@given(
    st.integers(8, 170),
    st.floats(5.5, 14.0),
    st.floats(-0.0006, 0.0006),
    st.sets(st.integers(1, 168), max_size=5),
    st.integers(0, 10),
)
def test_dead_fibers_anywhere_inside_are_named(n_fiber, spacing, stretch, dead, seed):
    dead = sorted(k for k in dead if k < n_fiber - 1)
    if len(dead) > n_fiber // 4:
        return
    row = rows_of(n_fiber, spacing, stretch=stretch, seed=seed)
    match = match_fibers(n_fiber, np.delete(row, dead))
    np.testing.assert_array_equal(np.flatnonzero(match.vector == 0), dead)
    assert not match.doubt
    assert np.all(np.diff(match.row) > 0)


def test_two_dead_neighbors():
    row = rows_of(16)
    match = match_fibers(16, np.delete(row, [7, 8]))
    np.testing.assert_array_equal(np.flatnonzero(match.vector == 0), [7, 8])


def test_ghost_far_from_the_slit_is_no_fiber():
    row = rows_of(14)
    ghost = np.array([380.0, 392.1, 404.0])
    match = match_fibers(14, np.r_[ghost, row])
    np.testing.assert_array_equal(match.vector, np.arange(4, 18))


def test_peak_between_fibers_is_no_fiber():
    row = rows_of(14)
    match = match_fibers(14, np.sort(np.r_[row, row[4] + 5.0]))
    np.testing.assert_array_equal(match.vector, [1, 2, 3, 4, 5, *range(7, 16)])


def test_missing_at_an_end_is_decided_by_the_middle_of_the_detector_and_in_doubt():
    row = rows_of(14, stretch=0.0)
    match = match_fibers(14, row[1:], center_row=row.mean() + 1.0)
    np.testing.assert_array_equal(match.vector, np.arange(14))
    assert "shows 13 places from row 581 to 726 for 14 fibers: 1 were taken as below and 0 as above" in match.doubt


def test_missing_at_an_end_is_beyond_doubt_where_the_table_says_which_are_unlit():
    row, lit = rows_of(16), np.ones(16, dtype=bool)
    lit[15] = False
    match = match_fibers(16, row[:15], lit=lit)
    np.testing.assert_array_equal(match.vector, [*range(1, 16), 0])
    assert not match.doubt


@pytest.mark.parametrize("lost", [[], [0], [13], [0, 1], [4, 13], [2, 3, 4]])
def test_nominal_rows_name_the_ends_too(lost):
    row = rows_of(14)
    nominal = (row - 640) / 1.003 + 640 + 2.3
    match = match_fibers(14, np.delete(row, lost), nominal)
    np.testing.assert_array_equal(np.flatnonzero(match.vector == 0), lost)
    assert np.abs(match.row - row).max() < 0.3
    assert not match.doubt


def test_nominal_rows_of_another_slit_are_refused():
    with pytest.raises(BadFrame, match="nominal rows"):
        match_fibers(14, rows_of(14), rows_of(14) + 400)


def test_the_brighter_pattern_wins_where_two_have_the_spacing():
    row = rows_of(14, stretch=0.0)
    twin = row[0] - 12.06 * np.arange(9, 0, -1)
    strength = np.r_[np.full(9, 0.05), np.ones(14)]
    match = match_fibers(14, np.r_[twin, row], strength=strength)
    np.testing.assert_array_equal(match.vector, np.arange(10, 24))


def test_nothing_found_is_an_error():
    with pytest.raises(BadFrame, match="0 of 14 fibers"):
        match_fibers(14, [])


def test_more_bright_traces_than_fibers_are_refused_with_count_and_rows():
    row = rows_of(16, stretch=0.0)
    with pytest.raises(
        BadFrame, match=r"has places for 16 fibers, 14 were expected: light at rows \d+, \d+ would be nobody"
    ):
        match_fibers(14, row, center_row=row.mean())
    with pytest.raises(BadFrame, match=rf"places for 15 fibers, 14 were expected: light at row {row[14]:.0f} would be"):
        match_fibers(14, row[:15], row[:14])


@pytest.mark.parametrize("outer", [0.01, 0.02, 0.1])
def test_faint_traces_past_the_ends_are_told_with_count_and_rows(outer):
    row, strength = rows_of(16, stretch=0.0), np.r_[outer, np.ones(14), 1.3 * outer]
    match = match_fibers(14, row, strength=strength)
    np.testing.assert_array_equal(match.vector, np.arange(2, 16))
    assert match.doubt.startswith("the slit has places for 16 fibers, 14 were expected: light at rows 569, 750 would")


def test_the_wings_of_the_outer_fibers_are_no_more_fibers():
    row, strength = rows_of(16, stretch=0.0), np.r_[0.001, np.ones(14), 0.002]
    assert not match_fibers(14, row, strength=strength).doubt


@pytest.mark.parametrize("dead", [[], [4], [6, 7]])
def test_fewer_traces_than_fibers_are_told(dead):
    row = np.delete(rows_of(14, stretch=0.0), dead)
    match = match_fibers(16, row, center_row=647.0)
    assert (
        "the slit shows 14 places from row 569 to 726 for 16 fibers: 1 were taken as below and 1 as above"
        in match.doubt
    )
    np.testing.assert_array_equal(np.flatnonzero(match.vector == 0), [0, *(k + 1 for k in dead), 15])


def test_fewer_traces_than_fibers_are_named_by_the_rows_of_the_table():
    nominal = rows_of(16, stretch=0.0)
    match = match_fibers(16, nominal[1:15] + 0.8, nominal)
    np.testing.assert_array_equal(np.flatnonzero(match.vector == 0), [0, 15])
    assert not match.doubt
