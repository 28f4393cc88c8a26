import numpy as np
import pytest

from kspecdr.extract.aperture import any_in_aperture
from kspecdr.extract.composite import Exposed, composite
from kspecdr.extract.linearity import compare
from kspecdr.products import MaskBit

COLUMN = np.arange(600)
LINES = {"ne": (80, 200, 330), "kr": (140, 420, 520)}


def lamp(name, seconds, *, full=None, height=500.0):
    rate = sum(height * np.exp(-0.5 * ((COLUMN - c) / 1.5) ** 2) for c in LINES[name])
    flux = np.tile(rate * seconds, (2, 1))
    mask = np.zeros(flux.shape, np.uint8)
    if full is not None:
        mask[flux > full] = MaskBit.SATURATED
        flux = np.where(mask, np.nan, flux)
    return Exposed(flux, np.full(flux.shape, 100.0), mask, seconds, name)


def test_one_exposure_is_returned_as_it_is():
    only = lamp("ne", 2.0)
    flux, variance, mask = composite([only])
    assert flux is only.flux
    assert variance is only.variance
    assert mask is only.mask


def test_full_lines_come_from_the_shorter_exposure_scaled_and_lamps_add():
    flux, variance, mask = composite([lamp("ne", 1.0), lamp("ne", 10.0, full=4000.0), lamp("kr", 10.0)])
    truth = lamp("ne", 10.0).flux + lamp("kr", 10.0).flux
    np.testing.assert_allclose(flux, truth, rtol=1e-9, atol=1e-9)
    assert not mask.any()
    assert variance[0, 200] == pytest.approx(100 * 100 + 100)  # ten times the short one, and the krypton's own
    assert variance[0, 260] == pytest.approx(200)


def test_what_is_full_in_every_exposure_is_nan_and_says_why():
    flux, _, mask = composite([lamp("ne", 10.0, full=4000.0), lamp("ne", 20.0, full=4000.0)])
    assert np.isnan(flux[0, 200])
    assert mask[0, 200] & MaskBit.SATURATED


def test_lines_that_do_not_grow_with_the_exposure_are_full(rng):
    short = lamp("ne", 1.0, height=5000.0).flux + rng.normal(0, 3, (2, COLUMN.size))
    clipped = np.minimum(lamp("ne", 20.0, height=5000.0).flux, 30000.0)
    known = np.zeros(short.shape, bool)
    full, lost = compare(short, np.full(short.shape, 9.0), clipped, known)
    assert full[:, list(LINES["ne"])].all()
    assert lost > 0.5
    linear = lamp("ne", 20.0, height=5000.0).flux
    assert compare(short, np.full(short.shape, 9.0), linear, known)[1] == 0.0


def test_exposures_of_two_lamps_say_nothing_of_each_other_being_full():
    ne, kr = lamp("ne", 1.0, height=5000.0).flux, lamp("kr", 1.0, height=5000.0).flux
    known = np.zeros(ne.shape, bool)
    full, lost = compare(ne, np.full(ne.shape, 9.0), kr, known)
    assert not full.any()
    assert lost == 0.0


def test_a_pixel_is_in_the_aperture_by_its_middle():
    plane = np.zeros((20, 3), bool)
    plane[12, 1] = True
    center = np.array([[10.4, 10.4, 10.4], [10.6, 10.6, 10.6]])
    assert any_in_aperture(plane, center, 1.5).tolist() == [[False, False, False], [False, True, False]]
