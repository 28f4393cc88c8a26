"""Where light of a fiber and wavelength falls on the detector, and how it is spread there.

The grating equation for a detector turned by an angle, as in the wavelength chapter of Princeton
Instruments' manuals (SpectraPro, WinSpec): with psi the turn of the grating, gamma the inclusion angle,
delta the detector angle, f the focal length and x the distance from the middle of the detector,
    wavelength = d (sin(psi - gamma/2) + sin(psi + gamma/2 + xi)),   tan xi = x cos delta / (f + x sin delta).
"""

import numpy as np
from scipy.special import erf

from kspecdr.arrays import Floats
from kspecdr.simulate.instrument import REFERENCE_COLUMNS, Instrument, Spectrograph

SIGMA_PER_FWHM = 1.0 / np.sqrt(8.0 * np.log(2.0))


def wavelengths(instrument: Instrument, column: Floats | None = None) -> Floats:
    """Return the air wavelength of each fiber at `column` (all pixel centers by default).

    Returns
    -------
    (n_fiber, n_column) Angstrom
    """
    detector = instrument.detector
    if column is None:
        column = np.arange(detector.n_column, dtype=float)
    offset, stretch = slit_shape(instrument)
    turned = (column - _middle(instrument) - offset[:, None]) * (1.0 + stretch[:, None])
    x = _direction(instrument) * turned * detector.pixel_um * 1e-3
    return grating_wavelength(instrument.spectrograph, x)


def line_columns(instrument: Instrument, wavelength: Floats) -> Floats:
    """Return the column at which each fiber sees `wavelength`, the inverse of `wavelengths`.

    Returns
    -------
    (n_fiber, n_line) column; NaN where the grating does not diffract
    """
    spectrograph = instrument.spectrograph
    psi, half, delta, focal = _angles(spectrograph)
    with np.errstate(invalid="ignore"):
        diffracted = np.arcsin(wavelength * spectrograph.lines_per_mm * 1e-7 - np.sin(psi - half))
    tangent = np.tan(diffracted - psi - half)
    x = focal * tangent / (np.cos(delta) - tangent * np.sin(delta))
    offset, stretch = slit_shape(instrument)
    turned = _direction(instrument) * x / (instrument.detector.pixel_um * 1e-3)
    return np.asarray(turned / (1.0 + stretch[:, None]) + _middle(instrument) + offset[:, None])


def grating_wavelength(spectrograph: Spectrograph, x: Floats) -> Floats:
    """Return the wavelength (Angstrom, in air) at `x` mm from the middle of the detector."""
    psi, half, delta, focal = _angles(spectrograph)
    xi = np.arctan2(x * np.cos(delta), focal + x * np.sin(delta))
    return np.asarray(1e7 / spectrograph.lines_per_mm * (np.sin(psi - half) + np.sin(psi + half + xi)))


def _angles(spectrograph: Spectrograph) -> tuple[float, float, float, float]:
    """Return the grating's turn, half the inclusion angle, the detector angle (all rad), the focus (mm)."""
    half = np.radians(spectrograph.inclusion_angle / 2.0)
    center = spectrograph.nominal_center + spectrograph.center_offset
    psi = np.arcsin(center * 1e-7 * spectrograph.lines_per_mm / (2.0 * np.cos(half)))
    focal = spectrograph.focal_length * (1.0 + spectrograph.focal_length_error)
    return float(psi), float(half), float(np.radians(spectrograph.detector_angle)), focal


def _middle(instrument: Instrument) -> float:
    return (instrument.detector.n_column - 1) / 2.0


def _direction(instrument: Instrument) -> float:
    return 1.0 if instrument.spectrograph.ascending else -1.0


def slit_shape(instrument: Instrument) -> tuple[Floats, Floats]:
    """Return each fiber's offset along the dispersion (n_fiber,), px, and its stretch (n_fiber,)."""
    slit = instrument.slit
    height = slit_height(slit.n_fiber)
    scatter = instrument.random("offset").normal(0.0, slit.offset_scatter, slit.n_fiber)
    offset = slit.line_tilt * height + slit.curvature * height**2 + scatter
    return offset, slit.stretch * height


def slit_height(n_fiber: int) -> Floats:
    """Return the place of each fiber on the slit, -1 at its lower and +1 at its upper end."""
    return np.linspace(-1.0, 1.0, n_fiber) if n_fiber > 1 else np.zeros(1)


def tramlines(instrument: Instrument, shift: float = 0.0) -> Floats:
    """Return the row of each fiber's center at each column of the normalised frame, overscan rows counted.

    Parameters
    ----------
    instrument
        The instrument.
    shift
        px, of the traces against their place in the first flat.

    Returns
    -------
    (n_fiber, n_column) row
    """
    slit, detector = instrument.slit, instrument.detector
    u = (np.arange(detector.n_column) - _middle(instrument)) / REFERENCE_COLUMNS
    scatter = instrument.random("row").normal(0.0, slit.spacing_scatter, slit.n_fiber)
    from_middle = (np.arange(slit.n_fiber) - (slit.n_fiber - 1) / 2.0) * slit.spacing + scatter
    row = slit.center_row + detector.overscan_rows + shift
    magnified = from_middle[:, None] * (1.0 + 1.0e-3 * u)  # the slit's image grows a little along the columns
    return row + magnified + slit.tilt * u - slit.bow * (1.0 - (2.0 * u) ** 2)


def fiber_sigmas(instrument: Instrument) -> Floats:
    """Return the core width sigma of each fiber's profile across the dispersion, (n_fiber, n_column) px."""
    slit, n_column = instrument.slit, instrument.detector.n_column
    first, last = slit.fiber_fwhm
    along = first + (last - first) * np.arange(n_column) / REFERENCE_COLUMNS
    own = 1.0 + instrument.random("width").normal(0.0, 0.01, slit.n_fiber)
    return np.asarray(own[:, None] * along * SIGMA_PER_FWHM)


def line_sigma(instrument: Instrument, column: Floats) -> Floats:
    """Return the core width sigma of a line at `column`, px."""
    first, last = instrument.spectrograph.line_fwhm
    return np.asarray((first + (last - first) * column / REFERENCE_COLUMNS) * SIGMA_PER_FWHM)


def pixel_profile(distance: Floats, sigma: Floats, wing_fraction: float, wing_sigma: float) -> Floats:
    """Return the part of the light that falls into pixels at `distance` (px) from the center of a profile.

    A Gaussian core holds 1 - `wing_fraction` of the light, a wider Gaussian the rest; both are integrated
    over the pixel, distance +- 0.5.
    """

    def integral(width: Floats | float) -> Floats:
        scale = np.sqrt(2.0) * width
        return 0.5 * np.asarray(erf((distance + 0.5) / scale) - erf((distance - 0.5) / scale))

    return (1.0 - wing_fraction) * integral(sigma) + wing_fraction * integral(wing_sigma)
