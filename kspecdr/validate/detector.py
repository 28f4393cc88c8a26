"""Figures of the detector: the variance of a pixel in each readout mode, and master biases."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from kspecdr.options import ImageOptions
from kspecdr.preproc.make_im import Calibrations, preprocess
from kspecdr.preproc.preproc import combine_images
from kspecdr.products import Image
from kspecdr.simulate.exposure import Exposure
from kspecdr.simulate.instrument import READOUT_MODES, Instrument
from kspecdr.simulate.night import Night
from kspecdr.validate.figures import Measured, at_most, within
from kspecdr.validate.nights import Taken, exposures_of

ELECTRONS = 2000.0
N_BIAS = 5
N_HIT = 2000  # pixels of the bias frames that a hit is put into, each in one frame
HIT = 600.0  # ADU


def measure(instrument: Instrument, seed: int) -> Iterator[Measured]:
    """Measure the variance in every calibrated readout mode, and a master bias."""
    for name, mode in READOUT_MODES.items():
        detector = replace(instrument.detector, readout=mode, cosmic_rate=0.0, bias_drift=0.0)
        yield from _variance(name, replace(instrument, detector=detector), seed)
    yield from _master_bias(instrument, seed)


def _variance(mode: str, instrument: Instrument, seed: int) -> Iterator[Measured]:
    """Compare the variance that an image carries with the scatter about the electrons that fell."""
    night = Night(
        instrument,
        (
            *(Exposure("bias") for _ in range(N_BIAS)),
            Exposure("lflat", 1.0, level=1.0e-3),
            Exposure("lflat", 1.0, level=ELECTRONS),
        ),
    )
    *biases, dark, bright = exposures_of(night, seed)
    master = _master(biases)
    for taken, level in ((dark, 0), (bright, int(ELECTRONS))):
        image = preprocess(taken.frame, Calibrations(master), ImageOptions())
        error = image.flux.astype(np.float64) - taken.truth.electrons
        ratio = float(np.mean(image.variance, dtype=np.float64) / np.var(error))
        yield Measured("variance", f"predicted over true at {level} e-", mode, ratio, within(1.0, 0.02))


def _master(biases: list[Taken]) -> Image:
    return combine_images([preprocess(each.frame, Calibrations(), ImageOptions()) for each in biases])


def _master_bias(instrument: Instrument, seed: int) -> Iterator[Measured]:
    """Put hits into single bias frames and look for them in the master."""
    night = Night(instrument, tuple(Exposure("bias") for _ in range(N_BIAS)))
    biases = list(exposures_of(night, seed))
    rng = np.random.default_rng([seed, N_HIT])
    shape = biases[0].frame.counts.shape
    where = rng.choice(shape[0] * shape[1], N_HIT, replace=False)
    for number, taken in enumerate(biases):
        own = where[number::N_BIAS]
        taken.frame.counts.flat[own] = taken.frame.counts.flat[own] + np.uint16(HIT)
    master = _master(biases)
    readout = instrument.detector.readout
    truth = np.mean([taken.truth.bias for taken in biases], axis=0, dtype=np.float64) * readout.gain
    error = master.flux.astype(np.float64) - truth
    limit = float(np.hypot(readout.read_noise, readout.gain / np.sqrt(12.0)) / np.sqrt(N_BIAS))
    spread = float(np.std(np.delete(error.ravel(), where)))
    left = int(np.count_nonzero(error.ravel()[where] > 7 * limit))
    source = f"{N_BIAS} frames"
    hits = f"of {N_HIT} hits of {HIT:g} ADU"
    yield Measured("master bias", "hits left above 7 sigma", source, left, at_most(0), hits)
    yield Measured("master bias", "noise over RN / sqrt(N)", source, spread / limit, at_most(1.02))
