"""The sky's spectrum from the sky fibers, fitted on native pixels and subtracted before any rebinning.

Fibers sample the sky at different places within a pixel, by the slit's curvature and their offsets, so
one B-spline through the samples of all of them resolves more than a pixel (Kelson 2003, PASP 115, 688).
The noise of the result exceeds that of the object by sqrt(1 + 1/N) for N sky fibers.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline, make_lsq_spline

from kspecdr.arrays import Bools, Floats
from kspecdr.errors import BadFrame

KNOT_SAMPLES = 1.5  # least number of samples between two knots, in the mean
CLIP = 5.0  # sigma
MODEL_ERROR = 0.02  # of the sky: differences of line shape between fibers are no outliers
ROUNDS = 4


@dataclass(frozen=True)
class Sky:
    """A sky spectrum: electrons per Angstrom against Angstrom, and the fibers that it came from."""

    spline: BSpline
    low: float  # Angstrom
    high: float
    n_fiber: int

    def at(self, wave: Floats) -> Floats:
        """Return the sky (electron / Angstrom) at any wavelengths; 0 beyond what was observed."""
        inside = (wave >= self.low) & (wave <= self.high)
        return np.where(inside, self.spline(np.clip(wave, self.low, self.high)), 0.0)


def fit_sky(density: Floats, variance: Floats, good: Bools, wave: Floats) -> Sky:
    """Fit one B-spline to the native samples of the sky fibers.

    density, variance, good, wave : (n_sky, n_column); electron per Angstrom

    Raises BadFrame where fewer than half of the samples are good.
    """
    if good.sum() < good.size // 2:
        raise BadFrame(
            f"{good.sum()} of {good.size} samples of the sky fibers are good, expected half at least"
        )
    order = np.argsort(wave[good], kind="stable")
    x, y, v = (array[good][order].astype(float) for array in (wave, density, variance))
    inner = _knots(x, wave)
    keep = np.ones(x.size, bool)
    for _ in range(ROUNDS):
        spline = make_lsq_spline(x[keep], y[keep], _padded(x[keep], inner), k=3, w=1 / np.sqrt(v[keep]))
        model = spline(x)
        pull = (y - model) / np.sqrt(v + (MODEL_ERROR * model) ** 2)
        scatter = 1.4826 * float(np.median(np.abs(pull)))  # above 1 where the sky fibers disagree
        kept = np.abs(pull) <= CLIP * max(scatter, 1.0)
        if (kept == keep).all():
            break
        keep = kept
    return Sky(spline, float(x[keep][0]), float(x[keep][-1]), good.shape[0])


def _knots(x: Floats, wave: Floats) -> Floats:
    """Return inner knots a pixel apart, or further where the samples are too few to hold them."""
    step = np.median(np.abs(np.diff(wave, axis=1)))
    wanted = int(np.ptp(x) / step)
    allowed = int(x.size / KNOT_SAMPLES)
    return np.quantile(x, np.linspace(0, 1, min(wanted, allowed) + 1)[1:-1])


def _padded(x: Floats, inner: Floats) -> Floats:
    """Return knots for a cubic spline; those that have no sample between them go (Schoenberg-Whitney)."""
    spans = np.searchsorted(x, inner)
    held = inner[np.diff(spans, prepend=0) > 0]
    held = held[(held > x[3]) & (held < x[-4])]
    return np.concatenate([[x[0]] * 4, held, [x[-1]] * 4])
