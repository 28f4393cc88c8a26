"""Measure the lines of every frame in every fiber about where a first solution expects them."""

from dataclasses import dataclass, replace

import numpy as np

from kspecdr.arrays import Bools, Floats, Ints, Strings
from kspecdr.wavecal.arc_frames import ArcSpectra, Stack
from kspecdr.wavecal.choose import Chosen, choose_lines
from kspecdr.wavecal.dispersion import Dispersion
from kspecdr.wavecal.line_fits import LineFits, fit_lines
from kspecdr.wavecal.lines import FWHM_PER_SIGMA
from kspecdr.wavecal.solution import Measurements

FAINT = 4.0  # significance below which a line is not used
WIDTH_TERMS = 6


@dataclass(frozen=True)
class LineTable:
    """Every line measured, one entry a line, fiber and frame; (n,) each."""

    frame: Ints  # index of the frame
    fiber: Ints  # index of the fiber, from 0
    column: Floats  # px, NaN where the line was not found
    column_error: Floats  # px
    wavelength: Floats  # Angstrom where it appears on the detector: order times its wavelength in air
    label: Strings  # element
    order: Ints  # 1 or 2
    significance: Floats  # of its flux
    sigma: Floats  # px, Gaussian width
    blend: Floats  # px, how far unresolved neighbours may move it
    residual: Floats  # px, measured minus modelled column
    why: Strings  # "used", or why not

    def __len__(self) -> int:
        return len(self.fiber)

    def __getitem__(self, keep: Ints | Bools) -> "LineTable":
        return LineTable(**{name: column[keep] for name, column in vars(self).items()})

    @property
    def used(self) -> Bools:
        """Which entries the solution rests on."""
        used: Bools = self.why == "used"
        return used

    def marked(self, off: Bools, why: str) -> "LineTable":
        """Return the table with the entries `off`, counted among those in use, marked with a reason."""
        reasons = self.why.copy()
        reasons[np.flatnonzero(self.used)[off]] = why
        return replace(self, why=reasons)

    @classmethod
    def stacked(cls, parts: "list[LineTable]") -> "LineTable":
        """Return several tables as one."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.__annotations__})

    def measurements(self) -> Measurements:
        """Return the entries that are still in use, as the joint fit takes them."""
        own = self[self.used]
        name = np.char.add(np.char.mod("%.4f", own.wavelength), own.label)
        _, first, line = np.unique(name, return_index=True, return_inverse=True)
        return Measurements(own.fiber, line, own.column, own.column_error, own.wavelength, own.blend[first])


def measure_lines(
    spectra: list[ArcSpectra],
    stacks: list[Stack],
    model: Dispersion,
    lit: Bools,
    *,
    fwhm: float,
    width: Floats | None,
    certain: Bools,
) -> LineTable:
    """Measure the lines that each frame shows in every lit fiber.

    Parameters
    ----------
    spectra, stacks
        The frames and their median spectra on the model's reference frame.
    model
        Where to look, right to a fraction of the line's width.
    lit
        (n_fiber,) fibers to measure.
    fwhm
        Of the lines, px.
    width
        (WIDTH_TERMS,) of `line_widths`; None: every line's own width is fitted.
    certain
        (n_column,) columns of the reference frame where the model can tell which line is which.
    """
    wave = model.wavelengths()
    columns = np.arange(model.n_column, dtype=float)
    reference = np.polynomial.legendre.legval(columns / model.half - 1, model.shape)
    half_width = int(np.ceil(1.25 * fwhm)) + 1
    parts = []
    for k, (frame, stack) in enumerate(zip(spectra, stacks, strict=True)):
        chosen = choose_lines(stack, reference, frame.lines, certain, fwhm=fwhm, half_width=half_width)
        parts.append(_measured(k, frame, chosen, wave, lit, fwhm, half_width, width))
    return LineTable.stacked(parts)


def line_widths(table: LineTable, n_column: int, n_fiber: int) -> Floats:
    """Return the smooth logarithm of the lines' widths over columns and fibers, (WIDTH_TERMS,) for `width_at`."""
    bright = table.significance >= np.median(table.significance[table.used])
    good = table.used & bright & (table.blend < 0.02)
    good = good if good.sum() >= WIDTH_TERMS else table.used
    rows = _width_basis(table.fiber[good], table.column[good], n_column, n_fiber)
    value = np.log(table.sigma[good])
    ridge = 1e-3 * len(value) * np.eye(WIDTH_TERMS) * (np.arange(WIDTH_TERMS) > 0)
    weight = np.ones(len(value))
    terms: Floats = np.zeros(WIDTH_TERMS)
    for _ in range(6):
        terms = np.linalg.solve((rows * weight[:, None]).T @ rows + ridge, (rows * weight[:, None]).T @ value)
        miss = value - rows @ terms
        spread = max(1.4826 * float(np.median(np.abs(miss))), 1e-3)
        weight = 1 / (1 + (miss / (2 * spread)) ** 2)
    return terms


def width_at(terms: Floats, fiber: Ints, column: Floats, n_column: int, n_fiber: int) -> Floats:
    """Return the Gaussian width at places of fibers, px."""
    return np.exp(_width_basis(fiber, column, n_column, n_fiber) @ terms)


def _width_basis(fiber: Ints, column: Floats, n_column: int, n_fiber: int) -> Floats:
    u, s = 2 * column / (n_column - 1) - 1, 2 * fiber / max(n_fiber - 1, 1) - min(n_fiber - 1, 1)
    return np.stack([np.ones_like(u), u, u**2, s * np.ones_like(u), s**2 * np.ones_like(u), u * s], axis=-1)


def _measured(
    k: int,
    frame: ArcSpectra,
    chosen: Chosen,
    wave: Floats,
    lit: Bools,
    fwhm: float,
    half_width: int,
    width: Floats | None,
) -> LineTable:
    n_fiber, n_column = frame.flux.shape
    fibers = np.flatnonzero(lit)
    columns = np.arange(n_column, dtype=float)
    ascending = wave[0, -1] > wave[0, 0]
    turned = wave[fibers] if ascending else wave[fibers, ::-1]
    center = np.array([np.interp(chosen.wavelength, row, columns, np.nan, np.nan) for row in turned])
    center = center if ascending else n_column - 1 - center
    slope = np.gradient(wave[fibers], axis=1)
    at = np.clip(np.nan_to_num(np.rint(center)), 0, n_column - 1).astype(int)
    px = np.take_along_axis(slope, at, axis=1)
    offsets = (chosen.neighbours - chosen.wavelength[:, None]) / px[:, :, None]
    fiber = np.broadcast_to(fibers[:, None], center.shape)
    if width is None:
        sigma = np.full(center.shape, np.sqrt(max((fwhm / FWHM_PER_SIGMA) ** 2 - 1 / 12, 0.1)))
    else:
        sigma = width_at(width, fiber, np.nan_to_num(center), n_column, n_fiber)
    weight = np.where(frame.bad | frame.saturated, 0.0, frame.noise**-2.0)
    fits = fit_lines(
        frame.flux[fibers],
        weight[fibers],
        center,
        offsets,
        sigma,
        half_width=half_width,
        free_width=width is None,
    )
    why = _reasons(fits, frame, fibers, at, max(int(np.rint(0.5 * fwhm)), 1))
    line = np.broadcast_to(chosen.index, center.shape)
    arrays = (
        np.full(center.size, k),
        fiber,
        fits.column,
        fits.error,
        np.broadcast_to(chosen.wavelength, center.shape),
        frame.lines.label[line],
        frame.lines.order[line],
        fits.significance,
        fits.sigma,
        np.broadcast_to(chosen.blend, center.shape),
        np.full(center.size, np.nan),
        why,
    )
    return LineTable(*(np.ravel(array) for array in arrays))


def _reasons(fits: LineFits, frame: ArcSpectra, fibers: Ints, at: Ints, reach: int) -> Strings:
    """Why a line cannot be used; "used" where nothing speaks against it."""
    n_column = frame.flux.shape[1]
    core = np.clip(at[:, :, None] + np.arange(-reach, reach + 1), 0, n_column - 1)
    saturated = frame.saturated[fibers[:, None, None], core].any(axis=2)
    broken = frame.bad[fibers[:, None, None], core].any(axis=2)
    why = np.full(at.shape, "used", dtype="<U12")
    seen = np.nan_to_num(fits.significance)
    # where most fibers do not show a line, those that seem to show noise
    why[(seen < FAINT) | (np.median(seen, axis=0) < FAINT)] = "faint"
    why[np.isnan(fits.column)] = "not found"
    why[broken] = "bad pixel"
    why[saturated] = "saturated"
    return why
