"""Lines that are not the lamp's: never a solution, however many are tried."""

import numpy as np
import pytest

from kspecdr.errors import NoSolution
from kspecdr.wavecal.arc_frames import ArcFrame
from kspecdr.wavecal.arc_io import load_arc_lines
from kspecdr.wavecal.identify import Guess, solve_fibers
from kspecdr.wavecal.lamp import joined

ELEMENTS = np.array(["ar", "cd", "he", "hg", "kr", "ne", "xe", "zn"])
N_COLUMN = 1340


def strange_lines(kind, wave, rng):
    """Places (px) and heights of the lines of elements or of none, and the elements that a header claims."""
    true = rng.choice(ELEMENTS, rng.integers(1, 4), replace=False)
    named = rng.choice(np.setdiff1d(ELEMENTS, true), rng.integers(1, 4), replace=False)
    if kind == "random":
        n = int(rng.integers(6, 50))
        return rng.uniform(0, N_COLUMN, n), np.exp(1.5 * rng.normal(size=n)), named
    lamp = joined(load_arc_lines(name) for name in true)
    inside = (lamp.wavelength > wave.min()) & (lamp.wavelength < wave.max())
    place = np.interp(lamp.wavelength[inside], np.sort(wave), np.arange(N_COLUMN))
    place = place if wave[-1] > wave[0] else N_COLUMN - 1 - place
    return place, lamp.intensity[inside] * np.exp(0.8 * rng.normal(size=len(place))), named


def accepted(lamps, kind, seed):
    """Whether a strange spectrum is solved."""
    rng = np.random.default_rng([20260122, seed])
    px = np.exp(rng.uniform(np.log(0.5), np.log(4.5)))
    center = rng.uniform(4200 + 300 * px, 9000 - 300 * px)
    wave = center + px * (np.arange(N_COLUMN) - 669.5) * rng.choice([-1, 1])
    place, height, named = strange_lines(kind, wave, rng)
    if not len(place):
        return False
    height = height * np.exp(rng.uniform(np.log(3e2), np.log(3e5))) / height.max()
    light = (height[:, None] * lamps.bell(np.arange(N_COLUMN), place[:, None], rng.uniform(1, 2))).sum(axis=0)
    flux = light + rng.normal(size=N_COLUMN) * np.sqrt(light + 30**2)
    lamp = joined(load_arc_lines(name) for name in named)
    guess = Guess(center + rng.uniform(-60, 60) * px, px * rng.uniform(0.9, 1.1))
    try:
        solve_fibers([ArcFrame(flux[None], lamp)], guess)
    except NoSolution:
        return False
    return True


@pytest.mark.parametrize("kind", ["another lamp", "random"])
def test_lines_that_are_not_the_lamps_are_refused(lamps, kind):
    assert [seed for seed in range(15) if accepted(lamps, kind, seed)] == []


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["another lamp", "random"])
def test_lines_that_are_not_the_lamps_are_refused_a_thousand_times(lamps, kind):
    assert [seed for seed in range(15, 1015) if accepted(lamps, kind, seed)] == []
