import numpy as np
import pytest

from kspecdr.wavecal.features import lamp_features
from kspecdr.wavecal.lamp import ArcLines


def lamp(*rows):
    wavelength, intensity, label = (np.array(column) for column in zip(*rows, strict=True))
    return ArcLines(wavelength.astype(float), intensity.astype(float), label, ("test.arc",))


def test_close_lines_appear_as_one_at_their_weighted_mean():
    features = lamp_features(lamp((5000, 3, "Ne"), (5004, 1, "Ne"), (5100, 2, "Ne")), limits=(4000, 6000), fwhm=10)
    assert features.wavelength == pytest.approx([5001, 5100])
    assert features.spread == pytest.approx([np.sqrt(3.0), 0], abs=1e-3)
    assert features.brightness == pytest.approx(np.log([4 / 3, 2 / 3]))


def test_each_element_is_scaled_to_its_own_brightest_line():
    features = lamp_features(lamp((5000, 1000, "Cd"), (5200, 1, "Kr"), (5300, 0.1, "Kr")), limits=(4900, 5900), fwhm=5)
    assert features.sources == ("Cd", "Kr")
    assert features.brightness == pytest.approx([0, 0, np.log(0.1)])


def test_second_order_appears_at_twice_the_wavelength_as_a_source_of_its_own():
    features = lamp_features(lamp((4358, 10, "Hg"), (8500, 1, "Hg")), limits=(8000, 9000), fwhm=5)
    assert features.wavelength == pytest.approx([8500, 8716])
    assert [features.sources[k] for k in features.source] == ["Hg", "Hg/2"]
    assert features.brightness[1] < features.brightness[0]


def test_nothing_within_reach_gives_no_features():
    assert len(lamp_features(lamp((4358, 10, "Hg")), limits=(5000, 6000), fwhm=5)) == 0


def test_second_order_follows_its_first_but_is_never_thought_bright():
    lines = lamp((4500, 100, "Hg"), (8100, 10, "Hg"), (8200, 1000, "Hg"))
    features = lamp_features(lines, limits=(8000, 9500), fwhm=5)
    assert [features.sources[k] for k in features.parent] == ["Hg", "Hg"]
    assert features.brightness == pytest.approx(np.log([0.01, 1, 0.05 * 0.1]))
    faint = lamp((4500, 1000, "Hg"), (8200, 1, "Hg"))
    assert lamp_features(faint, limits=(8000, 9500), fwhm=5).brightness == pytest.approx(np.log([1, 0.05]))
