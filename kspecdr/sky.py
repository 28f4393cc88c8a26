"""Kernel of reduce_object: the sky's spectrum, fitted to the sky fibers on native pixels before any rebinning.

Fibers sample the sky at different places within a pixel, by the slit's curvature and their offsets, so
one B-spline through the samples of all of them resolves more than a pixel (Kelson 2003, PASP 115, 688).
With N sky fibers the noise of the result exceeds that of the object by sqrt(1 + 1/N), and by less as far as
knots are further apart than pixels.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline
from scipy.ndimage import median_filter

from kspecdr.arrays import Bools, Floats
from kspecdr.errors import BadFrame
from kspecdr.spline import fit_clipped_spline

KNOT_PIXELS = 1.25  # between two knots: a third of a line's width, which the samples of several fibers resolve
PLAIN_KNOT_PIXELS = 2.0  # without supersampling
KNOT_SAMPLES = 1.5  # least number of samples between two knots, in the mean
CLIP = 5.0  # sigma
MODEL_ERROR = 0.02  # of the sky: differences of line shape between fibers are no outliers
NOISE_PIXELS = 3  # over which the variance of a sample is taken


@dataclass(frozen=True)
class Sky:
    """A sky spectrum: electrons per Angstrom against Angstrom, and the fibers that it came from."""

    spline: BSpline
    low: float  # Angstrom
    high: float
    share: float  # of the variance of one sample that the curve has
    noise: tuple[Floats, Floats]  # Angstrom, and the variance of one sample there, (electron / Angstrom)**2

    def at(self, wave: Floats) -> Floats:
        """Return the sky (electron / Angstrom) at any wavelengths; 0 beyond what was observed."""
        inside = (wave >= self.low) & (wave <= self.high)
        return np.where(inside, self.spline(np.clip(wave, self.low, self.high)), 0.0)

    def variance_at(self, wave: Floats) -> Floats:
        """Return the variance of the sky, (electron / Angstrom)**2."""
        return np.asarray(np.interp(wave, *self.noise) * self.share)


def fit_sky(density: Floats, variance: Floats, good: Bools, wave: Floats, *, supersample: bool = True) -> Sky:
    """Fit one B-spline to the native samples of the sky fibers.

    density, variance, good, wave : (n_sky, n_column); electron per Angstrom
    supersample : knots as close as the lines' width asks for; else wider apart, for less noise

    Raises BadFrame where fewer than half of the samples are good.
    """
    if good.sum() < good.size // 2:
        raise BadFrame(f"{good.sum()} of {good.size} samples of the sky fibers are good, expected half at least")
    order = np.argsort(wave[good], kind="stable")
    x, y, v = (array[good][order].astype(float) for array in (wave, density, variance))
    inner = _knots(x, wave, KNOT_PIXELS if supersample else PLAIN_KNOT_PIXELS)
    v = median_filter(v, size=NOISE_PIXELS * good.shape[0], mode="nearest")  # no sample's weight is its own noise
    spline, keep = fit_clipped_spline(x, y, v, inner, clip=CLIP, model_error=MODEL_ERROR)
    share = spline.c.size / int(keep.sum())
    return Sky(spline, float(x[keep][0]), float(x[keep][-1]), share, (x, v))


def _knots(x: Floats, wave: Floats, spacing: float) -> Floats:
    """Return inner knots `spacing` pixels apart, or further where the samples are too few to hold them.

    x : (n,), ascending
    """
    step = spacing * np.median(np.abs(np.diff(wave, axis=1)))
    wanted = int(np.ptp(x) / step)
    allowed = int(x.size / KNOT_SAMPLES)
    places = np.linspace(0, x.size - 1, min(wanted, allowed) + 1)[1:-1]
    return np.interp(places, np.arange(x.size), x)  # quantiles of x, which is sorted
