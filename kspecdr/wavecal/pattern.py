"""Identify a lamp spectrum by the pattern of its lines: which wavelength falls on which column.

Candidates of a coarse search are refined by expectation maximisation: each peak is a mixture of the lines
near it and of a background that no line explains, each line has a chance to be seen that follows from its
intensity, each element has a brightness of its own and the detector a smooth response. The likelihoods of
distinct solutions are then compared. Nothing is random. The refinement is that of point-set registration
(Myronenko and Song 2010, IEEE TPAMI 32, 2262) in one dimension, with intensities.
kspecdr.wavecal.identify makes the whole solution of it.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.wavecal.features import Features
from kspecdr.wavecal.lines import Peaks
from kspecdr.wavecal.search import SearchRange, coarse_search

SCATTER = 1.2  # of ln(intensity) between table and lamp: a factor of three
SCALE_PRIOR = 2.0  # of ln(brightness) between elements: a factor of seven
RESPONSE_PRIOR = np.array([2.0, 1.5])  # of the linear and square term of ln(response), at the ends
UNEXPLAINED = 0.1  # fraction of peaks that no line of the table explains
CERTAIN = 0.95  # chance to see a line however bright
ABSENT = 4.0  # -log of the chance that an element named does not shine at all
DARK = 10.0  # the same that an end of the spectrum shows nothing
TOLERANCES = (3.0, 2.0, 1.5, 1.0, 0.7, 0.5, 0.4, 0.4)  # px, annealing of the refinement
KEPT = {1: 0.5, 3: 0.33}  # share of the candidates that goes on after a step of it
BENDS = np.array([(b, c) for b in (-8.0, 0.0, 8.0) for c in (-6.0, -2.0, 2.0, 6.0)])  # px at the ends, of u**2 and u**3
N_RETRIED = 10
RIVAL = 30.0  # log-likelihood below the best: how much worse candidates may yet win by bending
ORDER_PRIOR = 1.0  # the same of a second order over its first
HIDDEN = np.array(
    [0.85, 0.15]
)  # FWHM: a line nearer to a peak is not missed; more for each factor e that it is fainter
SMOOTHED = 2.35  # px, FWHM of what the spectrum is smoothed with before peaks are sought
HALO = np.array([15.0, 4.6])  # px, ln: fainter by this about a bright line, nothing is taken for a peak
NEIGHBOURS = np.arange(-3, 3)  # lines considered for each peak, about its place among them


@dataclass(frozen=True)
class Candidates:
    """Distinct solutions, best first: wavelength = coefficients . (1, u, u**2, u**3), u from -1 to 1."""

    coefficients: Floats  # (n, 4) Angstrom
    evidence: Floats  # (n,) log-likelihood against peaks placed at random
    matched: Bools  # (n, n_peak) peaks that a line explains
    line: Ints  # (n, n_peak) index of the likeliest line of each
    expected: Floats  # (n, n_line) ln of the height of every line, the highest peak being 0

    def __len__(self) -> int:
        return len(self.evidence)

    def __getitem__(self, keep: Ints) -> "Candidates":
        return Candidates(
            self.coefficients[keep],
            self.evidence[keep],
            self.matched[keep],
            self.line[keep],
            self.expected[keep],
        )


def identify(peaks: Peaks, features: Features, search: SearchRange, *, n_refined: int = 200) -> Candidates:
    """Return the distinct solutions that explain the peaks, best first; without peaks or lines, none.

    The best ones are refined again from starts that are bent and skewed by some pixels at the ends, since the
    coarse search has no skew and a part of the lines may have been caught by wrong neighbours.
    """
    if len(peaks) < 2 or len(features) < 2:
        nothing = np.zeros((0, len(peaks)), dtype=int)
        return Candidates(np.zeros((0, 4)), np.zeros(0), nothing.astype(bool), nothing, np.zeros((0, len(features))))
    u = (peaks.column - search.half) / search.half
    start = coarse_search(u, peaks, features, search, n_best=n_refined)
    puzzle = _Puzzle(u, np.log(peaks.height / peaks.height.max()), features, search, peaks.fwhm)
    first = _distinct(_refined(start, puzzle), puzzle, n_most=N_RETRIED)
    rivals = first.coefficients[first.evidence > first.evidence[0] - RIVAL]
    again = _refined(_bent(rivals, search), puzzle)
    return _distinct(_joined(first, again), puzzle, n_most=N_RETRIED)


def powers(u: Floats) -> Floats:
    """Return (1, u, u**2, u**3) along a new last axis."""
    return np.stack([np.ones_like(u), u, u**2, u**3], axis=-1)


def _bent(coefficients: Floats, search: SearchRange) -> Floats:
    """Return the candidates (n, 4) with each of BENDS, the middle and the mean dispersion kept: (n * n_bend, 4)."""
    change = np.zeros((len(BENDS), 4))
    change[:, 2:] = BENDS * search.px
    change[:, 0], change[:, 1] = -change[:, 2] / 3, -0.6 * change[:, 3]
    bent: Floats = (coefficients[:, None, :] + change).reshape(-1, 4)
    return bent


def _joined(first: Candidates, other: Candidates) -> Candidates:
    parts = {name: np.concatenate([getattr(first, name), getattr(other, name)]) for name in vars(first)}
    both = Candidates(**parts)
    return both[np.argsort(-both.evidence, kind="stable")]


@dataclass(frozen=True)
class _Puzzle:
    """What is to be explained and with what."""

    u: Floats  # (n_peak,) place of the peaks, -1 to 1
    light: Floats  # (n_peak,) ln of their heights, the highest being 0
    features: Features
    search: SearchRange
    fwhm: float  # of a peak, px


@dataclass(frozen=True)
class _State:
    """What is believed of each candidate."""

    coefficients: Floats  # (n_candidate, 4) Angstrom
    source: Floats  # (n_candidate, n_source) ln of each element's brightness over the table's
    response: Floats  # (n_candidate, 2) of ln(response) along u and u**2

    def __getitem__(self, keep: Ints) -> "_State":
        return _State(self.coefficients[keep], self.source[keep], self.response[keep])


@dataclass(frozen=True)
class _Match:
    """Peaks against the lines near them: (n_candidate, n_peak, n_neighbour) arrays where not said."""

    near: Ints  # index of the line
    share: Floats  # chance that this line is the peak
    sigma: Floats  # px, tolerance of the match
    gain: Floats  # (n_candidate, n_peak) log-likelihood of each peak against one at random
    missing: Floats  # (n_candidate, n_source) log-likelihood of the lines not seen
    forgiven: Floats  # (n_candidate,) of it, where an end of the spectrum is dark

    @property
    def evidence(self) -> Floats:
        """Log-likelihood (n_candidate,) of all peaks and of all lines not seen."""
        total: Floats = self.gain.sum(axis=1) + self.missing.sum(axis=1) + self.forgiven
        return total


def _refined(start: Floats, puzzle: _Puzzle) -> Candidates:
    state = _State(
        start,
        np.zeros((len(start), len(puzzle.features.sources))),
        np.zeros((len(start), len(RESPONSE_PRIOR))),
    )
    n_start = len(start)
    for k, tolerance in enumerate(TOLERANCES):
        match = _matched(state, puzzle, tolerance)
        state = _State(_fitted(match, start, puzzle), *_brightness(match, state, puzzle))
        if k in KEPT:
            n_kept = max(int(KEPT[k] * n_start), N_RETRIED)
            best = np.argsort(-match.evidence, kind="stable")[:n_kept]
            state, start = state[best], start[best]
    match = _matched(state, puzzle, TOLERANCES[-1])
    line = np.take_along_axis(match.near, match.share.argmax(axis=2)[:, :, None], axis=2)[:, :, 0]
    expected, _ = _expected(state, puzzle)
    found = Candidates(state.coefficients, match.evidence, match.share.sum(axis=2) > 0.5, line, expected)
    return found[np.argsort(-match.evidence, kind="stable")]


def _matched(state: _State, puzzle: _Puzzle, tolerance: float) -> _Match:
    u, features, search = puzzle.u, puzzle.features, puzzle.search
    wave = state.coefficients @ powers(u).T
    slope = (state.coefficients[:, 1:] @ np.stack([np.ones_like(u), 2 * u, 3 * u**2])) / search.half
    px = np.maximum(np.abs(slope), 0.3 * search.px)[:, :, None]
    place = np.searchsorted(features.wavelength, wave)[:, :, None] + NEIGHBOURS
    near = np.clip(place, 0, len(features) - 1)
    z = (features.wavelength[near] - wave[:, :, None]) / px
    sigma = np.hypot(tolerance, features.spread[near] / px)
    expected, seen = _expected(state, puzzle)
    rows = np.arange(len(wave))[:, None, None]
    ratio = (seen / np.maximum(seen.sum(axis=1, keepdims=True), 1.0))[rows, near] * (place == near)
    ratio *= np.exp(-0.5 * (z / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi)) * search.n_column
    ratio *= _light_ratio(puzzle.light, expected[rows, near]) * (1 - UNEXPLAINED)
    total = UNEXPLAINED + ratio.sum(axis=2)
    share, gain = ratio / total[:, :, None], np.log(total)
    earned = _summed(share * np.maximum(gain, 0)[:, :, None], near, len(features))
    fainter = np.maximum(puzzle.light[None, :, None] - expected[rows, near], 0.0)
    hidden = np.abs(z) < (HIDDEN[0] + HIDDEN[1] * fainter) * np.hypot(puzzle.fwhm, SMOOTHED)
    hidden |= (np.abs(z) < HALO[0]) & (fainter > HALO[1])
    met = np.maximum(share, hidden & (place == near))
    return _Match(near, share, sigma, gain, *_missing(met, near, earned, seen, features))


def _expected(state: _State, puzzle: _Puzzle) -> tuple[Floats, Floats]:
    """Return ln(brightness) of every line and its chance to be among the peaks, (n_candidate, n_line) each."""
    features = puzzle.features
    u = _line_places(state, features)
    expected = features.brightness + state.source[:, features.source]
    expected = expected + state.response[:, :1] * u + state.response[:, 1:] * u**2
    ends = np.sort(state.coefficients @ powers(np.array([-1.0, 1.0])).T, axis=1)
    inside = (features.wavelength > ends[:, :1]) & (features.wavelength < ends[:, 1:])
    return expected, np.where(inside, ndtr((expected - puzzle.light.min()) / SCATTER), 0.0)


def _line_places(state: _State, features: Features) -> Floats:
    """Return u of every line (n_candidate, n_line), by the linear terms."""
    center, half_range = state.coefficients[:, :1], state.coefficients[:, 1:2]
    return np.clip((features.wavelength - center) / half_range, -1.0, 1.0)


def _light_ratio(light: Floats, expected: Floats) -> Floats:
    """Density of a peak's ln(height) given its line (Student, 3 degrees of freedom) over that of any peak's."""
    delta = (light[None, :, None] - expected) / SCATTER
    given = 0.3675 / SCATTER / (1 + delta**2 / 3) ** 2
    spread = max(float(np.std(light)), 1.0)
    anyhow = np.exp(-0.5 * ((light - light.mean()) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
    ratio: Floats = given / anyhow[None, :, None]
    return ratio


def _summed(values: Floats, index: Ints, n: int) -> Floats:
    """Sum (n_candidate, ...) values by their index below `n`, (n_candidate, n)."""
    rows = n * np.arange(len(index)).reshape((-1,) + (1,) * (index.ndim - 1))
    flat: Floats = np.zeros(n * len(index)) + np.bincount((rows + index).ravel(), values.ravel(), n * len(index))
    return flat.reshape(len(index), n)


def _missing(met: Floats, near: Ints, earned: Floats, seen: Floats, features: Features) -> tuple[Floats, Floats]:
    """Log-likelihood of the lines not seen, by source, and what dark ends of the spectrum forgive, (n_candidate,).

    Never worse than that of an absent element, nor than that of an end where the detector sees nothing.

    met : (n_candidate, n_peak, n_neighbour) chance that the peak shows or hides the line
    earned : (n_candidate, n_line) log-likelihood that a line has won by its peaks
    """
    found = np.minimum(_summed(met, near, len(features)), 1.0)
    unseen = np.log(1 - CERTAIN * seen * (1 - found))
    member = np.equal.outer(features.source, np.arange(len(features.sources))).astype(float)
    whole = unseen @ member
    missing: Floats = np.maximum(whole, -ABSENT - earned @ member)
    balance = earned + unseen * np.minimum(missing / np.minimum(whole, -1e-9), 1.0)[:, features.source]
    forgiven = sum(np.maximum(-np.cumsum(part, axis=1).min(axis=1) - DARK, 0.0) for part in (balance, balance[:, ::-1]))
    return missing, forgiven


def _brightness(match: _Match, state: _State, puzzle: _Puzzle) -> tuple[Floats, Floats]:
    """Return ln of the sources' brightness and of the response; sources whose bright lines are missing fade."""
    features = puzzle.features
    rows = np.broadcast_to(np.arange(len(match.near))[:, None, None], match.near.shape)
    source, share = features.source[match.near], match.share
    u = _line_places(state, features)[rows, match.near]
    basis = np.stack([u, u**2], axis=-1)
    excess = puzzle.light[None, :, None] - features.brightness[match.near]
    bent = (basis * state.response[:, None, None, :]).sum(axis=-1)
    total = _summed(share * (excess - bent), source, state.source.shape[1])
    number = _summed(share, source, state.source.shape[1])
    seen = total / (number + (SCATTER / SCALE_PRIOR) ** 2)
    tied = features.parent != np.arange(len(features.parent))
    drawn = (SCATTER / ORDER_PRIOR) ** 2
    follow = (total + drawn * seen[:, features.parent]) / (number + drawn)
    seen = np.where(tied, follow, seen)
    fading = state.source - np.clip(-match.missing / ABSENT, 0.0, 1.5)
    level = np.where(number > 1, seen, np.minimum(seen, fading))
    left = excess - level[rows, source]
    normal = np.einsum("kij,kijp,kijq->kpq", share, basis, basis) + np.diag((SCATTER / RESPONSE_PRIOR) ** 2)
    right = np.einsum("kij,kijp->kp", share * left, basis)
    return level, np.linalg.solve(normal, right[:, :, None])[:, :, 0]


def _fitted(match: _Match, start: Floats, puzzle: _Puzzle) -> Floats:
    """Coefficients that bring the peaks onto their lines, held near the start where lines are few."""
    search, basis = puzzle.search, powers(puzzle.u)
    prior = (search.px * search.half * np.array([0.2, 0.1, 0.03, 0.005])) ** -2.0
    weight = match.share / (match.sigma * search.px) ** 2
    target = (weight * puzzle.features.wavelength[match.near]).sum(axis=2)
    normal = np.einsum("ki,ip,iq->kpq", weight.sum(axis=2), basis, basis, optimize=True) + np.diag(prior)
    right = target @ basis + start * prior
    return np.linalg.solve(normal, right[:, :, None])[:, :, 0]


def _distinct(found: Candidates, puzzle: _Puzzle, n_most: int) -> Candidates:
    """Keep the best of solutions that agree within 2 px on half of the peaks."""
    wave = found.coefficients @ powers(puzzle.u).T
    keep: list[int] = []
    for k in range(len(wave)):
        if not keep or np.median(np.abs(wave[keep] - wave[k]), axis=1).min() > 2 * puzzle.search.px:
            keep.append(k)
        if len(keep) == n_most:
            break
    return found[np.array(keep, dtype=int)]
