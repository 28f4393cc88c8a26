from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from scipy.special import erf

from kspecdr.preproc.cosmic import find_hits, without_hits
from kspecdr.preproc.lacosmic import find_hits_lacosmic
from kspecdr.products import MaskBit
from kspecdr.tlm.shift import measure_shift
from kspecdr.tlm.trace import trace_fibers
from kspecdr.tlm.windows import Seen, Windows

LLAMAS = Path(__file__).parents[4] / "shared/real/llamas"

SIGMA, READ_NOISE, N_COLUMN = 1.4, 16.0, 600


def center_of(n_fiber=6, n_row=110):
    return np.linspace(20.3, n_row - 25.2, n_fiber)[:, None] + np.linspace(0, 2.2, N_COLUMN)


def expected(center, light, n_row=110):
    row = np.arange(n_row)[:, None]
    edges = [erf((row + half - center[:, None]) / (np.sqrt(2) * SIGMA)) for half in (0.5, -0.5)]
    return np.sum(light[:, None] * 0.5 * (edges[0] - edges[1]), axis=0)


def continuum():
    level = np.array([30.0, 3000.0, 400.0, 0.0, 10_000.0, 100.0])[:, None]
    return level * (1 + 0.4 * np.sin(np.arange(N_COLUMN) / 40))


def arc_lines():
    column = np.arange(N_COLUMN)
    at = np.random.default_rng(1).uniform(0, N_COLUMN, 40)
    strength = np.random.default_rng(2).lognormal(8, 1.5, 40)
    lines = sum(s * np.exp(-0.5 * ((column - a) / 0.8) ** 2) for a, s in zip(at, strength, strict=True))
    return np.array([0.02, 1.0, 0.8, 0.0, 0.9, 0.05])[:, None] * lines


def observe(light, rng, hits=0):
    """Frame, true hits in sigma, and what the kernels want."""
    center = center_of()
    truth = expected(center, light)
    charge = np.zeros(truth.shape)
    near = np.abs(np.arange(110)[:, None, None] - center.T[None]).min(axis=2) < 5
    rows, columns = np.nonzero(near)
    chosen = rng.choice(len(rows), hits, replace=False)
    charge[rows[chosen], columns[chosen]] = rng.uniform(100, 4000, hits)
    flux = rng.poisson(truth + charge) + rng.normal(0, READ_NOISE, truth.shape)
    mask = np.zeros(truth.shape, dtype=np.uint8)
    inputs = (flux, READ_NOISE**2 + flux, mask, center, np.full(center.shape, SIGMA))
    return inputs, charge / np.sqrt(truth + READ_NOISE**2)


def hits_of(flux, variance, mask, *traces):
    """Return the hits on the frame, (n_row, n_column)."""
    windows = Windows.of(*traces)
    return windows.on_frame(find_hits(Seen.of(flux, variance, mask, windows), windows), flux.shape)


@pytest.fixture
def rng():
    return np.random.default_rng(77)


@pytest.mark.parametrize("light", [continuum(), arc_lines()], ids=["object", "arc"])
def test_hits_are_found_and_nothing_else(light, rng):
    inputs, strength = observe(light, rng, hits=150)
    hit = hits_of(*inputs)
    assert np.mean(hit[strength > 7]) > 0.95
    around = np.zeros_like(hit)
    around[1:-1, 1:-1] = (
        np.max(
            [strength[1 + i : 109 + i, 1 + j : N_COLUMN - 1 + j] for i in (-1, 0, 1) for j in (-1, 0, 1)],
            axis=0,
        )
        > 0
    )
    assert np.count_nonzero(hit & ~around) <= 1


def test_arc_lines_narrower_than_a_pixel_are_left_alone(rng):
    false = 0
    for _ in range(5):
        inputs, _ = observe(arc_lines(), rng)
        false += np.count_nonzero(hits_of(*inputs))
    assert false <= 1


def test_a_small_error_of_the_traces_is_no_hit(rng):
    flux, variance, mask, center, width = observe(10 * continuum(), rng)[0]
    assert np.count_nonzero(hits_of(flux, variance, mask, center + 0.02, width)) <= 2


def test_a_track_along_the_rows_is_found(rng):
    flux, variance, mask, center, width = observe(continuum(), rng)[0]
    row = int(center[2, 300])
    flux[row - 1 : row + 2, 300] += 2000
    variance[row - 1 : row + 2, 300] += 2000
    assert hits_of(flux, variance, mask, center, width)[row - 1 : row + 2, 300].all()


def test_bad_and_saturated_pixels_are_never_called_hits(rng):
    flux, variance, mask, center, width = observe(continuum(), rng)[0]
    row = int(center[1, 200])
    flux[row - 1 : row + 2, 200], mask[row - 1 : row + 2, 200] = 60_000, MaskBit.SATURATED
    flux[row + 3, 200] = np.nan
    hit = hits_of(flux, variance, mask, center, width)
    assert not hit[mask != 0].any()
    assert not hit[row + 3, 200]
    assert not hit[:, 199:202].any()


def test_inputs_are_not_changed(rng):
    inputs = observe(continuum(), rng, hits=20)[0]
    before = [array.copy() for array in inputs]
    hits_of(*inputs)
    for array, copy in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.skipif(not LLAMAS.exists(), reason="the real frames are not at hand")
def test_lines_of_a_real_arc_are_left_alone():
    flat, dark, bias, arc = (
        fits.getdata(LLAMAS / f"20200110_{name}.fits").astype(np.float32) * 4.09
        for name in (
            "134247_Camera00_blue_FLAT_50s",
            "134048_Camera00_blue_DARK_50s",
            "133751_Camera00_blue_BIAS",
            "134641_Camera00_blue_KrNeAr_0.2s_BASELINE",
        )
    )
    bad = np.zeros(flat.shape, dtype=bool)
    traces = trace_fibers(flat - dark, 256 + np.clip(flat - dark, 0, None), bad, 169)
    flux = arc - bias
    shift = measure_shift(flux, 256 + np.clip(flux, 0, None), bad, traces.center, traces.width, traces.wings)
    mask = bad.astype(np.uint8)
    hit = hits_of(flux, 256 + flux, mask, shift.applied(traces.center), traces.width, traces.wings)
    assert np.count_nonzero(hit) < 1e-4 * 169 * 7 * flux.shape[1]


def test_lacosmic_on_the_band_spares_arc_lines(rng):
    inputs, strength = observe(arc_lines(), rng, hits=100)
    hit = find_hits_lacosmic(*inputs)
    assert np.mean(hit[strength > 15]) > 0.9
    assert np.mean(hit[strength == 0]) < 1e-3


def test_hits_never_take_so_much_that_a_fiber_is_lost(rng):
    flux, variance, mask, center, width = observe(continuum(), rng)[0]
    row = int(center[3, 300])
    for array in (flux, variance):
        array[row - 2 : row + 4, 300] += 5000  # a fiber without light: nothing else tells a track from light
        array[row + 1, 100] += 5000
    windows = Windows.of(center, width)
    seen = without_hits(Seen.of(flux, variance, mask, windows), windows)
    held = np.sum(windows.own, axis=1, where=seen.good)
    assert held.min() > 0.5
    assert not seen.good[3, row + 1 - windows.first[3, 100], 100]
