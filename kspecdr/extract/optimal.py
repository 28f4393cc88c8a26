"""Simultaneous extraction of all fibers of a column by their profiles.

OPTEX is the least-squares fit of all profiles of the tramline map at once (Sharp & Birchall 2010, PASA
27, 91; for one fiber alone it is Horne 1986, PASP 98, 609). GAUSS weighs the rows by the Gaussian cores
alone and takes from the map's profile what light that leaves out. Weights come from the model of the light
and never from the datum in the pixel, which would bias faint light low. A bad pixel has no weight.
"""

from dataclasses import dataclass, fields

import numpy as np

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.extract.boxcar import Extracted
from kspecdr.products import MaskBit
from kspecdr.tlm.light import gather, scatter
from kspecdr.tlm.profile import GAUSSIAN, REACH, FiberWindows, profile_matrix

LEAST_SEEN = 0.5  # of a fiber's light that good pixels must hold
CORE_WIDTHS = 4.0  # core widths to either side whose rows are weighed
LARGEST_CORE = 8  # rows, the same
REJECT = 6.0  # sigma of a pixel that does not fit
MODEL_ERROR = 0.03  # of the light in a pixel, and half of it of that in the brightest, when it is judged
REJECTIONS = 5  # pixels of a fiber and column that are left out at most, one at a time
SWEEPS = 6  # of the solution; each leaves a few percent of what neighbours share


@dataclass(frozen=True)
class OptimalFit:
    """Spectra, and what was left out of them."""

    spectra: Extracted
    rejected: Bools  # (n_row, n_column) pixels that did not fit


def extract_optimal(
    flux: Floats,
    dark_variance: Floats,
    mask: Ints,
    center: Floats,
    width: Floats,
    wings: Floats = GAUSSIAN,
    *,
    gaussian_weights: bool = False,
    reject: bool = True,
) -> OptimalFit:
    """Fit the light of all fibers to every column.

    Parameters
    ----------
    flux : (n_row, n_column)
        Electron, freed of background light.
    dark_variance : (n_row, n_column)
        Variance that the pixels would have without light, electron**2.
    mask : (n_row, n_column)
        Bits of MaskBit; any bit makes a pixel bad.
    center, width : (n_fiber, n_column)
        Rows and core widths of the fibers on this frame.
    wings : (N_WING,) or (0,)
        See `kspecdr.tlm.profile`.
    gaussian_weights : bool
        Weigh rows by the Gaussian cores (GAUSS) instead of the full profiles (OPTEX).
    reject : bool
        Leave out pixels that do not fit.
    """
    half = _core_rows(width)
    shares = _Shares.of(center, width, wings, half)
    rows = profile_matrix(center, width, half) if gaussian_weights else None
    weighting = shares.own if rows is None else rows.share
    data = _Data.of(flux, dark_variance, mask, shares)
    good = data.good
    light, variance = _fit(data, shares, weighting, good, np.zeros_like(data.flux))
    light, variance = _fit(data, shares, weighting, good, shares.model(light))
    if reject:
        light, variance, good = _rejected(data, shares, weighting, light, variance)
    thrown = scatter((data.good & ~good).astype(float), shares.rows, len(flux)) > 0
    return OptimalFit(_spectra(light, variance, data, shares, good), thrown)


def light_image(light: Floats, center: Floats, width: Floats, wings: Floats, n_row: int) -> Floats:
    """Lay spectra (n_fiber, n_column) over the rows by their profiles, (n_row, n_column); NaN is no light."""
    windows = profile_matrix(center, width, int(np.ceil(REACH * float(np.max(width)))), wings)
    return scatter(windows.share * np.nan_to_num(light)[:, None], windows.rows, n_row)


def _core_rows(width: Floats) -> int:
    return int(min(np.ceil(CORE_WIDTHS * float(np.median(width))), LARGEST_CORE))


@dataclass(frozen=True)
class _Shares:
    """What each fiber and its neighbours bring to the core rows of each fiber."""

    rows: Ints  # (n_fiber, n_window, n_column)
    own: Floats  # (n_fiber, n_window, n_column) of a fiber's light
    others: dict[int, Floats]  # by the step m from fiber i to i + m: shares of that fiber on the rows of i

    @classmethod
    def of(cls, center: Floats, width: Floats, wings: Floats, half: int) -> "_Shares":
        wide = profile_matrix(center, width, int(np.ceil(REACH * float(np.max(width)))), wings)
        beyond = wide.share.shape[1] // 2 - half
        core = FiberWindows(wide.first + beyond, wide.share[:, beyond : beyond + 2 * half + 1])
        others: dict[int, Floats] = {}
        for step in range(1, len(center)):
            for m in (step, -step):
                share = _share_of_neighbor(core, wide, m)
                if share is not None:
                    others[m] = share
            if step not in others and -step not in others:
                break
        return cls(core.rows, core.share, others)

    def at(self, columns: Ints) -> "_Shares":
        """Return the shares of some columns."""
        others = {m: share[..., columns] for m, share in self.others.items()}
        return _Shares(self.rows[..., columns], self.own[..., columns], others)

    def model(self, light: Floats) -> Floats:
        """Return the light of all fibers on the core rows of each."""
        total = self.own * light[:, None]
        for m, share in self.others.items():
            here, there = _pair(m)
            total[here] += share * light[there][:, None]
        return total


def _pair(m: int) -> tuple[slice, slice]:
    """Return the fibers that have a neighbour `m` further, and those neighbours."""
    return (slice(None, -m), slice(m, None)) if m > 0 else (slice(-m, None), slice(None, m))


def _share_of_neighbor(core: FiberWindows, wide: FiberWindows, m: int) -> Floats | None:
    """Return the shares of fiber i + m on the core rows of fiber i, or None where it does not reach them."""
    here, there = _pair(m)
    index = (core.first[here] - wide.first[there])[:, None] + np.arange(core.share.shape[1])[:, None]
    n_window = wide.share.shape[1]
    inside = (index >= 0) & (index < n_window)
    if not inside.any():
        return None
    return np.asarray(np.take_along_axis(wide.share[there], np.clip(index, 0, n_window - 1), axis=1) * inside)


@dataclass(frozen=True)
class _Data:
    """The frame on the core rows of the fibers, all (n_fiber, n_window, n_column)."""

    flux: Floats
    dark_variance: Floats
    bits: Ints
    good: Bools

    @classmethod
    def of(cls, flux: Floats, dark_variance: Floats, mask: Ints, shares: _Shares) -> "_Data":
        windows = FiberWindows(shares.rows[:, 0], shares.own)
        bits = gather(mask.astype(np.float32), windows, outside=float(MaskBit.NO_DATA)).astype(np.uint8)
        light, noise = gather(flux, windows), gather(dark_variance, windows)
        good = (bits == 0) & np.isfinite(light) & (noise > 0)
        return cls(np.where(good, light, 0.0), np.where(good, noise, 1.0), bits, good)

    def at(self, columns: Ints) -> "_Data":
        """Return the data of some columns."""
        return _Data(*(getattr(self, part.name)[..., columns] for part in fields(self)))


def _fit(data: _Data, shares: _Shares, weighting: Floats, good: Bools, model: Floats) -> tuple[Floats, Floats]:
    """Solve the normal equations of every column; return light and its variance, (n_fiber, n_column).

    The weights are those of the light that `model` has on the core rows.
    """
    weight = np.where(good, 1 / (data.dark_variance + np.clip(model, 0, None)), 0.0)
    weighted = weighting * weight
    gain = np.einsum("fkx,fkx->fx", weighted, shares.own)
    gain = np.where(gain > 0, gain, 1.0)
    alone = np.einsum("fkx,fkx->fx", weighted, data.flux) / gain
    mixing = {
        m: np.einsum("fkx,fkx->fx", weighted[_pair(m)[0]], share) / gain[_pair(m)[0]]
        for m, share in shares.others.items()
    }
    light = alone
    for _ in range(SWEEPS):
        rest = alone.copy()
        for m, share in mixing.items():
            here, there = _pair(m)
            rest[here] -= share * light[there]
        light = rest
    return light, np.einsum("fkx,fkx->fx", weighted, weighting) / gain**2


def _rejected(
    data: _Data, shares: _Shares, weighting: Floats, light: Floats, variance: Floats
) -> tuple[Floats, Floats, Bools]:
    """Leave out the worst misfit of each fiber and column, fit those columns again, and repeat."""
    light, variance, good = light.copy(), variance.copy(), data.good.copy()
    columns, chosen, near = np.arange(light.shape[1]), data, shares
    for _ in range(REJECTIONS):
        model = near.model(light[:, columns])
        error = MODEL_ERROR * (model + 0.5 * np.max(model, axis=1, keepdims=True))
        noise = chosen.dark_variance + np.clip(model, 0, None) + error**2
        misfit = np.where(good[..., columns], (chosen.flux - model) ** 2 / noise, 0.0)
        worst = (misfit > REJECT**2) & (misfit == np.max(misfit, axis=1, keepdims=True))
        again = np.flatnonzero(worst.any(axis=(0, 1)))
        if not again.size:
            break
        good[..., columns[again]] &= ~worst[..., again]
        columns, chosen, near = columns[again], chosen.at(again), near.at(again)
        light[:, columns], variance[:, columns] = _fit(
            chosen, near, weighting[..., columns], good[..., columns], model[..., again]
        )
    return light, variance, good


def _spectra(light: Floats, variance: Floats, data: _Data, shares: _Shares, good: Bools) -> Extracted:
    held = np.sum(np.where(good, shares.own, 0.0), axis=1)
    seen = held > LEAST_SEEN * np.sum(shares.own, axis=1)
    lost = np.bitwise_or.reduce(np.where(shares.own > 0.05, data.bits, 0), axis=1)
    lost = np.where(lost == 0, np.uint8(MaskBit.NO_DATA), lost)
    return Extracted(
        np.where(seen, light, np.nan),
        np.where(seen, variance, np.nan),
        np.where(seen, 0, lost).astype(np.uint8),
    )
