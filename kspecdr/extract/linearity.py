"""Which samples of a longer exposure are full, told by a shorter exposure of the same lamp.

Levels of saturation are not known for every readout mode; that a line's light has not grown with the
exposure time shows it all the same.
"""

import numpy as np

from kspecdr.arrays import Bools, Floats
from kspecdr.wavecal.lines import continuum

SHORTFALL = 0.5  # of the light expected: less is no longer linear
GROWN = 0.75  # quantile of the growth that stands for samples that are not full; these may be few
SIGNIFICANT = 10.0  # sigma of the shorter exposure's light


def compare(short: Floats, short_variance: Floats, long: Floats, full: Bools) -> tuple[Bools, float]:
    """Compare the lines of a longer exposure with those of a shorter one.

    short, short_variance, long : (n_fiber, n_column) electron, electron**2, electron
    full : (n_fiber, n_column) samples of the longer one that are known to be saturated
    Returns where the longer one is full (n_fiber, n_column), and the share of the lamp's light lost there.

    A full sample still shows more light than the shorter exposure has there. Where most of that light is
    absent the two are not of one lamp, and nothing follows.
    """
    expected, seen = (_lines(np.nan_to_num(flux)) for flux in (short, long))
    sure = expected > SIGNIFICANT * np.sqrt(np.nan_to_num(np.maximum(short_variance, 0)))
    usable = sure & ~full
    absent = usable & (np.nan_to_num(long) < expected)
    if np.sum(expected[absent]) >= SHORTFALL * np.sum(expected[sure]):
        return full, 0.0
    growth = float(np.quantile(seen[usable] / expected[usable], GROWN)) if usable.any() else 0.0
    lost = full | (sure & (seen < SHORTFALL * growth * expected))
    return lost, float(np.sum(expected[lost & sure]) / np.sum(expected[sure]))


def _lines(flux: Floats) -> Floats:
    return np.asarray(np.maximum(flux - continuum(flux), 0))
