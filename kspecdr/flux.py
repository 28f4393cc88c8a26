"""Kernel of make_transfer and of flux calibration: a standard star's light over its tabulated flux, and its use.

Sensitivity is electrons per second and Angstrom for one unit of the table's flux density. The table is brought
to the instrument's resolution and to its pixels before the ratio is taken. Where a fiber flat's lamp is known
it went through the same optics: it follows the cutoffs, and the ratio to it is smooth (as PypeIt's
sensitivity function takes the flat's blaze; Prochaska et al. 2020, JOSS 5, 2308). The ratio is a B-spline over
1 / wavelength, in which the logarithm of a thermal lamp is nearly straight, with as many parameters as the star
supports: the mean over several numbers of them by their odds (Schwarz 1978, Ann. Stat. 6, 461). Bands in which
the atmosphere absorbs (after Stevenson 1994, MNRAS 267, 904) are left out and bridged.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import BSpline
from scipy.ndimage import median_filter
from scipy.special import ndtr

from kspecdr.arrays import Bools, Floats
from kspecdr.errors import BadFrame, BadOption
from kspecdr.products import MaskBit, Spectra
from kspecdr.wavecal.lines import FWHM_PER_SIGMA
from kspecdr.wavecal.rebin import edges_of

TELLURIC = (
    (6270.0, 6330.0),
    (6860.0, 6970.0),
    (7160.0, 7340.0),
    (7590.0, 7700.0),
    (8120.0, 8350.0),
    (8930.0, 9850.0),
)
PARAMETERS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)  # of the curve, that are tried
CLIP = 4.0  # sigma: lines that the table lacks
MODEL_ERROR = 0.005  # of a sample: table and flat are no better
NOISE_SAMPLES = 15  # over which the variance of a sample is taken
LEAST_SAMPLES = 50  # of the star that the table covers
ROUNDS = 8
FLUX_DENSITY = "erg / (s cm2 Angstrom)"  # unit of tables and results


@dataclass(frozen=True)
class Standard:
    """A standard star's table."""

    wave: Floats  # (n,) Angstrom, ascending
    flux: Floats  # (n,) erg / (s cm2 Angstrom)

    def seen_at(self, wave: Floats, *, fwhm: float = 0.0) -> Floats:
        """Return the mean flux density in pixels about `wave` (n_pixel,), NaN where the table does not reach.

        fwhm : Angstrom, of the instrument's line profile, a Gaussian; one finer than the table has no effect
        """
        edges = edges_of(wave)
        width = float(np.median(np.abs(np.diff(edges))))
        step = min(float(np.median(np.diff(self.wave))), width) / 4.0
        fine = np.arange(self.wave[0], self.wave[-1] + step, step)
        total = np.concatenate([[0.0], np.cumsum(_blurred(np.interp(fine, self.wave, self.flux), fwhm / step))]) * step
        below = np.interp(edges, np.append(fine, fine[-1] + step) - step / 2, total, left=np.nan, right=np.nan)
        return np.asarray(np.diff(below) / np.diff(edges))


def _blurred(flux: Floats, fwhm: float) -> Floats:
    """Return samples blurred by a Gaussian of `fwhm` samples; the table's ends continue as constants."""
    sigma = fwhm / FWHM_PER_SIGMA
    if sigma < 0.5:
        return flux
    reach = int(np.ceil(5 * sigma))
    kernel = np.diff(ndtr((np.arange(-reach, reach + 2) - 0.5) / sigma))
    return np.convolve(np.pad(flux, reach, mode="edge"), kernel / kernel.sum(), mode="valid")


@dataclass(frozen=True)
class Transfer:
    """A sensitivity curve: as observed, or above the atmosphere where the extinction is known."""

    wave: Floats  # (n,) Angstrom, ascending
    sensitivity: Floats  # (n,) electron / s / Angstrom per unit of flux density
    extinction: Floats | None = None  # (n,) magnitudes at an airmass of 1

    def at(self, wave: Floats, airmass: float = 0.0) -> Floats:
        """Return the sensitivity at any wavelengths, through `airmass` where extinction is known; NaN beyond it."""
        clear = np.interp(wave, self.wave, self.sensitivity, left=np.nan, right=np.nan)
        if self.extinction is None:
            return clear
        return np.asarray(clear * transmission(np.interp(wave, self.wave, self.extinction), airmass))

    def above_atmosphere(self, wave: Floats, magnitude: Floats, airmass: float) -> "Transfer":
        """Return the curve above the atmosphere, of one observed through `airmass`.

        wave, magnitude : (n_table,) extinction at an airmass of 1; its ends hold beyond it
        """
        extinction = np.interp(self.wave, wave, magnitude)
        return Transfer(self.wave, self.sensitivity / transmission(extinction, airmass), extinction)

    def apply(self, spectra: Spectra, airmass: float | None = None) -> Spectra:
        """Return spectra (electron per sample) as flux density.

        Raises BadOption where the extinction is known and the airmass is not.
        """
        if self.extinction is not None and airmass is None:
            raise BadOption("the transfer function is the one above the atmosphere; give airmass, that of the exposure")
        width = np.abs(np.gradient(spectra.wave, axis=1))
        scale = self.at(spectra.wave, airmass or 0.0) * width * spectra.setup.exposure
        usable = np.isfinite(scale) & (scale > 0)
        safe = np.where(usable, scale, np.nan)

        def divided(array: Floats | None, by: Floats) -> Floats | None:
            return None if array is None else np.asarray(array / by)

        next_sample = np.append(safe[:, 1:], safe[:, -1:], axis=1)
        return replace(
            spectra,
            flux=spectra.flux / safe,
            variance=spectra.variance / safe**2,
            covariance=divided(spectra.covariance, safe * next_sample),
            sky=divided(spectra.sky, safe[0]),
            without_sky=divided(spectra.without_sky, safe),
            unit=FLUX_DENSITY,
            mask=np.where(usable, spectra.mask, spectra.mask | np.uint8(MaskBit.NO_DATA)),
        )


def transmission(magnitude: Floats, airmass: float) -> Floats:
    """Return the part of the light that the atmosphere lets through."""
    return np.asarray(10.0 ** (-0.4 * airmass * magnitude))


def outside_telluric(wave: Floats, *, margin: float = 0.0) -> Bools:
    """Return where the atmosphere hardly absorbs in bands, `margin` (Angstrom) on either side of them included."""
    bands = [(wave > low - margin) & (wave < high + margin) for low, high in TELLURIC]
    return np.asarray(~np.logical_or.reduce(bands), dtype=bool)


def measure_transfer(
    rate: Floats, variance: Floats, wave: Floats, standard: Standard, *, fwhm: float = 0.0, lamp: Floats | None = None
) -> Transfer:
    """Return the sensitivity from a standard star's spectrum.

    rate, variance, wave : (n,) electron / s / Angstrom, and where; NaN is left out
    fwhm : Angstrom, of a line
    lamp : (n,) the flat lamp's light per Angstrom, in any unit, as the same instrument sees it

    The curve reaches from the first to the last sample in which the star stands out of the noise.

    Raises BadFrame where star and table hardly overlap.
    """
    expected = standard.seen_at(wave, fwhm=fwhm) * (1.0 if lamp is None else lamp)
    known = np.isfinite(rate) & (variance > 0) & np.isfinite(expected) & (expected > 0)
    use = known & outside_telluric(wave, margin=fwhm)
    if use.sum() < LEAST_SAMPLES or not (rate[use] > 3 * np.sqrt(variance[use])).any():
        raise BadFrame(
            f"{use.sum()} samples of the standard star overlap its table, expected {LEAST_SAMPLES} or more with light"
        )
    noise = np.sqrt(median_filter(variance[use], NOISE_SAMPLES, mode="nearest"))  # none weighs by its own noise
    place, ratio, error = 1.0 / wave[use], rate[use] / expected[use], noise / expected[use]
    curves = [_curve(place, ratio, error, n) for n in PARAMETERS if 2 * n < use.sum()]
    odds = np.exp(-0.5 * (np.array([each.cost for each in curves]) - min(each.cost for each in curves)))
    mean = np.sum([p * each.log_ratio(1.0 / wave) for p, each in zip(odds / odds.sum(), curves, strict=True)], axis=0)
    sensitivity = np.exp(mean) * (1.0 if lamp is None else lamp)
    told = np.flatnonzero(use)[error < np.exp(mean[use])]
    return _along(wave, sensitivity, told)


def _along(wave: Floats, sensitivity: Floats, told: Floats) -> Transfer:
    """Return the curve between the first and the last sample that tell it, by ascending wavelength."""
    order = np.argsort(wave[told[0] : told[-1] + 1])
    return Transfer(wave[told[0] : told[-1] + 1][order], sensitivity[told[0] : told[-1] + 1][order])


@dataclass(frozen=True)
class _Curve:
    log_ratio: BSpline
    cost: float  # the lower, the better the curve for its number of parameters


def _curve(place: Floats, ratio: Floats, error: Floats, n_par: int) -> _Curve:
    """Fit the logarithm of a ratio by a spline of `n_par` parameters, cubic from 4, weights from the model itself."""
    low, high, degree = place.min(), place.max(), min(3, n_par - 1)
    inner = np.linspace(low, high, n_par - degree + 1)[1:-1]
    knots = np.concatenate([[low] * (degree + 1), inner, [high] * (degree + 1)])
    basis = BSpline.design_matrix(place, knots, degree).toarray()
    bend = np.diff(np.eye(n_par), 2, axis=0)
    log_model, kept = np.log(np.maximum(ratio, error)), np.ones(place.size, bool)
    for n in range(ROUNDS):
        model = np.exp(log_model)
        off, spread = ratio / model - 1.0 if n else np.zeros(place.size), np.hypot(error / model, MODEL_ERROR)
        if n > 2:
            kept = np.abs(off) < CLIP * spread
        weight = np.where(kept, spread**-2.0, 0.0)
        normal = basis.T @ (basis * weight[:, None]) + bend.T @ bend
        solution = np.linalg.solve(normal, basis.T @ (weight * (log_model + off)))
        log_model = basis @ solution
    model = np.exp(log_model)
    pull2 = (ratio / model - 1.0) ** 2 / ((error / model) ** 2 + MODEL_ERROR**2)
    cost = float(np.minimum(pull2, CLIP**2).sum() + n_par * np.log(place.size))
    return _Curve(BSpline(knots, solution, degree), cost)
