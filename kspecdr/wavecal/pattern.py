"""Identify a lamp spectrum by the pattern of its lines: which wavelength falls on which column.

Candidates of a coarse search are refined by expectation maximisation: each peak is a mixture of the lines near
it and of a background that no line explains, each line has a chance to be seen that follows from its intensity,
each element has a brightness of its own. The likelihoods of distinct solutions are then compared. Nothing is
random. The refinement is that of point-set registration (Myronenko and Song 2010, IEEE TPAMI 32, 2262) in one
dimension, with intensities.
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
UNEXPLAINED = 0.1  # fraction of peaks that no line of the table explains
CERTAIN = 0.95  # chance to see a line however bright
ABSENT = -4.0  # log of the chance that an element named does not shine at all
TOLERANCES = (3.0, 2.0, 1.5, 1.0, 0.7, 0.5, 0.4, 0.4)  # px, annealing of the refinement
NEIGHBOURS = np.arange(-2, 2)  # lines considered for each peak, about its place among them


@dataclass(frozen=True)
class Candidates:
    """Distinct solutions, best first: wavelength = coefficients . (1, u, u**2, u**3), u from -1 to 1."""

    coefficients: Floats  # (n, 4) Angstrom
    evidence: Floats  # (n,) log-likelihood against peaks placed at random
    matched: Bools  # (n, n_peak) peaks that a line explains
    line: Ints  # (n, n_peak) index of the likeliest line of each

    def __len__(self) -> int:
        return len(self.evidence)

    def __getitem__(self, keep: Ints) -> "Candidates":
        return Candidates(self.coefficients[keep], self.evidence[keep], self.matched[keep], self.line[keep])


def identify(peaks: Peaks, features: Features, search: SearchRange, *, n_refined: int = 300) -> Candidates:
    """Return the distinct solutions that explain the peaks, best first; without peaks or lines, none."""
    if len(peaks) < 2 or len(features) < 2:
        nothing = np.zeros((0, len(peaks)), dtype=int)
        return Candidates(np.zeros((0, 4)), np.zeros(0), nothing.astype(bool), nothing)
    u = (peaks.column - search.half) / search.half
    start = coarse_search(u, peaks, features, search, n_best=n_refined)
    refined = _refine(start, u, np.log(peaks.height / peaks.height.max()), features, search)
    return _distinct(refined, u, search)


@dataclass(frozen=True)
class _Match:
    """Peaks against the lines near them: (n_candidate, n_peak, n_neighbour) arrays where not said."""

    near: Ints  # index of the line
    share: Floats  # chance that this line is the peak
    sigma: Floats  # px, tolerance of the match
    gain: Floats  # (n_candidate, n_peak) log-likelihood of each peak against one at random
    missing: Floats  # (n_candidate, n_source) log-likelihood of the lines not seen


def _refine(start: Floats, u: Floats, light: Floats, features: Features, search: SearchRange) -> Candidates:
    coefficients = start
    brightness = np.zeros((len(start), len(features.sources)))
    for tolerance in TOLERANCES:
        match = _match(coefficients, brightness, u, light, features, search, tolerance)
        coefficients = _fitted(match, start, u, features, search)
        brightness = _brightness(match, brightness, light, features)
    match = _match(coefficients, brightness, u, light, features, search, TOLERANCES[-1])
    evidence = match.gain.sum(axis=1) + match.missing.sum(axis=1)
    line = np.take_along_axis(match.near, match.share.argmax(axis=2)[:, :, None], axis=2)[:, :, 0]
    found = Candidates(coefficients, evidence, match.share.sum(axis=2) > 0.5, line)
    return found[np.argsort(-evidence, kind="stable")]


def powers(u: Floats) -> Floats:
    """Return (1, u, u**2, u**3) along a new last axis."""
    return np.stack([np.ones_like(u), u, u**2, u**3], axis=-1)


def _match(
    coefficients: Floats,
    brightness: Floats,
    u: Floats,
    light: Floats,
    features: Features,
    search: SearchRange,
    tolerance: float,
) -> _Match:
    n, n_line = len(coefficients), len(features)
    wave = coefficients @ powers(u).T
    slope = (coefficients[:, 1:] @ np.stack([np.ones_like(u), 2 * u, 3 * u**2])) / search.half
    px = np.maximum(np.abs(slope), 0.3 * search.px)[:, :, None]
    place = np.searchsorted(features.wavelength, wave)[:, :, None] + NEIGHBOURS
    near = np.clip(place, 0, n_line - 1)
    offset = (features.wavelength[near] - wave[:, :, None]) / px
    sigma = np.hypot(tolerance, features.spread[near] / px)
    expected = features.brightness + brightness[:, features.source]
    ends = np.sort(coefficients @ powers(np.array([-1.0, 1.0])).T, axis=1)
    inside = (features.wavelength > ends[:, :1]) & (features.wavelength < ends[:, 1:])
    seen = np.where(inside, ndtr((expected - light.min()) / SCATTER), 0.0)
    rows = np.arange(n)[:, None, None]
    ratio = (seen / np.maximum(seen.sum(axis=1, keepdims=True), 1.0))[rows, near] * (place == near)
    ratio *= np.exp(-0.5 * (offset / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi)) * search.n_column
    ratio *= _light_ratio(light, expected[rows, near]) * (1 - UNEXPLAINED)
    total = UNEXPLAINED + ratio.sum(axis=2)
    share = ratio / total[:, :, None]
    gain = np.log(total)
    return _Match(near, share, sigma, gain, _missing(near, share, gain, seen, features))


def _light_ratio(light: Floats, expected: Floats) -> Floats:
    """Density of a peak's log-height given its line (Student, 3 degrees of freedom) over that of any peak's."""
    delta = (light[None, :, None] - expected) / SCATTER
    given = 0.3675 / SCATTER / (1 + delta**2 / 3) ** 2
    spread = max(float(np.std(light)), 1.0)
    anyhow = np.exp(-0.5 * ((light - light.mean()) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
    ratio: Floats = given / anyhow[None, :, None]
    return ratio


def _missing(near: Ints, share: Floats, gain: Floats, seen: Floats, features: Features) -> Floats:
    """Log-likelihood of the lines that were not seen, by source; never worse than that of an absent element."""
    rows = np.broadcast_to(np.arange(len(near))[:, None, None], near.shape)
    found = np.zeros_like(seen)
    np.maximum.at(found, (rows, near), share)
    unseen = np.log(1 - CERTAIN * seen * (1 - found))
    member = np.equal.outer(features.source, np.arange(len(features.sources))).astype(float)
    earned = np.zeros((len(near), len(features.sources)))
    np.add.at(earned, (rows, features.source[near]), share * np.maximum(gain, 0)[:, :, None])
    return np.maximum(unseen @ member, ABSENT - earned)


def _brightness(match: _Match, before: Floats, light: Floats, features: Features) -> Floats:
    """Log of the brightness of each source against the table; lower where its bright lines are not seen."""
    rows = np.broadcast_to(np.arange(len(before))[:, None, None], match.near.shape)
    source = features.source[match.near]
    excess, number = np.zeros((2, *before.shape))
    np.add.at(excess, (rows, source), match.share * (light[None, :, None] - features.brightness[match.near]))
    np.add.at(number, (rows, source), match.share)
    seen = excess / (number + (SCATTER / SCALE_PRIOR) ** 2)
    fainter = before - np.clip(-match.missing / -ABSENT, 0, 1.5)
    return np.where(number > 1, seen, np.minimum(seen, fainter))


def _fitted(match: _Match, start: Floats, u: Floats, features: Features, search: SearchRange) -> Floats:
    """Coefficients that bring the peaks onto their lines, held near the start where lines are few."""
    basis = powers(u)
    prior = (search.px * search.half * np.array([0.2, 0.1, 0.03, 0.005])) ** -2.0
    weight = match.share / (match.sigma * search.px) ** 2
    target = (weight * features.wavelength[match.near]).sum(axis=2)
    normal = np.einsum("ki,ip,iq->kpq", weight.sum(axis=2), basis, basis, optimize=True) + np.diag(prior)
    right = target @ basis + start * prior
    return np.linalg.solve(normal, right[:, :, None])[:, :, 0]


def _distinct(found: Candidates, u: Floats, search: SearchRange, n_most: int = 10) -> Candidates:
    """Keep the best of solutions that agree within 2 px on half of the peaks."""
    wave = found.coefficients @ powers(u).T
    keep: list[int] = []
    for k in range(len(wave)):
        if all(np.median(np.abs(wave[k] - wave[j])) > 2 * search.px for j in keep):
            keep.append(k)
        if len(keep) == n_most:
            break
    return found[np.array(keep, dtype=int)]
