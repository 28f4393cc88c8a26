"""Kernel: cubic B-splines through scattered samples that hold outliers."""

import numpy as np
from scipy.interpolate import BSpline, make_lsq_spline

from kspecdr.arrays import Bools, Floats
from kspecdr.errors import BadFrame
from kspecdr.robust import robust_sigma

ROUNDS = 4
LEAST_SAMPLES = 8


def fit_clipped_spline(
    x: Floats, y: Floats, variance: Floats, inner: Floats, *, clip: float, model_error: float = 0.0
) -> tuple[BSpline, Bools]:
    """Fit a spline with inner knots `inner`, leaving out samples beyond `clip` sigma.

    x, y, variance : (n,), x ascending
    model_error : fraction of the model by which good samples may differ from it beyond their noise

    Returns the spline and which samples it rests on (n,). The sigma is the samples' own where these scatter
    more than their variance says.

    Raises BadFrame where fewer than LEAST_SAMPLES samples are given.
    """
    if x.size < LEAST_SAMPLES:
        raise BadFrame(f"{x.size} good samples for a smooth curve, expected {LEAST_SAMPLES} or more")
    keep = np.ones(x.size, bool)
    for _ in range(ROUNDS):
        spline = make_lsq_spline(x[keep], y[keep], _knots(x[keep], inner), k=3, w=1 / np.sqrt(variance[keep]))
        model = spline(x)
        pull = np.abs(y - model) / np.sqrt(variance + (model_error * model) ** 2)
        scatter = robust_sigma(pull[keep])
        kept = pull <= clip * max(scatter, 1.0 if model_error else 1e-12)
        if (kept == keep).all() or kept.sum() < LEAST_SAMPLES:
            break
        keep = kept
    return spline, keep


def _knots(x: Floats, inner: Floats) -> Floats:
    """Return knots for a cubic spline; those without a sample between them go (Schoenberg and Whitney 1953)."""
    held = inner[np.diff(np.searchsorted(x, inner), prepend=0) > 0]
    held = held[(held > x[3]) & (held < x[-4])]
    return np.concatenate([[x[0]] * 4, held, [x[-1]] * 4])
