"""Kernel: runs of neighbouring columns, and sums over them."""

from typing import Any

import numpy as np

from kspecdr.arrays import Bools, Floats, Ints

SHORT = 8  # columns of a run that is summed one value after the other


def run_edges(n_column: int, length: int) -> Ints:
    """Return the edges of runs of about `length` columns, equal to within one, (n_run + 1,)."""
    return np.asarray(np.linspace(0, n_column, max(1, round(n_column / length)) + 1).round().astype(int))


def sum_runs(value: Floats | Ints | Bools, edge: Ints, kind: Any = None) -> Floats:
    """Sum values (..., n_column) over runs of columns, (..., n_run).

    edge : (n_run + 1,) from 0 to n_column
    kind : type of the sums, that of the values where None

    Short runs of equal length are summed all at once, column by column, which is several times as fast.
    """
    length = int(edge[1] - edge[0])
    if length > SHORT or (np.diff(edge) != length).any():
        return np.asarray(np.add.reduceat(value, edge[:-1], axis=-1, dtype=kind or value.dtype))
    if length == 1:
        return np.array(value, dtype=kind)
    rest = np.array(value[..., 1::length], dtype=kind)
    for k in range(2, length):
        rest += value[..., k::length]
    return np.add(value[..., ::length], rest, dtype=rest.dtype)  # in the order in which a run alone is summed
