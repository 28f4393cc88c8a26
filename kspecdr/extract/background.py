"""Scattered light under and between the fibers: a smooth surface through the rows that they leave dark.

What the fibers' profiles, wings included, leave behind on the dark rows is averaged robustly in blocks of
a few rows and tens of columns; a polynomial in row and column of low order goes through the blocks.
"""

from itertools import pairwise

import numpy as np
from numpy.polynomial import legendre

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.extract.optimal import extract_optimal, light_image
from kspecdr.tlm.light import variance_without_light
from kspecdr.tlm.profile import GAUSSIAN

MARGIN = 30  # rows past the outer fibers that take part
DARK_SHARE = 0.01  # of the light of a fiber that a dark pixel may hold
ENOUGH_COLUMNS = 450  # a smooth surface is told as well by every third column of a wide frame
BLOCK_COLUMNS, BLOCK_ROWS = 45, 12
LEAST_PIXELS = 20  # in a block
ROW_ORDER, COLUMN_ORDER = 2, 5
CLIP = 4.0  # sigma of a block that is left out
PASSES = 2


def scattered_light(
    flux: Floats, variance: Floats, mask: Ints, center: Floats, width: Floats, wings: Floats = GAUSSIAN
) -> Floats:
    """Model the light that is of no fiber, (n_row, n_column) electron; zero far from the fibers.

    Parameters
    ----------
    flux, variance : (n_row, n_column)
        Electron, electron**2.
    mask : (n_row, n_column)
        Bits of MaskBit; any bit makes a pixel bad.
    center, width : (n_fiber, n_column)
        Rows and core widths of the fibers on this frame.
    wings : (N_WING,) or (0,)
        See `kspecdr.tlm.profile`.
    """
    low = max(0, int(np.floor(np.min(center))) - MARGIN)
    band = slice(low, min(len(flux), int(np.ceil(np.max(center))) + MARGIN + 1))
    column = np.arange(0, flux.shape[1], max(1, flux.shape[1] // ENOUGH_COLUMNS))
    seen, bits = flux[band][:, column], mask[band][:, column]
    dark_variance = variance_without_light(flux, variance)[band][:, column]
    n_row, traces = len(seen), (center[:, column] - band.start, width[:, column], wings)
    covered = light_image(np.ones((len(center), len(column))), *traces, n_row)
    usable = (covered < DARK_SHARE) & (bits == 0) & np.isfinite(seen)
    surface: Floats = np.zeros(seen.shape)
    for _ in range(PASSES):
        fit = extract_optimal(seen - surface, dark_variance, bits, *traces)
        surface = smooth_surface(seen - light_image(fit.spectra.flux, *traces, n_row), dark_variance, usable)
    result = np.zeros(flux.shape)
    everywhere = np.arange(flux.shape[1])
    result[band] = [np.interp(everywhere, column, row) for row in surface]
    return result


def smooth_surface(rest: Floats, variance: Floats, usable: Bools) -> Floats:
    """Fit a smooth surface to the usable pixels, all (n_row, n_column); a constant where those are few."""
    row, column, value, error = _blocks(rest, variance, usable)
    surface_shape = rest.shape
    if len(value) < 2 * (ROW_ORDER + 1) * (COLUMN_ORDER + 1):
        return np.zeros(surface_shape) + (np.median(value) if len(value) else 0.0)
    design = (
        _design(row, surface_shape[0], ROW_ORDER)[:, :, None] * _design(column, surface_shape[1], COLUMN_ORDER)[:, None]
    )
    design = design.reshape(len(value), -1)
    keep = np.ones(len(value), dtype=bool)
    solution: Floats = np.zeros(design.shape[1])
    for _ in range(4):
        weighted = design[keep] / error[keep, None]
        solution = np.linalg.lstsq(weighted, value[keep] / error[keep], rcond=1e-8)[0]
        off = np.abs(value - design @ solution) / error
        keep = off < CLIP * max(1.0, 1.4826 * float(np.median(off)))
    shape = (ROW_ORDER + 1, COLUMN_ORDER + 1)
    rows = _design(np.arange(surface_shape[0]), surface_shape[0], ROW_ORDER)
    columns = _design(np.arange(surface_shape[1]), surface_shape[1], COLUMN_ORDER)
    return np.asarray(rows @ solution.reshape(shape) @ columns.T)


def _design(place: Floats | Ints, number: int, order: int) -> Floats:
    return np.asarray(legendre.legvander(2 * place / max(number - 1, 1) - 1, order))


def _blocks(rest: Floats, variance: Floats, usable: Bools) -> tuple[Floats, Floats, Floats, Floats]:
    """Return mean row and column, median and its error of every block with enough usable pixels."""
    n_row, n_column = rest.shape
    row_edge = np.linspace(0, n_row, max(1, round(n_row / BLOCK_ROWS)) + 1).round().astype(int)
    column_edge = np.linspace(0, n_column, max(1, round(n_column / BLOCK_COLUMNS)) + 1).round().astype(int)
    found = []
    for r0, r1 in pairwise(row_edge):
        for c0, c1 in pairwise(column_edge):
            inside = usable[r0:r1, c0:c1]
            number = np.count_nonzero(inside)
            if number < LEAST_PIXELS:
                continue
            rows, columns = np.nonzero(inside)
            middle = np.median(rest[r0:r1, c0:c1][inside])
            noise = np.sqrt(np.pi / 2 * np.mean(variance[r0:r1, c0:c1][inside]) / number)
            found.append((r0 + rows.mean(), c0 + columns.mean(), middle, noise))
    row, column, value, error = np.array(found, dtype=float).reshape(-1, 4).T
    return row, column, value, error
