"""One spectrum that shows all lines of a group of arcs: of each lamp the deepest exposure that is not full.

For looking at and for finding lines in; lines are measured on the single exposures, which are never averaged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import grey_dilation

from kspecdr.arrays import Floats, Ints
from kspecdr.products import MaskBit, flagged

SPILL = 4  # px: a full line distorts its wings so far


@dataclass(frozen=True)
class Exposed:
    """Spectra of one exposure of a lamp."""

    flux: Floats  # (n_fiber, n_column) electron
    variance: Floats  # (n_fiber, n_column) electron**2
    mask: Ints  # (n_fiber, n_column) uint8 bits of MaskBit
    exposure: float  # s
    lamp: str


def composite(exposures: Sequence[Exposed]) -> tuple[Floats, Floats, Ints]:
    """Return flux, variance and mask (n_fiber, n_column), electrons in the longest exposure time.

    Samples of a lamp come from its longest exposure that has them unmasked and no full line beside, scaled
    by exposure time; the lamps are added. Where a lamp has no unmasked sample the result is NaN and says
    why. A single exposure is returned as it is.
    """
    if len(exposures) == 1:
        only = exposures[0]
        return only.flux, only.variance, only.mask
    longest = max(each.exposure for each in exposures)
    lamps = [
        _deepest([e for e in exposures if e.lamp == lamp], longest) for lamp in dict.fromkeys(e.lamp for e in exposures)
    ]
    flux, variance = (np.sum([lamp[k] for lamp in lamps], axis=0) for k in (0, 1))
    return flux, variance, np.bitwise_or.reduce([lamp[2] for lamp in lamps])


def _deepest(exposures: Sequence[Exposed], longest: float) -> tuple[Floats, Floats, Ints]:
    shape = exposures[0].flux.shape
    flux, variance = np.full(shape, np.nan), np.full(shape, np.nan)
    mask = np.bitwise_or.reduce([each.mask for each in exposures])
    for each in sorted(exposures, key=lambda e: e.exposure):
        full = grey_dilation(flagged(each.mask, MaskBit.SATURATED), (1, 2 * SPILL + 1))
        good = (each.mask == 0) & np.isfinite(each.flux) & ~full
        scale = longest / each.exposure if each.exposure > 0 else 1.0
        flux = np.where(good, each.flux * scale, flux)
        variance = np.where(good, each.variance * scale**2, variance)
        mask = np.where(good, np.uint8(0), mask)
    return (
        flux,
        variance,
        np.where(np.isfinite(flux), mask, mask | np.uint8(MaskBit.NO_DATA)).astype(np.uint8),
    )
