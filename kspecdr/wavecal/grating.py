"""The grating equation of a Czerny-Turner spectrograph, as its maker writes it."""

import numpy as np

from kspecdr.arrays import Floats


def predicted_wavelengths(
    n_column: int,
    center: float,
    *,
    lines_per_mm: float,
    pixel_um: float,
    focal_length: float,
    inclusion_angle: float,
    detector_angle: float,
    order: int = 1,
) -> Floats:
    """Return the wavelength that the grating equation puts on each column.

    Parameters
    ----------
    n_column
        Number of columns; `center` falls on their middle, (n_column - 1) / 2.
    center
        Central wavelength, Angstrom.
    lines_per_mm
        Density of the grating's grooves.
    pixel_um
        Width of a column, micrometre.
    focal_length
        Of the camera, mm.
    inclusion_angle, detector_angle
        Between incoming and outgoing beam, and tilt of the detector, degrees.
    order
        Order of diffraction.

    Returns
    -------
    (n_column,) Angstrom, ascending. The direction on the detector is not known from the header:
    reverse the columns (`wave[::-1]`) for the other one.

    Notes
    -----
    m lambda = d (sin(psi - gamma / 2) + sin(psi + gamma / 2 + xi)) with the grating's rotation psi from the
    centre, sin(psi) = m lambda_c / (2 d cos(gamma / 2)), and tan(xi) = n x cos(delta) / (f + n x
    sin(delta)) for the pixel n columns of width x from the centre: Princeton Instruments, WinSpec/32
    manual, "Wavelength calibration".
    """
    groove = 1e7 / lines_per_mm  # Angstrom
    half_angle, tilt = np.deg2rad(inclusion_angle) / 2, np.deg2rad(detector_angle)
    rotation = np.arcsin(order * center / (2 * groove * np.cos(half_angle)))
    place = (np.arange(n_column) - 0.5 * (n_column - 1)) * pixel_um * 1e-3  # mm
    field = np.arctan2(place * np.cos(tilt), focal_length + place * np.sin(tilt))
    wave: Floats = groove / order * (np.sin(rotation - half_angle) + np.sin(rotation + half_angle + field))
    return wave
