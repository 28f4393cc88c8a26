"""Figures of the rebinning: flux that is kept, variance and covariance against those of many realisations."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from kspecdr.products import Spectra
from kspecdr.validate.figures import Measured, at_most, within
from kspecdr.validate.nights import ReducedNight
from kspecdr.wavecal.rebin import common_edges, rebin
from kspecdr.wavecal.scrunch import scrunch

REALISATIONS = 400


def measure(night: ReducedNight, arc: Spectra, seed: int) -> Iterator[Measured]:
    """Rebin an object of the night with the wavelengths of its arc."""
    spectra = night.spectra(night.objects[0])
    whole = replace(
        spectra,
        flux=np.nan_to_num(spectra.flux),
        variance=np.nan_to_num(spectra.variance, nan=1.0),
        mask=np.zeros_like(spectra.mask),
    )
    total = np.nansum(scrunch(whole, arc).flux, axis=1)[night.alive]
    lost = np.abs(total / whole.flux[night.alive].sum(axis=1) - 1.0)
    yield Measured("rebinning", "flux lost or gained", night.source, float(lost.max()), at_most(1e-6))
    fiber = int(night.alive[len(night.alive) // 2])
    yield from _noise(night, whole, arc, fiber, seed)


def _noise(night: ReducedNight, spectra: Spectra, arc: Spectra, fiber: int, seed: int) -> Iterator[Measured]:
    """Compare variance and covariance with the scatter of realisations of one fiber's noise."""
    rng = np.random.default_rng([seed, fiber])
    wave, variance, mask = arc.wave[fiber], spectra.variance[fiber], spectra.mask[fiber]
    edges = common_edges(arc.wave[night.alive], log_wave=False)
    noise = rng.normal(0.0, np.sqrt(variance), (REALISATIONS, variance.size))
    samples = np.stack([rebin(each, variance, mask, wave, edges).flux for each in noise])
    claimed = rebin(noise[0], variance, mask, wave, edges)
    good = np.flatnonzero(claimed.mask[:-1] | claimed.mask[1:] == 0)
    spread = np.mean(samples[:, good] ** 2, axis=0) / claimed.variance[good]
    common = np.mean(samples[:, good] * samples[:, good + 1], axis=0) / np.sqrt(
        claimed.variance[good] * claimed.variance[good + 1]
    )
    expected = claimed.covariance[good] / np.sqrt(claimed.variance[good] * claimed.variance[good + 1])
    yield Measured("rebinning", "variance, true over claimed", night.source, float(spread.mean()), within(1.0, 0.02))
    yield Measured(
        "rebinning", "covariance, true over claimed", night.source, float(common.sum() / expected.sum()),
        within(1.0, 0.02),
    )  # fmt: skip
