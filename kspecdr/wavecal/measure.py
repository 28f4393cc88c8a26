"""Measure the lines of every frame in every fiber about where a first solution expects them."""

from dataclasses import dataclass, replace

import numpy as np

from kspecdr.arrays import Bools, Floats, Ints, Strings
from kspecdr.robust import robust_sigma
from kspecdr.wavecal.arc_frames import ArcSpectra, Stack
from kspecdr.wavecal.choose import Chosen, choose_lines
from kspecdr.wavecal.dispersion import Dispersion
from kspecdr.wavecal.line_fits import LineFits, LineWindows, fit_lines
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
    main: Floats  # Angstrom, the same of the brightest of unresolved lines: the name of the line in all frames
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

    def measurements(self) -> Measurements:
        """Return the entries that are still in use, as the joint fit takes them."""
        own = self[self.used]
        elements, element = np.unique(own.label, return_inverse=True)
        name = np.rint(own.main * 1e4).astype(np.int64) * len(elements) + element
        names, line = np.unique(name, return_inverse=True)
        blend = np.zeros(len(names))
        np.maximum.at(blend, line, own.blend)
        return Measurements(own.fiber, line, own.column, own.column_error, own.wavelength, blend)


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
    half_width = int(np.ceil(1.25 * fwhm)) + 1
    wave = model.of_fibers(np.zeros((1, 1))).wavelengths()[0]
    chosen = [
        choose_lines(stack, wave, frame.lines, certain, fwhm=fwhm, half_width=half_width)
        for frame, stack in zip(spectra, stacks, strict=True)
    ]
    sought = _Sought.of(chosen, model, np.flatnonzero(lit))
    if width is None:
        sigma = np.full(len(sought), np.sqrt(max((fwhm / FWHM_PER_SIGMA) ** 2 - 1 / 12, 0.1)))
    else:
        sigma = width_at(width, sought.fiber, np.nan_to_num(sought.column), model.n_column, len(lit))
    flux, weight = (np.concatenate([getattr(frame, name) for frame in spectra]) for name in ("flux", "weight"))
    windows = LineWindows.cut(flux, weight, sought.frame * len(lit) + sought.fiber, sought.column, half_width)
    fits = fit_lines(windows, sought.column, sought.offsets, sigma, free_width=width is None)
    return sought.found(fits, _reasons(fits, sought, spectra, reach=max(int(np.rint(0.5 * fwhm)), 1)))


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
        spread = max(robust_sigma(miss), 1e-3)
        weight = 1 / (1 + (miss / (2 * spread)) ** 2)
    return terms


def width_at(terms: Floats, fiber: Ints, column: Floats, n_column: int, n_fiber: int) -> Floats:
    """Return the Gaussian width at places of fibers, px."""
    return np.exp(_width_basis(fiber, column, n_column, n_fiber) @ terms)


def _width_basis(fiber: Ints, column: Floats, n_column: int, n_fiber: int) -> Floats:
    u, s = 2 * column / (n_column - 1) - 1, 2 * fiber / max(n_fiber - 1, 1) - min(n_fiber - 1, 1)
    return np.stack([np.ones_like(u), u, u**2, s * np.ones_like(u), s**2 * np.ones_like(u), u * s], axis=-1)


@dataclass(frozen=True)
class _Sought:
    """The lines that frames show, and where each is expected in each fiber; (n,) where not said."""

    lines: Chosen  # of all frames
    line: Ints  # index into them
    frame: Ints  # index of the frame
    fiber: Ints  # index of the fiber, from 0
    column: Floats  # px, NaN off the detector
    offsets: Floats  # (n, n_neighbour) px from the line to its neighbours, NaN for none

    def __len__(self) -> int:
        return len(self.line)

    @classmethod
    def of(cls, chosen: list[Chosen], model: Dispersion, fibers: Ints) -> "_Sought":
        """Seek the lines chosen in each frame in all the fibers, where the model puts them."""
        lines = Chosen.joined(chosen)
        fiber, line = (grid.ravel() for grid in np.meshgrid(fibers, np.arange(len(lines)), indexing="ij"))
        column, px = model.columns(fibers, lines.wavelength)
        offsets = (lines.neighbours - lines.wavelength[:, None]) / px[:, :, None]
        frame = np.repeat(np.arange(len(chosen)), [len(part) for part in chosen])
        return cls(lines, line, frame[line], fiber, column.ravel(), offsets.reshape(len(line), -1))

    def found(self, fits: LineFits, why: Strings) -> LineTable:
        """Return what was found."""
        return LineTable(
            self.frame,
            self.fiber,
            fits.column,
            fits.error,
            self.lines.wavelength[self.line],
            self.lines.main[self.line],
            self.lines.label[self.line],
            self.lines.order[self.line],
            fits.significance,
            fits.sigma,
            self.lines.blend[self.line],
            np.full(len(self), np.nan),
            why,
        )


def _reasons(fits: LineFits, sought: _Sought, spectra: list[ArcSpectra], *, reach: int) -> Strings:
    """Why a line cannot be used; "used" where nothing speaks against it."""
    n_fiber, n_column = spectra[0].flux.shape
    at = np.rint(np.nan_to_num(sought.column)).astype(int)
    core = np.clip(at[:, None] + np.arange(-reach, reach + 1), 0, n_column - 1)
    row = (sought.frame * n_fiber + sought.fiber)[:, None]
    seen = np.nan_to_num(fits.significance).reshape(-1, len(sought.lines))
    why = np.full(len(sought), "used", dtype="<U12")
    # where most fibers do not show a line, those that seem to show noise
    why[((seen < FAINT) | (np.median(seen, axis=0) < FAINT)).ravel()] = "faint"
    why[np.isnan(fits.column)] = "not found"
    why[np.concatenate([frame.bad for frame in spectra])[row, core].any(axis=1)] = "bad pixel"
    why[np.concatenate([frame.saturated for frame in spectra])[row, core].any(axis=1)] = "saturated"
    return why
