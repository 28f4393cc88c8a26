import numpy as np
import pytest

from kspecdr.inst.readout import MODES
from kspecdr.preproc import detector


@pytest.mark.parametrize("mode", MODES.values(), ids=lambda mode: mode.name)
@pytest.mark.parametrize("light", [0.0, 2000.0])
def test_predicted_over_true_variance_is_one_in_every_mode(rng, mode, light):
    electrons = rng.poisson(light, 200_000) + rng.normal(0, mode.read_noise, 200_000)
    counts = np.round((electrons + 600 * mode.gain) / mode.gain)
    flux = (counts - 600) * mode.gain
    predicted = detector.light_variance(flux.astype(np.float32), mode.read_noise, mode.gain)
    assert predicted.mean() / flux.var() == pytest.approx(1.0, abs=0.02)


def test_saturation_spreads_along_the_row_only():
    counts = np.zeros((3, 7), np.uint16)
    counts[1, 3] = 65535
    hit = detector.saturated(counts, 65535)
    assert hit.sum() == 3
    assert hit[1, 2:5].all()


def test_the_pedestal_is_that_of_the_unlit_rows(rng):
    flux = rng.normal(2500, 16, (100, 400))
    flux[30:60] += 5000
    assert detector.pedestal(flux) == pytest.approx(2500, abs=2)


def test_division_propagates_both_noises(rng):
    light, response = 5000.0, 0.8
    flux = light * response + rng.normal(0, 60, 100_000)
    flat = response + rng.normal(0, 0.01, 100_000)
    quotient, variance = detector.divide(flux, np.full(flux.shape, 3600.0), flat, np.full(flux.shape, 1e-4))
    assert variance.mean() == pytest.approx(quotient.var(), rel=0.03)
