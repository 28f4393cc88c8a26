"""How far the fibers' profiles can be trusted on a frame, as the frame itself shows.

A pixel may be off what the profiles say by a share of its fiber's own light (the profile errs), of the light
of other fibers (their wings do), and of what near columns are brighter (the halo of the optics is round, so
that beside a bright line the profile is not that of a continuum). Each share is measured for every fiber and
row of its window in the columns where that light is brightest: there the error shows if there is one, and
where that light is faint it does not matter.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d
from scipy.special import ndtri

from kspecdr.arrays import Bools, Floats
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


def doubt_of(seen: Seen, windows: Windows, light: Floats, others: Floats, full: Bools, judge: Floats) -> Floats:
    """Return the variance of pixels beyond that of their own datum: photon noise, and what the profiles err.

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
    judge : (n_fiber, n_column)
        Electrons of each fiber by which its pixels are judged; errors are those about it. Hits may have raised it.

    Returns
    -------
    (n_fiber, n_window, n_column) electron**2
    """
    own = windows.own * light[:, None].astype(np.float32)
    strange = np.abs(others)
    total = own + strange  # photon noise; each error is what residuals show beyond it and those before
    residual = seen.flux - others - windows.own * judge[:, None].astype(np.float32)
    near_full = maximum_filter1d(full, 2 * NEAR_FULL + 1, axis=1)[:, None] if full.any() else full[:, None]
    good = seen.good & ~near_full
    extended = np.maximum(own, np.float32(LEAST_SHARE) * light[:, None].astype(np.float32))
    for source, bound in ((extended, OWN), (strange, OTHERS)):
        error = measured_error(residual, (seen.dark_variance, total), source, good, bound)[:, :, None] * source
        error *= error
        total += error
    for columns in HALO_COLUMNS:
        halo = _brighter_within(columns, seen, light)
        if np.max(np.count_nonzero(halo, axis=1)) < LEAST_COLUMNS:
            continue
        error = measured_error(residual, (seen.dark_variance, total), halo[:, None], good, HALO)
        fiber, column = np.nonzero(halo)
        total[fiber, :, column] += np.square(error[fiber] * halo[fiber, column, None])
    return np.where(near_full, UNJUDGED, total) if full.any() else total


def mean_light(seen: Seen, share: Floats, others: Floats, light: Floats) -> Floats:
    """Return the light that all rows of a fiber agree on, weighted by their noise, (n_fiber, n_column) electron.

    The median over the rows is exact in one of them, which would seem free of error.
    """
    weight = share / (seen.dark_variance + np.abs(others) + share * light[:, None].astype(np.float32))
    weight *= seen.good
    total = np.einsum("fkc,fkc->fc", weight, share)
    return np.asarray(np.einsum("fkc,fkc->fc", weight, seen.flux - others) / np.maximum(total, np.float32(1e-30)))


def measured_error(residual: Floats, noise: tuple[Floats, Floats], source: Floats, good: Bools, bound: Bound) -> Floats:
    """Return the scale of what residuals are more than their noise, over the light of `source`.

    Parameters
    ----------
    residual, good : (n_fiber, n_window, n_column)
        Electron, and which pixels count.
    noise : two of (n_fiber, n_window, n_column)
        Electron**2; their sum is the variance that the residuals have anyway.
    source : (n_fiber, n_window, n_column) or (n_fiber, 1, n_column)
        Electron.
    bound : Bound
        Of the result, and what it is where nothing tells.

    Returns
    -------
    (n_fiber, n_window)
    """
    strength = _median_of_three(np.max(source, axis=1))
    number = min(COLUMNS, strength.shape[1])
    columns = np.argpartition(-strength, number - 1, axis=1)[:, None, :number]
    off, first, second, light = (np.take_along_axis(each, columns, axis=2) for each in (residual, *noise, source))
    variance = first + second
    clear = np.max(light, axis=1) > CLEAR * np.sqrt(np.max(variance, axis=1))
    within = float(ndtri((1 + bound.quantile) / 2))  # sigma
    excess = (np.square(off) - within**2 * variance) / np.square(np.maximum(light, np.float32(1e-3)))
    excess[~(np.take_along_axis(good, columns, axis=2) & clear[:, None])] = np.inf
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


def _brighter_within(columns: int, seen: Seen, light: Floats) -> Floats:
    """Return what columns so near are brighter beyond the noise, (n_fiber, n_column) electron."""
    noise = np.sqrt(light + READ_ROWS * np.mean(seen.dark_variance, axis=1))
    brighter = maximum_filter1d(light, 2 * columns + 1, axis=1) - light - CLEAR * noise
    return np.asarray(np.clip(brighter, 0, None).astype(np.float32))
