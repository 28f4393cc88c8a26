"""What enters the fibers: lamps, night sky, targets, a standard star.

Rates are in electrons that the detector would count per second, at a fiber of throughput 1; a density is per
Angstrom. The brightness of lamps is set by the exposure (electron/s in the brightest column or line).
"""

from dataclasses import dataclass

import numpy as np

from kspecdr.arrays import Floats
from kspecdr.simulate.instrument import Defects, Instrument
from kspecdr.wavecal.arc_io import load_arc_lines

# Airglow and city lights, Angstrom in air, electron/s. Places: Osterbrock et al. 1996 (PASP 108, 277) for OH,
# NIST for the atoms; the brightness is of the order seen from a site near a city.
SKY_LINES = np.array(
    [
        (4358.335, 4.0), (5460.750, 8.0), (5577.338, 60.0), (5889.951, 12.0), (5895.924, 8.0),
        (6300.304, 22.0), (6363.776, 7.5), (6863.955, 6.0), (6923.220, 5.0), (7276.405, 9.0),
        (7316.282, 8.0), (7340.885, 9.0), (7750.640, 11.0), (7794.112, 10.0), (7821.503, 7.0),
        (7913.708, 14.0), (7964.650, 12.0), (7993.332, 9.0), (8344.602, 14.0), (8399.170, 13.0),
        (8430.174, 11.0), (8465.358, 7.0), (8493.389, 4.0), (8827.096, 16.0), (8885.850, 14.0),
        (8919.600, 8.0), (8943.395, 5.0),
    ]
)  # fmt: skip

# Absorption in stars: place in air (NIST), equivalent width (Angstrom), sigma (Angstrom)
STAR_LINES = np.array(
    [
        (3933.66, 6.0, 8.0), (3968.47, 5.0, 8.0), (4101.73, 3.0, 8.0), (4340.47, 4.0, 8.0),
        (4861.33, 5.0, 8.0), (5175.0, 4.0, 12.0), (5892.9, 1.5, 5.0), (6562.79, 4.0, 7.0),
        (8498.02, 1.2, 4.0), (8542.09, 2.5, 4.0), (8662.14, 2.2, 4.0),
    ]
)  # fmt: skip
BALMER_LINES = np.array([(4101.73, 9.0, 18.0), (4340.47, 9.0, 18.0), (4861.33, 8.0, 18.0), (6562.79, 6.0, 14.0)])

# Emission in galaxies: rest place in air (NIST; nebular lines), share of H alpha
GALAXY_LINES = np.array(
    [(3727.5, 0.7), (4861.33, 0.35), (4958.91, 0.17), (5006.84, 0.5), (6548.05, 0.12), (6562.79, 1.0),
     (6583.45, 0.36), (6716.44, 0.2), (6730.82, 0.15)]
)  # fmt: skip

# The atmosphere's bands seen against a star: O2 B and A, H2O: middle, depth, half width (Angstrom)
TELLURIC_BANDS = np.array(
    [
        (6875.0, 0.25, 12.0),
        (7610.0, 0.55, 20.0),
        (7200.0, 0.10, 45.0),
        (8230.0, 0.12, 60.0),
        (6280.0, 0.03, 15.0),
    ]
)


@dataclass(frozen=True)
class Lines:
    """Unresolved lines and their rates in each fiber."""

    wavelength: Floats  # (n_line,) Angstrom in air
    rate: Floats  # (n_line,) or (n_fiber, n_line) electron/s


@dataclass(frozen=True)
class Sample:
    """Light of a scene at given wavelengths."""

    density: Floats  # shape of the wavelengths, electron/s/Angstrom
    lines: Lines


NO_LINES = Lines(np.zeros(0), np.zeros(0))


def response(wavelength: Floats, blaze_nm: float) -> Floats:
    """Return the efficiency of grating, glass and detector: 1 near the blaze, about 0 below 4100 Angstrom."""
    blaze = np.exp(-0.5 * (np.log(wavelength / (10.0 * blaze_nm)) / 0.42) ** 2)
    glass = 1.0 / (1.0 + np.exp(-(wavelength - 4200.0) / 90.0))
    silicon = 1.0 / (1.0 + np.exp((wavelength - 9600.0) / 350.0))
    return np.asarray(blaze * glass * silicon)


def flat_lamp(wavelength: Floats) -> Floats:
    """Return the photon density of a halogen lamp of 3200 K, 1 at 6500 Angstrom."""
    return _black_body_photons(wavelength, 3200.0)


def arc_lines(lamp: str, instrument: Instrument) -> Lines:
    """Return a lamp's lines before `response`; the brightest of the table is 1.

    The intensities of a table differ from those of a given lamp, by `Defects.intensity_scatter`. Where they
    are asked for, lines that no table has are added, and second orders at twice their wavelength.
    """
    defects = instrument.defects
    table = load_arc_lines(lamp)
    random = instrument.random(f"lamp {lamp.lower()}")
    strength = table.intensity * 10.0 ** random.normal(0.0, defects.intensity_scatter, len(table))
    place = np.asarray(table.wavelength, dtype=float)
    unlisted = random.uniform(place.min(), place.max(), defects.unlisted_lines)
    place = np.concatenate([place, unlisted])
    strength = np.concatenate([strength, np.full(defects.unlisted_lines, 0.01 * strength.max())])
    return _with_second_order(place, strength / strength.max(), defects)


def _with_second_order(place: Floats, strength: Floats, defects: Defects) -> Lines:
    if not defects.second_order:
        return Lines(place, strength)
    return Lines(np.concatenate([place, 2.0 * place]), np.concatenate([strength, defects.second_order * strength]))


def night_sky(wavelength: Floats) -> Sample:
    """Return the dark sky near a city: a continuum, atomic lines, OH."""
    density = 0.12 + 0.06 * (wavelength / 6000.0 - 1.0) + 0.03 * np.exp(-0.5 * ((wavelength - 5890.0) / 250.0) ** 2)
    return Sample(np.maximum(density, 0.02), Lines(SKY_LINES[:, 0], SKY_LINES[:, 1]))


def twilight(wavelength: Floats) -> Sample:
    """Return the evening sky: scattered sunlight."""
    density = 80.0 * _absorbed(_black_body_photons(wavelength, 8500.0), wavelength, STAR_LINES)
    return Sample(density * telluric(wavelength), Lines(SKY_LINES[:, 0], SKY_LINES[:, 1]))


def star(wavelength: Floats, temperature: float, brightness: float) -> Sample:
    """Return a star of a temperature (K), `brightness` electron/s/Angstrom at 6500 Angstrom."""
    density = brightness * _absorbed(_black_body_photons(wavelength, temperature), wavelength, STAR_LINES)
    return Sample(density * telluric(wavelength), NO_LINES)


def galaxy(wavelength: Floats, redshift: float, brightness: float) -> Sample:
    """Return a galaxy: an old continuum (electron/s/Angstrom) and nebular lines."""
    rest = wavelength / (1.0 + redshift)
    density = brightness * _absorbed(_black_body_photons(rest, 4800.0), rest, STAR_LINES)
    lines = Lines(GALAXY_LINES[:, 0] * (1.0 + redshift), 40.0 * brightness * GALAXY_LINES[:, 1])
    return Sample(density * telluric(wavelength), lines)


def standard_flux_density(wavelength: Floats) -> Floats:
    """Return the flux density of the simulated standard star, erg/s/cm2/Angstrom above the atmosphere."""
    return 4.0e-13 * (wavelength / 5500.0) ** -3.0 * _absorbed(np.ones_like(wavelength), wavelength, BALMER_LINES)


def standard_star(wavelength: Floats) -> Sample:
    """Return the standard star: photons are flux density times wavelength."""
    photons = standard_flux_density(wavelength) / 4.0e-13 * wavelength / 5500.0
    return Sample(25.0 * photons * telluric(wavelength), NO_LINES)


def telluric(wavelength: Floats) -> Floats:
    """Return the part of a star's light that passes the atmosphere's bands."""
    through = np.ones_like(wavelength)
    for middle, depth, width in TELLURIC_BANDS:
        through = through * (1.0 - depth * np.exp(-0.5 * ((wavelength - middle) / width) ** 2))
    return through


def _black_body_photons(wavelength: Floats, temperature: float) -> Floats:
    """Return a black body's photon density per wavelength, 1 at 6500 Angstrom."""
    hc_over_k = 1.438777e8  # Angstrom K

    def photons(at: Floats) -> Floats:
        return np.asarray(at**-4 / np.expm1(hc_over_k / (at * temperature)))

    return photons(wavelength) / photons(np.array(6500.0))


def _absorbed(continuum: Floats, wavelength: Floats, lines: Floats) -> Floats:
    depth = np.zeros_like(wavelength)
    for place, width, sigma in lines:
        depth += width / (np.sqrt(2.0 * np.pi) * sigma) * np.exp(-0.5 * ((wavelength - place) / sigma) ** 2)
    return continuum * np.exp(-depth)
