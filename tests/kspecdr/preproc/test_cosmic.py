from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import binary_dilation
from scipy.special import erf

from kspecdr.preproc.cosmic import find_hits, without_hits
from kspecdr.preproc.lacosmic import find_hits_lacosmic
from kspecdr.products import MaskBit
from kspecdr.simulate.cosmic import cosmic_hits
from kspecdr.simulate.exposure import Exposure
from kspecdr.simulate.frame import simulate_frame
from kspecdr.simulate.instrument import Detector, Instrument, Slit, Spectrograph
from kspecdr.tlm.shift import measure_shift
from kspecdr.tlm.trace import trace_fibers
from kspecdr.tlm.windows import Seen, Windows

SLIT = Slit(n_fiber=9, center_row=60.2, spacing=11.3, faint=((4, 0.04), (7, 0.1)), dead=(2,), fiber_fwhm=(2.7, 3.9))
INSTRUMENT = Instrument(
    spectrograph=Spectrograph(lines_per_mm=300, nominal_center=5900.0, line_fwhm=(2.6, 3.4)),
    slit=SLIT,
    detector=Detector(n_row=120, n_column=1000, cosmic_rate=400.0, n_hot=0),
    seed=73,
)
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


def electrons_of(exposure, rng):
    """Return electrons, mask, charge of hits, noise of the rest; of one frame of the instrument."""
    counts, truth = simulate_frame(INSTRUMENT, exposure, rng)
    charge = np.zeros(counts.shape)
    charge[tuple(truth.cosmic_rays.T)] = truth.cosmic_electrons
    full = binary_dilation(truth.saturated, np.ones((1, 3), dtype=bool))
    mask = np.where(full, np.uint8(MaskBit.SATURATED), np.uint8(0))
    return (counts - truth.bias) * truth.gain, mask, charge, np.sqrt(truth.variance)


@pytest.fixture(scope="module")
def slit_traces():
    rng = np.random.default_rng(19)
    flats = [electrons_of(Exposure("flat", 0.2), rng)[0] for _ in range(2)]
    flat = np.median([*flats, np.min(flats, axis=0)], axis=0)  # the lesser of two: no hits
    return trace_fibers(flat, 260 + np.clip(flat, 0, None), np.zeros(flat.shape, dtype=bool), SLIT.n_fiber)


@pytest.mark.parametrize(("level", "shift", "widen"), [(0, 0, 1), (6e4, 0, 1), (0, 0.05, 1), (0, 0, 1.1), (0, 0, 0.9)])
def test_arcs_of_another_slit_bright_or_off_their_map(level, shift, widen, slit_traces):
    rng = np.random.default_rng(29)
    found, n_false, n_judged = [], 0, 0
    for lamp in ("hgar", "ne", "kr"):
        flux, mask, charge, noise = electrons_of(Exposure("arc", 10.0, lamp=lamp, level=level), rng)
        center, width = slit_traces.center + shift, slit_traces.width * widen
        hit = hits_of(flux, 260 + flux, mask, center, width, slit_traces.wings)
        inside = np.min(np.abs(np.arange(120)[:, None, None] - center.T), axis=2) <= 4
        found.append(hit[inside & (charge > 7 * noise) & (mask == 0)])
        n_false += np.count_nonzero(hit & inside & (charge == 0))
        n_judged += np.count_nonzero(inside)
    off = shift != 0 or widen != 1
    assert np.mean(np.concatenate(found)) > (0.93 if off else 0.95)
    assert n_false <= (2e-5 if off else 1e-5) * n_judged


def round_spot(down, along, *, fwhm=3.3, beta=2.5, half=20):
    """Return the share of a round Moffat image in pixels about it, (2 half + 1, 2 half + 1)."""
    fine = (np.arange(3 * (2 * half + 1)) - 3 * half - 1) / 3
    radius = np.hypot((fine - down)[:, None], fine - along) * 2 * np.sqrt(2 ** (1 / beta) - 1) / fwhm
    light = (1 + radius**2) ** -beta
    return (light / light.sum()).reshape(2 * half + 1, 3, -1, 3).sum(axis=(1, 3))


def test_the_round_halo_of_arc_lines_is_left_alone(rng):
    """Beside a line a fiber is wider than its continuum, which is all that the flat tells."""
    shape, half = (110, N_COLUMN), 20
    center = np.linspace(24, 84, 6)[:, None] + np.linspace(0, 2.2, N_COLUMN)
    through = np.array([0.02, 1.0, 0.7, 0.05, 0.9, 0.3])
    flat, arc = np.zeros((2, shape[0] + 2 * half, shape[1] + 2 * half))
    for row, share in zip(center, through, strict=True):
        for column, total in enumerate(np.full(N_COLUMN, 2e5)):
            _add(flat, row[column], column, total * share)
        for column, total in zip(rng.uniform(0, N_COLUMN - 1, 25), 10 ** rng.uniform(3, 5.7, 25), strict=True):
            _add(arc, np.interp(column, np.arange(N_COLUMN), row), column, total * share)
    inner = np.s_[half:-half, half:-half]
    flat, arc = rng.poisson(flat[inner]) + 0.0, arc[inner]
    traces = trace_fibers(flat, 256 + flat, np.zeros(shape, dtype=bool), len(through))
    pixels, electrons = cosmic_hits(Detector(n_row=shape[0], n_column=shape[1], cosmic_rate=500.0), 60.0, rng)
    charge = np.zeros(shape)
    charge[tuple(pixels.T)] = electrons
    flux = rng.poisson(arc + charge) + rng.normal(0, READ_NOISE, shape)
    hit = hits_of(flux, 256 + flux, np.zeros(shape, np.uint8), traces.center, traces.width, traces.wings)
    inside = np.min(np.abs(np.arange(shape[0])[:, None, None] - center.T), axis=2) <= 4
    assert np.mean(hit[inside & (charge > 7 * np.sqrt(arc + 256))]) > 0.93
    assert np.count_nonzero(hit & inside & (charge == 0)) <= 2


def _add(image, row, column, total, half=20):
    near = round(row), round(column)
    spot = round_spot(row - near[0], column - near[1], half=half)
    image[near[0] : near[0] + 2 * half + 1, near[1] : near[1] + 2 * half + 1] += total * spot


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
    assert np.count_nonzero(hit) < 2e-5 * 169 * 7 * flux.shape[1]


def test_lacosmic_on_the_band_spares_arc_lines(rng):
    inputs, strength = observe(arc_lines(), rng, hits=100)
    flux, variance, mask, center, width = inputs
    hit = find_hits_lacosmic(flux, variance, mask, Windows.of(center, width))
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
