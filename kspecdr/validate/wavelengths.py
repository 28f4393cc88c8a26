"""Figures of the wavelengths: all lamps together and each alone, against truth."""

from collections.abc import Iterator

import numpy as np

from kspecdr.arrays import Bools, Floats
from kspecdr.errors import NoSolution
from kspecdr.extract.reduce_arc import SolvedArc
from kspecdr.validate.figures import NO_GOAL, Measured, at_most, within
from kspecdr.validate.nights import ReducedNight, Shot

FIRST, LAST = 60, 1280  # columns that are judged; on a smaller detector 60 from either end
WRONG = 1.0  # px: a solution beyond this is a wrong one


def error_px(wave: Floats, truth: Floats) -> Floats:
    """Return how far wavelengths are off, in pixels (n_fiber, n_column)."""
    return np.asarray((wave - truth) / np.gradient(truth, axis=1))


def measure(night: ReducedNight) -> Iterator[Measured]:
    """Solve all arcs of the night together, and each lamp alone."""
    try:
        solved = night.solved(night.arcs)
    except NoSolution as reason:
        yield Measured("wavelengths", "rms, all lamps, px", night.source, np.nan, at_most(0.02), f"refused: {reason}")
        return
    yield from _all_lamps(night, solved)
    again = night.solved(night.arcs)
    same = np.array_equal(solved.spectra.wave, again.spectra.wave, equal_nan=True)
    yield Measured("wavelengths", "solved twice, the same answer (1: yes)", night.source, int(same), within(1, 0))
    lamps = dict.fromkeys(shot.truth.exposure.lamp for shot in night.arcs)
    yield from _single_lamps(night, list(lamps))


def judged_columns(n_column: int) -> Bools:
    """Return the columns whose wavelengths are judged, (n_column,)."""
    column = np.arange(n_column)
    return (column >= FIRST) & (column <= min(LAST, n_column - 1 - FIRST))


def _all_lamps(night: ReducedNight, solved: SolvedArc) -> Iterator[Measured]:
    error = error_px(solved.spectra.wave, night.arcs[0].truth.wavelength)
    own = error[np.ix_(night.alive, judged_columns(error.shape[1]))]
    fiber = np.sqrt(np.mean(own**2, axis=1))
    worst = f"fiber {night.alive[np.argmax(fiber)] + 1}: {fiber.max():.4f}"
    rms = float(np.sqrt(np.mean(own**2)))
    yield Measured("wavelengths", "rms, all lamps, px", night.source, rms, at_most(0.02), worst)
    common = float(np.sqrt(np.mean(own.mean(axis=0) ** 2)))
    yield Measured("wavelengths", "rms of the mean of the fibers, px", night.source, common, NO_GOAL)
    yield Measured("wavelengths", "largest error, px", night.source, float(np.abs(own).max()), NO_GOAL)
    claimed = solved.spectra.wave_error
    if claimed is not None:
        step = np.abs(np.gradient(solved.spectra.wave, axis=1))
        pull = (error * step / claimed)[np.ix_(night.alive, judged_columns(error.shape[1]))]
        said = float(np.sqrt(np.mean(pull**2)))
        yield Measured("wavelengths", "rms error over the error claimed", night.source, said, NO_GOAL)
    dead = np.setdiff1d(np.arange(len(error)), night.alive)
    if dead.size:
        guessed = float(np.sqrt(np.nanmean(error[dead] ** 2)))
        yield Measured("wavelengths", "rms, fibers without light, px", night.source, guessed, NO_GOAL)


def _single_lamps(night: ReducedNight, lamps: list[str]) -> Iterator[Measured]:
    """Solve each lamp alone; a refusal is no error, a wrong answer is one."""
    solved, wrong, refused = [], [], []
    for lamp in lamps:
        shots = tuple(shot for shot in night.arcs if shot.truth.exposure.lamp == lamp)
        try:
            rms = _within_lines(night, shots)
        except NoSolution as reason:
            refused.append(f"{lamp} refused: {reason}")
            continue
        solved.append((rms, lamp))
        wrong += [lamp] * (rms > WRONG)
    said = ", ".join(f"{lamp} {rms:.4f}" for rms, lamp in solved)
    worst = max(solved)[0] if solved else np.nan
    figure = "rms, worst lamp alone within its lines, px"
    yield Measured("wavelengths", figure, night.source, worst, at_most(0.05), said)
    yield Measured(
        "wavelengths", "lamps alone that are refused", night.source, len(refused), NO_GOAL, "; ".join(refused)
    )
    yield Measured("wavelengths", "lamps alone solved wrongly", night.source, len(wrong), at_most(0), ", ".join(wrong))


def _within_lines(night: ReducedNight, shots: tuple[Shot, ...]) -> float:
    """Return the rms over all fibers between the first and the last line used in each, px."""
    solved = night.solved(shots)
    lines, error = solved.solution.lines, error_px(solved.spectra.wave, shots[0].truth.wavelength)
    column = np.arange(error.shape[1])
    squares = []
    for k in night.alive:
        own = lines.column[(lines.fiber == k) & lines.used]
        if own.size:
            squares.append(error[k][(column >= own.min()) & (column <= own.max())] ** 2)
    return float(np.sqrt(np.mean(np.concatenate(squares))))
