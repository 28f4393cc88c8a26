"""Wavelengths of arcs: from extracted lamp spectra to a solution that can be trusted, or a reason why not.

`solve_arc` takes one spectrum, `solve_fibers` all fibers of all frames of one setting together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kspecdr.arrays import Bools, Floats, Strings
from kspecdr.errors import BadOption, NoSolution
from kspecdr.wavecal.align import align_fibers
from kspecdr.wavecal.arc_frames import ArcFrame, ArcSpectra, Stack, common_peaks, lit_fibers
from kspecdr.wavecal.arc_io import load_arc_lines
from kspecdr.wavecal.features import Features, lamp_features
from kspecdr.wavecal.lamp import ArcLines, joined
from kspecdr.wavecal.lines import MAD_TO_SIGMA, Peaks
from kspecdr.wavecal.measure import LineTable, line_widths, measure_lines
from kspecdr.wavecal.pattern import Candidates, identify
from kspecdr.wavecal.reference import LEAST_LINES, certain_columns, fitted, reference_solution
from kspecdr.wavecal.search import SearchRange
from kspecdr.wavecal.solution import Dispersion, Measurements, held_out, residuals, used_lines

__all__ = ["ArcFrame", "ArcSolution", "Guess", "LineTable", "joined", "solve_arc", "solve_fibers"]

LEAST_MARGIN = 5.0  # log-likelihood above that of the next different solution
LEAST_EVIDENCE = 16.0  # log-likelihood above that of peaks at random, the margin added
MOST_END_ERROR = 0.015  # of the columns: how uncertain the wavelengths at the ends may be
LEAST_EXPLAINED = 0.55  # share of the peaks, weighted by the logarithm of their heights, that lines explain
MOST_RMS = 0.12  # of the lines about the solution, in widths (FWHM) of a line
MOST_HELD_OUT = 0.3  # the same of lines left out of the fit
MOST_PEAKS = 40  # brightest ones, used to identify


@dataclass(frozen=True)
class Guess:
    """What the header says of the wavelengths, and how wrong that may be."""

    center: float  # Angstrom at the middle of the columns
    dispersion: float  # Angstrom / px; the sign is not used
    max_shift: float = 75.0  # px
    stretch: float = 0.12  # fraction of the dispersion
    shape: Floats | None = None  # (n_column,) wavelengths by the grating equation, in either direction


@dataclass(frozen=True)
class ArcSolution:
    """Wavelengths of all fibers, and what they rest on."""

    wave: Floats  # (n_fiber, n_column) Angstrom in air
    wave_error: Floats  # (n_fiber, n_column) Angstrom, larger beyond the last line
    shifts: Floats  # (n_fiber,) px of each fiber against their mean at the middle of the columns
    status: Strings  # (n_fiber,) "fitted", or "interpolated" for fibers without light
    lines: LineTable
    rms: float  # px, of the lines used
    held_out_rms: (
        float  # px, of lines left out of the fit in turn, by the median: the last line has no neighbour
    )
    n_line: int  # different lines used
    fwhm: float  # px, of the lines
    evidence: float  # log-likelihood of the identification against chance
    margin: float  # the same against the next different solution
    explained: float  # share of the peaks seen that lines explain
    dispersion: Dispersion


def solve_arc(
    flux: Floats, lamps: str | Sequence[str], center: float, dispersion: float
) -> tuple[Floats, LineTable]:
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
    """
    spectrum = np.asarray(flux, dtype=float)
    if spectrum.ndim != 1 or len(spectrum) < 64:
        raise BadOption(f"flux has shape {spectrum.shape}, expected (n_column,) of 64 columns or more")
    names = [lamps] if isinstance(lamps, str) else list(lamps)
    lamp = joined(load_arc_lines(name) for name in names)
    solution = solve_fibers([ArcFrame(spectrum[None], lamp)], Guess(center, dispersion))
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
    contrast = np.sum([frame.contrast() for frame in spectra], axis=0)
    lit = lit_fibers(contrast) & (True if usable is None else usable)
    if not lit.any():
        raise NoSolution(
            "no fiber shows emission lines; expected a lamp exposure: check that the lamp was on"
        )
    terms = align_fibers(contrast, lit)
    stacks = [Stack.of(frame, terms, lit) for frame in spectra]
    peaks, features, found = _identified(stacks, joined(frame.lamp for frame in frames), guess)
    reference, base = reference_solution(spectra, stacks, peaks, features, found, guess.shape)
    certain = certain_columns(reference, peaks.fwhm)
    model = replace(reference, fibers=terms)
    width: Floats | None = None
    for _ in range(2):
        table = measure_lines(spectra, stacks, model, lit, fwhm=peaks.fwhm, width=width, certain=certain)
        table, model = fitted(table, model, features, base)
        width = line_widths(table, model.n_column, len(lit))
    return _checked(table, model, base, lit, peaks, found)


def _identified(stacks: list[Stack], lamp: ArcLines, guess: Guess) -> tuple[Peaks, Features, Candidates]:
    peaks = common_peaks(stacks)
    if peaks is None:
        raise NoSolution(
            "no emission line is seen; expected a lamp exposure that is not saturated: check the lamp"
        )
    peaks = peaks.strongest(MOST_PEAKS)
    search = SearchRange(len(stacks[0].flux), guess.center, guess.dispersion, guess.max_shift, guess.stretch)
    features = lamp_features(lamp, limits=search.limits, fwhm=peaks.fwhm * search.px)
    found = identify(peaks, features, search)
    if len(peaks) < LEAST_LINES or len(found) == 0:
        raise NoSolution(
            f"{len(peaks)} emission lines are seen where the lamp has {len(features)}, expected {LEAST_LINES} or more "
            "of both; add a lamp or a longer exposure"
        )
    return peaks, replace(features, brightness=found.expected[0]), found


def _checked(
    table: LineTable, model: Dispersion, base: Floats, lit: Bools, peaks: Peaks, found: Candidates
) -> ArcSolution:
    data = table.measurements()
    agree = used_lines(data, model)
    table = _with_residuals(table, model, agree)
    weight = 0.5 + np.log(peaks.height / peaks.height.min())
    used = replace(
        data, **{k: getattr(data, k)[agree] for k in ("fiber", "line", "column", "error", "wavelength")}
    )
    solution = ArcSolution(
        wave=model.wavelengths(),
        wave_error=model.errors(),
        shifts=model.fibers[:, 0],
        status=np.where(lit, "fitted", "interpolated"),
        lines=table,
        rms=float(np.sqrt(np.mean(residuals(used, model) ** 2))) if agree.any() else np.inf,
        held_out_rms=_robust_rms(held_out(used, model, base=base)) if agree.any() else np.inf,
        n_line=len(np.unique(used.line)),
        fwhm=peaks.fwhm,
        evidence=float(found.evidence[0]),
        margin=float(found.evidence[0] - found.evidence[1]) if len(found) > 1 else np.inf,
        explained=float(weight[found.matched[0]].sum() / weight.sum()),
        dispersion=model,
    )
    reason = doubt(solution)
    if reason:
        raise NoSolution(reason)
    return solution


def _robust_rms(residual: Floats) -> float:
    return float(MAD_TO_SIGMA * np.median(np.abs(residual)))


def _with_residuals(table: LineTable, model: Dispersion, agree: Bools) -> LineTable:
    table = table.marked(~agree, "outlier")
    known = np.isfinite(table.column)
    everything = Measurements(
        table.fiber[known],
        np.zeros(known.sum(), dtype=int),
        table.column[known],
        table.column_error[known],
        table.wavelength[known],
        np.zeros(1),
    )
    residual = np.full(len(table), np.nan)
    residual[known] = residuals(everything, model)
    return replace(table, residual=residual)


def doubt(solution: ArcSolution) -> str:
    """Return why a solution must not be trusted, in a sentence; empty where nothing speaks against it."""
    if solution.explained < LEAST_EXPLAINED:
        return (
            f"the lamp's lines explain {solution.explained:.0%} of the light in lines, expected {LEAST_EXPLAINED:.0%}; "
            "check the lamp's name, the central wavelength and the dispersion"
        )
    if solution.margin < LEAST_MARGIN or solution.evidence + solution.margin < LEAST_EVIDENCE:
        return (
            f"the pattern of lines is not unique (log-likelihood {solution.evidence:.1f} above chance, "
            f"{solution.margin:.1f} above the next solution, expected {LEAST_MARGIN:g} or more of the second and "
            f"{LEAST_EVIDENCE:g} of both); add a lamp or a longer exposure"
        )
    if solution.evidence < 0:
        return (
            f"the lamp's lines explain the spectrum no better than chance (log-likelihood {solution.evidence:.1f}, "
            "expected above 0); check the lamp's name"
        )
    px = np.abs(np.gradient(solution.wave, axis=1))
    end_error = float(np.median((solution.wave_error / px)[:, [0, -1]].max(axis=1)))
    if end_error > MOST_END_ERROR * solution.wave.shape[1]:
        return (
            f"the lines cover columns {solution.lines.column[solution.lines.used].min():.0f} to "
            f"{solution.lines.column[solution.lines.used].max():.0f} only and leave the ends uncertain by {end_error:.0f} px; "
            "add a lamp"
        )
    if solution.n_line < LEAST_LINES:
        return (
            f"{solution.n_line} lines agree, expected {LEAST_LINES} or more; add a lamp or a longer exposure"
        )
    if not solution.rms < MOST_RMS * solution.fwhm:
        return (
            f"lines lie {solution.rms:.2f} px rms off the solution, expected less than {MOST_RMS * solution.fwhm:.2f}; "
            "check the lamp's name and the focus"
        )
    if not solution.held_out_rms < MOST_HELD_OUT * solution.fwhm:
        return (
            f"lines left out of the fit lie {solution.held_out_rms:.2f} px rms off it, expected less than "
            f"{MOST_HELD_OUT * solution.fwhm:.2f}; the lines are too few for the range, add a lamp"
        )
    return ""
