"""Solve the stack of all fibers first, from the identified peaks outwards.

The pattern fixes the lines near its peaks. Beyond them a line is only measured once the fit to the others
tells its place to a quarter of a line's width: whatever lies near an uncertain place is no evidence.
"""

import numpy as np
from numpy.polynomial import legendre

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.errors import NoSolution
from kspecdr.wavecal.arc_frames import ArcSpectra, Stack
from kspecdr.wavecal.dispersion import DEGREE, SMOOTH, Dispersion
from kspecdr.wavecal.features import Features
from kspecdr.wavecal.identification import LEAST_LINES, Identification
from kspecdr.wavecal.measure import LineTable, line_widths, measure_lines
from kspecdr.wavecal.screen import doubtful_lines
from kspecdr.wavecal.solution import Measurements, fit_dispersion

SURE = 0.25  # of a line's width: how well a place must be known before what is there counts as the line
PEAK_ERROR = 0.15  # px, of the column of a peak
PASSES = 5


def reference_solution(
    spectra: list[ArcSpectra],
    stacks: list[Stack],
    identified: Identification,
    shape: Floats | None,
) -> tuple[Dispersion, Floats]:
    """Return the dispersion of the reference frame, and the terms (DEGREE + 1,) that its higher ones are drawn to.

    Parameters
    ----------
    spectra, stacks
        The frames and their stacks.
    identified
        Which lines the peaks of the stacks are.
    shape
        (n_column,) wavelengths by the grating equation, or None.

    Raises
    ------
    NoSolution
        Too few lines agree.
    """
    fwhm, features = identified.peaks.fwhm, identified.features
    model = _first_model(identified, len(stacks[0].flux))
    base = _base(shape, model)
    data = _peak_measurements(identified, model)
    keep = ~doubtful_lines(data, model, features, base=base)
    model = fit_dispersion(_chosen(data, keep), model, base=base)
    single = [_as_fiber(frame, stack) for frame, stack in zip(spectra, stacks, strict=True)]
    width: Floats | None = None
    before = np.zeros(model.n_column, dtype=bool)
    for _ in range(PASSES):
        certain = certain_columns(model, fwhm)
        if np.array_equal(certain, before):
            break
        before = certain
        table = measure_lines(single, stacks, model, np.array([True]), fwhm=fwhm, width=width, certain=certain)
        table, model = fitted(table, model, features, base)
        width = line_widths(table, model.n_column, 1)
    return model, base


def certain_columns(model: Dispersion, fwhm: float) -> Bools:
    """Return the columns (n_column,) of the reference frame where the model places lines well enough."""
    wave = model.wavelengths()[0]
    certain: Bools = model.errors()[0] < SURE * fwhm * np.abs(np.gradient(wave))
    return certain


def fitted(table: LineTable, model: Dispersion, features: Features, base: Floats) -> tuple[LineTable, Dispersion]:
    """Fit the model to the lines whose identity is beyond doubt; mark the others."""
    data = table.measurements()
    if len(data.blend) >= LEAST_LINES:
        off = doubtful_lines(data, model, features, base=base)
        table = table.marked(off[data.line], "doubtful")
        data = table.measurements()
    if len(data.blend) < LEAST_LINES:
        raise NoSolution(
            f"{len(data.blend)} lines of the lamp can be measured, expected {LEAST_LINES} or more; "
            "add a lamp or a longer exposure"
        )
    return table, fit_dispersion(data, model, base=base)


def _first_model(identified: Identification, n_column: int) -> Dispersion:
    shape = np.zeros(DEGREE + 1)
    shape[:4] = legendre.poly2leg(identified.found.coefficients[0])
    return Dispersion(n_column, shape, np.zeros((1, 1 + SMOOTH)), np.zeros(0))


def _base(shape: Floats | None, model: Dispersion) -> Floats:
    """Legendre terms beyond the second that the grating equation gives, in the direction found."""
    base = np.zeros(DEGREE + 1)
    if shape is not None:
        turned = shape if (shape[-1] > shape[0]) == (model.shape[1] > 0) else shape[::-1]
        terms = legendre.legfit(np.linspace(-1, 1, len(turned)), turned, DEGREE)
        base[3:] = terms[3:] * model.shape[1] / terms[1]
    return base


def _peak_measurements(identified: Identification, model: Dispersion) -> Measurements:
    """Take the peaks that the pattern explains for measured lines."""
    at, line, features = identified.matched, identified.line, identified.features
    px = np.abs(model.shape[1]) / model.half
    error = np.full(len(at), PEAK_ERROR)
    zero: Ints = np.zeros(len(at), dtype=int)
    spread = features.spread[line] / px
    return Measurements(zero, np.arange(len(at)), identified.peaks.column[at], error, features.wavelength[line], spread)


def _chosen(data: Measurements, keep: Bools) -> Measurements:
    return Measurements(
        data.fiber[keep],
        np.arange(int(keep.sum())),
        data.column[keep],
        data.error[keep],
        data.wavelength[keep],
        data.blend[keep],
    )


def _as_fiber(frame: ArcSpectra, stack: Stack) -> ArcSpectra:
    return ArcSpectra(
        stack.flux[None],
        stack.noise[None],
        stack.noise[None],
        np.zeros((1, len(stack.flux)), dtype=bool),
        stack.saturated[None],
        frame.lines,
    )
