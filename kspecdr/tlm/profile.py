"""How a fiber's light spreads over the rows, evaluated on whole pixels.

A profile is a core, whose width belongs to each fiber and column, and wings, which all fibers have alike and
which do not follow the width of the core: they come of scatter in the spectrograph, the width of the core of
its focus. Both are tabulated in one array, `wings`. Its first row is the difference of the core's cumulative
profile from that of a Gaussian, on an even grid of `REACH` core widths to either side. The further rows are
the cumulative light of the wings in equal zones of columns, on an even grid of `FAR_REACH` px to either side;
the core has the rest. An empty table is a pure Gaussian. The light within the reach is the light of the
fiber: the integral over it is one.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from kspecdr.arrays import Floats, Ints

REACH = 12.0  # core widths; light beyond is scattered light
N_WING = 481  # entries of a row of the table
FAR_REACH = 24.0  # px, of the wings' rows
FINE_STEP = 0.005  # core widths; linear interpolation is good to 1e-6 of the light
FAR_STEPS = 50  # per px; the nearest entry is good to 1e-5 of the light
NO_LIGHT = 1e-7  # of a fiber, past the end of its core
GAUSSIAN: Floats = np.zeros(0)


@dataclass(frozen=True)
class FiberWindows:
    """The rows about each fiber and its share of light there."""

    first: Ints  # (n_fiber, n_column) lowest row of the window; may lie outside the frame
    share: Floats  # (n_fiber, n_window, n_column) of the fiber's light in each pixel

    @classmethod
    def of(cls, center: Floats, width: Floats, half_window: int, profile: "Profile") -> "FiberWindows":
        """Evaluate a profile on windows of 2 half_window + 1 rows; see `profile_matrix`."""
        first = np.floor(center + 0.5).astype(int) - half_window
        return cls(first, shares_on(first, 2 * half_window + 1, center, width, profile))

    @property
    def rows(self) -> Ints:
        """Rows of the window pixels, (n_fiber, n_window, n_column)."""
        return self.first[:, None] + np.arange(self.share.shape[1])[:, None]


@dataclass(frozen=True)
class Profile:
    """The tables of a profile, fine enough to be looked up."""

    core: Floats  # (n_place,) cumulative, from -REACH to REACH core widths
    far: Floats  # (n_zone, n_far) of the wings in a pixel by its distance, px; no zones where there are none

    @classmethod
    def of(cls, wings: Floats = GAUSSIAN, kind: type[np.floating] = np.float64) -> "Profile":
        """Make the tables, of the precision `kind`; in single precision shares cost half.

        Raises
        ------
        ValueError
            If `wings` is not empty and its rows have not `N_WING` entries.
        """
        place = np.linspace(-REACH, REACH, round(2 * REACH / FINE_STEP) + 1)
        core = np.asarray(ndtr(place))
        if wings.size == 0:
            return cls(core.astype(kind), np.zeros((0, 1), kind))
        if wings.shape[-1] != N_WING:
            raise ValueError(f"wings have shape {wings.shape}, expected (..., {N_WING}) or an empty array")
        rows = np.atleast_2d(wings)
        edge = np.linspace(-FAR_REACH - 1, FAR_REACH + 1, round((2 * FAR_REACH + 2) * FAR_STEPS) + 1)
        light = np.array([np.interp(edge, far_grid(), row) for row in rows[1:]]).reshape(-1, len(edge))
        far = light[:, FAR_STEPS:] - light[:, :-FAR_STEPS]
        return cls((core + np.interp(place, core_grid(), rows[0])).astype(kind), far.astype(kind))

    def zones(self, n_column: int) -> Ints:
        """Return the zone of each of `n_column` columns or bins that make up the frame."""
        return np.asarray(np.arange(n_column) * len(self.far) // n_column)


def core_grid() -> Floats:
    """Return the places, in core widths, at which the core is tabulated, (N_WING,)."""
    return np.linspace(-REACH, REACH, N_WING)


def far_grid() -> Floats:
    """Return the places, in px, at which the wings are tabulated, (N_WING,)."""
    return np.linspace(-FAR_REACH, FAR_REACH, N_WING)


def profile_matrix(center: Floats, width: Floats, half_window: int, wings: Floats = GAUSSIAN) -> FiberWindows:
    """Evaluate the profiles on windows of 2 half_window + 1 rows about the fibers.

    Parameters
    ----------
    center, width : (n_fiber, n_column)
        Row and core width (sigma, px).
    half_window : int
        Rows on either side of the nearest row.
    wings : (n, N_WING) or (0,)
        See the module.
    """
    return FiberWindows.of(center, width, half_window, Profile.of(wings))


def shares_on(first: Ints, n_window: int, center: Floats, width: Floats, profile: Profile) -> Floats:
    """Evaluate profiles on given rows, (n_fiber, n_window, n_column) of the precision of the profile.

    Parameters
    ----------
    first : (n_fiber, n_column)
        Lowest row of each window; the fiber itself may lie elsewhere. The columns, or bins, span the frame.
    n_window : int
        Rows of a window.
    center, width : (n_fiber, n_column)
        Row and core width (sigma, px).
    profile : Profile
        The tables.
    """
    table, kind = profile.core, profile.core.dtype
    rise = np.append(np.diff(table), 0.0).astype(kind)
    edge = (np.arange(n_window + 1)[:, None] - 0.5).astype(kind)
    scale = (1 / (width * FINE_STEP)).astype(kind)
    start = ((first - center) / (width * FINE_STEP) + REACH / FINE_STEP).astype(kind)
    share = np.zeros((len(first), n_window, first.shape[1]), dtype=kind)
    end = kind.type(len(table) - 1.001)
    for fiber, rows in enumerate(_rows_of_cores(first - center, width, n_window, profile)):
        if rows.stop <= rows.start:
            continue
        at = edge[rows.start : rows.stop + 1] * scale[fiber]  # one fiber at a time stays within the processor's cache
        at += start[fiber]
        np.clip(at, 0, end, out=at)
        index = at.astype(np.intp)
        at -= index
        at *= rise.take(index)
        at += table.take(index)
        np.subtract(at[1:], at[:-1], out=share[fiber, rows])
    if len(profile.far):
        _add_wings(share, first - center, profile)
    return share


def _rows_of_cores(offset: Floats, width: Floats, n_window: int, profile: Profile) -> list[slice]:
    """Return the rows of each fiber's window that its core reaches; `offset` (n_fiber, n_column) px of its first."""
    dark = np.minimum(profile.core, 1 - profile.core) < NO_LIGHT
    reach = (REACH - min(np.argmin(dark), np.argmin(dark[::-1])) * FINE_STEP) * np.max(width, axis=1) + 1
    low = np.clip(np.floor(np.min(-offset, axis=1) - reach), 0, n_window).astype(int)
    high = np.clip(np.ceil(np.max(-offset, axis=1) + reach) + 1, 0, n_window).astype(int)
    return [slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True)]


def _add_wings(share: Floats, offset: Floats, profile: Profile) -> None:
    """Scale the cores in `share` to what the wings leave them, and add these; `offset` (n_fiber, n_column) px."""
    n_fiber, n_window, n_column = share.shape
    n_far, zone = profile.far.shape[1], profile.zones(n_column)
    place = np.rint((offset + FAR_REACH + 0.5) * FAR_STEPS).astype(np.intp).ravel()
    begin = np.tile(zone * n_far, n_fiber)
    new = np.ones(len(place), dtype=bool)  # a trace drifts slowly: few runs of columns differ
    new[1:] = (place[1:] != place[:-1]) | (begin[1:] != begin[:-1])
    start = np.flatnonzero(new)
    index = place[start] + FAR_STEPS * np.arange(n_window)[:, None]
    np.clip(index, 0, n_far - 1, out=index)
    wings = profile.far.take(index + begin[start]).repeat(np.diff(start, append=len(place)), axis=1)
    held = profile.far[:, ::FAR_STEPS].sum(axis=1)  # entries a pixel apart have all of the light
    share *= 1 - held[zone]
    share += wings.reshape(n_window, n_fiber, n_column).swapaxes(0, 1)
