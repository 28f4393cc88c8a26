"""How a fiber's light spreads over the rows, evaluated on whole pixels.

A profile is a Gaussian core, whose width belongs to each fiber and column, and what all fibers
have beyond it: `wings`, the difference of the cumulative profile from that of the core, tabulated
on an even grid of `REACH` core widths to either side. An empty table is a pure Gaussian. The light
within the reach is the light of the fiber: the integral over it is one.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from kspecdr.arrays import Floats, Ints

REACH = 12.0  # core widths; light beyond is scattered light
WING_STEP = 0.05  # core widths between entries of the wings
N_WING = round(2 * REACH / WING_STEP) + 1
FINE_STEP = 0.005  # core widths; linear interpolation is good to 1e-6 of the light
GAUSSIAN: Floats = np.zeros(0)


@dataclass(frozen=True)
class FiberWindows:
    """The rows about each fiber and its share of light there."""

    first: Ints  # (n_fiber, n_column) lowest row of the window; may lie outside the frame
    share: Floats  # (n_fiber, n_window, n_column) of the fiber's light in each pixel

    @property
    def rows(self) -> Ints:
        """Rows of the window pixels, (n_fiber, n_window, n_column)."""
        return self.first[:, None] + np.arange(self.share.shape[1])[:, None]


def wing_grid() -> Floats:
    """Return the places, in core widths, at which the wings are tabulated, (N_WING,)."""
    return np.linspace(-REACH, REACH, N_WING)


def cumulative_table(wings: Floats = GAUSSIAN) -> Floats:
    """Return the cumulative profile on a fine even grid from -REACH to REACH core widths.

    Raises
    ------
    ValueError
        If `wings` is neither empty nor has `N_WING` entries.
    """
    place = np.linspace(-REACH, REACH, round(2 * REACH / FINE_STEP) + 1)
    if wings.size == 0:
        return np.asarray(ndtr(place))
    if wings.shape != (N_WING,):
        raise ValueError(f"wings have shape {wings.shape}, expected ({N_WING},) or an empty array for a Gaussian")
    return np.asarray(ndtr(place) + np.interp(place, wing_grid(), wings))


def cumulative(offset: Floats, table: Floats) -> Floats:
    """Look the cumulative profile up at offsets in core widths, any shape."""
    at = np.clip((offset + REACH) * (1 / FINE_STEP), 0, len(table) - 1.001)
    index = at.astype(np.intp)
    low = table[index]
    return np.asarray(low + (at - index) * (table[index + 1] - low))


def pixel_share(offset: Floats, width: Floats, table: Floats) -> Floats:
    """Share of a fiber's light in pixels whose middles lie `offset` px from its center."""
    scale = 1 / width
    return np.asarray(cumulative((offset + 0.5) * scale, table) - cumulative((offset - 0.5) * scale, table))


def profile_matrix(center: Floats, width: Floats, half_window: int, wings: Floats = GAUSSIAN) -> FiberWindows:
    """Evaluate the profiles on windows of 2 half_window + 1 rows about the fibers.

    Parameters
    ----------
    center, width : (n_fiber, n_column)
        Row and core width (sigma, px).
    half_window : int
        Rows on either side of the nearest row.
    wings : (N_WING,) or (0,)
        See the module.
    """
    first = np.floor(center + 0.5).astype(int) - half_window
    return FiberWindows(first, shares_on(first, 2 * half_window + 1, center, width, cumulative_table(wings)))


def shares_on(first: Ints, n_window: int, center: Floats, width: Floats, table: Floats) -> Floats:
    """Evaluate profiles on given rows, (n_fiber, n_window, n_column) of the type of `table`.

    Parameters
    ----------
    first : (n_fiber, n_column)
        Lowest row of each window; the fiber itself may lie elsewhere.
    n_window : int
        Rows of a window.
    center, width : (n_fiber, n_column)
        Row and core width (sigma, px).
    table : (n_place,)
        See `cumulative_table`; in single precision the shares are good to 1e-6 and half the price.
    """
    kind = table.dtype
    rise = np.append(np.diff(table), 0.0).astype(kind)
    edge = (np.arange(n_window + 1)[:, None] - 0.5).astype(kind)
    scale = (1 / (width * FINE_STEP)).astype(kind)
    start = ((first - center) / (width * FINE_STEP) + REACH / FINE_STEP).astype(kind)
    share = np.empty((len(first), n_window, first.shape[1]), dtype=kind)
    end = kind.type(len(table) - 1.001)
    for fiber in range(len(first)):  # one at a time stays within the processor's cache
        at = edge * scale[fiber]
        at += start[fiber]
        np.clip(at, 0, end, out=at)
        index = at.astype(np.intp)
        at -= index
        at *= rise.take(index)
        at += table.take(index)
        np.subtract(at[1:], at[:-1], out=share[fiber])
    return share


def light_within(half_width: float, width: Floats, wings: Floats = GAUSSIAN) -> Floats:
    """Share of a fiber's light within `half_width` px of its center, by its core width (any shape)."""
    table = cumulative_table(wings)
    return np.asarray(cumulative(half_width / width, table) - cumulative(-half_width / width, table))
