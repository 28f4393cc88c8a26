"""Rows that a frame has beyond those of the sensor: which they are, and the level of no light that they show.

The camera appends them on one side, and turning the frame to its normalised orientation may move them to the
other: no header says which. They alone see no light. Where neither their darkness nor the place of the fibers
tells, both ends are as dark as each other, and the level is known all the same.
"""

from dataclasses import dataclass

import numpy as np

from kspecdr.arrays import Floats
from kspecdr.tlm.peaks import find_candidates

LEAST_SIGMA = 6.0  # by which one end is darker than the other
LEAST_STEP = 0.1  # ADU, the same: what the structure of the bias may change between frames
CLIP = 5.0  # sigma of read noise: hits and hot pixels do not count
NEARER = 1 / 3  # of the overscan: by how much more the fibers lie in the sensor's middle


@dataclass(frozen=True)
class Overscan:
    """Which rows saw no light, and what they show."""

    low: int  # rows 0 to low - 1 are overscan
    high: int  # and as many at the other end; both 0 where it is not known which are
    level: float  # electron, of pixels that saw no light


def find_overscan(
    flux: Floats, n_overscan: int, read_noise: float, gain: float, *, all_fibers_lit: bool = False
) -> Overscan:
    """Recognise the overscan rows of a frame whose bias was subtracted.

    Parameters
    ----------
    flux : (n_row, n_column)
        Electron.
    n_overscan : int
        How many rows the frame has beyond those of the sensor.
    read_noise, gain : float
        Electron, electron / ADU.
    all_fibers_lit : bool
        Whether a lamp lights all fibers: their middle is then that of the sensor, to a few rows.
    """
    ends = flux[:n_overscan], flux[-n_overscan:]
    low, high = (_clipped_mean(end, read_noise) for end in ends)
    error = np.sqrt(2.0) * read_noise / np.sqrt(ends[0].size)
    level = min(low, high)
    if abs(low - high) > max(LEAST_SIGMA * error, LEAST_STEP * gain):
        is_low = low < high
    elif all_fibers_lit:
        nearer = _nearer_to_middle(flux, n_overscan, read_noise)
        if nearer == 0:
            return Overscan(0, 0, level)
        is_low = nearer < 0
    else:
        return Overscan(0, 0, level)
    return Overscan(n_overscan, 0, low) if is_low else Overscan(0, n_overscan, high)


def _clipped_mean(pixels: Floats, read_noise: float) -> float:
    center = float(np.median(pixels))
    near = np.abs(pixels - center) < CLIP * read_noise
    return float(np.mean(pixels[near], dtype=np.float64)) if near.any() else center


def _nearer_to_middle(flux: Floats, n_overscan: int, read_noise: float) -> int:
    """Return -1 or 1 where the fibers lie in the middle of the other rows if the first or last are overscan, else 0."""
    profile: Floats = np.asarray(np.mean(flux, axis=1, dtype=np.float64))
    noise = np.full(len(profile), read_noise**2 / flux.shape[1])
    fibers = find_candidates(profile, noise, least_contrast=0.05)
    if not fibers.row.size:
        return 0
    off_middle = float(np.median(fibers.row)) - (len(flux) - 1) / 2  # half the overscan if the first rows are
    if abs(off_middle) > n_overscan or abs(off_middle) < NEARER * n_overscan / 2:
        return 0
    return -1 if off_middle > 0 else 1
