import numpy as np
import pytest


def test_center_falls_on_the_middle_and_orders_scale(lamps):
    wave = lamps.grating(1341, 6200.0, 150)
    assert wave[670] == pytest.approx(6200.0)
    assert lamps.grating(1341, 3100.0, 300, order=1) * 2 == pytest.approx(wave)
    assert lamps.grating(1341, 3100.0, 150, order=2) * 2 == pytest.approx(wave)


def test_dispersion_is_that_of_the_instrument(lamps):
    # measured on the IsoPlane: 4.02 Angstrom/px at the blue end, 3.84 at the red one, 150 lines/mm at 6200
    step = np.diff(lamps.grating(1340, 6200.0, 150))
    assert step[0] == pytest.approx(4.02, abs=0.03)
    assert step[-1] == pytest.approx(3.84, abs=0.03)
