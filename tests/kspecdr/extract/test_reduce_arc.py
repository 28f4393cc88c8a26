from dataclasses import replace

import numpy as np
import pytest

from kspecdr.errors import NoSolution
from kspecdr.extract.reduce_arc import ArcExposure, solve_arcs
from kspecdr.products import MaskBit
from kspecdr.simulate import PRESETS
from kspecdr.simulate.presets import arcs, calibrations
from kspecdr.validate.nights import reduce_night


@pytest.fixture(scope="module")
def night():
    few = (*calibrations(n_bias=3, darks=(10.0, 10.0), n_flat=1), *arcs(("hgar", "ne", "kr")))
    return reduce_night("small", replace(PRESETS["small"], exposures=few), 1)


@pytest.fixture(scope="module")
def exposures(night):
    return [ArcExposure(shot.name, night.spectra(shot), shot.truth.exposure.lamp) for shot in night.arcs]


def off(solved, night):
    truth = night.arcs[0].truth.wavelength
    return np.sqrt(np.mean(((solved.spectra.wave - truth) / np.gradient(truth, axis=1))[:, 60:-60] ** 2))


def test_lamps_of_a_setting_are_solved_together(exposures, night):
    solved = solve_arcs(exposures)
    assert solved.used == tuple(each.name for each in exposures)
    assert not solved.set_aside
    assert not solved.warnings
    assert off(solved, night) < 0.03  # few columns
    assert set(solved.spectra.lines["frame"]) == set(solved.used)


def test_mislabelled_lamp_is_set_aside_and_named(exposures, night):
    wrong = [exposures[0], replace(exposures[1], lamp="hgar"), exposures[2]]
    solved = solve_arcs(wrong)
    assert list(solved.set_aside) == [1]
    assert solved.used == (exposures[0].name, exposures[2].name)
    assert any(f"{exposures[1].name} set aside: it shows ne (" in warning for warning in solved.warnings)
    assert any("not hgar" in warning for warning in solved.warnings)
    assert off(solved, night) < 0.03  # few columns
    assert exposures[1].name not in set(solved.spectra.lines["frame"])


def full(exposure):
    spectra = exposure.spectra
    mask = np.full(spectra.mask.shape, MaskBit.SATURATED, dtype=np.uint8)
    return replace(exposure, spectra=replace(spectra, mask=mask))


def dark(exposure, rng):
    spectra = exposure.spectra
    noise = rng.normal(size=spectra.flux.shape) * 30
    return replace(exposure, spectra=replace(spectra, flux=noise, variance=np.full(noise.shape, 900.0)))


def test_arc_of_a_wrong_lamp_says_that_the_name_is_to_be_checked(exposures):
    with pytest.raises(NoSolution, match="check the lamp's name"):
        solve_arcs([replace(exposures[2], lamp="ne")])


def test_arc_that_is_full_everywhere_says_so(exposures):
    with pytest.raises(NoSolution, match="saturated"):
        solve_arcs([full(exposures[1])])


def test_arc_without_light_says_so(exposures, rng):
    with pytest.raises(NoSolution, match="lamp was on"):
        solve_arcs([dark(exposures[1], rng)])


def test_dark_exposure_among_others_spoils_nothing(exposures, night, rng):
    solved = solve_arcs([exposures[0], dark(exposures[1], rng), exposures[2]])
    assert "no emission line" in solved.set_aside[1]
    assert off(solved, night) < 0.03  # few columns
