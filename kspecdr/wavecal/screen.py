"""Lines that contradict the others, or whose identity rests on nothing, found before the joint fit bends to them."""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.wavecal.dispersion import DEGREE, Dispersion
from kspecdr.wavecal.features import Features
from kspecdr.wavecal.solution import FREE, Measurements, residuals, typical

LINE_ERROR = 0.03  # px, of the mean place of a line over the fibers: blends, profiles, tables
CHANCE = 0.002  # to lose one good line in a spectrum
COINCIDENCE = 0.1  # other lines where a line is sought: with more it may be any of them
COMPARABLE = 2.5  # ln: lines within a factor of twelve in brightness may be taken for each other
STRETCHES = (0.8, 1.2, 1.6)  # of the places from -1 to 1: the richest part that the rest is built on
STRAY = 0.1  # chance that a line of the lamp is not where the others place it: a blend, or unlisted
UNBELIEVED = 1e3  # odds that a line is another one: it is given up
FAR = 4.0  # errors: a line farther from where the others place it is another line
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
        Peaks that the lamps can show, with the brightness that they have in this spectrum.
    base
        Terms of the dispersion that the higher ones are drawn towards, as in `fit_dispersion`.

    Notes
    -----
    First, backward deletion by externally studentized residuals (Cook and Weisberg 1982, Residuals and
    Influence in Regression): a false line at the end of the spectrum has the leverage to pull the fit onto
    itself, but the others then fit far better without it. Then growth from the part that is richest in
    lines: a line that those place only roughly, where the lamp has several such lines, is no evidence. Each
    line counts once, at its mean over the fibers.
    """
    place, miss, weight = _line_means(data, model)
    px = model.shape[1] / model.half
    design = -np.polynomial.legendre.legvander(place, DEGREE) * (px / model.slope(place))[:, None]
    system = _System(design, miss, weight, ((model.shape - base) / px)[FREE:], typical(base)[FREE:])
    kept = _agreeing(system)
    return ~_grown(system, kept, place, 6 * _crowding(data, model, features))


@dataclass(frozen=True)
class _System:
    """Linear equations of the mean lines for a change of the dispersion's terms."""

    design: Floats  # (n_line, n_term) px
    miss: Floats  # (n_line,) px
    weight: Floats  # (n_line,) px**-2
    higher: Floats  # (n_term - FREE,) px, the higher terms as they stand
    typical: Floats  # (n_term - FREE,) px, how large they usually are

    def rows(self, chosen: Ints) -> tuple[Floats, Floats]:
        """Return weighted rows and targets of some lines, the priors of the higher terms below them."""
        root = np.sqrt(self.weight[chosen])
        prior = np.zeros((len(self.higher), self.design.shape[1]))
        prior[:, FREE:] = np.diag(1 / self.typical)
        rows = np.vstack([self.design[chosen] * root[:, None], prior])
        return rows, np.concatenate([self.miss[chosen] * root, -self.higher / self.typical])

    def placed(self, chosen: Ints, others: Ints) -> tuple[Floats, Floats]:
        """Return with what error the chosen lines place others, and how far off these are seen, px."""
        rows, target = self.rows(chosen)
        covariance = np.linalg.pinv(rows.T @ rows, hermitian=True)
        change = covariance @ (rows.T @ target)
        left = target - rows @ change
        scale = max(float(left @ left) / max(len(target) - rows.shape[1], 1), 1.0)
        design = self.design[others]
        error = np.sqrt(scale * np.einsum("np,pq,nq->n", design, covariance, design))
        return error, self.miss[others] - design @ change

    def expected(self, known: Bools, others: Ints) -> tuple[Floats, Bools]:
        """Return with what error the lines known place others, px, and which others are where they should be."""
        error, miss = self.placed(np.flatnonzero(known), others)
        return error, np.abs(miss) < FAR * np.hypot(error, self.weight[others] ** -0.5)


def _agreeing(system: _System) -> Bools:
    """Delete lines, the worst first, until none deviates from the fit to the others."""
    kept = np.ones(len(system.miss), dtype=bool)
    while kept.sum() > FREE + 2:
        chosen = np.flatnonzero(kept)
        rows, target = system.rows(chosen)
        q, _ = np.linalg.qr(rows)
        left = target - q @ (q.T @ target)
        leverage = np.minimum((q[: len(chosen)] ** 2).sum(axis=1), 1 - 1e-9)
        freedom = max(len(target) - rows.shape[1] - 1, 1)
        square = left[: len(chosen)] ** 2 / (1 - leverage)
        others = np.maximum((left @ left - square) / freedom, 1.0)
        excess = np.sqrt(square / others)
        worst = int(np.argmax(excess))
        if excess[worst] < stdtrit(freedom, 1 - 0.5 * CHANCE / len(chosen)):
            break
        kept[chosen[worst]] = False
    return kept


def _grown(system: _System, kept: Bools, place: Floats, crowd: Floats) -> Bools:
    """Keep the lines of the richest part and those that it places without ambiguity, from there outwards.

    A line that could be another one is believed together with further ones that it places in turn.
    """
    sure = kept & _richest(place, kept)
    tried = np.zeros(len(kept), dtype=bool)
    while (open_ := np.flatnonzero(kept & ~sure)).size:
        error, agrees = system.expected(sure, open_)
        chance = crowd[open_] * error
        confirmed = agrees & (chance < COINCIDENCE)
        untried = agrees & ~tried[open_]
        if confirmed.any():
            sure[open_[confirmed]] = True
        elif untried.any():
            first = int(np.argmin(np.where(untried, chance, np.inf)))
            tried[open_[first]] = True
            sure |= _chain(system, sure, open_, first, crowd)
        else:
            break
    return sure


def _chain(system: _System, sure: Bools, open_: Ints, first: int, crowd: Floats) -> Bools:
    """Return the open lines, that at `first` foremost, that together are hardly a coincidence; none if they are.

    A sequential test (Wald 1945, Ann. Math. Stat. 16, 117): where the first is another line, the next agree with
    it by chance only; where it is right, few lines disagree.
    """
    error, _ = system.expected(sure, open_)
    odds, taken, rest = float(crowd[open_[first]] * error[first]), sure.copy(), np.delete(open_, first)
    taken[open_[first]] = True
    while COINCIDENCE <= odds < UNBELIEVED and rest.size:
        error, agrees = system.expected(taken, rest)
        chance = crowd[rest] * error
        nearest = int(np.argmin(chance))
        taken[rest[nearest]] = agrees[nearest]
        odds *= min(float(chance[nearest]), 1.0) if agrees[nearest] else 1 / STRAY
        rest = np.delete(rest, nearest)
    chain: Bools = taken & ~sure & (odds < COINCIDENCE)
    return chain


def _richest(place: Floats, kept: Bools) -> Bools:
    """Return the lines in the shortest stretch of the spectrum that holds enough of them; all where none does."""
    for stretch in STRETCHES:
        inside = (place >= place[:, None]) & (place <= place[:, None] + stretch)
        number = (inside & kept).sum(axis=1) * kept
        if number.max() >= FREE + 2:
            best: Bools = inside[int(np.argmax(number))]
            return best
    return np.ones(len(place), dtype=bool)


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
    comparable = np.abs(features.brightness[None, :] - own[:, None]) < COMPARABLE
    density: Floats = (comparable & (distance < VICINITY)).sum(axis=1) / (2 * VICINITY)
    return density
