"""Cosmic rays in fiber frames: pixels that do not fit the profile of their fiber.

The test is spatial: the light of a column is laid over the rows by the known profile, so that no arc or
sky line, however narrow along the dispersion, can look like a hit. A pixel is judged against the light that
the other pixels of its fiber show. Hits are marked, never replaced.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy.ndimage import maximum_filter1d

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.tlm.windows import Seen, Windows

CORE_ROWS = 2  # rows on either side of the center that tell a fiber's light at first
GROWTH = 3.0  # sigma, for neighbours of a hit
WING_SHARE = 0.02  # of the fiber's light in a pixel; less is a wing
WING_ERROR = 0.25  # of the light in a wing
HALO_ERROR = 0.04  # of what near columns are brighter
HALO_ROWS = 2  # rows over which that light is spread
LEAST_MODEL_ERROR = 0.01  # of the light in a pixel; more where the frame shows more
BLOCK = 67  # columns over which the background under a fiber is constant
PASSES = 2


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
    doubt = _doubt(seen, windows, light, others, _model_error(seen, windows, light, others))
    deviation = _judge(seen, windows.own, others, doubt)
    excess, spread = _misfit(deviation)
    deviation -= excess
    deviation /= spread
    for _ in range(PASSES):
        again = np.nonzero((deviation > threshold).any(axis=1))
        some = (again[0], slice(None), again[1])
        fit = seen.good[some] & (deviation[some] <= threshold)
        near = Seen(seen.flux[some], seen.dark_variance[some], seen.bits[some], fit)
        once_more = _judge(near, windows.own[some], others[some], doubt[some], seen.good[some])
        deviation[some] = (once_more - excess[some]) / spread[some]
    return _grown(deviation, deviation > threshold)


def without_hits(seen: Seen, windows: Windows) -> Seen:
    """Return the frame with hits not good, where these leave a fiber enough of its light in a column."""
    hit = find_hits(seen, windows)
    hit &= (np.sum(windows.own, axis=1, where=seen.good & ~hit) > 0.5 * np.sum(windows.own, axis=1))[:, None]
    good = seen.good & ~hit
    return replace(seen, flux=np.where(good, seen.flux, np.float32(0)), good=good)


def robust_light(seen: Seen, windows: Windows) -> Floats:
    """Return the median over the core rows of what each says of the fiber's light, (n_fiber, n_column)."""
    half = windows.n_window // 2
    core = slice(max(half - CORE_ROWS, 0), half + CORE_ROWS + 1)
    share = windows.own[:, core]
    good = seen.good[:, core] & (share > WING_SHARE)
    ratio = np.where(good, seen.flux[:, core] / np.maximum(share, np.float32(WING_SHARE)), np.inf)
    ratio.sort(axis=1)
    middle = np.clip((good.sum(axis=1) - 1) // 2, 0, None)
    light = np.take_along_axis(ratio, middle[:, None], axis=1)[:, 0]
    return np.clip(np.where(np.isfinite(light), light, 0.0), 0.0, None)


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


def _doubt(seen: Seen, windows: Windows, light: Floats, others: Floats, error: float) -> Floats:
    """Return the variance of a pixel beyond that of its own datum: photon noise and what the profile may err.

    Beside a bright line the profile is not that of a continuum, since the halo of the optics is round: a
    share of what near columns are brighter, spread over the core rows, is uncertain.
    """
    single = light[:, None].astype(np.float32)
    own = windows.own * single
    doubt = own * np.where(windows.own < WING_SHARE, np.float32(WING_ERROR), np.float32(error))
    doubt **= 2
    doubt += own
    doubt += np.abs(others)
    doubt += np.square(np.float32(WING_ERROR) * others)
    brighter = maximum_filter1d(single, 5, axis=2) - single
    halo = _spread_over_rows(windows.own) * (np.float32(HALO_ERROR) * brighter)
    halo **= 2
    own += seen.dark_variance
    halo[halo < own] = 0  # the light's own noise changes from column to column too
    doubt += halo
    return doubt


def _spread_over_rows(share: Floats) -> Floats:
    """Return the largest share within HALO_ROWS of each row of the windows."""
    largest = share.copy()
    for step in range(1, HALO_ROWS + 1):
        np.maximum(largest[:, step:], share[:, :-step], out=largest[:, step:])
        np.maximum(largest[:, :-step], share[:, step:], out=largest[:, :-step])
    return largest


def _judge(seen: Seen, share: Floats, others: Floats, doubt: Floats, judged: Bools | None = None) -> Floats:
    """Return how many sigma each pixel lies above what the other pixels of its fiber say.

    The light is the weighted mean of the good pixels; one that took part in it is judged as if it had not
    (its residual and variance are those of leaving it out). `judged` are all those to judge, all that are
    good by default.
    """
    noise = seen.dark_variance + doubt
    weighted = share / noise
    weighted *= seen.good
    rest = seen.flux - others
    total = np.maximum(np.einsum("fk...,fk...->f...", weighted, share), 1e-30)[:, None]
    best = np.einsum("fk...,fk...->f...", weighted, rest)[:, None] / total
    lever = np.minimum(share * weighted / total, np.float32(0.9))
    rest -= share * best
    if judged is None:
        lever = 1 - lever
        rest /= np.sqrt(noise * lever)
        rest *= seen.good
        return rest
    out = judged & ~seen.good
    deviation = rest / np.where(out, np.sqrt(noise + share**2 / total), np.sqrt(noise * (1 - lever)))
    return np.where(judged, deviation, 0)


def _misfit(deviation: Floats) -> tuple[Floats, Floats]:
    """Return the typical deviation, where positive, and its scatter, where above one, block by block.

    Where the profile of the frame is not that of the map (another focus), a row of the window deviates
    all along; only what stands out of that can be a hit.
    """
    edge = _blocks(deviation.shape[2])
    excess, spread = np.empty_like(deviation), np.empty_like(deviation)
    for low, high in pairwise(edge):
        quarter = (high - low) // 4
        ranks = [quarter, 2 * quarter, 3 * quarter]
        lower, middle, upper = np.moveaxis(np.partition(deviation[:, :, low:high], ranks)[:, :, ranks], 2, 0)
        excess[:, :, low:high] = np.clip(middle - 0.4, 0, None)[:, :, None]
        spread[:, :, low:high] = np.clip((upper - lower) / 1.349 - 0.25, 1, None)[:, :, None]
    return excess, spread


def _model_error(seen: Seen, windows: Windows, light: Floats, others: Floats) -> float:
    """Return the relative error of the profile that bright pixels show, robustly."""
    thin = np.s_[:, :, ::4]
    own = (windows.own[thin] * light[:, None, ::4]).astype(np.float32)
    noise = seen.dark_variance[thin] + own + np.abs(others[thin])
    bright = seen.good[thin] & (own**2 * LEAST_MODEL_ERROR**2 > 0.2 * noise)
    if np.count_nonzero(bright) < 50:
        return 3 * LEAST_MODEL_ERROR
    residual = (seen.flux[thin] - others[thin] - own)[bright] / own[bright]
    found = 1.4826 * float(np.median(np.abs(residual)))
    expected = float(np.median(np.sqrt(noise[bright]) / own[bright]))
    return max(LEAST_MODEL_ERROR, 1.5 * float(np.sqrt(max(found**2 - expected**2, 0.0))))


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
