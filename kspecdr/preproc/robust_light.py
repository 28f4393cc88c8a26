"""The light of each fiber in each column, told so that cosmic rays do not add to it.

A hit only ever adds charge. The median over the rows of a fiber's core is spoiled where a track covers
most of them; then the rows beside it show less than that light would bring, and these are believed.
"""

import numpy as np

from kspecdr.arrays import Bools, Floats
from kspecdr.products import MaskBit, flagged
from kspecdr.tlm.windows import Seen, Windows

CORE_ROWS = 2  # rows on either side of the center that tell a fiber's light at first
WITNESS_ROWS = 3  # rows on either side that may contradict
FULL_ROWS = 1  # rows on either side of the center; if one is full the light is told by the wings
WING_SHARE = 0.02  # of the fiber's light in a pixel; less is a wing
LEAST_SHARE = 0.001  # in a wing that may tell the light of a full core
CONTRADICTION = 4.0  # sigma of read and photon noise by which a row is too dark
CONTRAST = 0.25  # of its light, by which a row may be too dark as the profile errs


def robust_light(seen: Seen, windows: Windows) -> Floats:
    """Return the light that the rows of each fiber agree on, at least zero, (n_fiber, n_column) electron.

    It is the median of what the core rows say, unless two rows are too dark for it (one alone may be a bad
    pixel), when the darkest tells; where the core is full, the median of what the wings say.
    """
    half = windows.n_window // 2
    core = np.s_[:, max(half - CORE_ROWS, 0) : half + CORE_ROWS + 1]
    light = _median_said(seen.flux[core], windows.own[core], seen.good[core], WING_SHARE)
    least, second = _upper_bounds(seen, windows)
    light = np.where(second < light, least, light)
    fiber, column = np.nonzero(full_columns(seen))
    if fiber.size:
        full = np.s_[fiber, :, column]
        light[fiber, column] = _median_said(seen.flux[full], windows.own[full], seen.good[full], LEAST_SHARE)
    return np.clip(light, 0.0, None)


def full_columns(seen: Seen) -> Bools:
    """Return where the core of a fiber is saturated, (n_fiber, n_column)."""
    half = seen.bits.shape[1] // 2
    core = seen.bits[:, max(half - FULL_ROWS, 0) : half + FULL_ROWS + 1]
    return np.asarray(flagged(core, MaskBit.SATURATED).any(axis=1))


def _median_said(flux: Floats, share: Floats, good: Bools, least: float) -> Floats:
    """Return the median over the good rows (axis 1) of what each says of the light; zero without any.

    least : share of a row that has a say
    """
    good = good & (share > least)
    ratio = np.where(good, flux / np.maximum(share, np.float32(least)), np.inf)
    ratio = _sorted(ratio)
    middle = np.clip((good.sum(axis=1) - 1) // 2, 0, None)
    light = np.take_along_axis(ratio, np.expand_dims(middle, 1), axis=1)[:, 0]
    return np.where(np.isfinite(light), light, 0.0)


def _sorted(value: Floats) -> Floats:
    """Return values in ascending order along the rows (axis 1), which are few."""
    rows = list(value.swapaxes(0, 1))
    for first in range(len(rows)):
        for k in range(first % 2, len(rows) - 1, 2):  # neighbours change places, n times over (odd-even sort)
            rows[k], rows[k + 1] = np.minimum(rows[k], rows[k + 1]), np.maximum(rows[k], rows[k + 1])
    return np.stack(rows, axis=1)


def _upper_bounds(seen: Seen, windows: Windows) -> tuple[Floats, Floats]:
    """Return the light that the darkest row could bear, and the next one, (n_fiber, n_column) each."""
    half = windows.n_window // 2
    rows = slice(max(half - WITNESS_ROWS, 0), half + WITNESS_ROWS + 1)
    share, flux = windows.own[:, rows], np.maximum(seen.flux[:, rows], 0)
    most = np.sqrt(seen.dark_variance[:, rows] + flux)
    most *= np.float32(CONTRADICTION)
    most += np.float32(1 + CONTRAST) * flux
    most /= np.maximum(share, np.float32(WING_SHARE))
    most[~seen.good[:, rows] | (share <= WING_SHARE)] = np.inf
    least, second = np.minimum(most[:, 0], most[:, 1]), np.maximum(most[:, 0], most[:, 1])
    for row in range(2, most.shape[1]):
        np.minimum(second, np.maximum(least, most[:, row]), out=second)
        np.minimum(least, most[:, row], out=least)
    return least, second
