"""Detector kernels: counts to electrons, the variance model, saturation, subtraction and division.

All arrays are (n_row, n_column), electrons and electrons squared unless said otherwise.
"""

import numpy as np

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.products import CONVERTER_LIMIT, MaskBit

PLATEAU_NOISE = 5.0  # sigma of read noise by which full pixels differ
PLATEAU_SPREAD = 0.003  # of their level, the same; where only pairs are full, noise alone
LEAST_PLATEAU = 300.0  # sigma of read noise above the typical pixel: fewer are no full well
LEAST_THREES, LEAST_PAIRS = 20, 6  # full pixels, one above the other
MOST_BEYOND = 0.1  # pixels above the plateau, for each of these


def to_electrons(counts: Ints, gain: float) -> Floats:
    """Return counts (ADU) in electrons, as float32."""
    return np.multiply(counts, np.float32(gain), dtype=np.float32)


def readout_variance(read_noise: float, gain: float) -> float:
    """Return the variance of a pixel without light: read noise and the converter's rounding.

    Rounding to whole ADU adds the variance of a uniform distribution, gain**2 / 12.
    """
    return read_noise**2 + gain**2 / 12.0


def light_variance(light: Floats, read_noise: float, gain: float) -> Floats:
    """Return the variance of pixels that hold `light` electrons beyond the pedestal.

    The signed datum stands for its expectation, so that the mean variance of dark pixels is unbiased
    (cutting at zero would raise it by 0.4 RN); half the readout variance is the least value. Where
    weights depend on the variance, extraction replaces the datum by its model of the light.
    """
    floor = np.float32(readout_variance(read_noise, gain))
    variance = np.add(light, floor, dtype=np.float32)
    return np.maximum(variance, 0.5 * floor, out=variance)


def saturated(counts: Ints, level: float) -> Bools:
    """Return where counts (ADU) reach `level`, and the neighbours along the row into which they bleed."""
    hit = counts >= (np.ceil(level).astype(int) if counts.dtype.kind in "iu" else level)
    if not hit.any():
        return hit
    grown = hit.copy()
    grown[:, 1:] |= hit[:, :-1]
    grown[:, :-1] |= hit[:, 1:]
    return grown


def full_well(counts: Ints, noise: float) -> float | None:
    """Recognise, in a frame of fibers, the level (ADU) at which pixels are full below the converter's limit.

    Where pixels are full, two or three in a column of the array show the same level, the highest there is.
    The profile of a fiber does not, but by chance: its rows differ, and the brightest stands above the others.

    Parameters
    ----------
    counts : (n_row, n_column)
        ADU.
    noise : float
        Read noise, ADU.

    Returns
    -------
    The level above which pixels count as full, None where none are.
    """
    brightest, typical = counts.max(axis=1), float(np.median(counts[::11, ::11]))
    if not brightest.max() - typical >= LEAST_PLATEAU * noise:  # of pixels without value neither
        return None
    lit = np.flatnonzero(brightest > (typical + brightest.max()) / 2)
    near = slice(max(lit[0] - 2, 0), lit[-1] + 3)
    seen, brightest = counts[near], brightest[near]
    pairs = np.minimum(seen[:-1], seen[1:])
    threes = np.minimum(pairs[:-1], seen[2:])
    for together, least, share in ((threes, LEAST_THREES, PLATEAU_SPREAD), (pairs, LEAST_PAIRS, 0.0)):
        if len(together) < 2:  # where the light is at the very edge of the frame
            continue
        highest = together.max(axis=1)
        top = float(np.partition(highest, -2)[-2])  # of more rows than one
        spread = PLATEAU_NOISE * noise + share * (top - typical)
        if top - typical < LEAST_PLATEAU * noise or top >= CONVERTER_LIMIT:
            return None
        full = int(np.count_nonzero(together[highest >= top - spread] >= top - spread))
        beyond = int(np.count_nonzero(seen[brightest > top + spread] > top + spread))
        if full >= least and beyond < MOST_BEYOND * full:
            return top - spread
    return None


def initial_mask(counts: Ints, level: float | None, bad: Bools | None) -> Ints:
    """Return the MASK bits (uint8) of a frame: bad pixels, and saturation at `level` ADU where given."""
    mask = np.zeros(counts.shape, np.uint8)
    if bad is not None:
        mask[bad] |= np.uint8(MaskBit.BAD_PIXEL)
    full = saturated(counts, level) if level is not None else np.zeros(0, dtype=bool)
    if full.any():
        mask[full] |= np.uint8(MaskBit.SATURATED)
    return mask


def pedestal(flux: Floats) -> float:
    """Return the level of pixels without light of a frame whose bias was not subtracted.

    The median of the quarter of the rows that is darkest: fibers light a band, not the detector.
    """
    rows = np.median(flux, axis=1)
    return float(np.median(np.sort(rows)[: max(rows.size // 4, 1)]))


def divide(flux: Floats, variance: Floats, response: Floats, response_variance: Floats) -> tuple[Floats, Floats]:
    """Return flux / response and its variance, both sources of noise propagated to first order."""
    quotient = flux / response
    return quotient, (variance + quotient**2 * response_variance) / response**2
