"""From light to numbers: the spread of fibers over rows, pixel response, dark, bias, noise, conversion."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter1d

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.simulate import optics
from kspecdr.simulate.instrument import Instrument

REACH = 20  # rows that a fiber's light reaches to either side
ADC_MAX = 65535


@dataclass(frozen=True)
class Pattern:
    """What is the same in every frame of a detector; overscan rows included."""

    bias: Floats  # (n_row, n_column) ADU, before the drift of a frame
    dark: Floats  # (n_row, n_column) electron/s
    response: Floats  # (n_row, n_column) relative


@lru_cache(maxsize=3)
def fixed_pattern(instrument: Instrument) -> Pattern:
    """Return the detector's bias structure, dark rate and pixel response; they are not to be written to."""
    detector, overscan = instrument.detector, instrument.detector.overscan_rows
    lit = (detector.n_row, detector.n_column)
    grain = instrument.random("response").standard_normal(lit, dtype=np.float32)
    response = 1.0 + detector.pixel_response * grain
    pattern = Pattern(
        _bias_structure(instrument),
        np.pad(_dark_rate(instrument), ((overscan, 0), (0, 0))),
        np.pad(response, ((overscan, 0), (0, 0))),
    )
    for array in (pattern.bias, pattern.dark, pattern.response):
        array.flags.writeable = False
    return pattern


def _bias_structure(instrument: Instrument) -> Floats:
    """Return level, low first columns, slow structure and a faint diagonal pattern, ADU."""
    detector = instrument.detector
    row = np.arange(detector.n_row + detector.overscan_rows, dtype=np.float32)[:, None]
    column = np.arange(detector.n_column, dtype=np.float32)[None, :]
    phase = instrument.random("bias").uniform(0.0, 2.0 * np.pi, 3)
    edge = -18.0 * np.exp(-column / 4.0)
    slow = 0.8 * np.sin(2.0 * np.pi * column / 500.0 + phase[0])
    slow = slow + 0.5 * np.cos(2.0 * np.pi * row / 900.0 + phase[1])
    diagonal = 0.3 * np.sin(2.0 * np.pi * (row + column) / 41.0 + phase[2])
    return np.asarray(detector.bias_level + edge + slow + diagonal, dtype=np.float32)


def _dark_rate(instrument: Instrument) -> Floats:
    """Return dark current, hot pixels and the glow of the last columns, electron/s."""
    detector = instrument.detector
    random = instrument.random("dark")
    glow = detector.glow_rate * np.exp(-(detector.n_column - 1 - np.arange(detector.n_column)) / 25.0)
    rate = np.broadcast_to(detector.dark_rate + glow, (detector.n_row, detector.n_column)).astype(np.float32)
    row = random.integers(0, detector.n_row, detector.n_hot)
    column = random.integers(0, detector.n_column, detector.n_hot)
    rate[row, column] += 10.0 ** random.uniform(-1.0, 2.0, detector.n_hot)
    return rate


def spread_over_rows(instrument: Instrument, flux: Floats, centers: Floats) -> tuple[Floats, Floats]:
    """Distribute the light of fibers over rows by their pixel-integrated profiles.

    Parameters
    ----------
    instrument
        Gives the profile's widths and the pixel response.
    flux
        (n_fiber, n_column) electron
    centers
        (n_fiber, n_column) row of each fiber's center

    Returns
    -------
    light, collected
        (n_row, n_column) electron in each pixel; (n_fiber, n_column) electron of each fiber in all pixels.
    """
    pixel_response = fixed_pattern(instrument).response
    light = np.zeros(pixel_response.shape)
    collected = np.zeros_like(flux)
    sigmas = optics.fiber_sigmas(instrument)
    for n in np.flatnonzero(flux.any(axis=1)):
        first = max(int(centers[n].min()) - REACH, 0)
        last = min(int(centers[n].max()) + REACH + 2, len(light))
        distance = np.arange(first, last)[:, None] - centers[n]
        profile = optics.pixel_profile(distance, sigmas[n], instrument.slit.wing_fraction, instrument.slit.wing_sigma)
        part = flux[n] * profile * pixel_response[first:last]
        light[first:last] += part
        collected[n] = part.sum(axis=0)
    return light, collected


def ghost_light(instrument: Instrument, flux: Floats) -> Floats:
    """Return the ghost band, electron: the mean of the lit fibers, mirrored along the dispersion, smeared.

    Its brightness is `Defects.ghost` times the peak of that mean where the spectrum is smooth.
    """
    detector, defects = instrument.detector, instrument.defects
    light = np.zeros((detector.n_row + detector.overscan_rows, detector.n_column))
    if not defects.ghost or not flux.any():
        return light
    mean = flux[flux.any(axis=1)].mean(axis=0)
    mirrored = gaussian_filter1d(mean[::-1], detector.n_column / 25.0, mode="nearest")
    low, high = (edge + detector.overscan_rows for edge in defects.ghost_rows)
    row = np.arange(len(light))
    band = 1.0 / (1.0 + np.exp(-(row - low) / 3.0)) / (1.0 + np.exp((row - high) / 3.0))
    peak = optics.pixel_profile(np.zeros(1), np.full(1, optics.fiber_sigmas(instrument).mean()), 0.0, 1.0)[0]
    return np.asarray(light + defects.ghost * peak * band[:, None] * mirrored)


def read_out(instrument: Instrument, electrons: Floats, bias: Floats, rng: np.random.Generator) -> tuple[Ints, Bools]:
    """Return counts of one readout: shot noise, full well, read noise, conversion.

    Parameters
    ----------
    instrument
        Gives gain, read noise and full well.
    electrons
        (n_row, n_column) expected electrons, cosmic rays included
    bias
        (n_row, n_column) ADU
    rng
        Source of the noise.

    Returns
    -------
    counts, saturated
        (n_row, n_column) ADU as uint16; (n_row, n_column) whether the pixel or the converter was full.
    """
    mode = instrument.detector.readout
    freed, full_well = rng.poisson(electrons), instrument.detector.full_well
    noise = rng.standard_normal(electrons.shape, dtype=np.float32) * np.float32(mode.read_noise / mode.gain)
    counts = np.rint(np.minimum(freed, full_well) / mode.gain + bias + noise)
    return np.clip(counts, 0, ADC_MAX).astype(np.uint16), (freed >= full_well) | (counts >= ADC_MAX)
