"""The light of all fibers of a column at once: weighted least squares with banded normal equations.

Profiles of neighbours overlap, so that a column's fluxes e solve C e = b with C_ij the weighted
overlap of profiles i and j (Sharp & Birchall 2010, PASA 27, 91). C is a narrow band; it is factored
for all columns together, fiber by fiber.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.robust import QUARTILES
from kspecdr.tlm.profile import FiberWindows

Value = TypeVar("Value", bound=np.generic)
STRETCH = 20  # columns along which pixels without light are alike
THIN = 4  # every such column tells that
HOT = 6.0  # sigma by which a pixel that is not stands out


@dataclass(frozen=True)
class Factored:
    """The factors L D L^T of the normal equations of every column."""

    pivot: Floats  # (n_fiber, n_column)
    lower: Floats  # (n_band, n_fiber, n_column); [m - 1, i] couples fiber i + m to fiber i

    @classmethod
    def of(cls, band: Floats) -> "Factored":
        """Factor the overlaps (n_band + 1, n_fiber, n_column); [m, i] is that of fibers i and i + m."""
        n_band, n_fiber = len(band) - 1, band.shape[1]
        pivot, lower = band[0].copy(), band[1:].copy()
        for i in range(n_fiber):
            reach = min(n_band, n_fiber - 1 - i)
            factor = lower[:reach, i] / pivot[i]
            for m in range(reach):
                pivot[i + 1 + m] -= factor[m] * lower[m, i]
                for n in range(m + 1, reach):
                    lower[n - m - 1, i + 1 + m] -= factor[m] * lower[n, i]
            lower[:reach, i] = factor
        return cls(pivot, lower)

    def solve(self, right: Floats) -> Floats:
        """Solve for right sides (n_fiber, n_column, ...); the result has the same shape."""
        n_band, n_fiber = self.lower.shape[:2]
        spread = (..., *(None,) * (right.ndim - 2))
        solution: Floats = np.array(right, dtype=float)
        for i in range(n_fiber):
            for m in range(1, min(n_band, i) + 1):
                solution[i] -= self.lower[m - 1, i - m][spread] * solution[i - m]
        solution /= self.pivot[spread]
        for i in range(n_fiber - 1, -1, -1):
            for m in range(1, min(n_band, n_fiber - 1 - i) + 1):
                solution[i] -= self.lower[m - 1, i][spread] * solution[i + m]
        return solution

    def variance(self) -> Floats:
        """Diagonal of the inverse (n_fiber, n_column), by the recursion of Takahashi et al. (1973)."""
        n_band, n_fiber = self.lower.shape[:2]
        inverse = np.zeros((n_band + 1, *self.pivot.shape))  # [m, i] of fibers i and i + m
        for i in range(n_fiber - 1, -1, -1):
            reach = min(n_band, n_fiber - 1 - i)
            for m in range(reach, -1, -1):
                value = 1 / self.pivot[i] if m == 0 else 0.0
                for n in range(1, reach + 1):
                    low, high = sorted((m, n))
                    value = value - self.lower[n - 1, i] * inverse[high - low, i + low]
                inverse[m, i] = value
        return np.asarray(inverse[0])


def runs(first: Ints) -> Iterator[tuple[int, slice, int]]:
    """Yield fiber, columns and row of each run over which the lowest row of a window, `first`, stays.

    A tramline crosses a row only now and then, so that windows are copied in a few blocks.
    """
    for fiber, row in enumerate(first):
        edge = [0, *(np.flatnonzero(row[1:] != row[:-1]) + 1).tolist(), len(row)]
        for low, high in pairwise(edge):
            yield fiber, slice(low, high), int(row[low])


def gather(image: NDArray[Value], first: Ints, n_window: int, *, outside: float = 0.0) -> NDArray[Value]:
    """Return an image (n_row, n_column) in windows of `n_window` rows from `first` (n_fiber, n_column) on.

    The result (n_fiber, n_window, n_column) has the image's type; past the frame it is `outside`.
    """
    n_row = len(image)
    values = np.empty((len(first), n_window, first.shape[1]), dtype=image.dtype)
    for fiber, columns, row in runs(first):
        low, high = min(max(-row, 0), n_window), max(min(n_row - row, n_window), 0)
        values[fiber, low:high, columns] = image[row + low : row + max(high, low), columns]
        values[fiber, :low, columns] = outside
        values[fiber, max(high, low) :, columns] = outside
    return values


def scatter(values: Floats, first: Ints, n_row: int) -> Floats:
    """Sum values in windows (n_fiber, n_window, n_column, ...) to an image (n_row, n_column, ...) of their type."""
    n_window = values.shape[1]
    total = np.zeros((n_row, *values.shape[2:]), dtype=values.dtype)
    for fiber, columns, row in runs(first):
        low, high = max(-row, 0), min(n_row - row, n_window)
        if high > low:
            total[row + low : row + high, columns] += values[fiber, low:high, columns]
    return total


def overlaps(windows: FiberWindows, weight: Floats) -> Floats:
    """Return the weighted overlaps of the profiles, (n_band + 1, n_fiber, n_column).

    Parameters
    ----------
    windows : FiberWindows
        The profiles.
    weight : (n_fiber, n_window, n_column)
        Weights of the pixels; zero where bad.
    """
    share, first = windows.share, windows.first
    n_fiber, n_window = share.shape[:2]
    weighted = share * weight
    diagonal = np.einsum("fkx,fkx->fx", weighted, share)
    band = [np.where(diagonal > 0, diagonal, 1.0)]
    for m in range(1, n_fiber):
        apart = first[m:] - first[:-m]
        if apart.min() >= n_window:
            break
        index = np.arange(n_window - max(int(apart.min()), 0))[:, None] + apart[:, None]
        other = np.take_along_axis(share[:-m], np.clip(index, 0, n_window - 1), axis=1)
        other *= (index >= 0) & (index < n_window)
        padded = np.zeros_like(diagonal)
        padded[:-m] = np.einsum("fkx,fkx->fx", weighted[m:, : index.shape[1]], other)
        band.append(padded)
    return np.array(band)


def fit_light(flux: Floats, weight: Floats, windows: FiberWindows) -> tuple[Floats, Factored]:
    """Fit the light of all fibers of each column together.

    Parameters
    ----------
    flux, weight : (n_fiber, n_window, n_column)
        Electrons and weights in the windows; a bad pixel has zero weight and a finite flux.
    windows : FiberWindows
        The profiles.

    Returns
    -------
    light : (n_fiber, n_column)
        Electrons; zero where a fiber has no good pixel.
    factored : Factored
        The normal equations, for the variances.
    """
    factored = Factored.of(overlaps(windows, weight))
    return factored.solve(np.einsum("fkx,fkx->fx", windows.share * weight, flux)), factored


def variance_without_light(flux: Floats, variance: Floats, good: Bools) -> Floats:
    """Return the variance that pixels would have without light, (..., n_row, n_column) in single precision.

    Parameters
    ----------
    flux, variance : (..., n_row, n_column)
        Electron, electron**2 with the photon noise of the signed datum.
    good : (..., n_row, n_column)
        Pixels that tell; the others get the typical value.

    Notes
    -----
    Variance less datum still holds the very noise of the dark that was subtracted, low where the datum is
    high: as a weight it would lift faint light by a few percent. Read noise and dark current are alike all
    along a stretch of columns, so that its median stands for its pixels; only one that stands out keeps its
    own, which is that of a hot pixel. A hundredth of the typical variance is the least value.
    """
    own = np.subtract(variance, flux, dtype=np.float32)
    lower, typical, upper = _quartiles(own, good)
    own = np.where(good, own, typical)
    level = _level_along(own)
    hot = own > level + np.float32(HOT / QUARTILES) * (upper - lower)
    return np.maximum(np.where(hot, own, level), np.float32(max(0.01 * typical, 1e-6)))


def _quartiles(value: Floats, good: Bools) -> Floats:
    """Return the quartiles of the good pixels, (3,) in single precision, as a part of them tells; 1 without any."""
    sample = value[..., ::3, ::5][good[..., ::3, ::5]]
    return np.percentile(sample, (25, 50, 75)).astype(np.float32) if sample.size else np.ones(3, np.float32)


def _level_along(value: Floats) -> Floats:
    """Return the median of each stretch of columns over all rows, (..., n_row, n_column) -> (..., 1, n_column).

    Columns past the last whole stretch have its level.
    """
    n_column = value.shape[-1]
    step = min(STRETCH, n_column)
    n_stretch = n_column // step
    stretches = value[..., ::2, : n_stretch * step].reshape(*value.shape[:-2], -1, n_stretch, step)
    pixels = stretches[..., ::THIN].swapaxes(-3, -2)
    pixels = pixels.reshape(*pixels.shape[:-2], -1)
    middle = pixels.shape[-1] // 2
    level = np.partition(pixels, middle, axis=-1)[..., middle]
    return level[..., None, np.minimum(np.arange(n_column) // step, n_stretch - 1)]
