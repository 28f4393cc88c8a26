from dataclasses import replace

import numpy as np
import pytest

from kspecdr.simulate import scene
from kspecdr.simulate.exposure import Exposure
from kspecdr.simulate.fibers import collect_light
from kspecdr.simulate.frame import simulate_frame
from kspecdr.simulate.instrument import Defects, Detector, Instrument
from kspecdr.simulate.presets import PRESETS, SMALL, with_seed
from kspecdr.wavecal.arc_io import load_arc_lines

PLAIN = PRESETS["plain"].instrument


def test_lamps_have_the_lines_of_their_tables():
    lines = scene.arc_lines("hgar", PLAIN)
    np.testing.assert_array_equal(lines.wavelength, load_arc_lines("hgar").wavelength)
    assert lines.rate.max() == 1.0


def test_lamps_keep_their_own_intensities():
    table = load_arc_lines("ne").intensity
    rate = scene.arc_lines("ne", PLAIN).rate
    scatter = np.std(np.log10(rate / table))
    assert scatter == pytest.approx(PLAIN.defects.intensity_scatter, rel=0.3)
    np.testing.assert_array_equal(rate, scene.arc_lines("NE", PLAIN).rate)


def test_second_order_shows_the_blue_mercury_line_in_the_red():
    instrument = replace(PLAIN, defects=Defects(second_order=0.03))
    lines = scene.arc_lines("hgar", instrument)
    first = np.abs(lines.wavelength - 4358.335).argmin()
    second = np.abs(lines.wavelength - 8716.67).argmin()
    assert lines.wavelength[second] == pytest.approx(8716.67, abs=0.01)
    assert lines.rate[second] == pytest.approx(0.03 * lines.rate[first])


def test_unlisted_lines_are_in_no_table():
    instrument = replace(PLAIN, defects=Defects(unlisted_lines=4))
    known = load_arc_lines("ne").wavelength
    lines = scene.arc_lines("ne", instrument)
    assert np.count_nonzero(~np.isin(lines.wavelength, known)) == 4


def test_hardly_any_light_comes_below_4100_angstrom():
    assert scene.response(np.array([3900.0]), 500)[0] < 0.05
    assert scene.response(np.array([5000.0]), 500)[0] > 0.9


def test_fringes_have_their_period_and_strength_in_the_red_alone():
    instrument = Instrument()
    plain = replace(instrument, defects=Defects(etaloning=0.0))
    flat = Exposure("flat", 1.0)
    ratio = collect_light(instrument, flat).flux[6] / collect_light(plain, flat).flux[6]
    red = ratio[1100:1324]
    assert np.ptp(red) == pytest.approx(0.05, abs=0.003)
    assert np.abs(np.fft.rfft(red - red.mean())).argmax() == pytest.approx(224 / 14, abs=1)
    np.testing.assert_array_equal(ratio[:600], 1.0)


def test_the_ghost_lies_in_its_rows_at_its_brightness():
    bare = Detector(n_hot=0, dark_rate=0.0, glow_rate=0.0, cosmic_rate=0.0, pixel_response=0.0)
    instrument = Instrument(defects=Defects(ghost=0.28), detector=bare)
    _, truth = simulate_frame(instrument, Exposure("flat", 1.0), np.random.default_rng(1))
    lit = truth.throughput[:, 0] > 0.0
    assert lit.all()
    rows = np.flatnonzero(truth.electrons[:500].max(axis=1) > 0.5 * truth.electrons[:500].max())
    assert (rows.min(), rows.max()) == (pytest.approx(370, abs=2), pytest.approx(415, abs=2))
    peak = truth.flux.mean(axis=0).max() * 0.28  # a profile of FWHM 3.3 px has 0.28 of its light in the peak
    assert truth.electrons[392].max() == pytest.approx(0.28 * peak, rel=0.1)


def test_another_seed_is_another_instrument():
    first, second = (
        simulate_frame(with_seed(PRESETS["small"], seed).instrument, Exposure("flat"), np.random.default_rng(1))[1]
        for seed in (1, 2)
    )
    assert (first.tramlines != second.tramlines).all()
    assert (first.throughput != second.throughput).any()
    assert with_seed(PRESETS["small"], 1).instrument == SMALL
