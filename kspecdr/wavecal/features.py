"""What a lamp should look like at a given resolution: its lines, blended, in both orders."""

from dataclasses import dataclass

import numpy as np

from kspecdr.arrays import Floats, Ints
from kspecdr.wavecal.lamp import SECOND_ORDER, ArcLines, LampLines

SECOND = "/2"  # after the name of an element: its lines in second order
BLEND = 0.8  # lines closer than this many FWHM are seen as one


@dataclass(frozen=True)
class Features:
    """The peaks that a lamp can show, by wavelength."""

    wavelength: Floats  # (n,) Angstrom in air where the peak appears
    spread: Floats  # (n,) uncertainty of it by unknown intensities within a blend, Angstrom
    brightness: Floats  # (n,) natural logarithm of the intensity, the brightest of each source being 0
    source: Ints  # (n,) index into `sources`
    sources: tuple[str, ...]  # element and order, e.g. Hg or Hg/2; each has a scale of its own
    parent: Ints  # (n_source,) the source that the scale of each is tied to: the first order's; else itself

    def __len__(self) -> int:
        return len(self.wavelength)


def lamp_features(lamp: ArcLines, *, limits: tuple[float, float], fwhm: float) -> Features:
    """Return the peaks that a lamp can show between two wavelengths.

    Parameters
    ----------
    lamp
        Its lines.
    limits
        Shortest and longest wavelength, Angstrom.
    fwhm
        Resolution, Angstrom; lines closer than 0.8 of it appear as one, at their weighted mean.

    Notes
    -----
    Intensities of different elements are not comparable before a lamp has been seen, so each element is put
    to its brightest line within the limits. Its second order follows it, and is never thought brighter than
    SECOND_ORDER, since most instruments block it.
    """
    lines = LampLines.of(lamp)
    inside = (lines.wavelength > limits[0]) & (lines.wavelength < limits[1])
    label, order = lines.label[inside], lines.order[inside]
    sources, source = np.unique(np.where(order == 1, label, np.char.add(label, SECOND)), return_inverse=True)
    names = [str(name) for name in sources]
    parent = np.array([_place(names, name.removesuffix(SECOND), k) for k, name in enumerate(names)], dtype=int)
    brightness, level = np.log(np.maximum(lines.intensity[inside], 1e-6)), np.zeros(len(names))
    for k in np.argsort(parent != np.arange(len(parent)), kind="stable"):  # first orders first
        own = source == k
        second = names[k].endswith(SECOND)
        brightest = brightness[own].max()
        tied = brightest - level[parent[k]] if second and parent[k] != k else np.inf
        level[k] = brightest - min(tied, np.log(SECOND_ORDER) if second else 0.0)
        brightness[own] -= level[k]
    return _blended(lines.wavelength[inside], brightness, source, BLEND * fwhm, names, parent)


def _place(names: list[str], name: str, otherwise: int) -> int:
    return names.index(name) if name in names else otherwise


def _blended(w: Floats, brightness: Floats, source: Ints, reach: float, names: list[str], parent: Ints) -> Features:
    """Give each line to the brightest one of its source within `reach`, brightest first."""
    leader = np.full(len(w), -1)
    for k in np.argsort(-brightness, kind="stable"):
        if leader[k] < 0:
            near = (np.abs(w - w[k]) < reach) & (leader < 0) & (source == source[k])
            leader[near] = k
    heads = np.unique(leader)
    share = np.exp(brightness)
    total, first, second = (np.bincount(leader, share * w**p, minlength=len(w))[heads] for p in range(3))
    mean = first / total
    spread = np.sqrt(np.maximum(second / total - mean**2, 0.0))
    order = np.argsort(mean, kind="stable")
    return Features(mean[order], spread[order], np.log(total)[order], source[heads][order], tuple(names), parent)
