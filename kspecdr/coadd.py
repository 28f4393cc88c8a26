"""Kernel of coadd_spectra: exposures of the same fibers brought to one scale, then the mean by inverse variance.

Exposures differ in transparency and in time. Each one's scale is fitted to the mean of all, over all fibers and
samples, with weights from the mean and not from the single noisy sample; the weights of the mean are made of
variances smoothed along the spectrum, since those of faint samples follow their own noise and would bias it.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from kspecdr.arrays import Bools, Floats
from kspecdr.errors import BadFrame

CLIP = 5.0  # sigma, against the median of three or more exposures
MODEL_ERROR = 0.1  # of the flux: exposures differ by more than noise where the seeing does
SMOOTHED = 31  # samples over which a variance is taken for a weight
ROUNDS = 10
SETTLED = 1e-5


@dataclass(frozen=True)
class Coadded:
    """The mean of several exposures."""

    flux: Floats  # (n_fiber, n_sample) in the scale of the mean exposure; NaN where none has data
    variance: Floats  # (n_fiber, n_sample)
    covariance: Floats  # (n_fiber, n_sample) with the next sample
    scale: Floats  # (n_exposure,) of each exposure against the mean; their mean is 1


def coadd(flux: Floats, variance: Floats, covariance: Floats, good: Bools) -> Coadded:
    """Combine exposures on one wavelength grid.

    flux, variance, covariance, good : (n_exposure, n_fiber, n_sample); covariance with the next sample

    Raises BadFrame where an exposure has no light in common with the others.
    """
    weight = np.where(good, 1.0 / _smooth(np.where(good, variance, np.nan)), 0.0)
    value = np.where(good, flux, 0.0)
    scale = _fitted_scale(value, weight)
    weight = np.where(_typical(value, variance, good, scale), weight, 0.0)
    return _combined(value, variance, covariance, weight, scale)


def _fitted_scale(value: Floats, weight: Floats) -> Floats:
    """Return how much brighter each exposure is than the mean of all, (n_exposure,); their mean is 1."""
    scale = np.ones(len(value))
    for _ in range(ROUNDS):
        mean = _mean(value, weight, scale)
        seen = np.where(np.isfinite(mean), mean, 0.0)
        norm = (weight * seen**2).sum(axis=(1, 2))
        if not (norm > 0).all():
            raise BadFrame(
                f"exposure {int(np.argmin(norm)) + 1} of {len(value)} has no good sample with light; leave it out"
            )
        found = (weight * value * seen).sum(axis=(1, 2)) / norm
        if not (found > 0).all():
            raise BadFrame(
                f"exposure {int(np.argmin(found)) + 1} of {len(value)} has no light in common with the others; "
                "leave it out"
            )
        change, scale = found / found.mean() - scale, found / found.mean()
        if np.abs(change).max() < SETTLED:
            break
    return scale


def _mean(value: Floats, weight: Floats, scale: Floats) -> Floats:
    """Return the mean (n_fiber, n_sample) of which each exposure is `scale` times; NaN without any weight."""
    each = scale[:, None, None]
    total = (weight * each**2).sum(axis=0)
    return np.asarray((weight * each * value).sum(axis=0) / np.where(total > 0, total, np.nan))


def _combined(value: Floats, variance: Floats, covariance: Floats, weight: Floats, scale: Floats) -> Coadded:
    each = scale[:, None, None]
    total = (weight * each**2).sum(axis=0)
    share = weight * each / np.where(total > 0, total, np.nan)
    beside = np.append(share[..., 1:], np.zeros_like(share[..., :1]), axis=-1)

    def summed(shares: Floats, what: Floats) -> Floats:
        return np.asarray((shares * np.where(shares > 0, what, 0.0)).sum(axis=0))

    lost = np.where(total > 0, 0.0, np.nan)
    return Coadded(
        summed(share, value) + lost,
        summed(share**2, variance) + lost,
        np.nan_to_num(summed(np.nan_to_num(share * beside), covariance)),
        scale,
    )


def _typical(value: Floats, variance: Floats, good: Bools, scale: Floats) -> Bools:
    """Return which samples are within `CLIP` sigma of the exposures' median; all where these are two or one."""
    if len(value) < 3:
        return good
    leveled = np.where(good, value / scale[:, None, None], np.nan)
    count = good.sum(axis=0)
    ordered = np.sort(leveled, axis=0)  # NaN last
    low = np.take_along_axis(ordered, np.maximum((count - 1) // 2, 0)[None], axis=0)
    high = np.take_along_axis(ordered, np.minimum(count // 2, len(value) - 1)[None], axis=0)
    median = np.nan_to_num(0.5 * (low + high))
    spread2 = np.where(good, variance, 1.0) / scale[:, None, None] ** 2 + (MODEL_ERROR * median) ** 2
    off = np.abs(np.nan_to_num(leveled) - median) > CLIP * np.sqrt(spread2)
    return np.asarray(good & ~(off & (count >= 3)))


def _smooth(variance: Floats) -> Floats:
    """Return variances smoothed along the spectrum by a running median; those missing are taken as typical."""
    known = np.isfinite(variance) & (variance > 0)
    typical = np.nanmedian(np.where(known, variance, np.nan)) if known.any() else 1.0
    width = min(SMOOTHED, variance.shape[-1] // 2 * 2 - 1)
    return np.asarray(median_filter(np.where(known, variance, typical), size=(1, 1, max(width, 1)), mode="nearest"))
