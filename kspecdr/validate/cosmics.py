"""Figures of the cosmic-ray test: hits found and pixels marked that none hit, in objects and arcs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy.ndimage import binary_dilation

from kspecdr.arrays import Bools, Floats
from kspecdr.products import MaskBit, flagged
from kspecdr.simulate.night import Night
from kspecdr.validate.figures import NO_GOAL, Measured, at_least, at_most
from kspecdr.validate.nights import ReducedNight, Shot, retaken

WINDOW = 4.0  # rows on either side of a fiber's center
STRONG = 7.0  # the charge of a hit over the true noise of its pixel without it: what should be found
HITS = 800.0  # on the whole detector in a frame that is taken to count those found
SAMPLES = 14 * 1340  # of spectra, over which hits are counted: those of a full frame
BESIDE_FULL = (13, 7)  # rows and columns about a full pixel in which a profile means nothing
STRENGTHS = (7.0, 10.0, 20.0, 50.0, np.inf)


def measure(night: ReducedNight, seed: int) -> Iterator[Measured]:
    """Count hits in frames that have many of them, and false marks in all frames of the night."""
    arc = max(night.arcs, key=lambda shot: shot.truth.line_flux.shape[1])
    for what, ordinary in (("objects", night.objects), ("arcs", night.arcs)):
        first = night.objects[0] if what == "objects" else arc
        found, strength = _found(night, [*_dense(night, first, seed), *ordinary])
        note = ", ".join(
            f"{low:g} to {high:g} sigma {100 * found[k].mean():.0f} % of {k.sum()}"
            for low, high in pairwise(STRENGTHS)
            for k in [(strength >= low) & (strength < high)]
            if k.any()
        )
        value = 100.0 * float(found.mean()) if found.size else np.nan
        yield Measured("cosmic rays", f"found, {what}, %", night.source, value, at_least(95.0), note)
        false, judged = _false(night, ordinary)
        yield Measured(
            "cosmic rays", f"marked falsely, {what}, 1e-5", night.source, 1e5 * false / judged, at_most(1.0),
            f"{false} of {judged}",
        )  # fmt: skip
    false, judged = _false(night, night.flats_marked())
    yield Measured(
        "cosmic rays", "marked falsely, flats, 1e-5", night.source, 1e5 * false / judged, NO_GOAL,
        f"{false} of {judged}",
    )  # fmt: skip


def _dense(night: ReducedNight, like: Shot, seed: int) -> list[Shot]:
    """Take a shot again with many more hits; a small frame several times, for a single track must not decide."""
    detector, exposure = night.instrument.detector, like.truth.exposure
    area_cm2 = detector.n_row * detector.n_column * (detector.pixel_um * 1e-4) ** 2
    rate = HITS * (detector.n_row / 1300.0) * 60.0 / (area_cm2 * exposure.exposure_s)
    instrument = replace(night.instrument, detector=replace(detector, cosmic_rate=rate))
    once = replace(exposure, n_frames=1)
    n = max(1, round(SAMPLES / (len(night.alive) * detector.n_column)))
    return [night.shoot(taken) for taken in retaken(Night(instrument), once, instrument, seed + 2, n=n)]


def windows(night: ReducedNight, shot: Shot) -> Bools:
    """Return the pixels of the fibers' windows, (n_row, n_column)."""
    rows = np.arange(shot.image.flux.shape[0])[:, None]
    inside = np.zeros(shot.image.flux.shape, dtype=bool)
    for k in night.alive:
        inside |= np.abs(rows - shot.truth.tramlines[k]) <= WINDOW
    return inside


def charge_of(shot: Shot) -> Floats:
    """Return the electrons that cosmic rays left, (n_row, n_column)."""
    charge = np.zeros(shot.image.flux.shape)
    charge[tuple(shot.truth.cosmic_rays.T)] = shot.truth.cosmic_electrons
    return charge


def _found(night: ReducedNight, shots: Sequence[Shot]) -> tuple[Bools, Floats]:
    """Return which strong hits in the windows were found, and their strength in sigma, (n_hit,) each."""
    found, strength = [], []
    for shot in shots:
        sigma = charge_of(shot) / np.sqrt(shot.truth.variance)
        masked = shot.image.mask & ~np.uint8(MaskBit.COSMIC)
        strong = windows(night, shot) & (sigma > STRONG) & (masked == 0)
        found.append(flagged(shot.image.mask[strong], MaskBit.COSMIC))
        strength.append(sigma[strong])
    return np.concatenate(found), np.concatenate(strength)


def _false(night: ReducedNight, shots: Sequence[Shot]) -> tuple[int, int]:
    """Return the number of pixels marked without a hit, and of those judged: not beside what is full."""
    false = judged = 0
    for shot in shots:
        inside = windows(night, shot) & ~binary_dilation(shot.truth.saturated, np.ones(BESIDE_FULL, dtype=bool))
        marked = inside & flagged(shot.image.mask, MaskBit.COSMIC)
        false += int(np.count_nonzero(marked & (charge_of(shot) == 0)))
        judged += int(inside.sum())
    return false, judged
