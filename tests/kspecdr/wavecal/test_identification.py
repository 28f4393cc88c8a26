import numpy as np
import pytest

from kspecdr.wavecal.features import Features
from kspecdr.wavecal.identification import Identification
from kspecdr.wavecal.lines import Peaks
from kspecdr.wavecal.pattern import Candidates

LINES = Features(np.ones(3), np.zeros(3), np.zeros(3), np.zeros(3, dtype=int), ("Ne",), np.zeros(1, dtype=int))


def peaks(n):
    return Peaks(50.0 * np.arange(n), np.linspace(100, 1000, n), np.ones(n), 3.7)


def found(n, n_matched, evidence, margin):
    matched = np.zeros((2, n), dtype=bool)
    matched[:, n - n_matched :] = True
    evidences = np.array([evidence, evidence - margin])
    return Candidates(np.zeros((2, 4)), evidences, matched, np.zeros((2, n), dtype=int), np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("n", "n_matched", "evidence", "margin", "doubt"),
    [
        (40, 30, 60.0, 50.0, ""),
        (40, 39, -5.0, 15.0, ""),  # a poor table, but all peaks explained as one way only explains them
        (40, 39, -5.0, 5.0, "not unique"),
        (40, 32, -5.0, 15.0, "not unique"),
        (8, 8, -5.0, 15.0, "not unique"),
        (8, 8, -5.0, 20.0, ""),
        (40, 39, -40.0, 20.0, "no better than chance"),
        (40, 10, 60.0, 50.0, "explain"),
        (5, 4, 60.0, 50.0, "fit the lamp"),
    ],
)
def test_pattern_is_believed_by_what_it_explains_and_how_far_it_is_from_the_next(n, n_matched, evidence, margin, doubt):
    said = Identification(peaks(n), LINES, found(n, n_matched, evidence, margin)).doubt
    assert doubt in said
    assert bool(said) == bool(doubt)
