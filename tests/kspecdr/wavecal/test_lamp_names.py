from dataclasses import replace

import numpy as np
import pytest

from kspecdr.errors import NoSolution
from kspecdr.extract.arc_group import solve_group
from kspecdr.wavecal.arc_io import load_arc_lines
from kspecdr.wavecal.identify import Guess, solve_fibers
from kspecdr.wavecal.lamp_names import mistaken, shown

SLIT = np.linspace(-1, 1, 8)
LAMPS = ("HgAr", "Ne", "Kr", "Cd")
KNOWN = {lamp: load_arc_lines(lamp) for lamp in (*LAMPS, "Xe")}
GUESS = Guess(6230.0, 3.8)


@pytest.fixture
def waves(lamps):
    return lamps.slit(lamps.grating(1340, 6200.0, 150), 3 * SLIT**2, 0.3 * SLIT)


@pytest.fixture
def frames(lamps, rng, waves):
    return [replace(lamps.frame(waves, lamp, peak=3e4, rng=rng), name=f"arc_{lamp}") for lamp in LAMPS]


def off(solution, waves):
    return np.sqrt(np.mean(((solution.wave - waves) / np.gradient(waves, axis=1))[:, 60:1281] ** 2))


def test_right_names_are_not_doubted(frames, waves):
    solution, wrong = solve_group(frames, LAMPS, GUESS)
    assert wrong == {}
    assert off(solution, waves) < 0.02


@pytest.mark.parametrize(("k", "name"), [(3, "Ne"), (1, "Kr"), (0, "Xe")])
def test_exposure_of_another_lamp_is_left_out_and_its_lamp_is_named(frames, waves, k, name):
    frames[k] = replace(frames[k], lamp=KNOWN[name])
    lamps = [name if n == k else lamp for n, lamp in enumerate(LAMPS)]
    solution, wrong = solve_group(frames, lamps, GUESS)
    assert list(wrong) == [k]
    assert f"it shows {LAMPS[k].lower()} (" in wrong[k].lower()
    assert f"not {name} (" in wrong[k]
    assert set(solution.lines.frame.tolist()) == {0, 1, 2}
    assert off(solution, waves) < 0.02


def test_lamp_without_a_table_of_its_own_name_is_no_reason_to_doubt(frames):
    solution = solve_fibers(frames, GUESS)
    both = replace(frames[1], lamp=load_arc_lines("NeXe"))  # named after more than shines
    assert mistaken(both, solution, "NeXe", KNOWN) == ""


def test_group_of_wrong_names_alone_is_refused(frames):
    swapped = [replace(frames[0], lamp=KNOWN["Ne"]), replace(frames[1], lamp=KNOWN["Xe"])]
    with pytest.raises(NoSolution, match="lamp"):
        solve_group(swapped, ("Ne", "Xe"), GUESS)


def test_chance_explains_as_many_peaks_as_a_dense_table_covers(rng):
    wave = 4000 + 3.8 * np.arange(1340)
    lines = KNOWN["Ne"].wavelength
    lines = lines[(lines > wave[5]) & (lines < wave[-5])][:30]
    right = shown(np.interp(lines, wave, np.arange(1340)), wave, KNOWN["Ne"], 3.5)
    assert right.n_met == right.n_peak
    assert right.likelihood > 20
    anywhere = [shown(rng.uniform(0, 1339, 30), wave, KNOWN["Ne"], 3.5).likelihood for _ in range(50)]
    assert max(anywhere) < -10
