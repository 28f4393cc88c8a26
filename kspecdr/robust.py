"""Kernel: scatter told by medians and quartiles, which a minority of outliers cannot raise."""

import numpy as np

from kspecdr.arrays import Floats

MAD_TO_SIGMA = 1.4826  # sigma of a Gaussian over the median of its absolute values
QUARTILES = 1.349  # sigma between the quartiles of a Gaussian


def robust_sigma(residual: Floats) -> float:
    """Return the sigma of Gaussian residuals (n,) about zero, by the median of their absolute values."""
    return MAD_TO_SIGMA * float(np.median(np.abs(residual)))
