"""Rebinning: flux moved from one set of wavelength bins to another, none lost, none invented.

Every source pixel is cut at the edges of the target samples and each piece carries its share of the
pixel's light: the sparse overlap matrix W, kept as its pieces. So flux is W f exactly, the variance
W**2 v, and neighbours share the noise of the pixels that they cut: cov(j, j+1) = sum W_j W_j+1 v.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.sparse import csc_array, diags_array
from scipy.sparse.linalg import spsolve

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.errors import BadFrame
from kspecdr.products import MaskBit

SMOOTHEST = 1e-11  # weight of smoothness against samples: only what these leave open is decided by it
LEAST_COVER = 0.5  # of a sample: with less good light behind it a sample is NaN


@dataclass(frozen=True)
class Pieces:
    """The overlap matrix W: which pixel gives which sample what share of its light."""

    source: Ints  # (n_piece,) pixel, ascending
    target: Ints  # (n_piece,) sample, ascending
    share: Floats  # (n_piece,) of the pixel's light
    n_target: int

    def sum(self, values: Floats) -> Floats:
        """Return the sums of `values` (n_piece,) over the pieces of each sample, (n_target,)."""
        total: Floats = np.bincount(self.target, values, self.n_target).astype(float)
        return total


@dataclass(frozen=True)
class Rebinned:
    """One spectrum on the target samples; all (n_target,)."""

    flux: Floats  # electron per sample; NaN where no data
    variance: Floats  # electron**2
    covariance: Floats  # electron**2, with the next sample; 0 for the last
    mask: Ints  # uint8 bits of MaskBit


def edges_of(wave: Floats) -> Floats:
    """Return the edges (n + 1,) of pixels whose middles have wavelengths `wave` (n,), either direction."""
    middle = 0.5 * (wave[1:] + wave[:-1])
    return np.concatenate([[2 * wave[0] - middle[0]], middle, [2 * wave[-1] - middle[-1]]])


def overlap(source_edges: Floats, target_edges: Floats) -> Pieces:
    """Cut the source pixels at the target's edges.

    source_edges (n_source + 1,), target_edges (n_target + 1,) : ascending

    The frames of a night share an arc, and planes of a frame are rebinned one by one: what was cut is kept.
    """
    return _cut(*(np.asarray(edges, dtype=float).tobytes() for edges in (source_edges, target_edges)))


@lru_cache(maxsize=512)  # fibers
def _cut(*edges: bytes) -> Pieces:
    source_edges, target_edges = (np.frombuffer(each) for each in edges)
    n_source, n_target = source_edges.size - 1, target_edges.size - 1
    at = np.interp(target_edges, source_edges, np.arange(n_source + 1.0))  # in pixels of the source
    cuts = np.union1d(at, np.arange(np.floor(at[0]), np.ceil(at[-1]) + 1))
    cuts = cuts[(cuts >= at[0]) & (cuts <= at[-1])]
    share, middle = np.diff(cuts), 0.5 * (cuts[1:] + cuts[:-1])
    source = np.clip(np.floor(middle).astype(int), 0, n_source - 1)
    target = np.clip(np.searchsorted(at, middle, side="right") - 1, 0, n_target - 1)
    for array in (source, target, share):
        array.setflags(write=False)  # the same are given to all
    return Pieces(source, target, share, n_target)


def rebin(
    flux: Floats,
    variance: Floats,
    mask: Ints,
    wave: Floats,
    target_edges: Floats,
) -> Rebinned:
    """Move one spectrum to samples between `target_edges` (n_target + 1,), ascending.

    flux, variance, mask, wave : (n_column,); wave monotonic in either direction; NaN flux is bad

    A sample that bad pixels take part of is scaled to its full width, or NaN below half of it. A sample
    that lies partly beyond the spectrum's ends keeps what it has, marked NO_DATA, so that the sum of the
    samples is the sum of the pixels; one that lies beyond as a whole is NaN.
    """
    if wave[0] > wave[-1]:
        flux, variance, mask, wave = flux[::-1], variance[::-1], mask[::-1], wave[::-1]
    if not np.all(np.diff(wave) > 0):
        raise BadFrame("the wavelengths of a fiber do not rise or fall steadily along the columns")
    edges = edges_of(wave)
    pieces = overlap(edges, target_edges)
    good = np.isfinite(flux) & np.isfinite(variance) & (mask == 0)
    kept = np.where(good[pieces.source], pieces.share, 0.0)
    light = pieces.sum(kept * np.where(good, flux, 0.0)[pieces.source])
    noise = np.where(good, variance, 0.0)[pieces.source]
    spread = pieces.sum(kept**2 * noise)
    joined = (np.diff(pieces.source) == 0) & (np.diff(pieces.target) == 1)
    common = np.where(joined, kept[1:] * kept[:-1] * noise[1:], 0.0)
    covariance = np.bincount(pieces.target[:-1], common, pieces.n_target)
    width = np.diff(edges)[pieces.source]
    present = pieces.sum(pieces.share * width)
    cover = np.divide(pieces.sum(kept * width), present, out=np.zeros(pieces.n_target), where=present > 0)
    scale = np.where(cover >= LEAST_COVER, 1.0 / np.maximum(cover, LEAST_COVER), np.nan)
    neighbour = np.append(scale[1:], 0.0)
    whole = present > (1 - 1e-9) * np.diff(target_edges)
    return Rebinned(
        light * scale,
        spread * scale**2,
        np.nan_to_num(covariance * scale * neighbour),
        _bits(mask, pieces, good) | np.where(whole, np.uint8(0), np.uint8(MaskBit.NO_DATA)),
    )


def unbin(flux: Floats, variance: Floats, mask: Ints, edges: Floats, wave: Floats) -> Rebinned:
    """Return the pixels of which samples were made by `rebin`: its inverse, W solved for in least squares.

    flux, variance, mask : (n_sample,), between `edges` (n_sample + 1,), ascending
    wave : (n_column,) of the pixels

    Where samples are missing the smoothest of the spectra that explain the others is taken, and a pixel of
    which less than half is told is NaN. Pixels share no noise: their covariance is 0.
    """
    if wave[0] > wave[-1]:
        turned = unbin(flux, variance, mask, edges, wave[::-1])
        return Rebinned(turned.flux[::-1], turned.variance[::-1], turned.covariance, turned.mask[::-1])
    pieces = overlap(edges_of(wave), edges)
    known = np.isfinite(flux) & np.isfinite(variance) & ((mask & ~np.uint8(MaskBit.NO_DATA)) == 0)
    told = np.bincount(pieces.source, np.where(known[pieces.target], pieces.share, 0.0), wave.size)
    seen = told >= LEAST_COVER
    light = _solved(pieces, pieces.share, np.where(known, flux, 0.0), known, wave.size)
    noise = _solved(pieces, pieces.share**2, np.where(known, variance, 0.0), known, wave.size)
    least = np.min(variance[known], initial=np.inf)
    why = np.zeros(wave.size, np.uint8)
    np.bitwise_or.at(why, pieces.source, mask[pieces.target] | np.where(known[pieces.target], 0, MaskBit.NO_DATA))
    return Rebinned(
        np.where(seen, light, np.nan),
        np.where(seen, np.maximum(noise, least), np.nan),
        np.zeros(wave.size),
        np.where(seen, 0, why).astype(np.uint8),
    )


def _solved(pieces: Pieces, share: Floats, samples: Floats, known: Bools, n_source: int) -> Floats:
    """Return the smoothest values (n_source,) whose shares best add up to the known samples."""
    matrix = csc_array((share * known[pieces.target], (pieces.target, pieces.source)), (pieces.n_target, n_source))
    bend = diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(n_source - 2, n_source))
    normal = matrix.T @ matrix + SMOOTHEST * (bend.T @ bend)
    return np.asarray(spsolve(csc_array(normal), matrix.T @ samples))


def _bits(mask: Ints, pieces: Pieces, good: Bools) -> Ints:
    bits = np.zeros(pieces.n_target, np.uint8)
    reasons = np.where(good, 0, np.where(mask == 0, np.uint8(MaskBit.NO_DATA), mask)).astype(np.uint8)
    bad = reasons[pieces.source] != 0
    np.bitwise_or.at(bits, pieces.target[bad], reasons[pieces.source[bad]])
    return bits


def common_edges(wave: Floats, *, log_wave: bool = False) -> Floats:
    """Return the edges of one grid for several spectra: all that they cover, in steps of their dispersion.

    wave : (n_fiber, n_column) of the fibers that have a solution
    log_wave : equal steps of the logarithm instead of the wavelength
    """
    scale = np.log(wave) if log_wave else wave
    edges = np.array([np.sort(edges_of(row)[[0, -1]]) for row in scale])
    low, high = edges[:, 0].min(), edges[:, 1].max()
    step = float(np.median(np.abs(np.diff(scale, axis=1))))
    grid = low + step * np.arange(int(np.ceil((high - low) / step)) + 1)
    return np.asarray(np.exp(grid) if log_wave else grid)


def middles(edges: Floats, *, log_wave: bool = False) -> Floats:
    """Return the wavelengths (n,) that stand for the samples between `edges` (n + 1,)."""
    return np.sqrt(edges[1:] * edges[:-1]) if log_wave else 0.5 * (edges[1:] + edges[:-1])
