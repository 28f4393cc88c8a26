"""Simultaneous extraction of all fibers of a column by their profiles.

OPTEX is the least-squares fit of all profiles of the tramline map at once (Sharp & Birchall 2010, PASA
27, 91; for one fiber alone it is Horne 1986, PASP 98, 609). GAUSS weighs the rows by the Gaussian cores
alone and takes from the map's profile what light that leaves out. Weights come from the model of the light
and never from the datum in the pixel, which would bias faint light low. A bad pixel has no weight. What
does not fit is no reason to leave a pixel out: hits are marked before, by the test that knows them. But a
sample that was hit is lost where what is left does not look like a fiber.
"""

import numpy as np

from kspecdr.arrays import Bools, Floats
from kspecdr.extract.boxcar import Extracted
from kspecdr.products import MaskBit, flagged
from kspecdr.tlm.profile import Profile, shares_on
from kspecdr.tlm.windows import Seen, Windows, pair

LEAST_SEEN = 0.5  # of a fiber's light that good pixels must hold
NOTABLE_SHARE = 0.05  # of a fiber's light: a bad pixel with less of it is not why light was lost
MISFIT = 5.0  # reduced chi-square of what a hit has left of a sample, beyond which more of it was hit
PROFILE_ERROR = 0.05  # of the light in a pixel, generously
SWEEPS = 6  # of the solution; each leaves a few percent of what neighbours share


def extract_optimal(seen: Seen, windows: Windows, weighting: Floats | None = None) -> Extracted:
    """Fit the light of all fibers to every column.

    Parameters
    ----------
    seen : Seen
        The frame, freed of background light.
    windows : Windows
        The profiles.
    weighting : (n_fiber, n_window, n_column), optional
        Profiles that weigh the rows in place of the full ones: the Gaussian cores (GAUSS).
    """
    first = solve(seen, windows, weighting=weighting)[0]
    model = windows.model(first)
    light, variance = solve(seen, windows, model, weighting)
    held = np.sum(windows.own, axis=1, where=seen.good)
    complete = seen.good.all(axis=1)
    saw = complete | (held > LEAST_SEEN * np.sum(windows.own, axis=1))
    saw &= ~_spoiled(seen, windows, model, light - first)
    lost = np.zeros(light.shape, np.uint8)
    if not saw.all():
        lost = np.bitwise_or.reduce(np.where(windows.own > NOTABLE_SHARE, seen.bits, 0), axis=1)
        lost = np.where(lost == 0, np.uint8(MaskBit.NO_DATA), lost)
    return Extracted(
        np.where(saw, light, np.nan), np.where(saw, variance, np.nan), np.where(saw, 0, lost).astype(np.uint8)
    )


def _spoiled(seen: Seen, windows: Windows, model: Floats, more: Floats) -> Bools:
    """Return samples in which hits cover most rows, or the rows that are left do not fit, (n_fiber, n_column).

    model : (n_fiber, n_window, n_column) electrons expected; more : (n_fiber, n_column) light that it lacks
    """
    spoiled = np.zeros(more.shape, dtype=bool)
    hit = flagged(seen.bits, MaskBit.COSMIC)
    fiber, column = np.nonzero(hit.any(axis=1))
    if not fiber.size:
        return spoiled
    some = (fiber, slice(None), column)  # (n, n_window)
    fit = model[some] + windows.own[some] * more[fiber, column, None]
    notable = windows.own[some] > NOTABLE_SHARE
    left = notable & seen.good[some]
    noise = seen.dark_variance[some] + np.maximum(fit, 0) + (PROFILE_ERROR * fit) ** 2
    misfit = np.sum((seen.flux[some] - fit) ** 2 / noise, axis=1, where=left)
    number = left.sum(axis=1)
    covered = (notable & hit[some]).sum(axis=1)
    spoiled[fiber, column] = (covered > number) | ((covered > 0) & (misfit > MISFIT * number))
    return spoiled


def gaussian_cores(windows: Windows) -> Floats:
    """Return the Gaussian cores alone on the rows of the windows, as `Windows.own`."""
    gaussian = Profile.of(kind=np.float32)
    return shares_on(windows.first, windows.n_window, windows.center, windows.width, gaussian)


def solve(
    seen: Seen, windows: Windows, model: Floats | None = None, weighting: Floats | None = None
) -> tuple[Floats, Floats]:
    """Solve the normal equations of every column; return light and its variance, (n_fiber, n_column).

    The weights are those of the light that `model` has in the windows, of none without it.
    """
    noise = seen.dark_variance if model is None else seen.dark_variance + np.maximum(model, 0)
    rows = windows.own if weighting is None else weighting
    weighted = rows / noise
    weighted *= seen.good
    gain = np.einsum("fkx,fkx->fx", weighted, windows.own)
    gain = np.where(gain > 0, gain, 1.0)
    alone = np.einsum("fkx,fkx->fx", weighted, seen.flux) / gain
    mixing = {
        m: np.einsum("fkx,fkx->fx", weighted[pair(m)[0]], share) / gain[pair(m)[0]]
        for m, share in windows.others.items()
    }
    light = alone
    for _ in range(SWEEPS):
        rest = alone.copy()
        for m, share in mixing.items():
            here, there = pair(m)
            rest[here] -= share * light[there]
        light = rest
    own = gain if weighting is None else np.einsum("fkx,fkx->fx", weighted, rows)
    return light.astype(float), (own / gain**2).astype(float)
