"""The wavelength solution of an arc as a whole: what it rests on, and whether it can be trusted."""

from dataclasses import dataclass, replace

import numpy as np

from kspecdr.arrays import Bools, Floats, Strings
from kspecdr.robust import robust_sigma
from kspecdr.wavecal.dispersion import Dispersion
from kspecdr.wavecal.identification import LEAST_LINES, Identification
from kspecdr.wavecal.measure import LineTable
from kspecdr.wavecal.solution import Measurements, held_out, residuals, used_lines

MOST_END_ERROR = 0.015  # of the columns: how uncertain the wavelengths at the ends may be
MOST_RMS = 0.1  # of the lines about the solution, in widths (FWHM) of a line
MOST_HELD_OUT = 0.2  # the same of lines left out of the fit
GOOD_RMS = 0.033  # of the lines about a good solution, in FWHM
GOOD_HELD_OUT = 0.04  # the same of lines left out, unless the fit said that it would miss them:
EXPECTED = 2.0  # times that error are good
GOOD_PEAKS = 0.5  # FWHM: peaks farther from their place, of those that the pattern explains, are lost
MOST_LOST = 0.2  # share of them
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
    held_out_expected: float  # px, what the fits without them said of that
    lost: float  # share of the peaks that the pattern explained which the solution puts elsewhere
    n_line: int  # different lines used
    fwhm: float  # px, of the lines
    evidence: float  # log-likelihood of the identification against chance
    margin: float  # the same against the next different solution
    explained: float  # share of the peaks seen that lines explain
    dispersion: Dispersion


def summarized(
    table: LineTable, model: Dispersion, base: Floats, lit: Bools, identified: Identification
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
    identified
        What the lines were found by.
    """
    data = table.measurements()
    agree = used_lines(data, model)
    used = replace(data, **{k: getattr(data, k)[agree] for k in ("fiber", "line", "column", "error", "wavelength")})
    left, expected = held_out(used, model, base=base) if agree.any() else (np.array([np.inf]), np.zeros(1))
    return ArcSolution(
        wave=model.wavelengths(),
        wave_error=model.errors(),
        shifts=model.fibers[:, 0],
        status=np.where(lit, "fitted", "interpolated"),
        lines=_with_residuals(table, model, agree),
        rms=_weighted_rms(residuals(used, model), used.error),
        held_out_rms=robust_sigma(left),
        held_out_expected=float(np.median(expected)),
        lost=_lost_share(model, identified),
        n_line=len(np.unique(used.line)),
        fwhm=identified.peaks.fwhm,
        evidence=identified.evidence,
        margin=identified.margin,
        explained=identified.explained,
        dispersion=model,
    )


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


@dataclass(frozen=True)
class Good:
    """What the figures of a good solution do not exceed."""

    rms: float  # px
    held_out_rms: float  # px
    lost: float

    @classmethod
    def of(cls, fwhm: float, held_out_expected: float) -> "Good":
        """Return the limits where lines have a width `fwhm` (px) and the fit expected some error (px) of others."""
        return cls(GOOD_RMS * fwhm, max(GOOD_HELD_OUT * fwhm, EXPECTED * held_out_expected), MOST_LOST)


def fit_warnings(solution: ArcSolution) -> tuple[str, ...]:
    """Return what a person should look at in a solution that was accepted, a sentence each."""
    good = Good.of(solution.fwhm, solution.held_out_expected)
    reasons = {
        f"lines lie {solution.rms:.2f} px rms off the solution, more than {good.rms:.2f}; look at the "
        "residuals": solution.rms > good.rms,
        f"lines left out of the fit lie {solution.held_out_rms:.2f} px rms off it, more than "
        f"{good.held_out_rms:.2f}; some may be taken for others": solution.held_out_rms > good.held_out_rms,
        f"{solution.lost:.0%} of the lines by which the pattern was found are not where the solution has them; some "
        "range may be wrong": solution.lost > good.lost,
    }
    return tuple(reason for reason, holds in reasons.items() if holds)


def _lost_share(model: Dispersion, identified: Identification) -> float:
    """Return the share of the peaks which the pattern explains that the model puts elsewhere."""
    frame = model.of_fibers(np.zeros((1, 1)))
    line = identified.line
    place = identified.peaks.column[identified.matched] / model.half - 1
    wave = frame.wavelength(np.zeros(len(line), dtype=int), (place + 1) * model.half)
    blend = identified.features.spread[line]
    miss = np.abs(wave - identified.features.wavelength[line]) - 2 * blend
    return float(np.mean(miss > GOOD_PEAKS * identified.peaks.fwhm * np.abs(frame.slope(place))))


def _end_error(solution: ArcSolution) -> float:
    """Return the error of the wavelengths at the worse end, px, of the median fiber."""
    px = np.abs(np.gradient(solution.wave, axis=1))
    return float(np.median((solution.wave_error / px)[:, [0, -1]].max(axis=1)))


def _weighted_rms(residual: Floats, error: Floats) -> float:
    if len(residual) == 0:
        return np.inf
    return float(np.sqrt(np.average(residual**2, weights=1 / (error**2 + FLOOR**2))))


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
