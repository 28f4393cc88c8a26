"""Combining exposures of one kind, with the variance that is known of them.

A clip by the sample's own scatter can never reject below N = 24 at 5 sigma: one deviant among N lies
at most (N - 1) / sqrt(N) of its own scatter away. The known variance has no such limit.
"""

from dataclasses import dataclass

import numpy as np

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.errors import BadOption
from kspecdr.products import MaskBit, flagged

METHODS = ("MEDIAN", "MEAN", "SIGMA_CLIP")
ROWS_AT_ONCE = 64  # a block of some 15 frames stays in the cache
# var(median) / var(mean) of 0, 1, 2 ... exposures with normal noise
MEDIAN_EXCESS = (1.0, 1.0, 1.0, 1.35, 1.19, 1.43, 1.29, 1.47, 1.34, 1.49, 1.38, 1.50, 1.40)
LARGE_SAMPLE = 1.52  # the same of more


@dataclass(frozen=True)
class Combination:
    """How to combine."""

    method: str = "SIGMA_CLIP"
    sigma: float = 5.0
    tolerance: float = 0.0  # fraction of the light by which exposures may differ, beyond noise
    poisson: bool = True  # the variance holds the photon noise of each exposure's own datum

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BadOption(f"method is {self.method!r}, expected one of {', '.join(METHODS)}")


def combine(flux: Floats, variance: Floats, mask: Ints, how: Combination) -> tuple[Floats, Floats, Ints]:
    """Combine exposures pixel by pixel.

    flux, variance, mask : (n_frame, n_row, n_column); masked pixels do not count
    Returns flux, variance (n_row, n_column) float32 and mask; a pixel masked in every exposure keeps the
    median of what was read and the bits of all; it is a bad one unless it is none at all (NO_DATA).
    """
    shape = flux.shape[1:]
    out: tuple[Floats, Floats, Ints]
    out = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint8)
    for start in range(0, shape[0], ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        block = _combine_block(flux[:, rows], variance[:, rows], mask[:, rows], how)
        out[0][rows], out[1][rows], out[2][rows] = block
    return out


def _combine_block(flux: Floats, variance: Floats, mask: Ints, how: Combination) -> tuple[Floats, Floats, Ints]:
    masked = mask != 0
    any_masked = bool(masked.any())
    center = _masked_median(flux, masked) if any_masked else _median(flux)
    keep = ~masked
    if how.method == "SIGMA_CLIP" and flux.shape[0] > 1:
        keep &= _agrees(flux, variance, masked, center, how)
    count = keep.sum(axis=0, dtype=np.float32)
    safe = np.maximum(count, 1)
    mean = np.where(count > 0, np.sum(flux, axis=0, where=keep) / safe, center)
    spread = np.sum(variance, axis=0, where=keep) / safe**2
    spread = np.where(count > 0, spread, np.mean(variance, axis=0))
    every = np.bitwise_or.reduce(mask, axis=0)
    lost = np.where(flagged(every, MaskBit.NO_DATA), every, every | np.uint8(MaskBit.BAD_PIXEL))
    bits = np.where(count > 0, 0, lost)
    if how.method == "MEDIAN":
        excess = np.append(np.array(MEDIAN_EXCESS, np.float32), np.float32(LARGE_SAMPLE))
        return center, spread * excess[np.minimum(count.astype(int), len(MEDIAN_EXCESS))], bits
    return mean, spread, bits


def _agrees(flux: Floats, variance: Floats, masked: Bools, center: Floats, how: Combination) -> Bools:
    """Return which data agree with what the others show.

    Two that contradict each other have no middle to be judged by: hits only add light, the lower one stays.
    """
    if flux.shape[0] > 2:
        return (flux - center) ** 2 <= how.sigma**2 * _known_variance(flux, variance, center, how)
    lower = np.where(masked, np.inf, flux).min(axis=0)
    lower = np.where(np.isfinite(lower), lower, center)
    known = _known_variance(flux, variance, lower, how)
    return flux - lower <= how.sigma * np.sqrt(2 * known)


def _known_variance(flux: Floats, variance: Floats, center: Floats, how: Combination) -> Floats:
    """Return each exposure's variance with the photon noise of the common center, not of its own datum."""
    known = variance - (flux - center) if how.poisson else variance
    floor = variance.min(axis=0) * 0.5
    return np.asarray(np.maximum(known, floor) + (how.tolerance * center) ** 2)


def _median(stack: Floats) -> Floats:
    n = stack.shape[0]
    if n % 2:
        return np.asarray(np.partition(stack, n // 2, axis=0)[n // 2])
    halves = np.partition(stack, (n // 2 - 1, n // 2), axis=0)
    return np.asarray(0.5 * (halves[n // 2 - 1] + halves[n // 2]))


def _masked_median(stack: Floats, masked: Bools) -> Floats:
    center = _median(stack)
    touched = masked.any(axis=0) & ~masked.all(axis=0)
    if touched.any():
        center[touched] = np.nanmedian(np.where(masked, np.nan, stack)[:, touched], axis=0)
    return center


def level_offsets(flux: Floats) -> Floats:
    """Return what to add to each exposure (n_frame,) so that all have the mean of their medians."""
    levels = np.median(flux[:, ::4, ::4], axis=(1, 2))
    return np.asarray(levels.mean() - levels)


def level_factors(flux: Floats) -> Floats:
    """Return what to multiply each exposure (n_frame,) with so that all have the mean brightness.

    The brightness is the mean of the upper tenth of the pixels of a coarse grid: the light, not the gaps.
    """
    sample = flux[:, ::4, ::4].reshape(flux.shape[0], -1)
    bright = np.partition(sample, -max(sample.shape[1] // 10, 1), axis=1)[:, -max(sample.shape[1] // 10, 1) :]
    levels = bright.mean(axis=1)
    return np.where(levels > 0, levels.mean() / np.where(levels > 0, levels, 1.0), 1.0)
