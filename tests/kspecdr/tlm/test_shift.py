from dataclasses import replace

import numpy as np
import pytest

from kspecdr.tlm.shift import measure_shift


def displaced(slit, rng, *, offset, light=None, **changes):
    """A frame of the slit moved by `offset` rows, and the shift measured against the unmoved truth."""
    truth = slit(**changes)
    moved = replace(truth, first_row=truth.first_row + offset)
    if light is not None:
        object.__setattr__(moved, "light", lambda: light)
    flux, variance, bad = moved.observe(rng)
    center = truth.center()
    return measure_shift(flux, variance, bad, center, np.full(center.shape, truth.sigma)), moved.center() - center


@pytest.mark.parametrize("offset", [0.0, 0.7, -1.4, 4.0])
def test_shift_of_a_flat_like_frame(slit, rng, offset):
    shift, _ = displaced(slit, rng, offset=offset)
    assert shift.offset == pytest.approx(offset, abs=0.005)
    assert abs(shift.stretch) < 2e-4
    assert shift.n_fiber >= 10


def test_error_speaks_the_truth_in_faint_light(slit, rng):
    pulls = []
    for _ in range(12):
        shift, _ = displaced(slit, rng, offset=0.6, level=60.0)
        pulls.append((shift.offset - 0.6) / shift.error)
    assert 0.4 < np.std(pulls) < 1.8
    assert abs(np.mean(pulls)) < 1.0


def test_a_few_arc_lines_are_enough(slit, rng):
    column = np.arange(400)
    lines = sum(np.exp(-0.5 * ((column - at) / 1.5) ** 2) for at in (57.3, 211.8, 340.1))
    light = np.outer(np.linspace(0.3, 1.0, 14), 8000 * lines)
    shift, _ = displaced(slit, rng, offset=-0.8, light=light)
    assert shift.offset == pytest.approx(-0.8, abs=0.02)


def test_stretch_is_measured(slit, rng):
    truth = slit()
    flux, variance, bad = truth.observe(rng)
    middle = truth.center().mean()
    mapped = middle + (truth.center() - 0.4 - middle) / 1.002
    shift = measure_shift(flux, variance, bad, mapped, np.full(mapped.shape, truth.sigma))
    assert np.abs(shift.applied(mapped) - truth.center()).max() < 0.02


def test_tilt_is_measured(slit, rng):
    truth = slit()
    flux, variance, bad = truth.observe(rng)
    mapped = truth.center() - 0.3 - 0.15 * np.linspace(-1, 1, 400)
    shift = measure_shift(flux, variance, bad, mapped, np.full(mapped.shape, truth.sigma))
    assert shift.tilt == pytest.approx(0.15, abs=0.01)
    assert np.abs(shift.applied(mapped) - truth.center()).max() < 0.02


def test_hits_do_not_move_it(slit, rng):
    truth = slit(level=300.0)
    flux, variance, bad = truth.observe(rng)
    flux[rng.integers(50, 250, 300), rng.integers(0, 400, 300)] += 5000
    center = truth.center() + 0.5
    shift = measure_shift(flux, variance + np.clip(flux, 0, None), bad, center, np.full(center.shape, truth.sigma))
    assert shift.offset == pytest.approx(-0.5, abs=0.05)


def test_a_frame_without_light_gives_no_shift(slit, rng):
    truth = slit()
    dark = rng.normal(0, 16, truth.shape)
    center = truth.center()
    width = np.full(center.shape, truth.sigma)
    shift = measure_shift(dark, np.full(dark.shape, 256.0), np.zeros(dark.shape, dtype=bool), center, width)
    assert shift.n_fiber == 0
    assert shift.offset == 0
    assert np.isinf(shift.error)
