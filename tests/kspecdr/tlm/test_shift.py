from dataclasses import replace

import numpy as np
import pytest

from kspecdr.tlm.identity import Expected
from kspecdr.tlm.shift import measure_shift


def displaced(slit, rng, *, offset, light=None, **changes):
    """A frame of the slit moved by `offset` rows, and the shift measured against the unmoved truth."""
    truth = slit(**changes)
    moved = replace(truth, first_row=truth.first_row + offset, spectra=light)
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


FAINT_ENDS = {0: 0.015, 13: 0.02}
LINE = np.exp(-0.5 * ((np.arange(400) - 180.0) / 1.5) ** 2)


def expected(*, lamp, ends=0.2):
    return Expected(np.array([ends, *np.ones(12), ends]), lamp=lamp)


def moved_by(slit, rng, offset, light, *, irregular=0.06, lamp=True):
    """The shift measured of a slit whose fibers lie `irregular` px off an even spacing and moved by `offset`."""
    center = 70 + 12.06 * np.arange(14) + irregular * np.random.default_rng(3).normal(size=14)
    center = center[:, None] - 1.8 * np.linspace(-1, 1, 400)
    truth = slit(centers=center + offset, spectra=light)
    flux, variance, bad = truth.observe(rng)
    return measure_shift(flux, variance, bad, center, np.full(center.shape, truth.sigma), expected=expected(lamp=lamp))


@pytest.mark.parametrize("offset", [-10.0, -6.0, 0.4, 6.0, 10.0])
@pytest.mark.parametrize("irregular", [0.0, 0.06])
def test_an_arc_is_not_placed_a_fiber_off(slit, rng, offset, irregular):
    light = np.outer([FAINT_ENDS.get(k, 1.0) for k in range(14)], 8000 * LINE)
    shift = moved_by(slit, rng, offset, light, irregular=irregular)
    assert shift.offset == pytest.approx(offset, abs=0.05)
    assert np.isnan(shift.rival)


@pytest.mark.parametrize("offset", [-12.0, 12.0])
@pytest.mark.parametrize("irregular", [0.0, 0.06])
def test_an_arc_moved_by_a_whole_fiber_is_placed_or_its_place_is_the_rival(slit, rng, offset, irregular):
    light = np.outer([FAINT_ENDS.get(k, 1.0) for k in range(14)], 8000 * LINE)
    shift = moved_by(slit, rng, offset, light, irregular=irregular)
    assert offset in (pytest.approx(shift.offset, abs=0.05), pytest.approx(shift.rival, abs=0.1))


@pytest.mark.parametrize("offset", [-10.0, -4.0, 0.7, 4.0, 10.0])
def test_objects_are_identified_by_the_irregularity_of_the_slit(slit, rng, offset):
    light = np.outer([0.0, *10 ** rng.uniform(-0.7, 1.2, 12), 0.0], np.full(400, 300.0))
    shift = moved_by(slit, rng, offset, light, lamp=False)
    assert shift.offset == pytest.approx(offset, abs=0.1)
    assert np.isnan(shift.rival)


def test_a_single_star_in_a_regular_slit_does_not_tell_ten_pixels_from_minus_two(slit, rng):
    light = np.outer(np.arange(14) == 6, np.full(400, 3000.0))
    shift = moved_by(slit, rng, 10.0, light, irregular=0.0, lamp=False)
    assert {round(shift.offset, 1), round(shift.rival, 1)} == {10.0, -2.1}


def test_a_single_star_little_moved_is_trusted(slit, rng):
    light = np.outer(np.arange(14) == 6, np.full(400, 3000.0))
    shift = moved_by(slit, rng, 0.9, light, lamp=False)
    assert shift.offset == pytest.approx(0.9, abs=0.02)
    assert np.isnan(shift.rival)


def test_full_pixels_show_where_the_light_is(slit, rng):
    """An arc whose lines are full in their cores: what is left of them lies between the fibers."""
    lines = sum(np.exp(-0.5 * ((np.arange(400) - at) / 1.5) ** 2) for at in range(20, 400, 30))
    truth = slit(spectra=np.outer(np.ones(14), 2e6 * lines))
    flux, variance, _ = truth.observe(rng)
    mask = np.where(flux > 5e4, np.uint8(2), np.uint8(0))
    center = truth.center()
    found = measure_shift(np.minimum(flux, 5e4), variance, mask, center, np.full(center.shape, truth.sigma))
    assert found.offset == pytest.approx(0, abs=0.1)
    assert np.isnan(found.rival)
