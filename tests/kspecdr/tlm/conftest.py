"""Small flats with known tramlines, rendered independently of the code under test."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy.special import erf


@dataclass(frozen=True)
class Slit:
    """Fibers in K-SPEC's arrangement; the truth of what is rendered."""

    shape: tuple[int, int] = (300, 400)
    first_row: float = 60.3
    spacing: float = 12.06
    n_fiber: int = 14
    sigma: float = 1.4
    wing: float = 0.025  # share of the light in a component three times as wide
    level: float = 20_000.0  # electron per column in the middle of the blaze
    relative: dict = field(default_factory=dict)  # fiber -> throughput, else about 1
    tilt: float = -3.6
    bow: float = 1.2
    read_noise: float = 16.0
    centers: np.ndarray | None = None  # (n_fiber, n_column) rows, where they are not as of the above
    spectra: np.ndarray | None = None  # (n_fiber, n_column) electron, where they are not a flat's

    def center(self) -> np.ndarray:
        if self.centers is not None:
            return self.centers
        x = np.linspace(-1, 1, self.shape[1])
        row = self.first_row + self.spacing * np.arange(self.n_fiber)
        row = row + np.random.default_rng(11).normal(0, 0.15, self.n_fiber)
        scaled = (row - row.mean()) / 100
        return row[:, None] + self.tilt * x / 2 + self.bow * scaled[:, None] * x**2 + 0.3 * x**3

    def light(self) -> np.ndarray:
        if self.spectra is not None:
            return self.spectra
        x = np.linspace(-1, 1, self.shape[1])
        blaze = np.clip(1 - 0.75 * (x - 0.2) ** 2, 0.02, None) * (1 + 0.025 * np.sin(np.arange(len(x)) / 2.2))
        share = 1 + 0.2 * np.random.default_rng(12).uniform(-1, 1, self.n_fiber)
        for fiber, value in self.relative.items():
            share[fiber] = value
        return self.level * share[:, None] * blaze

    def expected(self) -> np.ndarray:
        """Noise-free electrons."""
        row = np.arange(self.shape[0])[:, None]
        total = np.zeros(self.shape)
        for center, light in zip(self.center(), self.light(), strict=True):
            for share, sigma in ((1 - self.wing, self.sigma), (self.wing, 3 * self.sigma)):
                edge = [erf((row + half - center) / (np.sqrt(2) * sigma)) for half in (0.5, -0.5)]
                total += 0.5 * share * light * (edge[0] - edge[1])
        return total

    def observe(self, rng, added: float | np.ndarray = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Flux, variance and an empty mask of bad pixels."""
        expected = self.expected() + added
        flux = rng.poisson(expected) + rng.normal(0, self.read_noise, self.shape)
        variance = self.read_noise**2 + np.clip(flux, 0, None)
        return flux.astype(np.float32), variance.astype(np.float32), np.zeros(self.shape, dtype=bool)


@pytest.fixture
def slit():
    return Slit


@pytest.fixture
def rng():
    return np.random.default_rng(20260127)
