"""Scattered light under and between the fibers: a smooth surface through the rows that they leave dark.

What the fibers' profiles, wings included, leave behind on the dark rows is averaged in short runs of columns,
then robustly in blocks; a polynomial in row and column of low order goes through the blocks. How bright the
wings are is uncertain, and the blocks themselves tell it where they can.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import legendre

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.extract.optimal import solve
from kspecdr.robust import robust_sigma
from kspecdr.runs import run_edges, sum_runs
from kspecdr.tlm.light import gather
from kspecdr.tlm.profile import shares_on
from kspecdr.tlm.windows import Seen, Windows

MARGIN = 30  # rows past the outer fibers that take part
SLAB = 10  # rows of the margin that are taken together
DARK_SHARE = 0.01  # of the light of a fiber that a dark pixel may hold
RUN = 5  # columns averaged
RUNS = 9  # in a block
LEAST_RUNS = 5  # in a block
WING_ERROR = 0.1  # of the light in all wings, expected error
UNEVEN_WINGS = 0.1  # the same of the wings in one block, beyond that
ROW_ORDER, COLUMN_ORDER = 2, 5
CLIP = 4.0  # sigma of a block that is left out
PASSES = 2
STRETCH, HIT = 40, 6.0  # columns, and sigma above their level that make a hit
FITS = 6
FAR_ROWS = 20  # rows that no fiber reaches, from which a pedestal can be told
FAR_BLOCKS = 4  # of rows and of columns; scattered light reaches some of them
DARKEST = 0.1  # of the blocks, whose level is taken
FAR_THIN = 5, 8  # every such row and column tells


@dataclass(frozen=True)
class Scattered:
    """Light that is of no fiber, on the rows of the fibers and about them."""

    low: int  # the first of these rows of the frame
    surface: Floats  # (n, n_column) electron
    rest: Seen  # the frame in the fibers' windows without it

    def on_frame(self, n_row: int) -> Floats:
        """Return it on all rows of the frame, (n_row, n_column) electron; zero far from the fibers."""
        frame = np.zeros((n_row, self.surface.shape[1]), dtype=np.float32)
        frame[self.low : self.low + len(self.surface)] = self.surface
        return frame


def scattered_light(
    flux: Floats, variance: Floats, mask: Ints, windows: Windows, *, seen: Seen | None = None
) -> Scattered:
    """Model the light that is of no fiber.

    Parameters
    ----------
    flux, variance : (n_row, n_column)
        Electron, electron**2.
    mask : (n_row, n_column)
        Bits of MaskBit; any bit makes a pixel bad.
    windows : Windows
        The profiles of the fibers on this frame.
    seen : Seen, optional
        The frame in these windows, where it has been taken already; pixels may be left out of it.
    """
    seen = seen or Seen.of(flux, variance, mask, windows)
    low = max(0, int(np.min(windows.first)) - MARGIN)
    band = slice(low, min(len(flux), int(np.max(windows.first)) + windows.n_window + MARGIN))
    shape = (band.stop - band.start, flux.shape[1])
    floor = _pedestal(flux, mask, band)
    strips = (_between(seen, windows), _beyond(flux, variance, mask, windows))
    surface = np.zeros(shape, dtype=np.float32)
    rest, model = seen, None
    for k in range(PASSES):
        light = solve(rest, windows, model)[0]
        surface = _through(strips, light, low, shape, floor)
        rest = seen.less(gather(surface, windows.first - low, windows.n_window))
        model = windows.model(light) if k < PASSES - 1 else None
    return Scattered(low, surface, rest)


@dataclass(frozen=True)
class _Strips:
    """Dark rows along the tramlines, averaged in runs of columns."""

    source: Windows  # whose light reaches the rows, (n_strip, n_row, n_column)
    fiber: Ints  # (n_strip,) the fiber of each
    usable: Floats  # 1 where a pixel counts, else 0, as the windows
    row: Floats  # (n_strip, n_row, n_run) mean row
    light: Floats  # electrons, the same
    noise: Floats  # electron**2, the same; infinite where no pixel counts

    @classmethod
    def of(cls, seen: Seen, source: Windows, fiber: Ints, rows: Ints, usable: Bools) -> "_Strips":
        """Average what was seen on the rows, which `rows` (n_row,) counts from the first of the source."""
        counts = usable.astype(np.float32)
        number = _in_runs(counts)
        some = np.maximum(number, 1)
        first = _in_runs(source.first[:, None]) / _in_runs(np.ones_like(counts[:1, :1]))
        noise = np.where(number > 0, _in_runs(seen.dark_variance * counts) / some**2, np.inf)
        row = first + rows[:, None]
        return cls(source, fiber, counts, row, _in_runs(seen.flux * counts) / some, noise)

    def wings(self, light: Floats) -> Floats:
        """Return what the fibers of `light` (n_fiber, n_column) bring to the runs, (n_strip, n_row, n_run)."""
        number = np.maximum(_in_runs(self.usable), 1)
        return _in_runs(self.source.model(light[self.fiber]) * self.usable) / number


def _in_runs(value: Floats | Ints) -> Floats:
    """Sum over runs of columns, the last axis."""
    return sum_runs(value, run_edges(value.shape[-1], RUN), np.float32)


def _between(seen: Seen, windows: Windows) -> _Strips:
    """Return the rows of the fibers' own windows that are dark."""
    covered = windows.model(np.ones(windows.first.shape))
    dark = covered < DARK_SHARE
    rows = np.flatnonzero(dark[:, :, ::20].any(axis=(0, 2)))
    half = windows.n_window // 2
    known = np.asarray(seen.good[:, half - 1 : half + 2].all(axis=1))  # else the light of the fiber is not
    known[1:] &= known[:-1].copy()
    known[:-1] &= known[1:].copy()
    usable = (dark & seen.good)[:, rows] & known[:, None]
    picked = Seen(seen.flux[:, rows], seen.dark_variance[:, rows], seen.bits[:, rows], seen.good[:, rows])
    return _Strips.of(picked, windows.on_rows(rows), np.arange(len(windows.first)), rows, usable)


def _beyond(flux: Floats, variance: Floats, mask: Ints, windows: Windows) -> _Strips:
    """Return the rows past the outer fibers."""
    step = SLAB * np.arange(MARGIN // SLAB)[:, None]
    first = np.concatenate([windows.first[0] - SLAB - step, windows.first[-1] + windows.n_window + step])
    fiber = np.repeat([0, len(windows.first) - 1], len(step))
    share = shares_on(first, SLAB, windows.center[fiber], windows.width[fiber], windows.profile)
    source = replace(windows, first=first, own=share, others={})
    seen = Seen.of(flux, variance, mask, source)
    usable = seen.good & (share < DARK_SHARE) & ~_hit(seen)
    return _Strips.of(seen, source, fiber, np.arange(SLAB), usable)


def _hit(seen: Seen) -> Bools:
    """Return the pixels of strips that stand out of their own stretch of columns, where no fiber tells a hit."""
    n_strip, n_row, n_column = seen.flux.shape
    whole = n_column - n_column % STRETCH
    level = np.zeros((n_strip, n_column), dtype=np.float32)
    parts = np.where(seen.good, seen.flux, np.nan)[..., :whole].reshape(n_strip, n_row, -1, STRETCH)
    parts = np.sort(parts.swapaxes(1, 2).reshape(n_strip, whole // STRETCH, -1), axis=-1)
    number = np.isfinite(parts).sum(axis=-1, keepdims=True)
    middle = np.take_along_axis(parts, np.maximum(number - 1, 0) // 2, axis=-1)
    level[:, :whole] = np.repeat(np.where(number[..., 0] > 0, middle[..., 0], 0), STRETCH, axis=1)
    level[:, whole:] = level[:, max(whole - 1, 0)][:, None]
    noise = seen.dark_variance + np.maximum(level, 0)[:, None]
    return np.asarray(seen.flux - level[:, None] > HIT * np.sqrt(noise))


def _pedestal(flux: Floats, mask: Ints, band: slice) -> float:
    """Return how far below zero the rows past the band are, electron; what is above zero may be light.

    A bias of another level than the frame's own leaves a pedestal of either sign under the whole frame.
    """
    far = np.concatenate([np.arange(band.start), np.arange(band.stop, len(flux))])
    if len(far) < FAR_ROWS:
        return 0.0
    rows, columns = far[:: FAR_THIN[0]], slice(None, None, FAR_THIN[1])
    return min(0.0, darkest_level(flux[rows, columns], mask[rows, columns], FAR_BLOCKS))


def darkest_level(flux: Floats, mask: Ints, n_slab: int) -> float:
    """Return the level of the darkest parts of a frame or some of its pixels (n_row, n_column), electron.

    mask : (n_row, n_column), any bit makes a pixel bad; n_slab : slabs of rows, each cut in a few along the columns
    """
    dark = np.where(mask == 0, flux, np.nan)
    blocks = [part for some in np.array_split(dark, n_slab) for part in np.array_split(some, FAR_BLOCKS, axis=1)]
    levels = [float(np.median(part[np.isfinite(part)])) for part in blocks if np.isfinite(part).any()]
    return float(np.quantile(levels, DARKEST)) if levels else 0.0


def _through(strips: tuple[_Strips, ...], light: Floats, low: int, shape: tuple[int, int], floor: float) -> Floats:
    """Fit a smooth surface to what the fibers of `light` leave on the strips, on the band from row `low` on."""
    blocks = np.concatenate([_blocks(each, each.wings(light)) for each in strips], axis=1)
    return smooth_surface(blocks[0] - low, *blocks[1:], shape=shape, floor=floor)


def _blocks(strips: _Strips, wings: Floats) -> Floats:
    """Return row, column, light without wings, its error and the wings of every block of columns, (5, n_block)."""
    seen = np.isfinite(strips.noise)
    rest = _in_blocks(np.where(seen, strips.light - wings, np.nan), np.nan)
    rest.sort(axis=-1)  # NaN last
    number = np.isfinite(rest).sum(axis=-1)
    counts = np.maximum(number, 1)
    middle = 0.5 * sum(
        np.take_along_axis(rest, place[..., None], axis=-1)[..., 0] for place in ((counts - 1) // 2, counts // 2)
    )
    noise, row, light = (
        _in_blocks(np.where(seen, value, 0.0), 0.0).sum(axis=-1) / counts for value in (strips.noise, strips.row, wings)
    )
    run = np.arange(strips.light.shape[2]) * (strips.usable.shape[2] / strips.light.shape[2]) + (RUN - 1) / 2
    along = np.where(seen, run, 0.0)
    column = _in_blocks(along, 0.0).sum(axis=-1) / counts
    found = np.stack([row, column, middle, np.sqrt(np.pi / 2 * noise / counts), light])
    return np.asarray(found[:, number >= LEAST_RUNS])


def _in_blocks(value: Floats, fill: float) -> Floats:
    """Return what is in runs (n_strip, n_row, n_run) in blocks of these, (n_strip, n_block, n_row * RUNS)."""
    n_strip, n_row, n_run = value.shape
    n_block = -(-n_run // RUNS)
    padded = np.full((n_strip, n_row, n_block * RUNS), fill, dtype=value.dtype)
    padded[..., :n_run] = value
    return padded.reshape(n_strip, n_row, n_block, RUNS).swapaxes(1, 2).reshape(n_strip, n_block, -1)


def smooth_surface(
    row: Floats,
    column: Floats,
    value: Floats,
    error: Floats,
    wings: Floats,
    *,
    shape: tuple[int, int],
    floor: float = 0.0,
) -> Floats:
    """Fit a smooth surface to values at places, on all pixels of `shape`; a constant where those are few.

    row, column, value, error, wings : (n,)
        Place, electrons and their error, and the light of wings that was taken off, known to WING_ERROR.
    floor : float
        The level without any light, electron.

    Light is not negative: where the surface falls below its floor by more than noise allows, it is held to it
    instead of following what profiles that are not those of the map leave behind.
    """
    if len(value) < 2 * (ROW_ORDER + 1) * (COLUMN_ORDER + 1):
        return np.full(shape, np.median(value) if len(value) else 0.0, dtype=np.float32)
    value = value - floor
    design = _design(row, shape[0], ROW_ORDER)[:, :, None] * _design(column, shape[1], COLUMN_ORDER)[:, None]
    design = np.column_stack([design.reshape(len(value), -1), wings])
    noise, error = error, np.hypot(error, UNEVEN_WINGS * wings)
    prior = np.full(design.shape[1], max(float(np.max(np.abs(value))), 1.0) ** -2)
    prior[-1] = WING_ERROR**-2
    keep, below = np.ones(len(value), dtype=bool), np.zeros(len(value), dtype=bool)
    solution: Floats = np.zeros(design.shape[1])
    for _ in range(FITS):
        held = design * np.where(below[:, None] & (np.arange(design.shape[1]) == design.shape[1] - 1), 0, 1)
        target, scale = np.where(below, 0, value), np.where(below, noise, error)
        weighted = held[keep] / scale[keep, None] ** 2
        solution = np.linalg.solve(weighted.T @ held[keep] + np.diag(prior), weighted.T @ target[keep])
        was_below = below
        below = below | (design[:, :-1] @ solution[:-1] < -CLIP * noise)
        off, before = np.abs(value - design @ solution) / error, keep
        keep = below | (off < CLIP * max(1.0, robust_sigma(off)))
        if np.array_equal(keep, before) and np.array_equal(below, was_below):
            break
    rows, columns = (_design(np.arange(n), n, order) for n, order in zip(shape, (ROW_ORDER, COLUMN_ORDER), strict=True))
    along = solution[:-1].reshape(ROW_ORDER + 1, COLUMN_ORDER + 1) @ columns.T
    surface = np.einsum("ri,ic->rc", rows, along)  # so small that the threads of @ only cost
    return np.asarray(surface + floor, dtype=np.float32)


def _design(place: Floats | Ints, number: int, order: int) -> Floats:
    return np.asarray(legendre.legvander(2 * place / max(number - 1, 1) - 1, order))
