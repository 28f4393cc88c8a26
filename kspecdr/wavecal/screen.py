"""Lines that contradict the others, or whose identity rests on nothing, found before the joint fit bends to them."""

import numpy as np
from scipy.special import stdtrit

from kspecdr.arrays import Bools, Floats
from kspecdr.wavecal.features import Features
from kspecdr.wavecal.solution import FREE, TYPICAL, Dispersion, Measurements, residuals

LINE_ERROR = 0.03  # px, of the mean place of a line over the fibers: blends, profiles, tables
CHANCE = 0.002  # to lose one good line in a spectrum
COINCIDENCE = 0.5  # other lines where a line is sought: more, and it may be any of them
COMPARABLE = 3.0  # ln: lines down to a twentieth of its brightness may be taken for a line
VICINITY = 100.0  # px, over which lines are counted


def doubtful_lines(data: Measurements, model: Dispersion, features: Features, *, base: Floats) -> Bools:
    """Return which lines (n_line,) do not fit the others, or could be anything as far as the others tell.

    Parameters
    ----------
    data
        Measured lines.
    model
        First solution, within a pixel or so.
    features
        Peaks that the lamps can show.
    base
        Terms of the dispersion that the higher ones are drawn towards, as in `fit_dispersion`.

    Notes
    -----
    Backward deletion by externally studentized residuals (Cook and Weisberg 1982, Residuals and Influence in
    Regression): a false line at the end of the spectrum has the leverage to pull the fit onto itself, but the
    others then fit far better without it. A line that the others place only roughly, where the lamp has several
    such lines, is no evidence either. Each line counts once, at its mean over the fibers.
    """
    place, miss, weight = _line_means(data, model)
    px = model.shape[1] / model.half
    design = -np.polynomial.legendre.legvander(place, len(TYPICAL) - 1) * (px / model.slope(place))[:, None]
    prior = np.zeros((len(TYPICAL) - FREE, len(TYPICAL)))
    prior[:, FREE:] = np.diag(1 / TYPICAL[FREE:])
    pull = -((model.shape - base) / px)[FREE:] / TYPICAL[FREE:]
    crowd = _crowding(data, model, features)
    off = np.zeros(len(place), dtype=bool)
    while (~off).sum() > FREE:
        kept = np.flatnonzero(~off)
        root = np.sqrt(weight[kept])
        rows = np.vstack([design[kept] * root[:, None], prior])
        excess, error = _left_out(rows, np.concatenate([miss[kept] * root, pull]), len(kept))
        worst = int(np.argmax(excess))
        if excess[worst] < 1 or len(kept) <= FREE + 2:
            loose = 6 * crowd[kept] * error / root  # lines within 3 sigma on either side
            worst = int(np.argmax(loose))
            if loose[worst] < COINCIDENCE:
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


def _crowding(data: Measurements, model: Dispersion, features: Features) -> Floats:
    """Return how many lines per px the lamp has about each line (n_line,) that could be taken for it."""
    _, first = np.unique(data.line, return_index=True)
    wave, px = data.wavelength[first], abs(model.shape[1]) / model.half
    distance = np.abs(features.wavelength[None, :] - wave[:, None]) / px
    own = features.brightness[distance.argmin(axis=1)]
    comparable = features.brightness[None, :] > own[:, None] - COMPARABLE
    density: Floats = (comparable & (distance < VICINITY)).sum(axis=1) / (2 * VICINITY)
    return density


def _left_out(rows: Floats, target: Floats, n_line: int) -> tuple[Floats, Floats]:
    """Compare each line with the fit to the others.

    Returns how far it lies off over the limit that chance sets, and the error with which the others place it, in
    units of its own error.
    """
    q, r = np.linalg.qr(rows)
    left = target - q @ (q.T @ target)
    leverage = np.minimum((q[:n_line] ** 2).sum(axis=1), 1 - 1e-9)
    freedom = max(len(target) - r.shape[0] - 1, 1)
    without = np.maximum(left @ left - left[:n_line] ** 2 / (1 - leverage), 0) / freedom
    scale = np.sqrt(np.maximum(without, 1.0))
    studentized = np.abs(left[:n_line]) / (scale * np.sqrt(1 - leverage))
    return studentized / stdtrit(freedom, 1 - 0.5 * CHANCE / n_line), scale * np.sqrt(
        leverage / (1 - leverage)
    )
