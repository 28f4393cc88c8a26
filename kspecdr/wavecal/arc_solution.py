"""The wavelength solution of an arc as a whole: what it rests on, and whether it can be trusted."""

from dataclasses import dataclass, replace

import numpy as np

from kspecdr.arrays import Bools, Floats, Strings
from kspecdr.wavecal.dispersion import Dispersion
from kspecdr.wavecal.lines import MAD_TO_SIGMA, Peaks
from kspecdr.wavecal.measure import LineTable
from kspecdr.wavecal.pattern import Candidates
from kspecdr.wavecal.reference import LEAST_LINES
from kspecdr.wavecal.solution import Measurements, held_out, residuals, used_lines

LEAST_MARGIN = 6.0  # log-likelihood above that of the next different solution
LEAST_EVIDENCE = 20.0  # log-likelihood above that of peaks at random, the margin added
CLEAR_MARGIN = 18.0  # with it the pattern is unique however poor: names of lamps that are off, or tables, cost evidence
WORST_EVIDENCE = -30.0  # of such a pattern
ALL_EXPLAINED = 0.9  # share of the peaks, if so many, that no wrong lamp explains: then missing lines say little
MANY_LINES = 15
MOST_END_ERROR = 0.015  # of the columns: how uncertain the wavelengths at the ends may be
LEAST_EXPLAINED = 0.6  # share of the peaks, weighted by the logarithm of their heights, that lines explain
MOST_RMS = 0.12  # of the lines about the solution, in widths (FWHM) of a line
MOST_HELD_OUT = 0.3  # the same of lines left out of the fit
FLOOR = 0.01  # px, added to the errors where residuals are weighted: no line is known better


@dataclass(frozen=True)
class ArcSolution:
    """Wavelengths of all fibers, and what they rest on."""

    wave: Floats  # (n_fiber, n_column) Angstrom in air
    wave_error: Floats  # (n_fiber, n_column) Angstrom, larger beyond the last line
    shifts: Floats  # (n_fiber,) px of each fiber against their mean at the middle of the columns
    status: Strings  # (n_fiber,) "fitted", or "interpolated" for fibers without light
    lines: LineTable
    rms: float  # px, of the lines used, weighted by their errors
    held_out_rms: float  # px, of lines left out of the fit in turn, by the median: the last line has no neighbour
    n_line: int  # different lines used
    fwhm: float  # px, of the lines
    evidence: float  # log-likelihood of the identification against chance
    margin: float  # the same against the next different solution
    explained: float  # share of the peaks seen that lines explain
    dispersion: Dispersion


def summarized(
    table: LineTable, model: Dispersion, base: Floats, lit: Bools, peaks: Peaks, found: Candidates
) -> ArcSolution:
    """Return the solution with its wavelengths, residuals and figures.

    Parameters
    ----------
    table
        All lines measured; those in use made the model.
    model, base
        The joint fit and the terms that its higher ones were drawn to.
    lit
        (n_fiber,) fibers that were measured.
    peaks, found
        What the identification rests on.
    """
    data = table.measurements()
    agree = used_lines(data, model)
    used = replace(data, **{k: getattr(data, k)[agree] for k in ("fiber", "line", "column", "error", "wavelength")})
    return ArcSolution(
        wave=model.wavelengths(),
        wave_error=model.errors(),
        shifts=model.fibers[:, 0],
        status=np.where(lit, "fitted", "interpolated"),
        lines=_with_residuals(table, model, agree),
        rms=_weighted_rms(residuals(used, model), used.error),
        held_out_rms=_robust_rms(held_out(used, model, base=base)) if agree.any() else np.inf,
        n_line=len(np.unique(used.line)),
        fwhm=peaks.fwhm,
        evidence=float(found.evidence[0]),
        margin=margin_of(found),
        explained=explained_share(peaks, found),
        dispersion=model,
    )


def explained_share(peaks: Peaks, found: Candidates) -> float:
    """Return the share of the peaks that lines explain, weighted by the logarithm of their heights."""
    weight = 0.5 + np.log(peaks.height / peaks.height.min())
    return float(weight[found.matched[0]].sum() / weight.sum())


def margin_of(found: Candidates) -> float:
    """Return how much likelier the best pattern is than the next different one."""
    return float(found.evidence[0] - found.evidence[1]) if len(found) > 1 else np.inf


def pattern_doubt(peaks: Peaks, found: Candidates) -> str:
    """Return why an identification must not be trusted, in a sentence; empty where nothing speaks against it."""
    explained, evidence, margin = explained_share(peaks, found), float(found.evidence[0]), margin_of(found)
    n_matched = int(found.matched[0].sum())
    reasons = {
        f"the lamp's lines explain {explained:.0%} of the light in lines, expected {LEAST_EXPLAINED:.0%}; "
        "check the lamp's name, the central wavelength and the dispersion": explained < LEAST_EXPLAINED,
        f"{n_matched} of {len(peaks)} emission lines fit the lamp, expected {LEAST_LINES} or more; "
        "add a lamp or a longer exposure": n_matched < LEAST_LINES,
        f"the lamp's lines explain the spectrum no better than chance (log-likelihood {evidence:.1f}, "
        f"expected above {WORST_EVIDENCE:g}); check the lamp's name": evidence < WORST_EVIDENCE,
        f"the pattern of lines is not unique (log-likelihood {evidence:.1f} above chance, {margin:.1f} above the next "
        f"solution, expected {LEAST_MARGIN:g} or more of the second and {LEAST_EVIDENCE:g} of both); "
        "check the lamp's name, or add a lamp or a longer exposure": margin < LEAST_MARGIN
        or (
            evidence + margin < LEAST_EVIDENCE
            and margin < CLEAR_MARGIN
            and (explained < ALL_EXPLAINED or n_matched < MANY_LINES)
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def fit_doubt(solution: ArcSolution) -> str:
    """Return why a solution must not be trusted, in a sentence; empty where nothing speaks against it."""
    n_column = solution.wave.shape[1]
    reach = solution.lines.column[solution.lines.used]
    end_error = _end_error(solution)
    reasons = {
        f"{solution.n_line} lines agree, expected {LEAST_LINES} or more; "
        "add a lamp or a longer exposure": solution.n_line < LEAST_LINES,
        f"the lines cover columns {np.min(reach, initial=n_column):.0f} to {np.max(reach, initial=0):.0f} only and "
        f"leave the ends uncertain by {end_error:.0f} px; add a lamp": not end_error < MOST_END_ERROR * n_column,
        f"lines lie {solution.rms:.2f} px rms off the solution, expected less than {MOST_RMS * solution.fwhm:.2f}; "
        "check the lamp's name and the focus": not solution.rms < MOST_RMS * solution.fwhm,
        f"lines left out of the fit lie {solution.held_out_rms:.2f} px rms off it, expected less than "
        f"{MOST_HELD_OUT * solution.fwhm:.2f}; the lines are too few for the range, "
        "add a lamp": not solution.held_out_rms < MOST_HELD_OUT * solution.fwhm,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _end_error(solution: ArcSolution) -> float:
    """Return the error of the wavelengths at the worse end, px, of the median fiber."""
    px = np.abs(np.gradient(solution.wave, axis=1))
    return float(np.median((solution.wave_error / px)[:, [0, -1]].max(axis=1)))


def _weighted_rms(residual: Floats, error: Floats) -> float:
    if len(residual) == 0:
        return np.inf
    return float(np.sqrt(np.average(residual**2, weights=1 / (error**2 + FLOOR**2))))


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
