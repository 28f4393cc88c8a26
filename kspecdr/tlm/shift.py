"""How far a frame's traces lie from the tramline map, by the frame's own light.

A coarse step matches the frame's cross-dispersion profile to the map; a fine one fits, in short runs
of columns, light and displacement of every fiber, so that a few arc lines or a bright sky serve as well
as a continuum. The common displacement is a shift and, where many fibers are seen, a stretch.
"""

from dataclasses import dataclass, replace

import numpy as np

from kspecdr.arrays import Bools, Floats
from kspecdr.errors import BadFrame
from kspecdr.tlm.match_fibers import match_fibers
from kspecdr.tlm.peaks import bin_columns, find_candidates
from kspecdr.tlm.profile import GAUSSIAN, profile_matrix

STEP = 5  # columns in a run
REACH = 18  # rows searched past the outer fibers
FINE_PASSES = 3
LEAST_FIBERS_FOR_STRETCH = 6
STRETCH_PRIOR = 0.001  # rows per row, what is expected without evidence
TILT_PRIOR = 0.1  # rows at the ends, the same
WING_ERROR = 0.003  # rows; a neighbour's wings displace a fiber by this times the ratio of their light
LEAST_EXCESS = 6.0  # sigma of the light's power over that of noise
BLOCKS = 6  # of columns, in which displacements are told apart
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

    def applied(self, center: Floats) -> Floats:
        """Return the map's centers (n_fiber, n_column) moved to the frame."""
        along = np.linspace(-1, 1, center.shape[1])
        return np.asarray(center + self.offset + self.stretch * (center - self.middle) + self.tilt * along)


def measure_shift(
    flux: Floats,
    variance: Floats,
    bad: Bools,
    center: Floats,
    width: Floats,
    wings: Floats = GAUSSIAN,
    *,
    lit: Floats | None = None,
) -> Shift:
    """Measure the displacement of a frame's traces against a tramline map.

    Parameters
    ----------
    flux, variance : (n_row, n_column)
        Electron, electron**2.
    bad : (n_row, n_column) bool
        Pixels to leave out.
    center, width : (n_fiber, n_column)
        Rows and core widths of the map.
    wings : (N_WING,) or (0,)
        See `kspecdr.tlm.profile`.
    lit : (n_fiber,), optional
        How much light each fiber is expected to give, 0 to 1; it tells a shift by a whole fiber.

    Notes
    -----
    A displacement by a whole spacing of the fibers is told from none by the ends of the slit alone.
    """
    low = max(0, int(np.floor(center.min())) - REACH)
    band = slice(low, min(len(flux), int(np.ceil(center.max())) + REACH + 1))
    binned = bin_columns(flux[band], variance[band], bad[band], step=STEP)
    at = np.clip(binned.column.round().astype(int), 0, center.shape[1] - 1)
    mapped, sigma = center[:, at] - band.start, width[:, at]
    middle = float(np.mean(center))
    shift = _coarse(binned.flux, binned.variance, mapped, middle - band.start, lit)
    for _ in range(FINE_PASSES):
        shift = _refined(shift, binned.flux, binned.variance, mapped, sigma, wings)
    return replace(shift, middle=middle)


def _coarse(flux: Floats, variance: Floats, center: Floats, middle: float, lit: Floats | None) -> Shift:
    """Match the maxima of the straightened mean profile to the map's rows."""
    column = center.shape[1] // 2
    rows = np.arange(len(flux), dtype=float)
    drift = np.median(center - center[:, [column]], axis=0)
    mean, noise = _straightened(_capped(flux, len(center)), variance, rows, drift)
    found = find_candidates(mean, noise)
    still = Shift(0.0, 0.0, middle, np.inf, 0)
    if not found.row.size:
        return still
    try:
        match = match_fibers(len(center), found.row, center[:, column], strength=found.height, lit=lit)
    except BadFrame:
        return still
    hit = match.vector > 0
    if not hit.any():
        return still
    moved = found.row[match.vector[hit] - 1] - center[hit, column]
    return Shift(float(np.median(moved)), 0.0, middle, np.inf, int(hit.sum()))


def _capped(flux: Floats, n_fiber: int) -> Floats:
    """Cut each run of columns at its `n_fiber`-th brightest row: light that few rows have is a hit."""
    seen = np.nan_to_num(flux, nan=-np.inf)
    level = np.partition(seen, -n_fiber, axis=0)[-n_fiber] if n_fiber < len(flux) else np.inf
    return np.minimum(flux, level)


def _straightened(flux: Floats, variance: Floats, rows: Floats, drift: Floats) -> tuple[Floats, Floats]:
    """Average the runs of columns after moving each by the whole rows that the traces drift."""
    total, noise = np.zeros(len(rows)), np.zeros(len(rows))
    number = np.zeros(len(rows))
    whole = np.round(drift).astype(int)
    for step in np.unique(whole):
        columns = whole == step
        good = np.isfinite(flux[:, columns])
        light = np.sum(np.where(good, flux[:, columns], 0), axis=1)
        error = np.sum(np.where(good, variance[:, columns], 0), axis=1)
        source = np.clip(rows + step, 0, len(rows) - 1).astype(int)
        total, noise, number = total + light[source], noise + error[source], number + good.sum(axis=1)[source]
    number = np.maximum(number, 1)
    return total / number, noise / number**2


def _refined(shift: Shift, flux: Floats, variance: Floats, center: Floats, width: Floats, wings: Floats) -> Shift:
    """Fit light and displacement of every fiber in every run; combine them robustly."""
    moved = shift.applied(center)
    spacing = float(np.median(np.diff(center[:, 0]))) if len(center) > 1 else 12.0
    half = int(np.clip(np.ceil(3 * np.median(width)), 2, max(2, spacing / 2)))
    windows = profile_matrix(moved, width, half, wings)
    rows = np.clip(windows.rows, 0, len(flux) - 1)
    column = np.arange(flux.shape[1])
    light, noise = flux[rows, column], variance[rows, column]
    good = (rows == windows.rows) & np.isfinite(light) & np.isfinite(noise) & (noise > 0)
    own, error = _displacements(np.where(good, light, 0.0), np.where(good, noise, np.inf), windows.share)
    return _common(shift, own, error, np.mean(center, axis=1))


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
    excess = np.sum(power - 1, axis=1, keepdims=True) / np.sqrt(2 * power.shape[1])
    light = np.sum(seen, axis=1, keepdims=True)
    error = np.hypot(error, WING_ERROR * np.max(light, initial=0.0) / np.maximum(light, 1e-30))
    return own, np.where((excess > LEAST_EXCESS) & (strength > 0), error, np.inf)


def _in_blocks(value: Floats) -> Floats:
    """Sum over blocks of the runs, (n_fiber, n_run) -> (n_fiber, n_block)."""
    edge = np.linspace(0, value.shape[1], min(BLOCKS, value.shape[1]) + 1).round().astype(int)
    return np.asarray(np.add.reduceat(value, edge[:-1], axis=1))


def _common(shift: Shift, own: Floats, error: Floats, row: Floats) -> Shift:
    """Return the shift improved by the robust plane through what fibers and blocks still show."""
    use = error < 0.3
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
        scatter = max(0.005, 1.4826 * float(np.median(rest[keep])))
        keep = rest < 4 * np.hypot(noise, scatter)
        keep = keep if keep.sum() > 3 else np.ones(len(value), dtype=bool)
    sure = float(np.sqrt(np.linalg.inv(normal)[0, 0]))
    offset = shift.offset + float(np.clip(solution[0], -1.5, 1.5))
    stretch, tilt = before[1:] + solution[1:]
    n_fiber = len(np.unique(np.nonzero(use)[0][keep]))
    return Shift(offset, float(stretch), shift.middle, sure, n_fiber, float(tilt))
