"""Wavelengths of arcs: from extracted lamp spectra to a solution that can be trusted, or a reason why not.

`solve_arc` takes one spectrum, `solve_fibers` all fibers of all frames of one setting together. Lines are named in
kspecdr.wavecal.pattern (fibers in kspecdr.tlm.match_fibers).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kspecdr.arrays import Bools, Floats
from kspecdr.errors import BadOption, NoSolution, PoorSolution
from kspecdr.wavecal.align import align_fibers
from kspecdr.wavecal.arc_frames import ArcFrame, ArcSpectra, Stack, common_peaks, lit_fibers
from kspecdr.wavecal.arc_io import load_arc_lines
from kspecdr.wavecal.arc_solution import ArcSolution, fit_doubt, fit_warnings, summarized
from kspecdr.wavecal.features import lamp_features
from kspecdr.wavecal.identification import LEAST_LINES, Identification
from kspecdr.wavecal.lamp import ArcLines, joined
from kspecdr.wavecal.measure import LineTable, line_widths, measure_lines
from kspecdr.wavecal.pattern import identify
from kspecdr.wavecal.reference import certain_columns, fitted, reference_solution
from kspecdr.wavecal.search import SearchRange

MOST_PEAKS = 40  # brightest ones, used to identify


@dataclass(frozen=True)
class Guess:
    """What the header says of the wavelengths, and how wrong that may be."""

    center: float  # Angstrom at the middle of the columns
    dispersion: float  # Angstrom / px; the sign is not used
    max_shift: float = 75.0  # px
    stretch: float = 0.12  # fraction of the dispersion
    shape: Floats | None = None  # (n_column,) wavelengths by the grating equation, in either direction


def solve_arc(flux: Floats, lamps: str | Sequence[str], center: float, dispersion: float) -> tuple[Floats, LineTable]:
    """Solve the wavelengths of one lamp spectrum.

    Parameters
    ----------
    flux
        (n_column,) lamp spectrum, NaN where bad.
    lamps
        Name of the lamp, e.g. HgAr, or names of several.
    center, dispersion
        The header's guess: Angstrom at the middle, up to 60 px off, and Angstrom per px, up to 10 % off;
        the direction is not known, the sign of `dispersion` is not used.

    Returns
    -------
    wavelengths, lines
        (n_column,) Angstrom in air; the lines used.

    Raises
    ------
    NoSolution
        The lines do not determine wavelengths beyond doubt; the message says why.

    Warns
    -----
    PoorSolution
        The lines determine wavelengths, but lie farther off them than lines of a good solution do.
    """
    spectrum = np.asarray(flux, dtype=float)
    if spectrum.ndim != 1 or len(spectrum) < 64:
        raise BadOption(f"flux has shape {spectrum.shape}, expected (n_column,) of 64 columns or more")
    names = [lamps] if isinstance(lamps, str) else list(lamps)
    lamp = joined(load_arc_lines(name) for name in names)
    solution = solve_fibers([ArcFrame(spectrum[None], lamp)], Guess(center, dispersion))
    for reason in fit_warnings(solution):
        warnings.warn(reason, PoorSolution, stacklevel=2)
    return solution.wave[0], solution.lines[solution.lines.used]


def solve_fibers(frames: Sequence[ArcFrame], guess: Guess, usable: Bools | None = None) -> ArcSolution:
    """Solve the wavelengths of all fibers from all frames of one setting together.

    Parameters
    ----------
    frames
        Exposures of lamps, of one shape; lines are measured in each, saturated ones left to the others.
    guess
        The header's guess.
    usable
        (n_fiber,) fibers with light; the others get the smooth interpolation of their neighbours.

    Raises
    ------
    NoSolution
        The lines do not determine wavelengths beyond doubt; the message says why.
    """
    spectra = [ArcSpectra.of(frame) for frame in frames]
    contrast = np.array([frame.contrast() for frame in spectra])
    lit = lit_fibers(contrast.max(axis=0)) & (True if usable is None else usable)
    if not lit.any():
        raise NoSolution("no fiber shows emission lines; expected a lamp exposure: check that the lamp was on")
    terms = align_fibers(contrast.mean(axis=0), lit)
    stacks = [Stack.of(frame, terms, lit) for frame in spectra]
    identified = _identified(stacks, joined(frame.lamp for frame in frames), guess)
    reference, base = reference_solution(spectra, stacks, identified, guess.shape)
    fwhm = identified.peaks.fwhm
    certain = certain_columns(reference, fwhm)
    model = reference.of_fibers(terms)
    width: Floats | None = None
    for _ in range(2):
        table = measure_lines(spectra, stacks, model, lit, fwhm=fwhm, width=width, certain=certain)
        table, model = fitted(table, model, identified.features, base)
        width = line_widths(table, model.n_column, len(lit))
    solution = summarized(table, model, base, lit, identified)
    if reason := fit_doubt(solution):
        raise NoSolution(reason)
    return solution


def _identified(stacks: list[Stack], lamp: ArcLines, guess: Guess) -> Identification:
    peaks = common_peaks(stacks)
    if peaks is None:
        raise NoSolution("no emission line is seen; expected a lamp exposure that is not saturated: check the lamp")
    peaks = peaks.strongest(MOST_PEAKS)
    search = SearchRange(len(stacks[0].flux), guess.center, guess.dispersion, guess.max_shift, guess.stretch)
    features = lamp_features(lamp, limits=search.limits, fwhm=peaks.fwhm * search.px)
    found = identify(peaks, features, search)
    if len(peaks) < LEAST_LINES or len(found) == 0:
        raise NoSolution(
            f"{len(peaks)} emission lines are seen where the lamp has {len(features)}, expected {LEAST_LINES} or more "
            "of both; add a lamp or a longer exposure"
        )
    identified = Identification(peaks, replace(features, brightness=found.expected[0]), found)
    if identified.doubt:
        raise NoSolution(identified.doubt)
    return identified
