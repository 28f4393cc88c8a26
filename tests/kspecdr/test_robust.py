import numpy as np
import pytest

from kspecdr.robust import QUARTILES, robust_sigma


def test_the_sigma_of_a_gaussian_is_told_whatever_a_few_do():
    residual = np.random.default_rng(4).normal(0, 2.5, 40_000)
    assert robust_sigma(residual) == pytest.approx(2.5, rel=0.02)
    residual[:800] = 1e6
    assert robust_sigma(residual) == pytest.approx(2.5, rel=0.05)


def test_the_quartiles_of_a_gaussian_lie_so_far_apart():
    residual = np.random.default_rng(5).normal(0, 1, 40_000)
    assert np.diff(np.percentile(residual, [25, 75]))[0] == pytest.approx(QUARTILES, rel=0.02)
