"""How far a frame's traces lie from the tramline map, by the frame's own light.

A coarse step finds where the fibers have light, which `identity` tells from one fiber further; a fine one
fits, in short runs of columns, light and displacement of every fiber, so that a few arc lines or a bright
sky serve as well as a continuum. The common displacement is a shift and, where many fibers are seen, a stretch.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import maximum_filter1d

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.products import MaskBit, flagged
from kspecdr.robust import robust_sigma
from kspecdr.tlm.identity import (
    LEAST_ODDS,
    REACH,
    STRETCH_PRIOR,
    Expected,
    Measured,
    Places,
    judge,
    likeliest_offset,
    profiles_across,
)
from kspecdr.tlm.peaks import BinnedFlat, bin_columns
from kspecdr.tlm.profile import GAUSSIAN, FiberWindows, Profile

STEP = 5  # columns in a run
FINE_PASSES = 3
LEAST_FIBERS_FOR_STRETCH = 6
TILT_PRIOR = 0.1  # rows at the ends, the same
WING_ERROR = 0.003  # rows; a neighbour's wings displace a fiber by this times the ratio of their light
LEAST_EXCESS = 12.0  # sigma: squares of the light, with its sign, over those of noise; about a signal to noise of 13
LEAST_WITHOUT_PROFILE = 3  # fibers that show light where the mean profile across them shows none
BLOCKS = 6  # of columns, in which displacements are told apart
LARGEST_ERROR = 0.3  # rows of a displacement that is used
LARGEST_NUMBER_OF_MOVES = 3  # by whole fibers
LOST = MaskBit.BAD_PIXEL | MaskBit.COSMIC
FULL_REACH = 4  # rows about a full pixel that belong to its fiber
LARGEST_STEP = 1.0  # rows; a run displaced further than that is a hit


@dataclass(frozen=True)
class Shift:
    """A common displacement of the traces against a map."""

    offset: float  # rows at `middle`; 0 where no light was seen
    stretch: float  # rows per row
    middle: float  # row
    error: float  # of the offset, rows; inf where no light was seen
    n_fiber: int  # fibers whose light was used
    tilt: float = 0.0  # rows at the last column, as much the other way at the first
    rival: float = np.nan  # rows: another placement, whole fibers away, that is nearly as likely; NaN where none is

    def applied(self, center: Floats) -> Floats:
        """Return the map's centers (n_fiber, n_column) moved to the frame."""
        along = np.linspace(-1, 1, center.shape[1])
        return np.asarray(center + self.offset + self.stretch * (center - self.middle) + self.tilt * along)


def measure_shift(
    flux: Floats,
    variance: Floats,
    mask: Ints | Bools,
    center: Floats,
    width: Floats,
    wings: Floats = GAUSSIAN,
    *,
    expected: Expected | None = None,
) -> Shift:
    """Measure the displacement of a frame's traces against a tramline map.

    Parameters
    ----------
    flux, variance : (n_row, n_column)
        Electron, electron**2.
    mask : (n_row, n_column)
        Bits of MaskBit, or True where bad; saturated pixels show where light is, and are else left out.
    center, width : (n_fiber, n_column)
        Rows and core widths of the map.
    wings : (n, N_WING) or (0,)
        See `kspecdr.tlm.profile`.
    expected : Expected, optional
        How much light each fiber is expected to give; it tells a shift by a whole fiber.

    Notes
    -----
    Placements that differ by whole fibers are weighed by `kspecdr.tlm.identity.judge`; where the odds of the
    best are small, the shift says that it is in doubt.
    """
    low = max(0, int(np.floor(center.min())) - REACH)
    band = slice(low, min(len(flux), int(np.ceil(center.max())) + REACH + 1))
    lost = flagged(mask[band], LOST)
    full = flagged(mask[band], MaskBit.SATURATED)
    binned = bin_columns(flux[band], variance[band], lost | full, step=STEP)
    at = np.clip(binned.column.round().astype(int), 0, center.shape[1] - 1)
    mapped = _Mapped(center[:, at] - band.start, width[:, at], Profile.of(wings))
    expected = expected or Expected(np.ones(len(center)))
    seen = bin_columns(flux[band], variance[band], lost, step=STEP) if full.any() else binned
    places = profiles_across(seen.flux, seen.variance, mapped.center)
    begin = likeliest_offset(places, expected.light)
    trials = [_away_from(full, binned), binned] if full.any() else [binned]
    for trial in trials:
        found = _faint(trial, mapped) if begin is None else _identified(trial, mapped, places, expected, begin)
        if found.n_fiber > len(center) / 2:
            break
    return replace(found, middle=float(np.mean(center)))


def _away_from(full: Bools, binned: BinnedFlat) -> BinnedFlat:
    """Leave out runs of columns of a fiber whose pixels are full (n_row, n_column): the rest is no whole profile."""
    edge = np.linspace(0, full.shape[1], len(binned.column) + 1).round().astype(int)
    near = maximum_filter1d(np.maximum.reduceat(full, edge[:-1], axis=1), 2 * FULL_REACH + 1, axis=0)
    return replace(binned, flux=np.where(near, np.nan, binned.flux))


@dataclass(frozen=True)
class _Mapped:
    """The map in the runs of columns of the rows that are looked at."""

    center: Floats  # (n_fiber, n_run)
    width: Floats  # (n_fiber, n_run)
    profile: Profile


def _faint(binned: BinnedFlat, mapped: _Mapped) -> Shift:
    """Fit the displacement of light that no mean profile shows; a few hits are no light."""
    found, _ = _fitted(binned, mapped, 0.0)
    if found.n_fiber >= min(LEAST_WITHOUT_PROFILE, len(mapped.center)):
        return found
    return Shift(0.0, 0.0, found.middle, np.inf, 0)


def _identified(binned: BinnedFlat, mapped: _Mapped, places: Places, expected: Expected, begin: float) -> Shift:
    """Fit the displacement from `begin`; move on by whole fibers where that is likelier."""
    rows = np.mean(mapped.center, axis=1)
    for _ in range(LARGEST_NUMBER_OF_MOVES):
        found, measured = _fitted(binned, mapped, begin)
        if not measured.seen:
            return found
        verdict = judge(places, measured, rows, expected, found.offset)
        if verdict.step == 0:
            break
        begin = verdict.shift
    return replace(found, rival=verdict.rival if verdict.odds < LEAST_ODDS or verdict.step else np.nan)


def _fitted(binned: BinnedFlat, mapped: _Mapped, begin: float) -> tuple[Shift, Measured]:
    """Fit light and displacement of every fiber from a shift of `begin` rows on."""
    shift = Shift(begin, 0.0, float(np.mean(mapped.center)), np.inf, 0)
    for _ in range(FINE_PASSES):
        before = shift
        shift, own, error = _refined(before, binned.flux, binned.variance, mapped)
    weight = 1 / error**2
    total = np.maximum(weight.sum(axis=1), 1e-30)
    row = np.mean(before.applied(mapped.center), axis=1) + np.sum(weight * own, axis=1) / total
    alone = 1 / np.sqrt(total)
    return shift, Measured(row, np.where(alone < LARGEST_ERROR, alone, np.inf))


def _refined(shift: Shift, flux: Floats, variance: Floats, mapped: _Mapped) -> tuple[Shift, Floats, Floats]:
    """Fit light and displacement of every fiber in every run; combine them robustly.

    Returns the shift, and displacement and error of every fiber in blocks of columns, (n_fiber, n_block) each.
    """
    center, width = mapped.center, mapped.width
    moved = shift.applied(center)
    spacing = float(np.median(np.diff(center[:, 0]))) if len(center) > 1 else 12.0
    half = int(np.clip(np.ceil(3 * np.median(width)), 2, max(2, spacing / 2)))
    windows = FiberWindows.of(moved, width, half, mapped.profile)
    rows = np.clip(windows.rows, 0, len(flux) - 1)
    column = np.arange(flux.shape[1])
    light, noise = flux[rows, column], variance[rows, column]
    good = (rows == windows.rows) & np.isfinite(light) & np.isfinite(noise) & (noise > 0)
    own, error = _displacements(np.where(good, light, 0.0), np.where(good, noise, np.inf), windows.share)
    return _common(shift, own, error, np.mean(center, axis=1)), own, error


def _displacements(flux: Floats, variance: Floats, share: Floats) -> tuple[Floats, Floats]:
    """Return displacement and error of each fiber in blocks of columns, (n_fiber, n_block), by one linear step.

    Each run of columns has its own light and background, fitted out of the profile's slope; runs count by
    their light. The weight of runs without light is damped, which shortens the step but not where it ends.
    """
    weight = 1 / variance
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1e-30)
    slope = -np.gradient(share, axis=1)
    share = share - np.sum(weight * share, axis=1, keepdims=True) / total
    slope = slope - np.sum(weight * slope, axis=1, keepdims=True) / total
    norm = np.maximum(np.sum(weight * share**2, axis=1), 1e-30)
    electrons = np.sum(weight * share * flux, axis=1) / norm
    slope = slope - share * (np.sum(weight * share * slope, axis=1) / norm)[:, None]
    gain, pull = np.sum(weight * slope**2, axis=1), np.sum(weight * slope * flux, axis=1)
    power = norm * electrons**2
    seen = np.where(electrons > 0, electrons * power / (power + 4), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        single = np.abs(pull / (gain * electrons))
        hit = single > LARGEST_STEP + 4 / np.sqrt(gain * electrons**2)
    seen = np.where(hit, 0.0, seen)
    strength = _in_blocks(gain * seen * electrons)
    own = _in_blocks(pull * seen) / np.maximum(strength, 1e-30)
    error = np.sqrt(_in_blocks(gain * seen**2)) / np.maximum(strength, 1e-30)
    excess = np.sum(np.sign(electrons) * power, axis=1, keepdims=True) / np.sqrt(3 * power.shape[1])
    light = np.sum(seen, axis=1, keepdims=True)
    error = np.hypot(error, WING_ERROR * np.max(light, initial=0.0) / np.maximum(light, 1e-30))
    return own, np.where((excess > LEAST_EXCESS) & (strength > 0), error, np.inf)


def _in_blocks(value: Floats) -> Floats:
    """Sum over blocks of the runs, (n_fiber, n_run) -> (n_fiber, n_block)."""
    edge = np.linspace(0, value.shape[1], min(BLOCKS, value.shape[1]) + 1).round().astype(int)
    return np.asarray(np.add.reduceat(value, edge[:-1], axis=1))


def _common(shift: Shift, own: Floats, error: Floats, row: Floats) -> Shift:
    """Return the shift improved by the robust plane through what fibers and blocks still show."""
    use = error < LARGEST_ERROR
    if not use.any():
        return Shift(0.0, 0.0, shift.middle, np.inf, 0)
    block = np.linspace(-1, 1, own.shape[1] + 1)
    along = np.broadcast_to((block[1:] + block[:-1]) / 2, own.shape)
    across = np.broadcast_to(row[:, None] - shift.middle, own.shape)
    design = np.stack([np.ones(own.shape), across, along], axis=-1)[use]
    many = np.count_nonzero(use.any(axis=1)) >= LEAST_FIBERS_FOR_STRETCH
    prior = np.array([0.0, STRETCH_PRIOR**-2 if many else 1e18, TILT_PRIOR**-2])
    before = np.array([0.0, shift.stretch, shift.tilt])
    value, noise, scatter = own[use], error[use], 0.02
    keep, normal, solution = np.ones(len(value), dtype=bool), np.eye(3), np.zeros(3)
    for _ in range(4):
        weighted = design[keep] / (noise[keep, None] ** 2 + scatter**2)
        normal = np.asarray(weighted.T @ design[keep] + np.diag(prior))
        solution = np.asarray(np.linalg.solve(normal, weighted.T @ value[keep] - prior * before))
        rest = np.abs(value - design @ solution)
        scatter = max(0.005, robust_sigma(rest[keep]))
        keep = rest < 4 * np.hypot(noise, scatter)
        keep = keep if keep.sum() > 3 else np.ones(len(value), dtype=bool)
    sure = float(np.sqrt(np.linalg.inv(normal)[0, 0]))
    offset = shift.offset + float(np.clip(solution[0], -1.5, 1.5))
    stretch, tilt = before[1:] + solution[1:]
    n_fiber = len(np.unique(np.nonzero(use)[0][keep]))
    return Shift(offset, float(stretch), shift.middle, sure, n_fiber, float(tilt))
