"""Cosmic rays: tracks of charged particles through a thin silicon layer.

A particle that crosses the depleted layer leaves about 80 electrons per micrometre of path, more along the
tail of the Landau distribution; slanted ones leave tracks. Scattered electrons leave crooked, bright ones.
"""

import numpy as np

from kspecdr.arrays import Floats, Ints
from kspecdr.simulate.instrument import Detector

THICKNESS_UM = 16.0
ELECTRONS_PER_UM = 80.0
DIFFUSION = 0.28  # px, by which the charge spreads
POINTS_PER_PIXEL = 6
LEAST_ELECTRONS = 1.0  # less is not called a hit


def cosmic_hits(detector: Detector, exposure_s: float, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Return the pixels that cosmic rays hit.

    Returns
    -------
    pixels, electrons
        (n, 2) row and column, (n,) electron. Rows count from the first row that sees light.
    """
    shape = (detector.n_row, detector.n_column)
    area_cm2 = shape[0] * shape[1] * (detector.pixel_um * 1e-4) ** 2
    n_hit = rng.poisson(detector.cosmic_rate * area_cm2 * exposure_s / 60.0)
    charge = np.zeros(shape, dtype=np.float32)
    for _ in range(n_hit):
        row, column, electrons = _track(detector, rng)
        inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
        np.add.at(charge, (row[inside], column[inside]), electrons[inside])
    pixels = np.argwhere(charge > LEAST_ELECTRONS)
    return pixels, charge[tuple(pixels.T)].astype(float)


def _track(detector: Detector, rng: np.random.Generator) -> tuple[Ints, Ints, Floats]:
    """Return pixels and charges of points along one track, spread by diffusion."""
    crooked = rng.random() < 0.25
    slant = np.sqrt(rng.random())  # cosine of the zenith angle, distributed as cos(theta) sin(theta)
    length_um = THICKNESS_UM * min(np.sqrt(1.0 / slant**2 - 1.0), 60.0)
    if crooked:
        length_um = rng.exponential(60.0)
    length = length_um / detector.pixel_um
    n_point = 8 + int(POINTS_PER_PIXEL * length)
    bend = np.cumsum(rng.normal(0.0, 0.12, n_point)) if crooked else 0.0
    angle = rng.uniform(0.0, 2.0 * np.pi) + bend
    step = length / n_point
    row = rng.uniform(0, detector.n_row) + np.cumsum(step * np.sin(angle) * np.ones(n_point))
    column = rng.uniform(0, detector.n_column) + np.cumsum(step * np.cos(angle) * np.ones(n_point))
    path_um = np.hypot(length_um, THICKNESS_UM)
    loss = ELECTRONS_PER_UM * path_um * (1.0 + rng.gamma(0.6, 0.6)) * (3.0 if crooked else 1.0)
    spread = rng.normal(0.0, DIFFUSION, (2, 30, n_point))
    shares = np.full((30, n_point), loss / (30 * n_point))
    return (
        np.rint(row + spread[0]).astype(int).ravel(),
        np.rint(column + spread[1]).astype(int).ravel(),
        shares.ravel(),
    )
