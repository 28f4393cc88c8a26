"""Lamp spectra of known wavelengths: the grating equation, pixel-integrated lines, noise."""

from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from scipy.special import erf

from kspecdr.wavecal.arc_frames import ArcFrame
from kspecdr.wavecal.arc_io import load_arc_lines
from kspecdr.wavecal.grating import predicted_wavelengths


def grating(n_column, center, lines_per_mm, **changed):
    geometry = {"pixel_um": 20.0, "focal_length": 328.0, "inclusion_angle": 17.8, "detector_angle": 8.46}
    return predicted_wavelengths(n_column, center, lines_per_mm=lines_per_mm, **{**geometry, **changed})


def bell(columns, center, sigma):
    """Pixel-integrated Gaussian of unit area."""
    z = (columns - center) / (sigma * np.sqrt(2))
    half = 0.5 / (sigma * np.sqrt(2))
    return 0.5 * (erf(z + half) - erf(z - half))


def lamp_spectrum(wave, lamp, *, peak, sigma=1.5):
    """Expected light of a lamp on columns of known wavelengths; its brightest line has the height `peak`."""
    table = load_arc_lines(lamp)
    columns = np.arange(len(wave), dtype=float)
    order = np.argsort(wave)
    inside = (table.wavelength > wave.min()) & (table.wavelength < wave.max())
    place = np.interp(table.wavelength[inside], wave[order], columns[order])
    light = table.intensity[inside] / table.intensity[inside].max() * peak * sigma * np.sqrt(2 * np.pi)
    return (light[:, None] * bell(columns, place[:, None], sigma)).sum(axis=0)


def slit(wave, offsets, stretch):
    """Wavelengths of fibers that see column x as the reference sees x - offset - stretch u."""
    columns = np.arange(len(wave), dtype=float)
    smooth = np.polynomial.Polynomial.fit(columns, wave, 8)
    u = 2 * columns / (len(wave) - 1) - 1
    return np.array([smooth(columns - o - t * u) for o, t in zip(offsets, stretch, strict=True)])


def arc_frame(waves, lamp, *, peak, rng, throughput=None, full_well=np.inf):
    """An exposure of a lamp in several fibers, noise and saturation included."""
    throughput = np.ones(len(waves)) if throughput is None else throughput
    light = np.array([t * lamp_spectrum(w, lamp, peak=peak) for t, w in zip(throughput, waves, strict=True)])
    variance = light + 5 * 16.0**2
    flux = np.minimum(light, full_well) + rng.normal(size=light.shape) * np.sqrt(variance)
    mask = np.where(light >= full_well, 2, 0).astype(np.uint8)
    return ArcFrame(flux, load_arc_lines(lamp), variance, mask, lamp)


def to_air(vacuum):
    """Vacuum to standard air wavelengths, Ciddor 1996, Angstrom."""
    square = (1e4 / vacuum) ** 2
    return vacuum / (1 + 5792105e-8 / (238.0185 - square) + 167917e-8 / (57.362 - square))


def window(path, start, n_column, *, reverse=False):
    """Air wavelengths and flux of a stretch of a real one-dimensional arc."""
    table = fits.getdata(path)
    turn = slice(None, None, -1) if reverse else slice(None)
    part = slice(start, start + n_column)
    wave, flux = (np.array(table[name], dtype=float)[part][turn] for name in ("wave", "flux"))
    return to_air(wave), flux


@pytest.fixture
def lamps():
    """Give the functions above to the tests by one name."""
    return SimpleNamespace(
        grating=grating, bell=bell, spectrum=lamp_spectrum, slit=slit, frame=arc_frame, to_air=to_air, window=window
    )
