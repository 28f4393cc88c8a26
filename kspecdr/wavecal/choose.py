"""Which lines of a lamp to measure in a frame, with which neighbours, and how far blends may move them."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import erf

from kspecdr.arrays import Bools, Floats, Ints, Strings
from kspecdr.wavecal.arc_frames import Stack
from kspecdr.wavecal.dispersion import columns_of
from kspecdr.wavecal.lamp import LampLines
from kspecdr.wavecal.lines import FWHM_PER_SIGMA

UNRESOLVED = 0.45  # FWHM: closer lines cannot be told apart
MIX_ERROR = 1.0  # of ln(ratio) of two unresolved lines, as it moves their mean: a factor of three
MOST_BLEND = 0.15  # FWHM: lines that blends may move further are not used
MOST_NEIGHBOURS = 5
SIGNIFICANT = 8.0  # least significance of a line in the stack
SINGLE = 3.5  # the same in one fiber
EDGE = 2  # px: lines nearer to the end of the spectrum are not used
HEIGHT = 1.064  # of a Gaussian: area over height and FWHM
TWEAKS = 40  # iterations of the deconvolution
TOO_BRIGHT = 4.0  # ln: a line this much brighter against its table than its element's others is another line


@dataclass(frozen=True)
class Chosen:
    """Lines to measure: (n,) each, neighbours (n, MOST_NEIGHBOURS)."""

    main: Floats  # Angstrom, the brightest of those that cannot be told apart, as the table has it
    wavelength: Floats  # Angstrom, unresolved neighbours included by their brightness
    label: Strings  # element
    order: Ints  # 1 or 2
    blend: Floats  # px, how far these may move it
    neighbours: Floats  # Angstrom, resolved neighbours within the window, NaN for none
    significance: Floats  # of the line in the stack

    def __len__(self) -> int:
        return len(self.wavelength)

    @classmethod
    def joined(cls, parts: "list[Chosen]") -> "Chosen":
        """Return the lines of several frames as one list."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.__annotations__})


def choose_lines(
    stack: Stack,
    wave: Floats,
    lines: LampLines,
    certain: Bools,
    *,
    fwhm: float,
    half_width: int,
) -> Chosen:
    """Choose the lines that one frame shows.

    Parameters
    ----------
    stack
        Median spectrum of the fibers on the reference frame.
    wave
        (n_column,) wavelength of the columns, Angstrom.
    lines
        Of the frame's lamp.
    certain
        (n_column,) columns where `wave` can tell which line is which.
    fwhm, half_width
        Of a line, and half the window in which it is fitted, px.

    Notes
    -----
    The brightness of every line is first estimated by deconvolving the stack onto the wavelengths of the
    table (Richardson 1972, JOSA 62, 55), which keeps the table's ratios where lines cannot be told apart.
    """
    place = columns_of(lines.wavelength, wave)
    inside = np.flatnonzero((lines.wavelength > wave.min()) & (lines.wavelength < wave.max()))
    bright = np.zeros(len(place))
    bright[inside] = _brightness(stack.flux, stack.noise, place[inside], lines, inside, fwhm)
    nearest = np.rint(np.nan_to_num(place)).astype(int)
    height = bright / (HEIGHT * fwhm) * np.sqrt(fwhm)
    significance = height / stack.noise[nearest]
    leader = _leaders(place, bright, inside, UNRESOLVED * fwhm)
    total, mean = _blended(lines.wavelength, bright, leader, inside)
    blend = _blend_errors(place, bright, leader, inside)
    heads = inside[leader[inside] == inside]
    keep = (significance[heads] > SIGNIFICANT) & (height[heads] > SINGLE * stack.single[nearest[heads]])
    keep &= (blend[heads] < MOST_BLEND * fwhm) & certain[nearest[heads]]
    keep &= (place[heads] > EDGE) & (place[heads] < len(wave) - 1 - EDGE)
    main = heads[keep]
    main = main[_plausible(main, bright, significance, lines)]
    close = _neighbours(main, heads, place, total, reach=half_width + 0.8 * fwhm)
    neighbours = np.where(close >= 0, mean[close], np.nan)
    moved = _shared_error(main, close, place, total, blend, span=np.array([half_width, fwhm]))
    return Chosen(
        lines.wavelength[main],
        mean[main],
        lines.label[main],
        lines.order[main],
        moved,
        neighbours,
        significance[main],
    )


def _blended(wavelength: Floats, bright: Floats, leader: Ints, inside: Ints) -> tuple[Floats, Floats]:
    """Brightness and mean wavelength of what cannot be told from each line, (n_line,); 0 and NaN if led."""
    zero = np.zeros(len(bright))
    total = zero + np.bincount(leader[inside], bright[inside], minlength=len(bright))
    first = zero + np.bincount(leader[inside], (bright * wavelength)[inside], minlength=len(bright))
    return total, np.divide(first, total, out=np.full(len(bright), np.nan), where=total > 0)


def _plausible(main: Ints, bright: Floats, significance: Floats, lines: LampLines) -> Bools:
    """Return which lines are no brighter than their element allows, and second orders that only fill gaps.

    A peak that the table does not know is otherwise given to some faint line that happens to be near. Second
    orders may not carry the solution beyond the first-order lines, where nothing would contradict them.
    """
    first = lines.order[main] == 1
    excess = np.log(bright[main] / lines.intensity[main])
    keep = np.ones(len(main), dtype=bool)
    for label in np.unique(lines.label[main]):
        own = lines.label[main] == label
        trusted = own & first
        if trusted.any():
            brightest = trusted & (lines.intensity[main] >= np.median(lines.intensity[main[trusted]]))
            keep &= ~own | (excess < np.median(excess[brightest]) + TOO_BRIGHT)
    if (first & keep).any():
        low, high = lines.wavelength[main[first & keep]].min(), lines.wavelength[main[first & keep]].max()
        between = (lines.wavelength[main] > low) & (lines.wavelength[main] < high)
        keep &= first | (between & (significance[main] > 2 * SIGNIFICANT))
    return keep


def _brightness(stack: Floats, noise: Floats, place: Floats, lines: LampLines, inside: Ints, fwhm: float) -> Floats:
    """Deconvolve the stack onto lines at known places; return the (n_inside,) fluxes."""
    sigma = fwhm / FWHM_PER_SIGMA
    response = _response(place, sigma, len(stack))
    light = np.maximum(stack, 0) + noise
    pedestal = noise
    start = np.maximum(lines.intensity[inside], 1e-6)
    for label in np.unique(lines.label[inside]):  # each element to the brightest light on its lines
        own = lines.label[inside] == label
        ratio = light[np.rint(place[own]).astype(int)] / start[own]
        start[own] *= np.quantile(ratio, 0.2) * fwhm
    flux = start
    backwards = csr_array(response.T)
    norm = np.maximum(response.sum(axis=0), 1e-6)
    for _ in range(TWEAKS):
        flux = flux * (backwards @ (light / (response @ flux + pedestal))) / norm
    return flux


def _response(place: Floats, sigma: float, n_column: int) -> csr_array:
    """Sparse (n_column, n_line) matrix of pixel-integrated Gaussians of unit area."""
    reach = int(np.ceil(4 * sigma)) + 1
    rows = np.rint(place).astype(int)[:, None] + np.arange(-reach, reach + 1)
    z = (rows - place[:, None]) / (sigma * np.sqrt(2))
    half = 0.5 / (sigma * np.sqrt(2))
    value = 0.5 * (erf(z + half) - erf(z - half))
    column = np.broadcast_to(np.arange(len(place))[:, None], rows.shape)
    valid = (rows >= 0) & (rows < n_column)
    return csr_array((value[valid], (rows[valid], column[valid])), shape=(n_column, len(place)))


def _leaders(place: Floats, bright: Floats, inside: Ints, reach: float) -> Ints:
    """Give each line to the brightest one that it cannot be told from, brightest first; -1 outside."""
    leader = np.full(len(place), -1)
    for k in inside[np.argsort(-bright[inside], kind="stable")]:
        if leader[k] < 0:
            near = inside[(np.abs(place[inside] - place[k]) < reach) & (leader[inside] < 0)]
            leader[near] = k
    return leader


def _blend_errors(place: Floats, bright: Floats, leader: Ints, inside: Ints) -> Floats:
    """How far the unknown ratio within an unresolved blend may move its mean, px."""
    head = leader[inside]
    ratio = bright[inside] / np.maximum(bright[head], 1e-30)
    move = MIX_ERROR * np.abs(place[inside] - place[head]) * ratio / (1 + ratio) ** 2
    return np.sqrt(np.bincount(head, move**2, minlength=len(place)))


def _neighbours(main: Ints, heads: Ints, place: Floats, total: Floats, *, reach: float) -> Ints:
    """Return the brightest neighbours that reach into each window, (n_main, MOST_NEIGHBOURS), -1 for none."""
    distance = np.abs(place[heads][None, :] - place[main][:, None])
    near: Bools = (distance < reach) & (heads[None, :] != main[:, None]) & (total[heads] > 2e-3 * total[main][:, None])
    strength = np.where(near, total[heads], 0.0)
    order = np.argsort(-strength, axis=1, kind="stable")[:, :MOST_NEIGHBOURS]
    found = np.where(np.take_along_axis(strength, order, axis=1) > 0, heads[order], -1)
    return np.pad(found, ((0, 0), (0, MOST_NEIGHBOURS - found.shape[1])), constant_values=-1)


def _shared_error(main: Ints, close: Ints, place: Floats, total: Floats, blend: Floats, *, span: Floats) -> Floats:
    """Return how far blends may move each pattern of a line and its neighbours, which shift as one, px.

    Each part pulls with the square of its light within the window; span : where that ends and how softly, px
    """
    parts = np.concatenate([main[:, None], close], axis=1)
    distance = np.abs(place[parts] - place[main][:, None])
    within = np.clip((span[0] + 0.5 * span[1] - distance) / span[1], 0.0, 1.0)
    pull = np.where(parts >= 0, (total[parts] * within) ** 2, 0.0)
    pull = pull / pull.sum(axis=1, keepdims=True)
    shared: Floats = np.sqrt(np.sum((pull * blend[parts]) ** 2, axis=1))
    return shared
