import numpy as np
import pytest

from kspecdr.wavecal.dispersion import DEGREE, SMOOTH, Dispersion
from kspecdr.wavecal.features import Features
from kspecdr.wavecal.screen import doubtful_lines
from kspecdr.wavecal.solution import Measurements

N_COLUMN = 1340
NOTHING = np.zeros(DEGREE + 1)
LINES = np.array([4200, 4700, 4900, 5100, 5400, 5460, 5770, 5790, 6000, 6300, 6400.0])


def flat_model():
    shape = np.zeros(DEGREE + 1)
    shape[:2] = 6200.0, 4.0 * 0.5 * (N_COLUMN - 1)
    return Dispersion(N_COLUMN, shape, np.zeros((1, 1 + SMOOTH)), np.zeros(0))


def at(wavelengths, rng, moved=()):
    n = len(wavelengths)
    column = (np.asarray(wavelengths) - 6200) / 4 + 0.5 * (N_COLUMN - 1) + 0.02 * rng.normal(size=n)
    for k, px in moved:
        column[k] += px
    zero = np.zeros(n, dtype=int)
    return Measurements(zero, np.arange(n), column, np.full(n, 0.02), np.asarray(wavelengths, float), np.zeros(n))


def lamp(wavelengths, brightness=0.0):
    n = len(wavelengths)
    return Features(
        np.asarray(wavelengths, float),
        np.zeros(n),
        np.zeros(n) + brightness,
        np.zeros(n, dtype=int),
        ("Ne",),
        np.zeros(1, dtype=int),
    )


def test_lines_that_agree_are_kept(rng):
    assert not doubtful_lines(at(LINES, rng), flat_model(), lamp(LINES), base=NOTHING).any()


@pytest.mark.parametrize("wrong", [0, 5, len(LINES) - 1])
def test_line_that_contradicts_the_others_is_found_even_at_the_end(rng, wrong):
    off = doubtful_lines(at(LINES, rng, [(wrong, 2.5)]), flat_model(), lamp(LINES), base=NOTHING)
    assert np.flatnonzero(off).tolist() == [wrong]


def test_far_line_in_a_crowd_is_no_evidence(rng):
    far = np.append(LINES, 8000.0)
    sparse = lamp(far, np.append(np.zeros(len(LINES)), -3))
    crowd = lamp(np.append(far, 8000 + 12.0 * np.arange(-20, 20)), -3.0)
    assert not doubtful_lines(at(far, rng), flat_model(), sparse, base=NOTHING)[-1]
    assert doubtful_lines(at(far, rng), flat_model(), crowd, base=NOTHING)[-1]


def test_lone_line_at_an_end_is_no_evidence_where_lines_are_few(rng):
    few = np.array([3900, 5000, 5010, 6100, 6200, 8300, 8320, 8440, 8460.0])
    crowd = lamp(np.append(few, 3900 + 24.0 * np.arange(-15, 15) + 12), 0.0)
    off = doubtful_lines(at(few, rng, [(0, 5.5)]), flat_model(), crowd, base=NOTHING)
    assert off[0]
    assert not off[1:].any()


def test_lines_beyond_a_gap_are_believed_together(rng):
    near, far = np.array([3700, 3720, 3740, 3800, 3830, 3900.0]), np.array([6100, 6650, 7200, 7700, 8300.0])
    crowd = lamp(np.concatenate([near, far, 6100 + 40.0 * np.arange(-8, 60) + 20]), 0.0)
    off = doubtful_lines(at(np.append(near, far), rng), flat_model(), crowd, base=NOTHING)
    assert not off.any()
    alone = doubtful_lines(at(np.append(near, far[:1]), rng), flat_model(), crowd, base=NOTHING)
    assert np.flatnonzero(alone).tolist() == [len(near)]


def test_lines_that_disagree_beyond_a_gap_do_not_confirm_each_other(rng):
    near, far = np.array([3700, 3720, 3740, 3800, 3830, 3900.0]), np.array([6100, 6650, 7200, 7700, 8300.0])
    crowd = lamp(np.concatenate([near, far, 6100 + 40.0 * np.arange(-8, 60) + 20]), 0.0)
    moved = [(len(near) + k, px) for k, px in enumerate((3.0, -4.0, 5.0, -5.0, 4.0))]
    off = doubtful_lines(at(np.append(near, far), rng, moved), flat_model(), crowd, base=NOTHING)
    assert off[len(near) :].all()
    assert not off[: len(near)].any()
