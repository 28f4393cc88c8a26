"""One smooth model of many measured traces: a shared distortion and what each fiber adds to it.

Every fiber has its own row; how the rows move along the columns is a polynomial in column and
row common to all, so that faint fibers are held by bright ones. A fiber's own departure from it
is fitted too, but only as far as fibers are seen to differ beyond their noise (empirical Bayes:
the scatter of the population is the prior of each).

Columns that few fibers show say nothing: what is measured there is noise and hits. Past them the shared field is
extrapolated, and held by what distortions are like: each order of column, and of row, is smaller than the last.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import legendre

from kspecdr.arrays import Bools, Floats
from kspecdr.robust import robust_sigma

OWN_ORDER = 3  # polynomial order of a fiber's own departure
CLIP = 5.0  # sigma of a measurement that is left out
PASSES, GENTLE_PASSES = 6, 3
HUBER = 1.5  # sigma of a measurement that weighs less in the gentle passes
LEAST_SHOWN = 0.3  # of the fibers of the best columns that a column must show to count
DISTORTION = 30.0  # expected size of the first order along the columns; px where rows are fitted
PER_ORDER = 0.1, 0.3  # of the order before, along columns and rows


@dataclass(frozen=True)
class Frame:
    """The ranges that columns and rows are scaled with, so that polynomials stay well behaved."""

    n_column: int
    row_middle: float
    row_scale: float

    @classmethod
    def of(cls, n_column: int, row: Floats) -> "Frame":
        """Make the frame of `n_column` columns and the fibers at `row` (n_fiber,)."""
        low, high = float(np.nanmin(row)), float(np.nanmax(row))
        return cls(n_column, (low + high) / 2, max((high - low) / 2, 1.0))

    def column(self, column: Floats) -> Floats:
        """Scale columns to -1 .. 1."""
        return np.asarray(2 * np.asarray(column) / (self.n_column - 1) - 1)

    def row(self, row: Floats) -> Floats:
        """Scale rows to -1 .. 1 over the fibers."""
        return np.asarray((np.asarray(row) - self.row_middle) / self.row_scale)


@dataclass(frozen=True)
class SmoothField:
    """A quantity of fibers along columns: own levels, a shared field, own departures."""

    frame: Frame
    row: Floats  # (n_fiber,) row at which the shared field is taken
    level: Floats  # (n_fiber,) own constant
    shared: Floats  # (column_order, row_order + 1); column orders from 1
    own: Floats  # (n_fiber, OWN_ORDER) column orders from 1
    scatter: float  # of the measurements about the model beyond their errors

    def at(self, column: Floats) -> Floats:
        """Evaluate at columns, (n,) -> (n_fiber, n)."""
        along = legendre.legvander(self.frame.column(column), max(len(self.shared), OWN_ORDER))[:, 1:]
        across = legendre.legvander(self.frame.row(self.row), self.shared.shape[1] - 1)
        common = across @ self.shared.T @ along[:, : len(self.shared)].T
        return np.asarray(self.level[:, None] + common + self.own @ along[:, :OWN_ORDER].T)

    def shared_change(self, column: Floats, row: Floats) -> Floats:
        """Evaluate the shared field alone at other rows, (n,), (m,) -> (m, n)."""
        along = legendre.legvander(self.frame.column(column), len(self.shared))[:, 1:]
        across = legendre.legvander(self.frame.row(row), self.shared.shape[1] - 1)
        return np.asarray(across @ self.shared.T @ along.T)


def fit_smooth_field(
    column: Floats, value: Floats, error: Floats, row: Floats, n_column: int, *, order: int = 4
) -> SmoothField:
    """Fit measured values of fibers along columns by a shared field and own departures.

    Parameters
    ----------
    column : (n_bin,)
        Columns of the measurements.
    value, error : (n_fiber, n_bin)
        Measurements and their errors; NaN where there is none. Each fiber has one at least.
    row : (n_fiber,)
        Row of each fiber, at which the shared field is taken.
    n_column : int
        Columns of the frame.
    order : int
        Largest polynomial order of the shared field along the columns.
    """
    frame = Frame.of(n_column, row)
    along = legendre.legvander(frame.column(column), max(order, OWN_ORDER))[:, 1:]
    row_order = min(3, _sure_fibers(error) // 2)
    across = legendre.legvander(frame.row(row), row_order)
    measured = _shown(np.isfinite(value) & np.isfinite(error))
    trust, scatter = measured.astype(float), 0.0
    own: Floats = np.zeros((len(row), OWN_ORDER))
    for k in range(PASSES):
        weight = trust / (np.where(measured, error, 1.0) ** 2 + scatter**2 + 1e-12)
        rest = np.where(measured, value, 0.0) - own @ along[:, :OWN_ORDER].T
        shared = _fit_shared(along[:, :order], across, rest, weight)
        rest = np.where(measured, value, 0.0) - across @ shared.T @ along[:, :order].T
        level, own = _fit_own(along[:, :OWN_ORDER], rest, weight)
        residual = rest - level[:, None] - own @ along[:, :OWN_ORDER].T
        scatter, trust = _judge(residual, measured, trust, error, gently=k < GENTLE_PASSES)
    return SmoothField(frame, row, level, shared, own, scatter)


def _shown(measured: Bools) -> Bools:
    """Return measurements (n_fiber, n_bin) in columns that show enough fibers."""
    number = measured.sum(axis=0)
    return np.asarray(measured & (number >= LEAST_SHOWN * np.max(number, initial=0)))


def _sure_fibers(error: Floats) -> int:
    """Return how many fibers are measured about as well as the typical one; only they tell the run over rows."""
    typical = np.array([np.median(own[np.isfinite(own)]) if np.isfinite(own).any() else np.inf for own in error])
    return int(np.count_nonzero(typical <= 5 * np.median(typical)))


def _fit_shared(along: Floats, across: Floats, rest: Floats, weight: Floats) -> Floats:
    """Weighted least squares for the shared field of expected size, with free levels, those eliminated first."""
    total = np.maximum(weight.sum(axis=1), 1e-30)
    design = np.einsum("bp,fq->fbpq", along, across).reshape(*rest.shape, -1)
    mean_design = np.einsum("fb,fbk->fk", weight, design) / total[:, None]
    mean_rest = np.sum(weight * rest, axis=1) / total
    centered = (design - mean_design[:, None]).reshape(-1, design.shape[-1])
    weighted = centered * weight.reshape(-1, 1)
    normal = weighted.T @ centered
    orders = np.indices((along.shape[1], across.shape[1])).reshape(2, -1)
    size = DISTORTION * PER_ORDER[0] ** orders[0] * PER_ORDER[1] ** orders[1]
    solution = np.linalg.solve(normal + np.diag(size**-2.0), weighted.T @ (rest - mean_rest[:, None]).ravel())
    return np.asarray(solution.reshape(along.shape[1], across.shape[1]))


def _fit_own(along: Floats, rest: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Fit level and departures of each fiber; shrink the departures by what the population shows."""
    design = np.column_stack([np.ones(len(along)), along])
    normal = np.einsum("fb,bp,bq->fpq", weight, design, design)
    right = np.einsum("fb,bp,fb->fp", weight, design, rest)
    prior = _population_prior(normal, right)
    solution = np.linalg.solve(normal + np.diag(prior), right[..., None])[..., 0]
    return solution[:, 0], solution[:, 1:]


def _population_prior(normal: Floats, right: Floats) -> Floats:
    """Return the inverse variance of each order over the fibers beyond their noise, (n_order,)."""
    n_order = normal.shape[-1]
    size = np.maximum(np.trace(normal, axis1=-2, axis2=-1), 1e-30)
    healthy = normal[:, -1, -1] > 0
    prior = np.zeros(n_order)
    prior[1:] = 1e12
    if healthy.sum() < 6:
        return prior
    ridge = 1e-9 * size[healthy, None, None] * np.eye(n_order)
    covariance = np.linalg.inv(normal[healthy] + ridge)
    free = np.einsum("fpq,fq->fp", covariance, right[healthy])
    noise = np.diagonal(covariance, axis1=-2, axis2=-1)
    for k in range(1, n_order):
        trusted = noise[:, k] <= 4 * np.median(noise[:, k])
        spread = robust_sigma(free[trusted, k])
        variance = spread**2 - np.median(noise[trusted, k])
        prior[k] = 1 / max(variance, 1e-12)
    return prior


def shrink_levels(field: SmoothField, error: Floats) -> SmoothField:
    """Pull the fibers' own levels towards a smooth run over the rows, as far as they are uncertain.

    Parameters
    ----------
    field : SmoothField
        A quantity that changes smoothly over the rows, such as the width of the fibers.
    error : (n_fiber,)
        Error of each level.
    """
    order = min(2, max(0, len(error) // 4 - 1))
    across = legendre.legvander(field.frame.row(field.row), order)
    spread = 0.01 * float(np.median(field.level))
    run = np.full(len(error), np.median(field.level))
    for _ in range(PASSES):
        weight = 1 / (error**2 + spread**2)
        weight = weight * (np.abs(field.level - run) < CLIP * np.sqrt(1 / weight))
        weighted = across * weight[:, None]
        ridge = 1e-9 * weight.sum() * np.eye(order + 1)
        run = across @ np.linalg.solve(weighted.T @ across + ridge, weighted.T @ field.level)
        sure = error <= np.median(error)
        seen = robust_sigma((field.level - run)[sure])
        spread = float(np.sqrt(max(seen**2 - float(np.median(error)) ** 2, 1e-8)))
    trust = spread**2 / (spread**2 + error**2)
    return replace(field, level=run + trust * (field.level - run))


def _judge(residual: Floats, measured: Bools, trust: Floats, error: Floats, *, gently: bool) -> tuple[float, Floats]:
    """Return the scatter beyond the errors and how far each measurement is trusted, 0 to 1.

    Those that lie off have less weight at first, when they have drawn the model to them, and none in the end.
    """
    use = trust > 0
    if not use.any():
        return 0.0, measured.astype(float)
    strong = use & (error <= np.median(error[use]))
    spread = robust_sigma(residual[strong])
    scatter = float(np.sqrt(max(spread**2 - float(np.median(error[strong])) ** 2, 0.0)))
    known = np.sqrt(np.where(measured, error, 1.0) ** 2 + scatter**2)
    pull = np.abs(residual) / (known + 1e-9)
    if gently:
        return scatter, np.where(measured, 1 / np.maximum(pull / HUBER, 1), 0)
    return scatter, np.where(measured & (pull < CLIP), 1.0, 0.0)
