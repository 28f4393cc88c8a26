"""Which light on a frame is whose: where the fibers of a map lie, told from one fiber further.

The slit is nearly periodic, so that a frame fits its map again a spacing further. What tells the placements
apart is the small irregularity of the spacings, light where no fiber is, missing or too bright light, and
that the slit hardly moves. Each is given its odds; where they do not settle it, identity is in doubt. (In a
flat without a map fibers are named by kspecdr.tlm.match_fibers.)
"""

from dataclasses import dataclass

import numpy as np

from kspecdr.arrays import Floats, Ints
from kspecdr.robust import robust_sigma
from kspecdr.tlm.peaks import sharpen

REACH = 18  # rows that the traces are searched away from the map
STEP = 0.5  # rows between trial offsets
MARGIN = 8  # rows more, for the sharpening
JOINED = 4  # runs of columns that are taken together
APART, LASTING = 3, 3.0  # light is no hit where runs so far on either side have a third of it
SIGNIFICANT = 5.0  # sigma of a fiber's mean profile: light is seen
OUTSHONE = 0.005  # of a neighbour's light, below which a fiber's is not told from its wings
BRIGHT = 0.1  # of the typical light: a fiber is seen to be lit
TOO_BRIGHT = 0.4  # of the typical light: more than a faint fiber gives
FAINT_BELOW = 0.5  # expected light, relative to that of an ordinary fiber

# natural logarithms of odds
UNEXPECTED = 4.6  # light where there is no fiber
GLARING = 2.0  # much light in a faint fiber, whose target may be bright
MISSING = 0.7  # no light in a fiber, which may have no target
GLARING_LAMP, MISSING_LAMP = 4.6, 2.0  # the same where a lamp lights all fibers as in the flat
LARGEST_MISFIT = 8.0  # of one fiber's place: it may be hit
USUAL_SHIFT = 1.0  # px; a slit that moves further is less likely by the square of it
LEAST_ODDS = 3.5  # 33 to 1; below, two placements are not told apart

LEAST_SCATTER = 0.02  # px by which places differ between flat and frame
STRETCH_PRIOR = 0.001  # rows per row, what is expected without evidence
NEARER = 0.002  # of the score, lost with each row of offset: of places that fit alike the nearest is taken


@dataclass(frozen=True)
class Expected:
    """What is known of the fibers' light before a frame is seen."""

    light: Floats  # (n_fiber,) 0 to 1, relative to that of an ordinary fiber
    lamp: bool = False  # a lamp or the twilight lights all fibers, as in the flat


@dataclass(frozen=True)
class Places:
    """Mean profiles across the fibers of a map and across places like theirs beyond its ends."""

    row: Floats  # (n_place,) mean row of each
    fiber: Ints  # (n_place,) index of the fiber, negative or past the last beyond the ends
    sharp: Floats  # (n_place, n_offset) light at the scale of a fiber
    noise: Floats  # (n_place, n_offset)
    offset: Floats  # (n_offset,) rows from the place, ascending

    def brightness(self, shift: float) -> tuple[Floats, Floats]:
        """Return the most light within half a core of `shift` from each place, and its noise, (n_place,) twice."""
        near = np.abs(self.offset - shift) <= 1.0
        best = np.argmax(self.sharp[:, near], axis=1)[:, None]
        return tuple(np.take_along_axis(v[:, near], best, axis=1)[:, 0] for v in (self.sharp, self.noise))  # type: ignore[return-value]  # two make two


def profiles_across(flux: Floats, variance: Floats, center: Floats) -> Places:
    """Average runs of columns along the fibers of a map, at offsets up to REACH rows, (n_row, n_run) each.

    center : (n_fiber, n_run) row

    Light that only one run has and fewer rows than there are fibers is cut: it is a hit.
    """
    good = np.isfinite(flux) & np.isfinite(variance)
    light = np.where(good, _without_hits(np.where(good, flux, 0.0), len(center)), 0.0)
    edge = np.arange(0, flux.shape[1], JOINED)
    joined = [np.add.reduceat(value, edge, axis=1) for value in (light, np.where(good, variance, 0.0), good * 1.0)]
    row, fiber, middle = _extended(center[:, np.minimum(edge + JOINED // 2, flux.shape[1] - 1)])
    reach = np.arange(-REACH - MARGIN, REACH + MARGIN + 1)
    rows = np.round(middle).astype(int)[:, None] + reach[:, None]
    at, column = np.clip(rows, 0, len(flux) - 1), np.arange(len(edge))
    inside = (rows >= 0) & (rows < len(flux))
    total, noise, number = (np.sum(np.where(inside, value[at, column], 0.0), axis=2).T for value in joined)
    number = np.maximum(number, 1)
    sharp, error = sharpen(total / number, noise / number**2)
    offset = np.arange(-REACH, REACH + STEP / 2, STEP)
    return Places(row, fiber, _at_offsets(sharp, reach, offset), _at_offsets(error, reach, offset), offset)


def _at_offsets(value: Floats, reach: Ints, offset: Floats) -> Floats:
    """Interpolate profiles at whole rows (n_row, n_place) to offsets, (n_place, n_offset)."""
    return np.array([np.interp(offset, reach, own) for own in value.T])


def _extended(center: Floats) -> tuple[Floats, Ints, Floats]:
    """Continue the map (n_fiber, n_run) past its ends as far as it is searched."""
    n_fiber = len(center)
    row = np.mean(center, axis=1)
    if n_fiber == 1:
        return row, np.zeros(1, dtype=int), center
    spacing = float(np.median(np.diff(row)))
    steps = spacing * np.arange(1, int(np.ceil(2 * REACH / spacing)) + 1)
    low, high = center[0] - steps[::-1, None], center[-1] + steps[:, None]
    fiber = np.arange(-len(steps), n_fiber + len(steps))
    return np.r_[row[0] - steps[::-1], row, row[-1] + steps], fiber, np.concatenate([low, center, high])


def _without_hits(flux: Floats, n_fiber: int) -> Floats:
    """Cut light (n_row, n_run) that neither as many rows as there are fibers nor the runs around have."""
    if n_fiber >= len(flux):
        return flux
    level = np.partition(flux, -n_fiber, axis=0)[-n_fiber]
    around = np.roll(flux, APART, axis=1) + np.roll(flux, -APART, axis=1)
    return np.asarray(np.minimum(flux, np.maximum(level, LASTING / 2 * around)))


def likeliest_offset(places: Places, light: Floats) -> float | None:
    """Return the offset of the map at which most fibers have light, None where no light is seen.

    light : (n_fiber,) how much each fiber is expected to give, 0 to 1
    """
    own = (places.fiber >= 0) & (places.fiber < len(light))
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.where(places.noise > 0, places.sharp / places.noise, 0.0) - SIGNIFICANT
    weight = np.where(light > 0, np.sqrt(light), -1.0)
    score = np.sum(weight[:, None] * np.sqrt(np.clip(excess[own], 0, None)), axis=0)
    if not score.max() > 0:
        return None
    return float(places.offset[np.argmax(score * (1 - NEARER * np.abs(places.offset)))])


@dataclass(frozen=True)
class Measured:
    """Where the light of each fiber was found, if the frame is placed as it is."""

    row: Floats  # (n_fiber,)
    error: Floats  # (n_fiber,) rows; inf where no light was seen

    @property
    def seen(self) -> bool:
        """Whether the light of any fiber was."""
        return bool(np.isfinite(self.error).any())


@dataclass(frozen=True)
class Verdict:
    """The best placement among those that differ by whole fibers."""

    step: int  # fibers to move on from the placement judged
    shift: float  # px, of that placement
    rival: float  # px, of the next likely one; NaN where there is none
    odds: float  # natural logarithm of the odds between the two


def judge(places: Places, measured: Measured, center: Floats, expected: Expected, shift: float) -> Verdict:
    """Weigh a placement against those that are whole fibers further.

    Parameters
    ----------
    places : Places
        Profiles across the map.
    measured : Measured
        Rows of the light.
    center : (n_fiber,)
        Rows of the fibers by the map.
    expected : Expected
        What is known of the fibers' light.
    shift : float
        Rows by which the frame is placed away from the map.
    """
    spacing = float(np.median(np.diff(center))) if len(center) > 1 else np.inf
    reach = int(2 * REACH // spacing)
    step = np.array([k for k in range(-reach, reach + 1) if k == 0 or abs(shift + k * spacing) <= REACH])
    place: Floats = np.asarray(shift + (step * spacing if reach else 0.0 * step))
    misfit = [_misfit(measured, center, k) for k in step]
    scatter = max(LEAST_SCATTER, min(_robust(rest) for rest, _ in misfit))
    odds = _odds_of_light(places, expected, shift, step) - np.log1p((place / USUAL_SHIFT) ** 2)
    odds -= np.array([_cost(rest, error, scatter) for rest, error in misfit])
    best, *others = np.argsort(-odds).tolist()
    if not others:
        return Verdict(int(step[best]), float(place[best]), np.nan, np.inf)
    return Verdict(int(step[best]), float(place[best]), float(place[others[0]]), float(odds[best] - odds[others[0]]))


def _misfit(measured: Measured, center: Floats, step: int) -> tuple[Floats, Floats]:
    """Return what rows depart from the map moved by whole fibers, a common shift and stretch, and their errors."""
    trace = np.arange(len(center))
    fiber = trace - step
    use = np.isfinite(measured.error) & (fiber >= 0) & (fiber < len(center))
    if not use.any():
        return np.zeros(0), np.zeros(0)
    row, expected = measured.row[use], center[fiber[use]]
    error = np.hypot(measured.error[use], LEAST_SCATTER)
    design = np.stack([np.ones(len(row)), expected - np.mean(expected)], axis=1)
    keep = np.ones(len(row), dtype=bool)
    rest = row - expected
    for _ in range(3):
        weighted = design[keep] / error[keep, None] ** 2
        normal = weighted.T @ design[keep] + np.diag([0.0, STRETCH_PRIOR**-2])
        rest = row - expected - design @ np.linalg.solve(normal, weighted.T @ (row - expected)[keep])
        keep = np.abs(rest) <= max(0.1, 4 * _robust(rest))
    return rest, measured.error[use]


def _robust(rest: Floats) -> float:
    return robust_sigma(rest) if rest.size else np.inf


def _cost(rest: Floats, error: Floats, scatter: float) -> float:
    return float(np.sum(np.minimum(0.5 * rest**2 / (error**2 + scatter**2), LARGEST_MISFIT)))


def _odds_of_light(places: Places, expected: Expected, shift: float, step: Ints) -> Floats:
    """Return the odds that the light seen at the places is that of the fibers `step` (n_step,) places back."""
    light, noise = places.brightness(shift)
    light = np.where(light > SIGNIFICANT * noise, light, 0.0)
    typical = float(np.percentile(light[light > 0], 75)) if light.any() else 0.0
    around = np.maximum(np.r_[0.0, light[:-1]], np.r_[light[1:], 0.0])
    fiber = places.fiber - step[:, None]
    known = (fiber >= 0) & (fiber < len(expected.light))
    own = np.where(known, expected.light[np.clip(fiber, 0, len(expected.light) - 1)], 0.0)
    none, faint = own == 0, (own > 0) & (own < FAINT_BELOW)
    stray = none & (light > OUTSHONE * np.maximum(around, typical))
    glaring = faint & (light > TOO_BRIGHT * typical)
    missing = ~none & ~faint & (light <= BRIGHT * typical)
    costs = (GLARING_LAMP, MISSING_LAMP) if expected.lamp else (GLARING, MISSING)
    return np.asarray(-UNEXPECTED * stray.sum(axis=1) - costs[0] * glaring.sum(axis=1) - costs[1] * missing.sum(axis=1))
