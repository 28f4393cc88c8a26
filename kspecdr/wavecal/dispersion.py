"""The model of wavelengths over columns and fibers.

The columns of fiber k are brought to a reference frame, v = x - (o_k + t(k) u + q(k) u**2 + c(k) u**3), u from -1
to 1 over the columns, and there share one dispersion: wavelength = F(v), a Legendre series. Offsets o_k are free,
since fibers sit on the slit as they please; stretch t, bend q and skew c are smooth functions of the place on the
slit, since the optics make them.
"""

from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.polynomial import legendre

from kspecdr.arrays import Floats, Ints

DEGREE = 6  # highest term that F may have; the data decide how many it takes
SMOOTH = 3  # powers of u that change smoothly along the slit: stretch, bend, skew


@dataclass(frozen=True)
class Dispersion:
    """The fitted model, the covariance of its terms and the scales that were estimated with them."""

    n_column: int
    shape: Floats  # (DEGREE + 1,) Legendre terms of F, Angstrom
    fibers: Floats  # (n_fiber, 1 + SMOOTH) o, t, q, c of each fiber, px
    lines: Floats  # (n_line,) px, error of each line shared by all fibers
    covariance: Floats = field(default_factory=lambda: np.zeros((0, 0)))  # of the terms of `design`, px**2
    relevance: Floats = field(default_factory=lambda: np.ones(DEGREE + 1))  # (DEGREE + 1,) px, scale of each term
    extent: Floats = field(default_factory=lambda: np.array([[10.0], [10.0], [3.0]]))  # (SMOOTH, n_slit or 1) px,
    # scales of the terms of t, q, c on `slit_basis`
    line_scatter: float = 0.1  # px, of lines
    noise: float = 0.0  # px, of single measurements beyond their errors

    def of_fibers(self, terms: Floats) -> "Dispersion":
        """Return the model with the distortions (n_fiber, 1 to 1 + SMOOTH) of fibers, the others 0."""
        padded = np.pad(terms, ((0, 0), (0, 1 + SMOOTH - terms.shape[1])))
        return replace(self, fibers=padded)

    @property
    def half(self) -> float:
        """Half the length of a spectrum, px."""
        return 0.5 * (self.n_column - 1)

    @property
    def px(self) -> float:
        """Mean size of a pixel, Angstrom, negative where wavelengths fall along the columns."""
        return float(self.shape[1]) / self.half

    def place(self, fiber: Ints, column: Floats) -> Floats:
        """Return the reference place, -1 to 1, of columns of fibers."""
        u = column / self.half - 1
        terms = self.fibers[fiber]
        moved = terms[..., SMOOTH]
        for p in reversed(range(SMOOTH)):
            moved = moved * u + terms[..., p]
        place: Floats = u - moved / self.half
        return place

    def wavelength(self, fiber: Ints, column: Floats) -> Floats:
        """Return the wavelength at columns of fibers, Angstrom."""
        return legendre.legval(self.place(fiber, column), self.shape)

    def slope(self, place: Floats) -> Floats:
        """Return the dispersion at reference places, Angstrom / px."""
        return legendre.legval(place, legendre.legder(self.shape)) / self.half

    def wavelengths(self) -> Floats:
        """Return the (n_fiber, n_column) wavelengths, Angstrom."""
        columns = np.arange(self.n_column, dtype=float)
        fiber = np.arange(len(self.fibers))[:, None]
        return self.wavelength(fiber, np.broadcast_to(columns, (len(self.fibers), self.n_column)))

    def columns(self, fibers: Ints, wavelength: Floats) -> tuple[Floats, Floats]:
        """Return where wavelengths (n,) fall in fibers, px, NaN off the detector, and the dispersion there, A / px.

        (n_fiber, n) each.
        """
        wave = self.of_fibers(self.fibers[fibers]).wavelengths()
        column = np.array([columns_of(wavelength, row) for row in wave])
        nearest = np.nan_to_num(np.rint(column)).astype(int)
        return column, np.take_along_axis(np.gradient(wave, axis=1), nearest, axis=1)

    def errors(self, step: int = 16) -> Floats:
        """Return the (n_fiber, n_column) standard error of the wavelengths, Angstrom."""
        n_fiber = len(self.fibers)
        at = np.unique(np.append(np.arange(0, self.n_column, step), self.n_column - 1)).astype(float)
        errors = np.zeros((n_fiber, self.n_column))
        for k in range(n_fiber):
            fiber = np.full(len(at), k)
            design = np.concatenate([self.design(fiber, at), np.ones((len(at), 1))], axis=1)
            own = np.append(np.arange(design.shape[1] - 1), design.shape[1] - 1 + k)
            variance = np.einsum("np,pq,nq->n", design, self.covariance[np.ix_(own, own)], design, optimize=True)
            sigma = np.sqrt(np.maximum(variance, 0)) * np.abs(self.slope(self.place(fiber, at)))
            errors[k] = np.interp(np.arange(self.n_column), at, sigma)
        return errors

    def design(self, fiber: Ints, column: Floats) -> Floats:
        """Return the derivatives of the modelled column by all terms but the offsets.

        Those of F, in px, then t, q and c, each by its terms along the slit: (n, DEGREE + 1 + SMOOTH * n_slit).
        """
        place = self.place(fiber, column)
        terms = legendre.legvander(place, DEGREE) * (-self.px / self.slope(place))[:, None]
        u = column / self.half - 1
        powers = np.stack([u, u * u, u * u * u], axis=-1)
        along = (powers[:, :, None] * slit_basis(len(self.fibers))[fiber][:, None, :]).reshape(len(column), -1)
        return np.concatenate([terms, along], axis=1)


def columns_of(wavelength: Floats, wave: Floats) -> Floats:
    """Return where wavelengths (n,) fall in a spectrum with `wave` (n_column,), px, NaN off its ends.

    wave : ascending or descending
    """
    column = np.arange(len(wave), dtype=float)
    turn = slice(None) if wave[-1] > wave[0] else slice(None, None, -1)
    return np.asarray(np.interp(wavelength, wave[turn], column[turn], np.nan, np.nan))


@cache
def slit_basis(n_fiber: int) -> Floats:
    """Return orthonormal polynomials along the slit, (n_fiber, n_slit): up to the sixth power, fewer for few fibers."""
    degree = min(4 if n_fiber < 40 else 6, max((n_fiber - 1) // 3, 0))
    along = np.linspace(-1, 1, n_fiber) if n_fiber > 1 else np.zeros(1)
    basis: Floats = np.linalg.qr(legendre.legvander(along, degree))[0]
    basis.setflags(write=False)  # the same array is given to all
    return basis
