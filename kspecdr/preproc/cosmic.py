"""Cosmic rays in fiber frames: pixels that do not fit the profile of their fiber.

The test is spatial: the light of a column is laid over the rows by the known profile, so that no arc or
sky line, however narrow along the dispersion, can look like a hit. A pixel is judged against the light that
the other pixels of its fiber show. Hits are marked, never replaced.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.preproc.profile_error import Part, Sources, mean_light
from kspecdr.preproc.robust_light import WING_SHARE, full_columns, robust_light
from kspecdr.robust import QUARTILES
from kspecdr.tlm.windows import Seen, Windows

GROWTH = 3.0  # sigma, for neighbours of a hit
BLOCK = 67  # columns over which the background under a fiber is constant
PASSES = 2
CHANCE_EXCESS = 0.4  # sigma, about twice what noise alone makes of the median of every other column of a block
CHANCE_SPREAD = 0.25  # sigma, about what it makes of their scatter

Columns = tuple[Ints, slice, Ints]  # fibers and columns, all rows of the windows


def find_hits(seen: Seen, windows: Windows, *, threshold: float = 5.5) -> Bools:
    """Find the pixels of fibers that cosmic rays hit.

    Parameters
    ----------
    seen : Seen
        The frame; its bad and saturated pixels are never called hits.
    windows : Windows
        The profiles on this very frame (its shift applied).
    threshold : float
        Of a hit, in sigma of read noise, photon noise and what the profile is uncertain.

    Returns
    -------
    hit : (n_fiber, n_window, n_column) bool
    """
    light = robust_light(seen, windows)
    others = windows.of_others(light)
    others += _background(seen, windows, others, light)[:, None]
    sources = Sources.of(seen, windows, light, others, full_columns(seen))
    doubt = sources.doubt(sources.errors(mean_light(seen, windows.own, others, light)))
    deviation = _judge(seen, windows.own, others, doubt)
    excess, spread = _misfit(deviation)
    deviation -= excess
    deviation /= spread
    # pixels far too dark: a track has raised the mean that they are judged by; the light that a hit cannot raise judges
    some = _columns_with(deviation < -threshold)
    if some[0].size:
        about_light = sources.doubt(sources.errors(light), Part.of_windows(some))
        deviation[some] = _above(seen, windows.own, others, about_light, light, some)
    for _ in range(PASSES):  # again without the hits, which hide their fainter neighbours as they raise the mean
        some = _columns_with(deviation > threshold)
        fit = seen.good[some] & (deviation[some] <= threshold)
        near = Seen(seen.flux[some], seen.dark_variance[some], seen.bits[some], fit)
        once_more = _judge_all(near, windows.own[some], others[some], doubt[some], seen.good[some])
        deviation[some] = (once_more - excess[some]) / spread[some]
    return _grown(deviation, deviation > threshold)


def _columns_with(pixels: Bools) -> Columns:
    """Return the fibers and columns in which any pixel of the window is true."""
    fiber, column = np.nonzero(pixels.any(axis=1))
    return fiber, slice(None), column


def without_hits(seen: Seen, windows: Windows) -> Seen:
    """Return the frame with hits not good, where these leave a fiber enough of its light in a column."""
    hit = find_hits(seen, windows)
    hit &= (np.sum(windows.own, axis=1, where=seen.good & ~hit) > 0.5 * np.sum(windows.own, axis=1))[:, None]
    good = seen.good & ~hit
    return replace(seen, flux=np.where(good, seen.flux, np.float32(0)), good=good)


def _background(seen: Seen, windows: Windows, others: Floats, light: Floats) -> Floats:
    """Median of the dark rows of each fiber in blocks of columns, joined by lines, (n_fiber, n_column)."""
    n_fiber, _, n_column = seen.flux.shape
    rows = np.flatnonzero(np.min(windows.own[:, :, :: max(1, n_column // 20)], axis=(0, 2)) < WING_SHARE)
    share = windows.own[:, rows]
    rest = seen.flux[:, rows] - others[:, rows] - share * light[:, None].astype(np.float32)
    rest[~seen.good[:, rows] | (share >= WING_SHARE)] = np.nan
    edge = _blocks(n_column)
    level = np.zeros((n_fiber, len(edge) - 1))
    for k, (low, high) in enumerate(pairwise(edge)):
        block = np.sort(rest[:, :, low:high].reshape(n_fiber, -1), axis=1)  # NaN sorts last
        number = np.isfinite(block).sum(axis=1)
        middle = np.take_along_axis(block, np.clip((number - 1) // 2, 0, None)[:, None], axis=1)[:, 0]
        level[:, k] = np.where(number > 10, middle, 0.0)
    column, place = np.arange(n_column), (edge[:-1] + edge[1:] - 1) / 2
    return np.array([np.interp(column, place, row) for row in level]).astype(np.float32)


def _blocks(n_column: int) -> Ints:
    """Return the edges of blocks of columns."""
    return np.asarray(np.linspace(0, n_column, max(1, round(n_column / BLOCK)) + 1).round().astype(int))


def _judge(seen: Seen, share: Floats, others: Floats, doubt: Floats) -> Floats:
    """Return how many sigma each good pixel lies above what the other pixels of its fiber say, 0 for others.

    The light is the weighted mean of the good pixels; each is judged as if it had not taken part in it
    (its residual and variance are those of leaving it out).
    """
    noise = seen.dark_variance + doubt
    rest, lever, _ = _off_the_mean(seen, share, others, noise)
    lever = 1 - lever
    rest /= np.sqrt(noise * lever)
    rest *= seen.good
    return rest


def _judge_all(seen: Seen, share: Floats, others: Floats, doubt: Floats, judged: Bools) -> Floats:
    """Return what `_judge` does for all `judged` pixels, of which only those that are good tell the light."""
    noise = seen.dark_variance + doubt
    rest, lever, total = _off_the_mean(seen, share, others, noise)
    out = judged & ~seen.good
    deviation = rest / np.where(out, np.sqrt(noise + share**2 / total), np.sqrt(noise * (1 - lever)))
    return np.where(judged, deviation, 0)


def _off_the_mean(seen: Seen, share: Floats, others: Floats, noise: Floats) -> tuple[Floats, Floats, Floats]:
    """Return how far pixels are off the weighted mean, how much each determines it, and its weight."""
    weighted = share / noise
    weighted *= seen.good
    rest = seen.flux - others
    total = np.maximum(np.einsum("fk...,fk...->f...", weighted, share), 1e-30)[:, None]
    best = np.einsum("fk...,fk...->f...", weighted, rest)[:, None] / total
    lever = np.minimum(share * weighted / total, np.float32(0.9))
    rest -= share * best
    return rest, lever, total


def _above(seen: Seen, share: Floats, others: Floats, doubt: Floats, light: Floats, some: Columns) -> Floats:
    """Return how many sigma the pixels of some columns lie above `light`, (n, n_window)."""
    rest = seen.flux[some] - others[some] - share[some] * light[some[0], some[2], None].astype(np.float32)
    return np.where(seen.good[some], rest / np.sqrt(seen.dark_variance[some] + doubt), 0)


def _misfit(deviation: Floats) -> tuple[Floats, Floats]:
    """Return the typical deviation, where positive, and its scatter, where above one, block by block.

    Where the profile of the frame is not that of the map (another focus), a row of the window deviates
    all along; only what stands out of that can be a hit.
    """
    edge = _blocks(deviation.shape[2])
    excess, spread = np.empty_like(deviation), np.empty_like(deviation)
    for low, high in pairwise(edge):
        sample = np.sort(deviation[:, :, low:high:2])  # of so few, faster than to part them
        quarter = sample.shape[2] // 4
        lower, middle, upper = (sample[:, :, k * quarter] for k in (1, 2, 3))
        excess[:, :, low:high] = np.clip(middle - CHANCE_EXCESS, 0, None)[:, :, None]
        spread[:, :, low:high] = np.clip((upper - lower) / QUARTILES - CHANCE_SPREAD, 1, None)[:, :, None]
    return excess, spread


def _grown(deviation: Floats, hit: Bools) -> Bools:
    """Return the hits with the neighbours that stand out too."""
    grown = hit.copy()
    fiber, row, column = np.nonzero(hit)
    for down in (-1, 0, 1):
        for along in (-1, 0, 1):
            r, x = row + down, column + along
            inside = (r >= 0) & (r < hit.shape[1]) & (x >= 0) & (x < hit.shape[2])
            near = (fiber[inside], r[inside], x[inside])
            grown[near] |= deviation[near] > GROWTH
    return grown
