"""The small version of the validation: bounds that a regression breaks."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kspecdr.errors import BadOption
from kspecdr.validate.figures import (
    NO_GOAL,
    Measured,
    as_json,
    at_least,
    at_most,
    by_source,
    table,
    within,
    worst_of,
)
from kspecdr.validate.scoreboard import Campaign, conclude, measure_detector, measure_night, run

# The goals, except on small frames, whose 512 columns hold fewer lines, less light and one sky fiber
BOUNDS = {
    ("tramlines", "rms, px"): at_most(0.01),
    ("tramlines", "largest error, px"): at_most(0.02),
    ("tramlines", "fibers wrongly named dead or alive"): at_most(0),
    ("tramlines", "rms after the shift of a frame, px"): at_most(0.02),
    ("wavelengths", "rms, all lamps, px"): at_most(0.02),
    ("wavelengths", "rms, worst lamp alone within its lines, px"): at_most(0.1),
    ("wavelengths", "lamps alone that are refused"): at_most(0),
    ("wavelengths", "lamps alone solved wrongly"): at_most(0),
    ("wavelengths", "solved twice, the same answer (1: yes)"): within(1, 0),
    ("SUM", "bias of flux over allowed (0.005 or 3 sigma), objects"): at_most(1.0),
    ("SUM", "width of the pull, objects"): within(1.0, 0.03),
    ("GAUSS", "bias of flux over allowed (0.003 or 3 sigma), objects"): at_most(1.5),
    ("GAUSS", "width of the pull, objects"): within(1.0, 0.03),
    ("OPTEX", "bias of flux over allowed (0.003 or 3 sigma), objects"): at_most(1.5),
    ("OPTEX", "width of the pull, objects"): within(1.0, 0.03),
    ("OPTEX", "cross-talk, %"): at_most(0.1),
    ("cosmic rays", "found, objects, %"): at_least(94.5),
    ("cosmic rays", "found, arcs, %"): at_least(95.0),
    ("cosmic rays", "marked falsely, objects, 1e-5"): at_most(2.1),  # one pixel of the few there are
    ("cosmic rays", "marked falsely, arcs, 1e-5"): at_most(2.1),
    ("rebinning", "flux lost or gained"): at_most(1e-6),
    ("rebinning", "variance, true over claimed"): within(1.0, 0.02),
    ("rebinning", "covariance, true over claimed"): within(1.0, 0.02),
    ("throughput", "worst fiber's level, %"): at_most(1.0),
    ("throughput", "worst fiber's change along the columns, rms, %"): at_most(0.5),
    ("sky", "continuum left, worst fiber, over allowed (1 % or 3 sigma)"): at_most(1.0),
    ("sky", "lines left over noise, over sqrt(1 + 1/N)"): at_most(1.0),
    ("variance", "predicted over true at 0 e-"): within(1.0, 0.02),
    ("variance", "predicted over true at 2000 e-"): within(1.0, 0.02),
    ("master bias", "hits left above 7 sigma"): at_most(0),
    ("master bias", "noise over RN / sqrt(N)"): at_most(1.02),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def measured(pictures):
    return [*measure_night("small", 1, pictures), *measure_detector(1, small=True)]


@pytest.mark.parametrize("figure", BOUNDS, ids=" ".join)
def test_the_figure_keeps_its_bound(measured, figure):
    own = [each for each in measured if (each.step, each.figure) == figure]
    assert own
    for each in own:
        assert BOUNDS[figure].missed_by(each.value) <= 0, each


def test_every_operation_keeps_the_flux_of_bright_fibers(measured):
    median = {m.step: float(m.note.rsplit(" ", 1)[1]) for m in measured if m.figure.endswith("sigma), flats")}
    assert {"SUM", "GAUSS", "OPTEX"} <= set(median)
    assert max(map(abs, median.values())) < 0.001


def test_pictures_are_drawn(measured, pictures):
    assert measured
    drawn = {path.name for path in pictures.iterdir()}
    assert drawn == {f"small_{what}.png" for what in ("traces", "pulls", "cosmics", "wavelengths", "sky")}


FIGURES = [
    Measured("map", "rms, px", "one", 0.002, at_most(0.003)),
    Measured("map", "rms, px", "two", 0.004, at_most(0.003), "fiber 7"),
    Measured("noise", "pull", "one", 0.98, within(1.0, 0.03)),
    Measured("noise", "lost", "one", 3.0),
    Measured("hits", "found, %", "one", np.nan, at_least(95.0), "no hits"),
]


def test_the_worst_night_stands_for_a_figure():
    assert [each.source for each in worst_of(FIGURES)] == ["two", "one", "one", "one"]
    assert [each.verdict for each in worst_of(FIGURES)] == ["short", "ok", "-", "short"]


def test_the_tables_name_what_falls_short():
    assert "| 0.004    | <= 0.003  | short | two      | fiber 7 |" in table(FIGURES)
    assert "0.004 *" in by_source(FIGURES)
    assert [each["value"] for each in json.loads(as_json(FIGURES))] == [0.002, 0.004, 0.98, 3.0, None]
    assert str(FIGURES[2].goal) == "1 +- 0.03"


@pytest.mark.parametrize(("strict", "code"), [(True, 1), (False, 0)])
def test_strict_ends_with_one_where_a_goal_is_missed(capsys, tmp_path, strict, code):
    assert conclude(FIGURES, tmp_path / "figures.json", strict=strict) == code
    assert "2 of 4 goals met" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "figures.json").read_text())) == len(FIGURES)


def test_strict_ends_with_nothing_where_all_are_met():
    assert conclude([replace(each, goal=NO_GOAL) for each in FIGURES], strict=True) == 0


def test_an_unknown_night_is_refused_with_the_known_ones():
    with pytest.raises(BadOption, match="night 'plane' is not known; expected some of plain, "):
        run(Campaign(nights=("plane",)))
