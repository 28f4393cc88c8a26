"""Whether exposures show the lamps that they are named after, told by wavelengths that are known."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kspecdr.arrays import Floats
from kspecdr.wavecal.arc_frames import ArcFrame, ArcSpectra, Stack
from kspecdr.wavecal.arc_solution import ArcSolution
from kspecdr.wavecal.dispersion import columns_of
from kspecdr.wavecal.identification import LEAST_MARGIN
from kspecdr.wavecal.lamp import ArcLines, LampLines
from kspecdr.wavecal.lines import find_lines

FIBERS = 5  # the brightest, whose median shows the lamp's lines well enough
NEAR = 0.4  # FWHM: a peak so near to a line of a table can be that line
UNEXPLAINED = 0.1  # of the peaks, that the table of a lamp does not have


@dataclass(frozen=True)
class Shown:
    """How well a lamp explains the peaks of an exposure."""

    n_peak: int
    n_met: int  # peaks with a line of the lamp
    likelihood: float  # logarithm, against peaks placed at random

    def __str__(self) -> str:
        return f"{self.n_met} of {self.n_peak} lines"


def mistaken(frame: ArcFrame, solution: ArcSolution, name: str, known: Mapping[str, ArcLines]) -> str:
    """Return what an exposure shows instead of its lamp, in a few words; empty where its name may be right.

    Parameters
    ----------
    frame
        Exposure with the lines of the lamp that it is named after.
    solution
        Wavelengths of the fibers, from other exposures or from all.
    name
        Of that lamp.
    known
        Lines of other lamps, by name.

    Notes
    -----
    A peak lies on a line of the right lamp but for one in ten, and on a line of any other no more often than
    anywhere: on the share of the columns that its lines cover. A lamp whose lines explain the peaks no better
    than chance is not the one, if another is likelier by far.
    """
    place, fwhm = peak_places(frame, solution)
    if not len(place):
        return "it shows no emission line; check that the lamp was on"
    wave = solution.dispersion.of_fibers(np.zeros((1, 1))).wavelengths()[0]
    own = shown(place, wave, frame.lamp, fwhm)
    if own.likelihood > 0:
        return ""
    others = {lamp: shown(place, wave, lines, fwhm) for lamp, lines in known.items()}
    best = max(others, key=lambda lamp: others[lamp].likelihood, default="")
    if not best or others[best].likelihood < max(own.likelihood, 0.0) + LEAST_MARGIN:
        return ""
    return f"it shows {best} ({others[best]} in place), not {name} ({own}); correct its LAMPNAME"


def peak_places(frame: ArcFrame, solution: ArcSolution) -> tuple[Floats, float]:
    """Return the columns of an exposure's peaks on the reference frame of the solution, and the lines' FWHM, px."""
    light = np.quantile(np.nan_to_num(frame.flux), 0.995, axis=1)
    lit = np.flatnonzero(solution.status == "fitted")
    bright = np.sort(lit[np.argsort(-light[lit], kind="stable")[:FIBERS]])
    variance = None if frame.variance is None else frame.variance[bright]
    mask = None if frame.mask is None else frame.mask[bright]
    spectra = ArcSpectra.of(ArcFrame(frame.flux[bright], frame.lamp, variance, mask))
    terms = solution.dispersion.fibers[bright, :3]
    stack = Stack.of(spectra, terms, np.ones(len(bright), dtype=bool))
    return find_lines(stack.flux, stack.noise, stack.saturated).column, solution.fwhm


def shown(place: Floats, wave: Floats, lamp: ArcLines, fwhm: float) -> Shown:
    """Return how well the lines of a lamp explain peaks at `place` (n,) px of columns with `wave` (n_column,)."""
    columns = np.arange(len(wave))
    lines = columns_of(LampLines.of(lamp).wavelength, wave)
    lines = np.append(lines[np.isfinite(lines)], -1e6)
    covered = float(np.mean(np.abs(columns[:, None] - lines).min(axis=1) < NEAR * fwhm))
    met = int(np.count_nonzero(np.abs(place[:, None] - lines).min(axis=1) < NEAR * fwhm))
    gain = np.log(UNEXPLAINED + (1 - UNEXPLAINED) / max(covered, 1 / len(wave)))
    return Shown(len(place), met, met * float(gain) + (len(place) - met) * float(np.log(UNEXPLAINED)))
