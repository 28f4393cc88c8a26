"""Flux calibration: the smooth ratio of a standard star's counts to its tabulated flux, and its use.

Sensitivity is electrons per second and Angstrom for one unit of the table's flux density. It is smooth in
wavelength; bands in which the atmosphere absorbs are left out of the fit (telluric bands after
Stevenson 1994, MNRAS 267, 904) and bridged by it.
"""

from dataclasses import dataclass, replace

import numpy as np

from kspecdr.arrays import Bools, Floats
from kspecdr.errors import BadFrame
from kspecdr.products import MaskBit, Spectra
from kspecdr.spline import fit_spline

TELLURIC = (
    (6270.0, 6330.0),
    (6860.0, 6970.0),
    (7160.0, 7340.0),
    (7590.0, 7700.0),
    (8120.0, 8350.0),
    (8930.0, 9850.0),
)
N_PAR = 12  # parameters of the sensitivity curve
CLIP = 4.0  # sigma: lines of the star


@dataclass(frozen=True)
class Transfer:
    """A sensitivity curve."""

    wave: Floats  # (n,) Angstrom, ascending
    sensitivity: Floats  # (n,) electron / s / Angstrom per unit of flux density

    def at(self, wave: Floats) -> Floats:
        """Return the sensitivity at any wavelengths; NaN beyond the curve."""
        return np.interp(wave, self.wave, self.sensitivity, left=np.nan, right=np.nan)

    def apply(self, spectra: Spectra) -> Spectra:
        """Return spectra (electron per sample) in units of the standard's flux density."""
        width = np.abs(np.gradient(spectra.wave, axis=1))
        scale = self.at(spectra.wave) * width * spectra.setup.exposure
        usable = np.isfinite(scale) & (scale > 0)
        safe = np.where(usable, scale, np.nan)

        def divided(array: Floats | None, by: Floats) -> Floats | None:
            return None if array is None else np.asarray(array / by)

        return replace(
            spectra,
            flux=spectra.flux / safe,
            variance=spectra.variance / safe**2,
            covariance=divided(spectra.covariance, safe**2),
            sky=divided(spectra.sky, safe[0]),
            without_sky=divided(spectra.without_sky, safe),
            unit="flux",
            mask=np.where(usable, spectra.mask, spectra.mask | np.uint8(MaskBit.NO_DATA)),
        )


def outside_telluric(wave: Floats) -> Bools:
    """Return where the atmosphere hardly absorbs in bands."""
    return np.asarray(~np.logical_or.reduce([(wave > low) & (wave < high) for low, high in TELLURIC]), dtype=bool)


def measure_transfer(rate: Floats, wave: Floats, table_wave: Floats, table_flux: Floats) -> Transfer:
    """Return the sensitivity from a standard star's spectrum.

    rate, wave : (n,) electron / s / Angstrom; NaN is left out
    table_wave, table_flux : the star's tabulated flux density

    Raises BadFrame where star and table hardly overlap.
    """
    truth = np.interp(wave, table_wave, table_flux, left=np.nan, right=np.nan)
    use = np.isfinite(rate) & np.isfinite(truth) & (truth > 0) & (rate > 0) & outside_telluric(wave)
    if use.sum() < 4 * N_PAR:
        raise BadFrame(f"{use.sum()} samples of the standard star overlap its table, expected {4 * N_PAR} or more")
    ratio = np.log(rate[use] / truth[use])
    spline = fit_spline(wave[use], ratio, np.ones(int(use.sum())), N_PAR, CLIP)
    grid = np.linspace(wave[use].min(), wave[use].max(), 500)
    return Transfer(grid, np.exp(spline(grid)))
