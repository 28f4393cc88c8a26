from dataclasses import replace

import numpy as np
import pytest

from kspecdr.simulate import optics
from kspecdr.simulate.exposure import Exposure
from kspecdr.simulate.frame import simulate_frame
from kspecdr.simulate.instrument import Detector, Instrument
from kspecdr.simulate.presets import SIXTEEN, SMALL

KINDS = [
    Exposure("flat", 1.0),
    Exposure("arc", 10.0, lamp="ne"),
    Exposure("object", 300.0, target="tile_001"),
    Exposure("sky", 10.0),
    Exposure("standard", 60.0),
]
QUIET = Detector(n_row=220, n_column=512, n_hot=0, dark_rate=0.0, glow_rate=0.0, cosmic_rate=0.0)


def quiet(instrument: Instrument = SMALL) -> Instrument:
    return replace(instrument, detector=QUIET)


@pytest.mark.parametrize("exposure", KINDS, ids=lambda exposure: exposure.kind)
def test_pixels_hold_exactly_the_light_of_the_fibers(exposure):
    _, truth = simulate_frame(quiet(), exposure, np.random.default_rng(1))
    assert truth.flux.max() > 1000.0
    np.testing.assert_allclose(truth.electrons.sum(axis=0), truth.flux.sum(axis=0), rtol=1e-9)


def test_many_frames_scatter_about_the_truth_with_its_variance():
    exposure = Exposure("flat", 1.0, level=4.0e4)
    mean = np.zeros((220, 512))
    square = np.zeros_like(mean)
    n = 60
    for seed in range(n):
        counts, truth = simulate_frame(quiet(), exposure, np.random.default_rng(seed))
        residual = (counts - truth.bias) * truth.gain - truth.electrons
        mean += residual / n
        square += residual**2 / n
    pull = mean / np.sqrt(truth.variance / n)
    assert abs(pull.mean()) < 5.0 / np.sqrt(pull.size)
    assert pull.std() == pytest.approx(1.0, abs=0.01)
    bright = truth.electrons > 1000.0
    for chosen in (bright, ~bright):
        assert (square[chosen] / truth.variance[chosen]).mean() == pytest.approx(1.0, abs=0.02)


def test_frames_differ_by_seed_alone():
    exposure = KINDS[2]
    first, _ = simulate_frame(SMALL, exposure, np.random.default_rng(5))
    again, _ = simulate_frame(SMALL, exposure, np.random.default_rng(5))
    other, _ = simulate_frame(SMALL, exposure, np.random.default_rng(6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_light_peaks_on_the_tramlines():
    _, truth = simulate_frame(quiet(), Exposure("flat", 1.0, trace_shift=0.7), np.random.default_rng(1))
    column = 400
    row = np.arange(220)
    for fiber, center in enumerate(truth.tramlines[:, column]):
        near = np.abs(row - center) < 5.0
        light = truth.electrons[near, column]
        if truth.throughput[fiber, 0] > 0.1:
            assert np.average(row[near], weights=light) == pytest.approx(center, abs=0.02)


def test_lines_peak_where_the_truth_has_their_wavelength():
    _, truth = simulate_frame(quiet(), Exposure("arc", 10.0, lamp="ne"), np.random.default_rng(1))
    bright = truth.throughput[:, 0].argmax()
    line = np.abs(truth.line_wavelength - 5852.488).argmin()
    column = truth.line_column[bright, line]
    columns = np.arange(512)
    assert np.interp(column, columns, truth.wavelength[bright]) == pytest.approx(5852.488, abs=0.01)
    near = np.abs(columns - column) < 2.0
    assert abs(columns[near][truth.flux[bright, near].argmax()] - column) <= 0.5


def test_lines_carry_the_flux_that_the_truth_says():
    instrument = replace(
        quiet(),
        defects=replace(SMALL.defects, etaloning=0.0),
        detector=replace(QUIET, pixel_response=0.0),
    )
    _, truth = simulate_frame(instrument, Exposure("arc", 10.0, lamp="ne"), np.random.default_rng(1))
    inside = (truth.line_column > 25.0) & (truth.line_column < 486.0)
    near_edge = (truth.line_flux * ~inside).sum(axis=1)
    excess = truth.flux.sum(axis=1) - (truth.line_flux * inside).sum(axis=1)
    assert (excess > -1e-6 * truth.flux.sum(axis=1)).all()
    assert (excess <= near_edge * (1.0 + 1e-9) + 1e-6).all()


def test_cosmic_rays_raise_the_pixels_of_the_list_and_no_others():
    struck = replace(SMALL, detector=replace(QUIET, cosmic_rate=30.0))
    exposure = Exposure("dark", 300.0)
    counts, truth = simulate_frame(struck, exposure, np.random.default_rng(3))
    residual = (counts - truth.bias) * truth.gain - truth.electrons
    strong = truth.cosmic_electrons > 10.0 * truth.read_noise
    assert strong.sum() > 20
    hit = np.zeros(counts.shape, dtype=bool)
    hit[tuple(truth.cosmic_rays.T)] = True
    assert (residual[tuple(truth.cosmic_rays[strong].T)] > 4.0 * truth.read_noise).all()
    assert (np.abs(residual[~hit]) < 7.0 * truth.read_noise).all()


def test_overscan_rows_see_no_light_and_lie_below():
    detector = replace(QUIET, overscan_rows=30, dark_rate=5.0, cosmic_rate=30.0)
    _, truth = simulate_frame(replace(SMALL, detector=detector), Exposure("flat", 10.0), np.random.default_rng(1))
    assert truth.electrons.shape == (250, 512)
    assert (truth.electrons[:30] == 0.0).all()
    assert (truth.electrons[30:] > 0.0).all()
    assert (truth.cosmic_rays[:, 0] >= 30).all()
    np.testing.assert_allclose(truth.tramlines, optics.tramlines(SMALL, 0.0) + 30.0)


def test_dead_fibers_give_no_light_and_keep_their_number():
    slit = replace(SIXTEEN, center_row=109.5)
    _, truth = simulate_frame(replace(quiet(), slit=slit), Exposure("flat", 1.0), np.random.default_rng(1))
    assert np.flatnonzero(~truth.flux.any(axis=1)).tolist() == [4, 11]
    assert len(truth.tramlines) == 16
    assert slit.types[4] == "D"
    assert slit.types[11] == "P"


def test_saturated_pixels_stop_at_the_full_well():
    detector = replace(QUIET, full_well=150_000.0)
    counts, truth = simulate_frame(
        replace(SMALL, detector=detector), Exposure("flat", 1.0, level=5.0e6), np.random.default_rng(1)
    )
    full = truth.electrons > 160_000.0
    assert full.any()
    assert truth.saturated[full].all()
    assert not truth.saturated[truth.electrons < 140_000.0].any()
    plateau = 150_000.0 / truth.gain + truth.bias[full]
    assert np.abs(counts[full] - plateau).max() < 7.0 * truth.read_noise / truth.gain + 1.0


def test_night_sky_is_all_that_a_sky_fiber_sees():
    _, truth = simulate_frame(SMALL, KINDS[2], np.random.default_rng(1))
    sky = [n - 1 for n in SMALL.slit.sky]
    np.testing.assert_allclose(truth.flux[sky], truth.sky[sky])
    program = [n for n, kind in enumerate(SMALL.slit.types) if kind == "P"]
    assert (truth.flux[program] > truth.sky[program]).all()


def test_a_standard_star_lights_one_bright_fiber():
    slit = replace(SMALL.slit, faint=((4, 0.03),))
    _, truth = simulate_frame(replace(SMALL, slit=slit), KINDS[4], np.random.default_rng(1))
    [lit] = np.flatnonzero((truth.flux - truth.sky).max(axis=1) > 1.0)
    assert truth.throughput[lit, 0] > 0.3
