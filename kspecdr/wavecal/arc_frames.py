"""Lamp exposures made ready for measuring: light above the continuum, its noise, and stacks of all fibers."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import maximum_filter1d

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.products import MaskBit, flagged
from kspecdr.wavecal.align import resampled
from kspecdr.wavecal.lamp import ArcLines, LampLines
from kspecdr.wavecal.lines import Peaks, background_noise, bridged, continuum, find_lines

PROFILE_ERROR = 0.01  # of the brightest light within REACH: how far lines and their wings are from Gaussian
UNKNOWN_ERROR = 0.02  # the same where no variance is given
REACH = 15  # px
MOST_FULL = 3.0  # FWHM that are saturated of a line


@dataclass(frozen=True)
class ArcFrame:
    """Extracted spectra of one exposure of a lamp."""

    flux: Floats  # (n_fiber, n_column)
    lamp: ArcLines
    variance: Floats | None = None  # (n_fiber, n_column); None: judged from the flux
    mask: Ints | None = None  # (n_fiber, n_column) bits of MaskBit
    name: str = ""


@dataclass(frozen=True)
class ArcSpectra:
    """The same, ready to be measured; (n_fiber, n_column) each."""

    flux: Floats  # above the continuum, bad samples bridged
    noise: Floats  # standard deviation of a sample, `profile` included
    profile: Floats  # how far the light may be from that of Gaussian lines, the same for all fibers
    bad: Bools
    saturated: Bools
    lines: LampLines

    @classmethod
    def of(cls, frame: ArcFrame) -> "ArcSpectra":
        """Subtract the continuum and estimate what the frame does not say."""
        flux = np.asarray(frame.flux, dtype=float)
        mask = np.zeros(flux.shape, dtype=np.uint8) if frame.mask is None else frame.mask
        bad = ~np.isfinite(flux) | (mask != 0)
        saturated = flagged(mask, MaskBit.SATURATED)
        if frame.variance is not None:
            bad |= ~(np.isfinite(frame.variance) & (frame.variance > 0))
        filled = bridged(flux, bad)
        filled = filled - continuum(filled)
        background = background_noise(filled)[:, None]
        nearby = maximum_filter1d(np.maximum(filled, 0), REACH, axis=1)
        if frame.variance is None:
            saturated = saturated | _plateaus(filled)
            profile, white = UNKNOWN_ERROR * nearby, np.broadcast_to(background, filled.shape)
        else:
            profile, white = PROFILE_ERROR * nearby, np.sqrt(np.where(bad, background**2, frame.variance))
        return cls(filled, np.hypot(white, profile), profile, bad, saturated, LampLines.of(frame.lamp))

    @property
    def weight(self) -> Floats:
        """Inverse variance, 0 where a sample cannot be used."""
        return np.where(self.bad | self.saturated, 0.0, self.noise**-2.0)

    def contrast(self) -> Floats:
        """Line signal in units of five times the noise, compressed so that no line dominates."""
        return np.arcsinh(np.maximum(self.flux, 0) / (5 * self.noise))


@dataclass(frozen=True)
class Stack:
    """Median spectrum of the fibers on the reference frame; (n_column,) each."""

    flux: Floats
    noise: Floats  # of the stack
    single: Floats  # noise of one typical fiber
    saturated: Bools  # in a fifth of the fibers or more

    @classmethod
    def of(cls, spectra: ArcSpectra, terms: Floats, lit: Bools) -> "Stack":
        """Stack the lit fibers, each scaled to the brightness of the median one."""
        scale = np.quantile(spectra.flux[lit], 0.995, axis=1, keepdims=True)
        scale = np.where(scale > 0, scale / max(float(np.median(scale)), 1e-30), 1.0)
        straight = resampled(spectra.flux[lit] / scale, terms[lit])
        single = np.median(resampled(spectra.noise[lit] / scale, terms[lit]), axis=0)
        profile = np.median(resampled(spectra.profile[lit] / scale, terms[lit]), axis=0)
        full = resampled(spectra.saturated[lit].astype(float), terms[lit]).mean(axis=0) > 0.2
        positive = single[single > 0]
        single = np.maximum(single, float(positive.min()) if len(positive) else 1.0)
        # the median of n Gaussians scatters by the square root of pi / 2n
        share = np.sqrt(0.5 * np.pi / lit.sum()) if lit.sum() > 2 else 1.0
        noise = np.maximum(np.hypot(share * np.sqrt(np.maximum(single**2 - profile**2, 0)), profile), share * single)
        return cls(np.median(straight, axis=0), noise, single, full)


def lit_fibers(contrast: Floats) -> Bools:
    """Return which fibers (n_fiber, n_column) show lines: a fifth of the median fiber's, and above the noise."""
    signal = np.quantile(contrast, 0.995, axis=1)
    return signal > max(0.2 * float(np.median(signal)), 0.9)


def common_peaks(stacks: Iterable[Stack]) -> Peaks | None:
    """Return the peaks of all frames as of one lamp, each once; None where no frame shows any.

    A line that is full in every frame counts as a peak at the middle of what is full: it is the brightest there.
    """
    stacks = list(stacks)
    parts = [find_lines(stack.flux, stack.noise, stack.saturated) for stack in stacks]
    fwhm = float(np.median([part.fwhm for part in parts if len(part)] or [np.nan]))
    if np.isnan(fwhm):
        return None
    whole, *others = [part for part in parts if len(part)]
    for part in others:
        whole = _merged(whole, part)
    for stack in stacks:
        whole = _merged(whole, _full_lines(stack, fwhm), apart=fwhm)
    return replace(whole, fwhm=fwhm)


def _full_lines(stack: Stack, fwhm: float) -> Peaks:
    """Return the lines that are saturated, each at the middle of its saturated samples, as bright as these are."""
    edge = np.diff(np.pad(stack.saturated, 1).astype(int))
    first, last = np.flatnonzero(edge == 1), np.flatnonzero(edge == -1) - 1
    line = (last - first < MOST_FULL * fwhm) & (first > 0) & (last < len(stack.flux) - 1)
    first, last = first[line], last[line]
    height = np.array([stack.flux[a - 1 : b + 2].max() for a, b in zip(first, last, strict=True)])
    return Peaks(0.5 * (first + last), height, stack.noise[first], fwhm)


def _merged(first: Peaks, other: Peaks, apart: float = 1.0) -> Peaks:
    """Add the peaks of another frame that are `apart` px from all, on the scale of the peaks that both have."""
    if not len(other):
        return first
    gap = np.abs(first.column[:, None] - other.column[None, :])
    i, j = np.nonzero(gap < 1.0)
    ratio = np.median(first.height[i] / other.height[j]) if len(i) > 1 else first.height.max() / other.height.max()
    new = gap.min(axis=0) >= apart
    column = np.append(first.column, other.column[new])
    height = np.append(first.height, ratio * other.height[new])
    noise = np.append(first.noise, ratio * other.noise[new])
    order = np.argsort(column, kind="stable")
    return Peaks(column[order], height[order], noise[order], first.fwhm)


def _plateaus(flux: Floats) -> Bools:
    """Return the samples of flat tops, as saturation leaves them: three neighbours equal to a thousandth."""
    flat = np.abs(np.diff(flux, axis=1)) < 1e-3 * np.abs(flux[:, 1:])
    triple = flat[:, 1:] & flat[:, :-1]
    top = np.zeros(flux.shape, dtype=bool)
    for k in range(3):
        top[:, k : k + triple.shape[1]] |= triple
    saturated: Bools = top & (flux > 0.5 * flux.max(axis=1, keepdims=True))
    return saturated
