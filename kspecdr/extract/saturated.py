"""Arcs that are saturated: in part, where a shorter exposure of the lamp tells it, or beyond use."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kspecdr.arrays import Bools
from kspecdr.extract.linearity import compare
from kspecdr.products import MaskBit, Spectra, flagged

FULL = 0.5  # of the light in a lamp's lines, or of the samples: an exposure that lacks more is set aside


@dataclass(frozen=True)
class ArcLight:
    """What an exposure of a lamp shows."""

    name: str
    lamp: str
    spectra: Spectra


def without_saturated(exposures: Sequence[ArcLight]) -> tuple[dict[int, Spectra], dict[int, str]]:
    """Mark what is full in longer exposures of a lamp; set those aside that have lost most of its light.

    Returns the spectra of the others, and reasons, by index.
    """
    kept: dict[int, Spectra] = {}
    aside: dict[int, str] = {}
    for lamp in dict.fromkeys(each.lamp for each in exposures):
        own = [k for k, each in enumerate(exposures) if each.lamp == lamp]
        own.sort(key=lambda k: exposures[k].spectra.setup.exposure)
        name, short = exposures[own[0]].name, exposures[own[0]].spectra
        if (share := float(np.mean(_is_full(short)))) > FULL:
            aside |= dict.fromkeys(own, f"{100 * share:.0f} % of {name} is saturated; take a shorter exposure")
            continue
        kept[own[0]] = short
        for k in own[1:]:
            spectra = exposures[k].spectra
            full, lost = compare(short.flux, short.variance, spectra.flux, _is_full(spectra))
            if lost > FULL:
                aside[k] = f"{100 * lost:.0f} % of the lamp's light is saturated; {name} serves"
            else:
                kept[k] = _marked(spectra, full)
    return kept, aside


def _is_full(spectra: Spectra) -> Bools:
    return flagged(spectra.mask, MaskBit.SATURATED)


def _marked(spectra: Spectra, full: Bools) -> Spectra:
    return replace(spectra, mask=np.where(full, spectra.mask | np.uint8(MaskBit.SATURATED), spectra.mask))
