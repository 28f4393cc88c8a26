"""Lines that contradict all others, found before the joint fit lets its higher terms bend towards them."""

import numpy as np
from scipy.special import stdtrit

from kspecdr.arrays import Bools, Floats
from kspecdr.wavecal.solution import FREE, TYPICAL, Dispersion, Measurements, residuals

LINE_ERROR = 0.03  # px, of the mean place of a line over the fibers: blends, profiles, tables
CHANCE = 0.002  # to lose one good line in a spectrum


def contradicting_lines(data: Measurements, model: Dispersion, *, base: Floats) -> Bools:
    """Return which lines (n_line,) do not fit a solution that all the others agree on.

    Parameters
    ----------
    data
        Measured lines.
    model
        First solution, within a pixel or so.
    base
        Terms of the dispersion that the higher ones are drawn towards, as in `fit_dispersion`.

    Notes
    -----
    Backward deletion by externally studentized residuals (Cook and Weisberg 1982, Residuals and Influence in
    Regression): a false line at the end of the spectrum has the leverage to pull the fit onto itself, but the
    others then fit far better without it. Each line counts once, at its mean over the fibers.
    """
    place, miss, weight = _line_means(data, model)
    terms = np.polynomial.legendre.legvander(place, len(TYPICAL) - 1)
    px = model.shape[1] / model.half
    design = -terms * (px / model.slope(place))[:, None]
    prior = np.zeros((len(TYPICAL) - FREE, len(TYPICAL)))
    prior[:, FREE:] = np.diag(1 / TYPICAL[FREE:])
    pull = -((model.shape - base) / px)[FREE:] / TYPICAL[FREE:]
    off = np.zeros(len(place), dtype=bool)
    while (~off).sum() > FREE + 2:
        kept = np.flatnonzero(~off)
        root = np.sqrt(weight[kept])
        rows = np.vstack([design[kept] * root[:, None], prior])
        excess = _studentized(rows, np.concatenate([miss[kept] * root, pull]), len(kept))
        worst = int(np.argmax(excess))
        if excess[worst] < 1:
            break
        off[kept[worst]] = True
    return off


def _line_means(data: Measurements, model: Dispersion) -> tuple[Floats, Floats, Floats]:
    """Mean reference place, residual (px) and weight of each line over the fibers."""
    n_line = len(data.blend)
    each = 1 / (data.error**2 + LINE_ERROR**2)
    total = np.bincount(data.line, each, n_line)
    place = np.bincount(data.line, each * model.place(data.fiber, data.column), n_line) / total
    miss = np.bincount(data.line, each * residuals(data, model), n_line) / total
    random = 1 / np.bincount(data.line, 1 / data.error**2, n_line)
    return place, miss, 1 / (random + LINE_ERROR**2 + data.blend**2)


def _studentized(rows: Floats, target: Floats, n_line: int) -> Floats:
    """Return how far each line lies off the fit to the others, over the limit that chance sets."""
    q, r = np.linalg.qr(rows)
    left = target - q @ (q.T @ target)
    leverage = np.minimum((q[:n_line] ** 2).sum(axis=1), 1 - 1e-9)
    freedom = len(target) - r.shape[0] - 1
    without = np.maximum(left @ left - left[:n_line] ** 2 / (1 - leverage), 0) / freedom
    studentized = np.abs(left[:n_line]) / np.sqrt(np.maximum(without, 1.0) * (1 - leverage))
    excess: Floats = studentized / stdtrit(freedom, 1 - 0.5 * CHANCE / n_line)
    return excess
