"""One frame, from light to counts."""

import numpy as np

from kspecdr.arrays import Floats, Ints
from kspecdr.simulate import cosmic, detector, optics
from kspecdr.simulate.exposure import Exposure, Truth
from kspecdr.simulate.fibers import FiberLight, collect_light, throughputs
from kspecdr.simulate.instrument import Instrument

LFLAT_RATE = 2.0e4  # electron/s/px of the lamp that lights the detector evenly


def simulate_frame(instrument: Instrument, exposure: Exposure, rng: np.random.Generator) -> tuple[Ints, Truth]:
    """Simulate one readout in the normalised orientation.

    Parameters
    ----------
    instrument
        The instrument, its fixed patterns included.
    exposure
        Kind, time, lamp and target.
    rng
        Source of all noise, of the cosmic rays and of the bias drift.

    Returns
    -------
    counts, truth
        (n_row, n_column) ADU as uint16, overscan rows below the others; what is known of it.
    """
    pattern = detector.fixed_pattern(instrument)
    mode, overscan = instrument.detector.readout, instrument.detector.overscan_rows
    centers = optics.tramlines(instrument, exposure.trace_shift)
    light = collect_light(instrument, exposure)
    electrons, flux = _expected_electrons(instrument, exposure, light, centers)
    bias = pattern.bias + rng.normal(0.0, instrument.detector.bias_drift)
    pixels, charge = cosmic.cosmic_hits(instrument.detector, exposure.exposure_s, rng)
    pixels = pixels + np.array([overscan, 0])
    hit = electrons.copy()
    hit[tuple(pixels.T)] += charge
    counts, saturated = detector.read_out(instrument, hit, bias, rng)
    seen = np.divide(flux, light.flux, out=np.zeros_like(flux), where=light.flux > 0)
    truth = Truth(
        exposure=exposure,
        tramlines=centers,
        wavelength=optics.wavelengths(instrument),
        flux=flux,
        sky=light.sky * seen,
        fiber_sigma=optics.fiber_sigmas(instrument),
        wing_fraction=instrument.slit.wing_fraction,
        wing_sigma=instrument.slit.wing_sigma,
        throughput=throughputs(instrument, np.arange(counts.shape[1], dtype=float)[None, :]),
        line_wavelength=light.line_wavelength,
        line_column=light.line_column,
        line_flux=light.line_flux,
        electrons=electrons,
        variance=electrons + mode.read_noise**2 + mode.gain**2 / 12.0,
        bias=bias,
        saturated=saturated,
        cosmic_rays=pixels,
        cosmic_electrons=charge,
        overscan_rows=overscan,
        gain=mode.gain,
        read_noise=mode.read_noise,
    )
    return counts, truth


def _expected_electrons(
    instrument: Instrument, exposure: Exposure, light: FiberLight, centers: Floats
) -> tuple[Floats, Floats]:
    """Return noise-free electrons per pixel, and those of each fiber per column."""
    pattern = detector.fixed_pattern(instrument)
    electrons, flux = detector.spread_over_rows(instrument, light.flux, centers)
    electrons += detector.ghost_light(instrument, light.flux) * pattern.response
    electrons += pattern.dark * exposure.exposure_s
    if exposure.kind == "lflat":
        electrons += (exposure.level or LFLAT_RATE) * exposure.exposure_s * pattern.response
    return electrons, flux
