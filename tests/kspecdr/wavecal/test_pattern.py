import numpy as np
import pytest

from kspecdr.wavecal.arc_io import load_arc_lines
from kspecdr.wavecal.features import lamp_features
from kspecdr.wavecal.lines import Peaks
from kspecdr.wavecal.pattern import identify, powers
from kspecdr.wavecal.search import SearchRange


def peaks_on(wave, lamp, rng, *, n_peak=25, fwhm=3.5):
    """Peaks of the brightest lines of a lamp, their brightness scattered by a factor of three."""
    table = load_arc_lines(lamp)
    order = np.argsort(wave)
    inside = np.flatnonzero((table.wavelength > wave.min()) & (table.wavelength < wave.max()))
    inside = np.sort(inside[np.argsort(-table.intensity[inside])][:n_peak])
    column = np.interp(table.wavelength[inside], wave[order], np.arange(len(wave))[order])
    height = table.intensity[inside] * np.exp(rng.normal(size=len(inside)))
    order = np.argsort(column)
    apart = np.diff(column[order], prepend=-10) > fwhm
    column, height = column[order][apart] + rng.normal(size=apart.sum()) * 0.1, height[order][apart]
    return Peaks(column, height, np.ones(len(column)), fwhm)


def solved(peaks, lamp, search):
    features = lamp_features(load_arc_lines(lamp), limits=search.limits, fwhm=peaks.fwhm * search.px)
    return identify(peaks, features, search)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(("shift", "stretch"), [(-60, 0.9), (35, 1.1)])
def test_pattern_is_found_from_a_poor_guess_in_either_direction(lamps, rng, descending, shift, stretch):
    wave = lamps.grating(1340, 6200.0, 150)
    wave = wave[::-1] if descending else wave
    px = abs(wave[-1] - wave[0]) / 1339
    search = SearchRange(1340, 6200.0 + shift * px, px * stretch)
    peaks = peaks_on(wave, "HgArNeKrCd", rng)
    found = solved(peaks, "HgArNeKrCd", search)
    truth = np.interp(peaks.column, np.arange(1340), wave)
    wave_found = powers(peaks.column / search.half - 1) @ found.coefficients[0]
    assert np.median(np.abs(wave_found - truth)) < 0.5 * px
    assert found.evidence[0] > 5
    assert found.evidence[0] - found.evidence[1] > 20


def test_wrong_lamp_explains_no_more_than_chance(lamps, rng):
    wave = lamps.grating(1340, 6200.0, 150)
    peaks = peaks_on(wave, "Ne", rng)
    assert solved(peaks, "Ne", SearchRange(1340, 6150.0, 3.8)).evidence[0] > 20
    assert solved(peaks, "HgCd", SearchRange(1340, 6150.0, 3.8)).evidence[0] < 5


def test_same_answer_every_time(lamps, rng):
    wave = lamps.grating(1340, 6200.0, 150)
    peaks = peaks_on(wave, "NeKr", rng)
    search = SearchRange(1340, 6300.0, 4.1)
    first, second = solved(peaks, "NeKr", search), solved(peaks, "NeKr", search)
    assert np.array_equal(first.coefficients, second.coefficients)


def test_no_lines_give_no_candidate():
    nothing = Peaks(np.zeros(0), np.zeros(0), np.zeros(0), 3.0)
    assert len(solved(nothing, "Ne", SearchRange(1340, 6300.0, 4.1))) == 0


def test_end_where_the_detector_sees_nothing_does_not_spoil_the_pattern(lamps, rng):
    wave = lamps.grating(1340, 6200.0, 150)
    peaks = peaks_on(wave, "HgArNeKrCd", rng)
    lit = peaks.column > 500  # below, mercury and cadmium are bright
    peaks = Peaks(peaks.column[lit], peaks.height[lit], peaks.noise[lit], peaks.fwhm)
    search = SearchRange(1340, 6350.0, 3.6)
    found = solved(peaks, "HgArNeKrCd", search)
    truth = np.interp(peaks.column, np.arange(1340), wave)
    assert np.abs(powers(peaks.column / search.half - 1) @ found.coefficients[0] - truth).max() < 4.0
    assert found.evidence[0] + found.evidence[0] - found.evidence[1] > 20
