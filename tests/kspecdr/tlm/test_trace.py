from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from kspecdr.errors import BadFrame
from kspecdr.tlm.trace import trace_fibers

LLAMAS = Path(__file__).parents[4] / "shared/real/llamas"


def rms(error):
    return np.sqrt(np.mean(error**2))


def test_bright_fibers_are_traced_to_a_few_thousandths_of_a_pixel(slit, rng):
    truth = slit()
    traces = trace_fibers(*truth.observe(rng), 14)
    error = traces.center - truth.center()
    assert rms(error) < 0.003
    assert np.abs(error).max() < 0.02
    assert set(traces.status) == {"traced"}
    assert not traces.doubt


def test_faint_fibers_beside_bright_ones_are_held_by_them(slit, rng):
    truth = slit(relative={0: 0.01, 13: 0.015})
    traces = trace_fibers(*truth.observe(rng), 14)
    error = traces.center - truth.center()
    assert rms(error[1:13]) < 0.003
    assert np.abs(error).max() < 0.05
    assert np.abs(traces.width - truth.sigma).max() < 0.015 * truth.sigma
    assert list(np.flatnonzero(traces.status == "faint")) == [0, 13]


def test_dead_fiber_is_interpolated_and_the_rest_keep_their_numbers(slit, rng):
    truth = slit(relative={5: 0.0})
    traces = trace_fibers(*truth.observe(rng), 14)
    error = traces.center - truth.center()
    assert rms(np.delete(error, 5, axis=0)) < 0.01
    assert list(np.flatnonzero(traces.status == "interpolated")) == [5]
    assert np.abs(error[5]).max() < 1.0


@pytest.mark.parametrize("n_fiber", [1, 2, 3, 5])
def test_a_few_fibers_are_enough(slit, rng, n_fiber):
    truth = slit(n_fiber=n_fiber, first_row=100.0)
    traces = trace_fibers(*truth.observe(rng), n_fiber)
    assert np.abs(traces.center - truth.center()).max() < 0.03


def test_ghost_and_glow_are_no_fibers(slit, rng):
    truth = slit(first_row=100.0)
    row = np.arange(300)[:, None]
    ghost = 5600 * np.exp(-0.5 * ((row - 40) / 12) ** 2) + 3000 * np.exp(-(299 - row) / 4)
    traces = trace_fibers(*truth.observe(rng, added=ghost), 14)
    assert rms(traces.center - truth.center()) < 0.01


def test_saturated_cores_do_not_move_the_traces(slit, rng):
    truth = slit(level=90_000.0)
    flux, variance, bad = truth.observe(rng)
    bad |= flux > 25_000
    traces = trace_fibers(np.minimum(flux, 25_000), variance, bad, 14)
    assert rms(traces.center - truth.center()) < 0.02


def test_frame_without_light_is_refused(rng):
    dark = rng.normal(0, 16, (300, 400))
    with pytest.raises(BadFrame, match=r"fibers? found"):
        trace_fibers(dark, np.full(dark.shape, 256.0), np.zeros(dark.shape, dtype=bool), 14)


def test_half_a_slit_is_refused(slit, rng):
    truth = slit(relative=dict.fromkeys(range(6, 14), 0.0))
    with pytest.raises(BadFrame, match="6 of 14"):
        trace_fibers(*truth.observe(rng), 14)


@pytest.mark.skipif(not LLAMAS.exists(), reason="the real frames are not at hand")
def test_real_flat_gives_166_of_169_fibers():
    flat, dark = (
        fits.getdata(LLAMAS / f"20200110_{name}.fits").astype(np.float32) * 4.09
        for name in ("134247_Camera00_blue_FLAT_50s", "134048_Camera00_blue_DARK_50s")
    )
    flux = flat - dark
    variance = 256 + np.clip(flux, 0, None)
    traces = trace_fibers(flux, variance, np.zeros(flux.shape, dtype=bool), 169)
    assert list(np.flatnonzero(traces.status == "interpolated")) == [32, 153, 155]
    assert np.all(np.diff(traces.center, axis=0) > 4.0)
    assert 1.4826 * np.nanmedian(np.abs(traces.residual)) < 0.03
    assert traces.center[0, -1] - traces.center[0, 0] == pytest.approx(-11, abs=2)
    assert traces.center[-1, -1] - traces.center[-1, 0] == pytest.approx(33, abs=2)
