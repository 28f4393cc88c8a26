import numpy as np
import pytest

from kspecdr.wavecal.arc_frames import Stack
from kspecdr.wavecal.choose import choose_lines
from kspecdr.wavecal.lamp import ArcLines, LampLines

WAVE = 5000 + 2.0 * np.arange(1000)  # 2 Angstrom per px
FWHM = 3.5


def chosen(lamps, table, light, *, certain=None):
    """Choose among the lines of a table with the light (wavelength, height) on the detector."""
    columns = np.arange(1000.0)
    flux = sum(h * 3.76 * lamps.bell(columns, (w - 5000) / 2, 1.5) for w, h in light)
    stack = Stack(flux, np.full(1000, 1.0), np.full(1000, 1.0), np.zeros(1000, dtype=bool))
    wavelength, intensity, label = (np.array(column) for column in zip(*table, strict=True))
    lines = LampLines.of(ArcLines(wavelength.astype(float), intensity.astype(float), label, ()))
    everywhere = np.ones(1000, dtype=bool)
    return choose_lines(stack, WAVE, lines, everywhere if certain is None else certain, fwhm=FWHM, half_width=6)


def test_lines_that_shine_are_chosen_and_faint_ones_are_not(lamps):
    table = [(5200, 100, "Ne"), (5600, 50, "Ne"), (6000, 10, "Ne")]
    found = chosen(lamps, table, [(5200, 1000), (5600, 500)])
    assert found.wavelength == pytest.approx([5200, 5600], abs=1e-6)
    assert found.significance[0] > 500


def test_unresolved_pair_is_one_line_whose_place_is_uncertain(lamps):
    pair = chosen(lamps, [(5600, 100, "Ne"), (5602, 60, "Ne")], [(5600, 1000), (5602, 600)])
    assert pair.wavelength == pytest.approx([5600.75], abs=0.1)
    assert 0.1 < pair.blend[0] < 0.5  # of 1 px between them
    alone = chosen(lamps, [(5600, 100, "Ne")], [(5600, 1000)])
    assert alone.blend[0] == 0


def test_resolved_neighbour_goes_into_the_window(lamps):
    found = chosen(
        lamps, [(5600, 100, "Ne"), (5610, 60, "Ne"), (6500, 30, "Ne")], [(5600, 1000), (5610, 600), (6500, 300)]
    )
    assert found.wavelength == pytest.approx([5600, 5610, 6500], abs=1e-6)
    assert found.neighbours[:, 0] == pytest.approx([5610, 5600, np.nan], nan_ok=True, abs=1e-6)


def test_places_that_are_not_certain_are_left_out(lamps):
    certain = WAVE < 5500
    found = chosen(lamps, [(5200, 100, "Ne"), (5600, 50, "Ne")], [(5200, 1000), (5600, 500)], certain=certain)
    assert found.wavelength == pytest.approx([5200], abs=1e-6)


def test_bright_peak_is_not_given_to_a_faint_line(lamps):
    table = [(5200, 100, "Ne"), (5400, 100, "Ne"), (5600, 0.01, "Ne"), (5800, 100, "Ne")]
    found = chosen(lamps, table, [(5200, 1000), (5400, 1000), (5600, 1000), (5800, 1000)])
    assert found.wavelength == pytest.approx([5200, 5400, 5800], abs=1e-6)


def test_second_orders_fill_gaps_but_carry_nothing(lamps):
    table = [(5200, 100, "Hg"), (6000, 50, "Hg"), (2800, 100, "Hg"), (3200, 100, "Hg")]
    found = chosen(lamps, table, [(5200, 1000), (6000, 500), (5600, 100), (6400, 100)])
    assert found.wavelength == pytest.approx([5200, 5600, 6000], abs=1e-6)
