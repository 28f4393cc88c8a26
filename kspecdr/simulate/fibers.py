"""Light of each fiber per column: scene times throughput, spread by the line profile, summed over pixels."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import convolve1d

from kspecdr.arrays import Floats
from kspecdr.simulate import optics, scene
from kspecdr.simulate.exposure import Exposure
from kspecdr.simulate.instrument import Instrument
from kspecdr.simulate.scene import NO_LINES, Lines, Sample

SUBPIXELS = 4
MARGIN = 24  # columns beyond the detector whose light reaches it
REACH = 22  # columns that a line's light reaches to either side

DEFAULT_LEVEL = {"flat": 1.5e5, "arc": 2.5e4}  # electron/s in the brightest column


@dataclass(frozen=True)
class FiberLight:
    """Light that the fibers bring to the detector in one exposure."""

    flux: Floats  # (n_fiber, n_column) electron
    sky: Floats  # (n_fiber, n_column) electron, the part that is night sky
    line_wavelength: Floats  # (n_line,) Angstrom
    line_column: Floats  # (n_fiber, n_line)
    line_flux: Floats  # (n_fiber, n_line) electron


def collect_light(instrument: Instrument, exposure: Exposure) -> FiberLight:
    """Return the light of each fiber in an exposure of any kind."""
    if exposure.kind in ("flat", "arc"):
        return _lamp_light(instrument, exposure)
    if exposure.kind in ("object", "sky", "standard"):
        return _sky_light(instrument, exposure)
    n_fiber, n_column = instrument.slit.n_fiber, instrument.detector.n_column
    dark = np.zeros((n_fiber, n_column))
    return FiberLight(dark, dark, np.zeros(0), np.zeros((n_fiber, 0)), np.zeros((n_fiber, 0)))


def lamp_level(exposure: Exposure) -> float:
    """Return the brightness of a lamp, electron/s in the brightest column of a fiber of throughput 1."""
    return exposure.level or DEFAULT_LEVEL[exposure.kind]


def throughputs(instrument: Instrument, column: Floats) -> Floats:
    """Return the relative throughput of each fiber at `column` (n_fiber or 1, n), linear in it; 0 if dead."""
    slit = instrument.slit
    through = np.clip(instrument.random("throughput").normal(0.85, 0.1, slit.n_fiber), 0.5, 1.0)
    through[[0, -1]] = slit.outer_throughput * np.array([1.0, 1.3])
    for fiber, value in slit.faint:
        through[fiber - 1] = value
    through[[fiber - 1 for fiber in slit.dead]] = 0.0
    color = instrument.random("color").normal(0.0, slit.color, slit.n_fiber)
    return np.asarray(through[:, None] * (1.0 + color[:, None] * (column / instrument.detector.n_column - 0.5)))


def _lamp_light(instrument: Instrument, exposure: Exposure) -> FiberLight:
    """Return the light of a lamp whose brightest column in a fiber of throughput 1 has the level."""
    level = lamp_level(exposure) * exposure.exposure_s
    at = _subpixel_wavelengths(instrument)
    if exposure.kind == "arc":
        sample = Sample(np.zeros_like(at), scene.arc_lines(exposure.lamp, instrument))
    else:
        sample = Sample(scene.flat_lamp(at), NO_LINES)
    flux, wavelength, column, line_flux = _disperse(instrument, sample)
    scale = level / max(flux.max(), np.finfo(float).tiny)
    return FiberLight(
        scale * flux * _transmission(instrument),
        np.zeros_like(flux),
        wavelength,
        column,
        scale * line_flux * throughputs(instrument, column),
    )


def _sky_light(instrument: Instrument, exposure: Exposure) -> FiberLight:
    at = _subpixel_wavelengths(instrument)
    background = scene.twilight(at) if exposure.kind == "sky" else scene.night_sky(at)
    sky, wavelength, column, sky_lines = _disperse(instrument, background)
    target, *target_lines = _disperse(instrument, _targets(instrument, exposure, at))
    through = _transmission(instrument) * exposure.exposure_s
    lines = np.concatenate([column, target_lines[1]], axis=1)
    line_rate = np.concatenate([sky_lines, target_lines[2]], axis=1)
    return FiberLight(
        through * (sky + target),
        through * sky,
        np.concatenate([wavelength, target_lines[0]]),
        lines,
        exposure.exposure_s * line_rate * throughputs(instrument, lines),
    )


def _transmission(instrument: Instrument) -> Floats:
    """Return throughput and fringes at the pixel centers, (n_fiber, n_column)."""
    columns = np.arange(instrument.detector.n_column, dtype=float)[None, :]
    return throughputs(instrument, columns) * _fringes(instrument)


def _targets(instrument: Instrument, exposure: Exposure, at: Floats) -> Sample:
    """Return what lies on the program fibers: stars and galaxies of all brightnesses, or a standard star."""
    n_fiber = instrument.slit.n_fiber
    density = np.zeros_like(at)
    emission: list[tuple[int, Lines]] = []
    program = [n for n, kind in enumerate(instrument.slit.types) if kind == "P"]
    if exposure.kind == "standard":
        through = throughputs(instrument, np.zeros((1, 1)))[:, 0]
        middle = min(program, key=lambda n: (through[n] < 0.3, abs(n - n_fiber // 2)))
        density[middle] = scene.standard_star(at[middle]).density
    elif exposure.kind == "object":
        random = instrument.random(f"target {exposure.target}")
        for n in program:
            sample = _one_target(at[n], random)
            density[n] = sample.density
            emission.append((n, sample.lines))
    return Sample(density, _by_fiber(emission, n_fiber))


def _one_target(wavelength: Floats, random: np.random.Generator) -> Sample:
    """Return a star in two cases of three, else a galaxy."""
    brightness = 10.0 ** random.uniform(-0.7, 1.2)
    if random.random() < 2.0 / 3.0:
        return scene.star(wavelength, random.uniform(3500.0, 11000.0), brightness)
    return scene.galaxy(wavelength, random.uniform(0.005, 0.15), brightness)


def _by_fiber(emission: list[tuple[int, Lines]], n_fiber: int) -> Lines:
    """Put the lines of single fibers into one list that all fibers share, with rates of zero elsewhere."""
    owners = np.concatenate([np.full(len(lines.wavelength), n) for n, lines in emission] or [np.zeros(0, int)])
    places = np.concatenate([lines.wavelength for _, lines in emission] or [np.zeros(0)])
    rates = np.concatenate([lines.rate for _, lines in emission] or [np.zeros(0)])
    return Lines(places, rates * (owners == np.arange(n_fiber)[:, None]))


def _subpixel_columns(instrument: Instrument) -> Floats:
    n = (instrument.detector.n_column + 2 * MARGIN) * SUBPIXELS
    return (np.arange(n) + 0.5) / SUBPIXELS - 0.5 - MARGIN


def _subpixel_wavelengths(instrument: Instrument) -> Floats:
    return optics.wavelengths(instrument, _subpixel_columns(instrument))


def _disperse(instrument: Instrument, sample: Sample) -> tuple[Floats, Floats, Floats, Floats]:
    """Return rate per fiber and column; wavelength, column and rate of the lines that reach the detector."""
    blaze = instrument.spectrograph.blaze_nm
    continuum = _spread_continuum(instrument, sample.density)
    inside = _reaches(instrument, sample.lines.wavelength)
    wavelength = sample.lines.wavelength[inside]
    n_fiber = instrument.slit.n_fiber
    rate = np.broadcast_to(sample.lines.rate, (n_fiber, len(inside)))[:, inside]
    rate = rate * scene.response(wavelength, blaze)
    column = optics.line_columns(instrument, wavelength)
    return continuum + _spread_lines(instrument, column, rate), wavelength, column, rate


def _reaches(instrument: Instrument, wavelength: Floats) -> Floats:
    ends = optics.wavelengths(instrument, np.array([-MARGIN, instrument.detector.n_column + MARGIN], dtype=float))
    return np.asarray((wavelength > ends.min()) & (wavelength < ends.max()))


def _spread_continuum(instrument: Instrument, density: Floats) -> Floats:
    """Return the continuum times response, smoothed by the line profile, summed over each pixel."""
    spectrograph, n_column = instrument.spectrograph, instrument.detector.n_column
    wavelength = _subpixel_wavelengths(instrument)
    rate = density * scene.response(wavelength, spectrograph.blaze_nm)
    rate = rate * np.abs(np.gradient(wavelength, axis=1))
    steps = np.arange(-REACH * SUBPIXELS, REACH * SUBPIXELS + 1) / SUBPIXELS
    sigma = optics.line_sigma(instrument, np.array(n_column / 2.0))
    core = np.exp(-0.5 * (steps / sigma) ** 2)
    wings = np.exp(-0.5 * (steps / spectrograph.wing_sigma) ** 2)
    part = spectrograph.wing_fraction
    kernel = (1.0 - part) * core / core.sum() + part * wings / wings.sum()
    smooth = convolve1d(rate, kernel, axis=1, mode="nearest")
    summed = smooth.reshape(len(rate), -1, SUBPIXELS).sum(axis=2)
    return np.asarray(summed[:, MARGIN : MARGIN + n_column])


def _spread_lines(instrument: Instrument, column: Floats, rate: Floats) -> Floats:
    """Return the light of lines per fiber and column (n_fiber, n_column)."""
    n_fiber, n_column = instrument.slit.n_fiber, instrument.detector.n_column
    spectrograph = instrument.spectrograph
    padded = np.zeros((n_fiber, n_column + 2 * (MARGIN + REACH + 1)))
    nearest = np.rint(column).astype(int)
    window = nearest[..., None] + np.arange(-REACH, REACH + 1)
    profile = optics.pixel_profile(
        window - column[..., None],
        optics.line_sigma(instrument, column)[..., None],
        spectrograph.wing_fraction,
        spectrograph.wing_sigma,
    )
    fiber = np.broadcast_to(np.arange(n_fiber)[:, None, None], window.shape)
    place = np.clip(window + MARGIN + REACH + 1, 0, padded.shape[1] - 1)
    np.add.at(padded, (fiber, place), rate[..., None] * profile)
    start = MARGIN + REACH + 1
    return padded[:, start : start + n_column]


def _fringes(instrument: Instrument) -> Floats:
    """Return the factor of etalon fringes (n_fiber, n_column): 1 below 7000, all of it from 7600 Angstrom."""
    defects = instrument.defects
    rise = np.clip((optics.wavelengths(instrument) - 7000.0) / 600.0, 0.0, 1.0)
    rows = optics.tramlines(instrument)
    phase = 2.0 * np.pi * (np.arange(instrument.detector.n_column) / defects.etaloning_period + rows / 90.0)
    return np.asarray(1.0 + 0.5 * defects.etaloning * rise * np.sin(phase))
