from dataclasses import replace

import numpy as np
import pytest

from kspecdr.errors import BadOption, NoSolution, PoorSolution
from kspecdr.wavecal.arc_frames import ArcFrame
from kspecdr.wavecal.arc_io import load_arc_lines
from kspecdr.wavecal.arc_solution import fit_warnings
from kspecdr.wavecal.identify import Guess, solve_arc, solve_fibers

SLIT = np.linspace(-1, 1, 8)


def slit_of(lamps, rng, wave):
    return lamps.slit(wave, 3 * SLIT**2 + rng.normal(size=8) * 0.4, 0.3 * SLIT)


def deviation(solution, waves):
    """Root mean square over columns 60 to 1280, px."""
    px = np.abs(np.gradient(waves, axis=1))
    return np.sqrt(np.mean(((solution.wave - waves) / px)[:, 60:1281] ** 2))


@pytest.mark.parametrize("descending", [False, True])
def test_fibers_are_solved_from_a_poor_guess(lamps, rng, descending):
    wave = lamps.grating(1340, 6200.0, 150)
    waves = slit_of(lamps, rng, wave[::-1] if descending else wave)
    frame = lamps.frame(waves, "HgArNeKrCd", peak=1e5, rng=rng)
    solution = solve_fibers([frame], Guess(6200.0 + 150, 3.6))
    assert deviation(solution, waves) < 0.02
    assert solution.held_out_rms < 0.1
    assert (solution.status == "fitted").all()
    measured = solution.shifts - solution.shifts.mean()
    middle = (waves[:, 669] - waves[:, 669].mean()) / -np.gradient(waves[0])[669]
    assert np.abs(measured - middle).max() < 0.02


def test_dark_fiber_is_interpolated_and_said_so(lamps, rng):
    waves = lamps.slit(lamps.grating(1340, 6200.0, 150), 3 * SLIT**2, 0.3 * SLIT)
    throughput = np.where(np.arange(8) == 3, 0.0, 1.0)
    solution = solve_fibers(
        [lamps.frame(waves, "HgArNeKrCd", peak=1e5, rng=rng, throughput=throughput)], Guess(6200, 4.0)
    )
    assert solution.status.tolist() == ["fitted"] * 3 + ["interpolated"] + ["fitted"] * 4
    assert not (solution.lines.fiber == 3).any()
    assert np.abs(solution.wave[3] - waves[3]).max() < 0.3 * 4


def test_saturated_lines_come_from_the_shorter_exposure(lamps, rng):
    waves = slit_of(lamps, rng, lamps.grating(1340, 4900.0, 300))
    short = lamps.frame(waves, "HgArNeKrCd", peak=3e4, rng=rng, full_well=2e5)
    long = lamps.frame(waves, "HgArNeKrCd", peak=3e6, rng=rng, full_well=2e5)
    solution = solve_fibers([short, long], Guess(4930.0, 1.9))
    full = solution.lines[solution.lines.why == "saturated"]
    assert set(full.frame.tolist()) == {1}
    brightest = np.abs(solution.lines.wavelength - 4799.9123) < 0.01
    assert (solution.lines.why[brightest & (solution.lines.frame == 0)] == "used").all()
    assert deviation(solution, waves) < 0.02


def test_lamps_in_frames_of_their_own_are_solved_together(lamps, rng):
    waves = slit_of(lamps, rng, lamps.grating(1340, 6200.0, 150))
    frames = [lamps.frame(waves, lamp, peak=3e4, rng=rng) for lamp in ("HgAr", "Ne", "Cd")]
    solution = solve_fibers(frames, Guess(6170.0, 3.7))
    assert deviation(solution, waves) < 0.02
    assert {"Hg", "Ne", "Cd"} <= set(solution.lines.label[solution.lines.used])


@pytest.mark.parametrize("lamp", ["Ne", "Kr"])
def test_single_lamp_is_solved_within_its_lines(lamps, rng, lamp):
    waves = slit_of(lamps, rng, lamps.grating(1340, 7000.0, 150))
    solution = solve_fibers([lamps.frame(waves, lamp, peak=1e5, rng=rng)], Guess(7000.0, 3.7))
    used = solution.lines.column[solution.lines.used]
    inside = slice(int(used.min()), int(used.max()) + 1)
    px = np.abs(np.gradient(waves, axis=1))
    assert np.sqrt(np.mean(((solution.wave - waves) / px)[:, inside] ** 2)) < 0.05
    assert (solution.wave_error / px)[:, : inside.start].min(initial=1) > 0.005


def test_same_frames_give_the_same_solution(lamps, rng):
    waves = slit_of(lamps, rng, lamps.grating(1340, 6200.0, 150))
    frame = lamps.frame(waves, "HgAr", peak=1e5, rng=rng)
    first, second = (solve_fibers([frame], Guess(6200.0, 3.7)) for _ in range(2))
    assert np.array_equal(first.wave, second.wave)


def test_lamp_of_another_name_is_refused(lamps, rng):
    waves = slit_of(lamps, rng, lamps.grating(1340, 6200.0, 150))
    true = lamps.frame(waves, "HgAr", peak=1e5, rng=rng)
    frame = ArcFrame(true.flux, load_arc_lines("Ne"), true.variance, true.mask)
    with pytest.raises(NoSolution, match="check the lamp's name"):
        solve_fibers([frame], Guess(6200.0, 4.0))


def test_dark_frame_is_refused(rng):
    flux = 16 * rng.normal(size=(8, 1340))
    with pytest.raises(NoSolution, match="no fiber shows emission lines"):
        solve_fibers([ArcFrame(flux, load_arc_lines("Ne"), np.full(flux.shape, 256.0))], Guess(6200.0, 4.0))


def test_lines_that_are_full_in_the_only_exposure_still_tell_the_pattern(lamps, rng):
    waves = slit_of(lamps, rng, lamps.grating(1340, 4900.0, 300))
    frame = lamps.frame(waves, "HgArNeKrCd", peak=3e6, rng=rng, full_well=3e5)
    solution = solve_fibers([frame], Guess(4930.0, 2.0))
    assert (solution.lines.why[np.abs(solution.lines.wavelength - 4799.9123) < 0.01] == "saturated").all()
    assert solution.margin > 40
    assert deviation(solution, waves) < 0.03


def test_frame_saturated_all_over_is_refused(lamps, rng):
    waves = slit_of(lamps, rng, lamps.grating(1340, 6200.0, 150))
    frame = lamps.frame(waves, "HgAr", peak=1e9, rng=rng, full_well=2e5)
    with pytest.raises(NoSolution, match="not saturated"):
        solve_fibers([frame], Guess(6200.0, 4.0))


def test_few_lines_are_refused_not_guessed(lamps, rng):
    waves = slit_of(lamps, rng, lamps.grating(1340, 5460.0, 1200))  # mercury's 5461 and little else
    with pytest.raises(NoSolution, match=r"lines|pattern"):
        solve_fibers([lamps.frame(waves, "Hg", peak=1e5, rng=rng)], Guess(5460.0, 0.45))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("name", "lamp", "start"),
    [
        ("keck_lris_red_R150_7500_ArCdHgNeZn", "ArCdHgNeZn", 1013),  # dark below 5400 Angstrom
        ("keck_lris_red_R150_7500_ArCdHgNeZn", "ArCdHgNeZn", 1377),
        ("ldt_deveny_150_HgCdAr", "HgCdAr", 351),
        ("ldt_deveny_600_HgCdAr", "HgCdAr", 3092),
    ],
)
def test_real_arcs_are_solved(lamps, real, name, lamp, start, reverse):
    wave, flux = lamps.window(real / "arcs1d" / f"{name}.fits", start, 1340, reverse=reverse)
    px = abs(wave[-1] - wave[0]) / 1339
    middle = 0.5 * (wave[669] + wave[670])
    solved, lines = solve_arc(flux, lamp, middle + 55 * px, 0.91 * px)
    at_lines = np.interp(lines.column, np.arange(1340), solved - wave) / px
    assert len(lines) > 10
    assert np.median(np.abs(at_lines)) < 0.2  # the templates' own wavelengths are no better
    with pytest.raises(NoSolution):
        solve_arc(flux, "Xe", middle, px)


def test_solution_that_a_person_should_look_at_says_so(lamps, real):
    wave, flux = lamps.window(real / "arcs1d" / "keck_lris_red_R150_7500_ArCdHgNeZn.fits", 2353, 1340)
    with pytest.warns(PoorSolution, match=r"lines lie .* off the solution"):
        solve_arc(flux, "ArCdHgNeZn", wave[670], abs(wave[-1] - wave[0]) / 1339)  # beyond 10500 A, no first orders


def test_good_solution_says_nothing_until_its_peaks_are_lost(lamps, rng):
    waves = slit_of(lamps, rng, lamps.grating(1340, 6200.0, 150))
    solution = solve_fibers([lamps.frame(waves, "HgArNeKrCd", peak=1e5, rng=rng)], Guess(6200.0, 3.7))
    assert fit_warnings(solution) == ()
    assert solution.lost < 0.05
    assert solution.held_out_rms < 2 * solution.held_out_expected
    assert "pattern" in fit_warnings(replace(solution, lost=0.5))[0]


@pytest.mark.parametrize("flux", [np.zeros(10), np.zeros((3, 1340))])
def test_wrong_shape_is_named(flux):
    with pytest.raises(BadOption, match="flux has shape"):
        solve_arc(flux, "Ne", 6000, 4)


def test_bad_samples_of_a_single_spectrum_are_ignored(lamps, rng):
    wave = lamps.grating(1340, 6200.0, 150)
    flux = lamps.frame(wave[None], "HgArNeKrCd", peak=1e5, rng=rng).flux[0]
    flux[rng.integers(0, 1340, 40)] = np.nan
    solved, _ = solve_arc(flux, ["HgAr", "Ne", "Kr", "Cd"], 6200, 3.7)
    assert np.sqrt(np.mean((solved - wave)[60:1281] ** 2)) < 0.1 * 3.9
