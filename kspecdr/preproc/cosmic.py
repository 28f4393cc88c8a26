"""Cosmic rays in fiber frames: pixels that do not fit the profile of their fiber.

The test is spatial: the light of a column is laid over the rows by the known profile, so that no arc or
sky line, however narrow along the dispersion, can look like a hit. A pixel is judged against the light that
the other pixels of its fiber show. Hits are marked, never replaced.
"""

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from scipy.ndimage import maximum_filter, maximum_filter1d

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.tlm.light import gather, scatter
from kspecdr.tlm.profile import GAUSSIAN, FiberWindows, profile_matrix

CORE_ROWS = 2  # rows on either side of the center that tell a fiber's light at first
LARGEST_WINDOW = 8  # rows on either side that are judged
WING_ROWS = 12  # rows on either side over which a fiber's light disturbs its neighbours
GROWTH = 3.0  # sigma, for neighbours of a hit
WING_SHARE = 0.02  # of the fiber's light in a pixel; less is a wing
WING_ERROR = 0.25  # of the light in a wing
HALO_ERROR = 0.04  # of what near columns are brighter
LEAST_MODEL_ERROR = 0.01  # of the light in a pixel; more where the frame shows more
BLOCK = 67  # columns over which the background under a fiber is constant
PASSES = 2


def find_hits(
    flux: Floats,
    dark_variance: Floats,
    bad: Bools,
    center: Floats,
    width: Floats,
    wings: Floats = GAUSSIAN,
    *,
    threshold: float = 5.5,
) -> Bools:
    """Find the pixels of fibers that cosmic rays hit.

    Parameters
    ----------
    flux : (n_row, n_column)
        Electron.
    dark_variance : (n_row, n_column)
        Variance that the pixels would have without light, electron**2.
    bad : (n_row, n_column) bool
        Pixels that are known to be bad or saturated; never called hits.
    center, width : (n_fiber, n_column)
        Rows and core widths of the fibers on this very frame (its shift applied).
    wings : (N_WING,) or (0,)
        See `kspecdr.tlm.profile`.
    threshold : float
        Of a hit, in sigma of read noise, photon noise and what the profile is uncertain.

    Returns
    -------
    hit : (n_row, n_column) bool
        True in the rows of the fibers where a hit is; False elsewhere.
    """
    reach = max(_half_window(center), WING_ROWS)
    wide = profile_matrix(center, width, reach, wings)
    frame = _Frame.of(flux, dark_variance, bad, wide, _half_window(center))
    light = _robust_light(frame)
    others = _others(light, wide, frame)
    error = _model_error(frame, light, others)
    doubt = _doubt(frame, light, others, error)
    deviation = _judge(frame, others, doubt, np.zeros_like(frame.good))
    excess, scatter_seen = _misfit(deviation)
    deviation = (deviation - excess) / scatter_seen
    for _ in range(PASSES):
        again = np.nonzero((deviation > threshold).any(axis=1))
        chosen = (again[0], slice(None), again[1])
        once_more = _judge(frame.at(chosen), others[chosen], doubt[chosen], deviation[chosen] > threshold)
        deviation[chosen] = (once_more - excess[chosen]) / scatter_seen[chosen]
    return _grown(deviation, deviation > threshold, frame.rows, flux.shape)


def model_light(flux: Floats, bad: Bools, center: Floats, width: Floats, wings: Floats = GAUSSIAN) -> Floats:
    """Return the light of the fibers as their profiles have it, robust against hits, (n_row, n_column)."""
    wide = profile_matrix(center, width, max(_half_window(center), WING_ROWS), wings)
    frame = _Frame.of(flux, np.ones(flux.shape, dtype=np.float32), bad, wide, _half_window(center))
    return scatter(wide.share * _robust_light(frame)[:, None], wide.rows, len(flux))


@dataclass(frozen=True)
class _Frame:
    """The frame and the profiles in the windows of the fibers, all (n_fiber, n_window, n_column)."""

    rows: Ints
    share: Floats
    flux: Floats
    dark_variance: Floats
    good: Bools

    @classmethod
    def of(cls, flux: Floats, dark_variance: Floats, bad: Bools, wide: FiberWindows, half: int) -> "_Frame":
        beyond = wide.share.shape[1] // 2 - half
        windows = FiberWindows(wide.first + beyond, wide.share[:, beyond : beyond + 2 * half + 1])
        usable = np.where(bad, np.nan, flux)
        light = gather(usable, windows, outside=np.nan)
        noise = gather(dark_variance, windows, outside=np.nan)
        good = np.isfinite(light) & np.isfinite(noise)
        share = windows.share.astype(np.float32)
        light, noise = (np.where(good, a, fill).astype(np.float32) for a, fill in ((light, 0.0), (noise, 1.0)))
        return cls(windows.rows, share, light, noise, good)

    def at(self, chosen: tuple[Ints, slice, Ints]) -> "_Frame":
        """Return the chosen columns of fibers, all (n_chosen, n_window)."""
        return _Frame(*(getattr(self, field.name)[chosen] for field in fields(self)))


def _half_window(center: Floats) -> int:
    """Rows on either side that are judged: to the middle between neighbours."""
    if len(center) == 1:
        return LARGEST_WINDOW
    spacing = float(np.median(np.diff(center[:, center.shape[1] // 2])))
    return int(np.clip(np.ceil(spacing / 2), 2, LARGEST_WINDOW))


def _robust_light(frame: _Frame) -> Floats:
    """Median over the core rows of what each says of the fiber's light, (n_fiber, n_column)."""
    half = frame.share.shape[1] // 2
    core = slice(max(half - CORE_ROWS, 0), half + CORE_ROWS + 1)
    good = frame.good[:, core] & (frame.share[:, core] > WING_SHARE)
    ratio = np.where(good, frame.flux[:, core] / np.where(good, frame.share[:, core], 1.0), np.inf)
    ratio = np.sort(ratio, axis=1)
    middle = np.clip((good.sum(axis=1) - 1) // 2, 0, None)
    light = np.take_along_axis(ratio, middle[:, None], axis=1)[:, 0]
    return np.clip(np.where(np.isfinite(light), light, 0.0), 0.0, None)


def _others(light: Floats, wide: FiberWindows, frame: _Frame) -> Floats:
    """Light in the windows that is not of their own fiber: wings of the others and a background."""
    own = frame.share * light[:, None]
    low = int(wide.first.min())
    model = scatter(wide.share * light[:, None], wide.rows - low, int(wide.first.max()) - low + wide.share.shape[1])
    others = model[frame.rows - low, np.arange(light.shape[1])] - own
    dark = frame.good & (frame.share < WING_SHARE)
    rest = np.where(dark, frame.flux - others - own, np.nan)
    return np.asarray((others + _background(rest)[:, None]).astype(np.float32))


def _background(rest: Floats) -> Floats:
    """Median of the dark rows of each fiber in blocks of columns, joined by lines, (n_fiber, n_column)."""
    n_fiber, _, n_column = rest.shape
    edge = _blocks(n_column)
    level = np.zeros((n_fiber, len(edge) - 1))
    for k, (low, high) in enumerate(pairwise(edge)):
        block = np.sort(rest[:, :, low:high].reshape(n_fiber, -1), axis=1)  # NaN sorts last
        number = np.isfinite(block).sum(axis=1)
        middle = np.take_along_axis(block, np.clip((number - 1) // 2, 0, None)[:, None], axis=1)[:, 0]
        level[:, k] = np.where(number > 10, middle, 0.0)
    column, place = np.arange(n_column), (edge[:-1] + edge[1:] - 1) / 2
    return np.array([np.interp(column, place, row) for row in level])


def _blocks(n_column: int) -> Ints:
    """Return the edges of blocks of columns."""
    return np.asarray(np.linspace(0, n_column, max(1, round(n_column / BLOCK)) + 1).round().astype(int))


def _doubt(frame: _Frame, light: Floats, others: Floats, error: float) -> Floats:
    """Return the variance of a pixel beyond that of its own datum: photon noise and what the profile may err.

    Beside a bright line the profile is not that of a continuum, since the halo of the optics is round: a
    share of what near columns are brighter, spread over the core rows, is uncertain.
    """
    own = frame.share * light[:, None]
    relative = np.where(frame.share < WING_SHARE, np.float32(WING_ERROR), np.float32(error))
    brighter = maximum_filter1d(light, 5, axis=1) - light
    halo = HALO_ERROR * maximum_filter1d(frame.share, 5, axis=1) * brighter[:, None]
    quiet = halo**2 < own + frame.dark_variance  # the light's own noise changes from column to column too
    return np.asarray(
        own + np.abs(others) + (relative * own) ** 2 + (WING_ERROR * others) ** 2 + np.where(quiet, 0, halo**2)
    )


def _judge(frame: _Frame, others: Floats, doubt: Floats, hit: Bools) -> Floats:
    """Return how many sigma each pixel lies above what the other pixels of its fiber say.

    The light is the weighted mean of the unmarked pixels; a pixel that took part in it is judged as if it
    had not (its residual and variance are those of leaving it out).
    """
    share, used = frame.share, frame.good & ~hit
    noise = frame.dark_variance + doubt
    weighted = np.where(used, share / noise, 0)
    rest = frame.flux - others
    total = np.maximum(np.sum(weighted * share, axis=1), 1e-30)[:, None]
    best = np.sum(weighted * rest, axis=1)[:, None] / total
    kept = 1 - np.minimum(share * weighted / total, 0.9)
    residual = (rest - share * best) / np.where(used, kept, 1)
    spread = np.where(used, noise / kept, noise + share**2 / total)
    return np.where(frame.good, residual / np.sqrt(spread), 0)


def _misfit(deviation: Floats) -> tuple[Floats, Floats]:
    """Return the typical deviation, where positive, and its scatter, where above one, block by block.

    Where the profile of the frame is not that of the map (another focus), a row of the window deviates
    all along; only what stands out of that can be a hit.
    """
    edge = _blocks(deviation.shape[2])
    excess, spread = np.zeros_like(deviation), np.ones_like(deviation)
    for low, high in pairwise(edge):
        quarter = (high - low) // 4
        ranks = [quarter, 2 * quarter, 3 * quarter]
        lower, middle, upper = np.moveaxis(np.partition(deviation[:, :, low:high], ranks)[:, :, ranks], 2, 0)
        excess[:, :, low:high] = np.clip(middle - 0.4, 0, None)[:, :, None]
        spread[:, :, low:high] = np.clip((upper - lower) / 1.349 - 0.25, 1, None)[:, :, None]
    return excess, spread


def _model_error(frame: _Frame, light: Floats, others: Floats) -> float:
    """Return the relative error of the profile that bright pixels show, robustly."""
    thin = np.s_[:, :, ::4]
    own = (frame.share * light[:, None])[thin]
    noise = frame.dark_variance[thin] + own + np.abs(others[thin])
    bright = frame.good[thin] & (own**2 * LEAST_MODEL_ERROR**2 > 0.2 * noise)
    if np.count_nonzero(bright) < 50:
        return 3 * LEAST_MODEL_ERROR
    residual = (frame.flux[thin] - others[thin] - own)[bright] / own[bright]
    seen = 1.4826 * float(np.median(np.abs(residual)))
    expected = float(np.median(np.sqrt(noise[bright]) / own[bright]))
    return max(LEAST_MODEL_ERROR, 1.5 * float(np.sqrt(max(seen**2 - expected**2, 0.0))))


def _grown(deviation: Floats, hit: Bools, rows: Ints, shape: tuple[int, ...]) -> Bools:
    """Return the hits on the frame, with the neighbours that stand out too."""
    near = maximum_filter(hit, size=(1, 3, 3))
    marked = hit | (near & (deviation > GROWTH))
    fiber, row, column = np.nonzero(marked)
    frame = np.zeros(shape, dtype=bool)
    frame[rows[fiber, row, column], column] = True
    return frame
