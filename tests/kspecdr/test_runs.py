import numpy as np
import pytest

from kspecdr.runs import run_edges, sum_runs


@pytest.mark.parametrize("n_column", [1340, 1341, 7])
@pytest.mark.parametrize("length", [1, 5, 20])
def test_each_column_is_in_one_run_and_runs_are_alike(n_column, length):
    edge = run_edges(n_column, length)
    assert (edge[0], edge[-1]) == (0, n_column)
    assert np.ptp(np.diff(edge)) <= 1


@pytest.mark.parametrize("length", [1, 4, 5, 10])
def test_runs_are_summed_alike_whether_equal_or_not(length):
    value = np.random.default_rng(2).normal(0, 1000, (3, 41 * length)).astype(np.float32)
    edge = length * np.arange(42)
    expected = [[np.sum(row[low : low + length], dtype=float) for low in edge[:-1]] for row in value]
    np.testing.assert_allclose(sum_runs(value, edge), expected, rtol=1e-5, atol=1e-2)
    uneven = np.append(edge[:-2], edge[-1])
    np.testing.assert_allclose(sum_runs(value, uneven)[:, :-1], np.array(expected)[:, :-2], rtol=1e-5, atol=1e-2)


def test_what_counts_is_counted():
    good = np.arange(20) % 3 > 0
    np.testing.assert_array_equal(sum_runs(good, np.array([0, 5, 10, 15, 20]), np.float32), [3, 3, 4, 3])
