"""Figures of the tramline map."""

from collections.abc import Iterator

import numpy as np

from kspecdr.arrays import Floats
from kspecdr.products import Image
from kspecdr.tlm.placement import place
from kspecdr.validate.figures import Measured, at_most
from kspecdr.validate.nights import ReducedNight

RMS, LARGEST = 0.003, 0.02  # px


def measure(night: ReducedNight) -> Iterator[Measured]:
    """Compare the map with where the fibers truly lie, in the flats and in every frame with light."""
    error = (night.tramlines.center - night.true_center)[night.alive]
    rms = np.sqrt(np.mean(error**2, axis=1))
    worst = f"fiber {night.alive[np.argmax(rms)] + 1}: {rms.max():.4f}"
    yield Measured("tramlines", "rms, px", night.source, float(np.sqrt(np.mean(error**2))), at_most(RMS), worst)
    yield Measured("tramlines", "largest error, px", night.source, float(np.abs(error).max()), at_most(LARGEST))
    dark = set(range(len(night.tramlines.fibers))) - set(night.alive.tolist())
    named = set(np.flatnonzero(night.tramlines.status == "interpolated").tolist())
    said = f"named {sorted(k + 1 for k in named)}, dead {sorted(k + 1 for k in dark)}"
    yield Measured("tramlines", "fibers wrongly named dead or alive", night.source, len(dark ^ named), at_most(0), said)
    shifts = [_shift_error(night, shot.image, shot.truth.tramlines) for shot in night.lit]
    if shifts:
        yield Measured("tramlines", "rms after the shift of a frame, px", night.source, max(shifts), at_most(LARGEST))


def _shift_error(night: ReducedNight, image: Image, truth: Floats) -> float:
    center = place(image, night.tramlines).tramlines.center
    return float(np.sqrt(np.mean((center - truth)[night.alive] ** 2)))
