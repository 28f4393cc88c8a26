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


def fibers_seen(peak, *, gain, rng, lines=True, offset=0.5):
    """Counts of six fibers, noise included, whose brightest pixel has `peak` ADU above the bias."""
    row, column = np.arange(90)[:, None], np.arange(300)
    light = np.zeros((90, 300))
    lamp = sum(np.exp(-0.5 * ((column - at) / 1.5) ** 2) / n for n, at in enumerate((150.5, 60.0, 210.2), start=1))
    for k in range(6):
        shape = np.exp(-0.5 * ((row - 12 - offset - 12 * k) / 1.45) ** 2)
        light += shape * (0.7 + 0.06 * k) * (lamp if lines else 1.0)
    electrons = rng.poisson(light * peak / light.max() * gain)
    return electrons, lambda full: np.rint(np.minimum(electrons, full) / gain + rng.normal(600, 16 / gain, light.shape))


@pytest.mark.parametrize("gain", [1.12, 15.37])
@pytest.mark.parametrize("times", [1.3, 3.0, 30.0])
def test_a_full_well_below_the_converter_is_recognised(gain, times):
    electrons, read = fibers_seen(40_000 * times, gain=gain, rng=np.random.default_rng(4))
    counts = read(40_000 * gain).astype(np.uint16)
    level = detector.full_well(counts, 16 / gain)
    assert level == pytest.approx(40_600, rel=0.01)
    assert (counts[electrons > 40_000 * gain] > level).all()


@pytest.mark.parametrize("gain", [1.12, 4.09, 15.37])
@pytest.mark.parametrize("lines", [True, False], ids=["arc", "flat"])
@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("peak", [50.0, 40_000.0])
def test_bright_fibers_alone_are_no_full_well(gain, lines, offset, peak):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        _, read = fibers_seen(peak, gain=gain, rng=rng, lines=lines, offset=offset)
        assert detector.full_well(read(np.inf).astype(np.uint16), 16 / gain) is None


@pytest.mark.parametrize("rows", [slice(0, 1), slice(-1, None)])
def test_light_at_the_edge_of_a_frame_is_no_full_well(rows):
    counts = np.full((40, 200), 600, dtype=np.uint16)
    counts[rows] = 50_000
    assert detector.full_well(counts, 14.0) is None


def test_what_the_converter_cut_is_not_the_full_well():
    _, read = fibers_seen(200_000, gain=1.12, rng=np.random.default_rng(1))
    assert detector.full_well(np.minimum(read(np.inf), 65535).astype(np.uint16), 14.0) is None
