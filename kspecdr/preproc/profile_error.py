"""How far the fibers' profiles can be trusted on a frame, as the frame itself shows.

A pixel may be off what the profiles say by a share of its fiber's own light (the profile errs), of the light
of other fibers (their wings do), and of what near columns are brighter (the halo of the optics is round, so
that beside a bright line the profile is not that of a continuum). Each share is measured for every fiber and
row of its window in the columns where that light is brightest: there the error shows if there is one, and
where that light is faint it does not matter.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter1d
from scipy.special import ndtri

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.tlm.windows import Seen, Windows

COLUMNS = 48  # of a fiber in which an error is measured
LEAST_COLUMNS = 32  # else the typical error of all fibers is taken
CLEAR = 3.0  # sigma of the light of a pixel in such a column
LEAST_SHARE = 0.02  # of a fiber's light by which a pixel's error is counted: far wings err by more than they hold
HALO_COLUMNS = (1, 2, 5)  # on either side whose light may spread into a column: a line's steep flank to its wings
READ_ROWS = 5.2  # pixels of dark variance in the light of a column, about
NEAR_FULL = 3  # columns on either side of a full one where the profile means nothing
UNJUDGED = np.float32(1e14)  # electron**2


@dataclass(frozen=True)
class Bound:
    """What an error is known to be, as shares of the light it belongs to, and how its scale is told."""

    usual: float  # where no fiber has enough light to tell
    least: float
    largest: float
    quantile: float  # of the deviations, taken as their scale: above it only what hits may spoil


OWN = Bound(usual=0.03, least=0.01, largest=2.0, quantile=0.7)
OTHERS = Bound(usual=0.25, least=0.25, largest=0.5, quantile=0.7)
HALO = Bound(usual=0.0, least=0.0, largest=0.1, quantile=0.8)  # steep flanks are few


@dataclass(frozen=True)
class Source:
    """Light in the windows of which the profiles may lay out a share wrongly."""

    light: Floats  # (n_fiber, n_window, n_column) electron, or (n_fiber, 1, n_column): the same in all rows
    bound: Bound

    @cached_property
    def brightest(self) -> "Part":
        """The columns of each fiber in which there is most of it."""
        strength = _median_of_three(np.max(self.light, axis=1))
        number = min(COLUMNS, strength.shape[1])
        return Part.of_columns(np.argpartition(-strength, number - 1, axis=1)[:, :number], strength.shape[1])


@dataclass(frozen=True)
class Part:
    """Some pixels of the windows."""

    of: Callable[[Any], Any]  # planes (n_fiber, n_window or 1, n_column) -> their values there
    spread: Callable[[Floats], Floats]  # what belongs to fibers and rows (n_fiber, n_window) -> to those pixels

    @classmethod
    def of_columns(cls, columns: Ints, n_column: int) -> "Part":
        """Return all rows of some of `n_column` columns of each fiber, (n_fiber, n)."""

        @cache
        def places(n_row: int) -> Ints:
            first = n_row * np.arange(len(columns))[:, None, None]
            return np.asarray((first + np.arange(n_row)[:, None]) * n_column + columns[:, None])

        return cls(lambda plane: plane.reshape(-1).take(places(plane.shape[1])), ALL.spread)

    @classmethod
    def of_windows(cls, some: tuple[Ints, slice, Ints]) -> "Part":
        """Return all rows of some fibers at some columns each; values are (n, n_window)."""
        return cls(lambda plane: plane[some], lambda share: np.asarray(share[some[0]]))


ALL = Part(lambda plane: plane, lambda share: share[:, :, None])


@dataclass(frozen=True)
class Sources:
    """The light in a frame's windows by where it comes from, (n_fiber, n_window, n_column)."""

    own: Floats  # share of the window's fiber
    rest: Floats  # electron, what was seen less the light of others
    noise: tuple[Floats, Floats]  # electron**2: of the dark pixel, of the light's photons
    good: Bools  # that tell
    near_full: Bools  # (n_fiber, 1, n_column) where none is to be judged
    each: tuple[Source, ...]

    @classmethod
    def of(cls, seen: Seen, windows: Windows, light: Floats, others: Floats, full: Bools) -> "Sources":
        """Tell the sources of a frame apart.

        Parameters
        ----------
        seen : Seen
            The frame.
        windows : Windows
            The profiles on it.
        light : (n_fiber, n_column)
            Electrons of each fiber, without those of hits.
        others : (n_fiber, n_window, n_column)
            Electrons in the windows that are not of the window's fiber.
        full : (n_fiber, n_column)
            Where the core of a fiber is saturated; near it no pixel is to be judged.
        """
        single = light[:, None].astype(np.float32)
        own, strange = windows.own * single, np.abs(others)
        extended = np.maximum(own, np.float32(LEAST_SHARE) * single)
        near_full = (maximum_filter1d(full, 2 * NEAR_FULL + 1, axis=1) if full.any() else full)[:, None]
        halos = tuple(Source(halo[:, None], HALO) for halo in _halos(seen, light))
        noise = (seen.dark_variance, own + strange)
        each = (Source(extended, OWN), Source(strange, OTHERS), *halos)
        return cls(windows.own, seen.flux - others, noise, seen.good & ~near_full, near_full, each)

    def errors(self, judge: Floats) -> list[Floats]:
        """Return by what share of its light each source errs, (n_fiber, n_window) each.

        judge : (n_fiber, n_column) electrons of each fiber by which its pixels are judged; the errors are those
            about it. Hits may have raised it.

        Each is what residuals show beyond the noise and the errors before.
        """
        single = judge[:, None].astype(np.float32)
        errors: list[Floats] = []
        for source in self.each:
            there = source.brightest
            residual = there.of(self.rest) - there.of(self.own) * there.of(single)
            variance = there.of(self.noise[0]) + self._erring(errors, there)
            light, good = there.of(source.light), there.of(self.good)
            errors.append(measured_error(residual, variance, light, good, source.bound))
        return errors

    def doubt(self, errors: Sequence[Floats], where: Part = ALL) -> Floats:
        """Return the variance of pixels beyond that of the dark: photon noise, and what the profiles err."""
        doubt = self._erring(errors, where)
        return np.where(where.of(self.near_full), UNJUDGED, doubt) if self.near_full.any() else doubt

    def _erring(self, errors: Sequence[Floats], where: Part) -> Floats:
        total: Floats = where.of(self.noise[1])
        for error, source in zip(errors, self.each, strict=False):  # as many as are known
            off = where.spread(error) * where.of(source.light)
            total = total + off * off
        return total


def mean_light(seen: Seen, share: Floats, others: Floats, light: Floats) -> Floats:
    """Return the light that all rows of a fiber agree on, weighted by their noise, (n_fiber, n_column) electron.

    The median over the rows is exact in one of them, which would seem free of error.
    """
    weight = share / (seen.dark_variance + np.abs(others) + share * light[:, None].astype(np.float32))
    weight *= seen.good
    total = np.einsum("fkc,fkc->fc", weight, share)
    return np.asarray(np.einsum("fkc,fkc->fc", weight, seen.flux - others) / np.maximum(total, np.float32(1e-30)))


def measured_error(residual: Floats, variance: Floats, light: Floats, good: Bools, bound: Bound) -> Floats:
    """Return the scale of what residuals are more than their noise, over the light that may err.

    Parameters
    ----------
    residual, variance, good : (n_fiber, n_window, n)
        Electron, electron**2 of the noise that they have anyway, and which pixels count.
    light : (n_fiber, n_window, n) or (n_fiber, 1, n)
        Electron.
    bound : Bound
        Of the result, and what it is where nothing tells.

    Returns
    -------
    (n_fiber, n_window)
    """
    clear = np.max(light, axis=1) > CLEAR * np.sqrt(np.max(variance, axis=1))
    within = float(ndtri((1 + bound.quantile) / 2))  # sigma
    excess = (np.square(residual) - within**2 * variance) / np.square(np.maximum(light, np.float32(1e-3)))
    excess[~(good & clear[:, None])] = np.inf
    excess.sort(axis=2)
    count = np.isfinite(excess).sum(axis=2)
    place = np.clip(np.ceil(bound.quantile * count).astype(int) - 1, 0, None)
    square = np.take_along_axis(excess, place[:, :, None], axis=2)[:, :, 0]
    known = count >= LEAST_COLUMNS
    error = np.sqrt(np.clip(np.where(known, square, 0.0), 0.0, None)) / within
    error = np.where(known, error, _typical(error, known, bound.usual))
    return np.clip(error, bound.least, bound.largest).astype(np.float32)


def _median_of_three(light: Floats) -> Floats:
    """Return the running median over three columns, which a line survives and most hits do not."""
    median = light.copy()
    left, middle, right = light[:, :-2], light[:, 1:-1], light[:, 2:]
    median[:, 1:-1] = np.maximum(np.minimum(left, middle), np.minimum(np.maximum(left, middle), right))
    return median


def _typical(error: Floats, known: Bools, usual: float) -> Floats:
    """Return the median of the errors of all fibers in each row, not less than usual, (n_window,)."""
    ordered = np.sort(np.where(known, error, np.inf), axis=0)
    count = known.sum(axis=0)
    middle = np.take_along_axis(ordered, np.clip((count - 1) // 2, 0, None)[None], axis=0)[0]
    return np.maximum(np.where(count > 0, middle, usual), usual)


def _halos(seen: Seen, light: Floats) -> Iterator[Floats]:
    """Yield what near columns are brighter beyond the noise, (n_fiber, n_column) electron, where many are."""
    noise = np.sqrt(light + READ_ROWS * np.mean(seen.dark_variance, axis=1))
    for columns in HALO_COLUMNS:
        brighter = maximum_filter1d(light, 2 * columns + 1, axis=1) - light - CLEAR * noise
        if np.max(np.count_nonzero(brighter > 0, axis=1)) >= LEAST_COLUMNS:
            yield np.asarray(np.clip(brighter, 0, None).astype(np.float32))
