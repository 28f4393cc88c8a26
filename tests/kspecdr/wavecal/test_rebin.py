import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kspecdr.errors import BadFrame
from kspecdr.products import MaskBit
from kspecdr.wavecal.rebin import common_edges, edges_of, middles, overlap, rebin, unbin

N = 300
COLUMN = np.arange(N)
WAVE = 4000 + 4.02 * COLUMN - 2e-4 * COLUMN**2


def clean(flux):
    return flux, np.ones_like(flux), np.zeros(flux.size, np.uint8)


@given(start=st.floats(-8, 0), step=st.floats(0.3, 4), flip=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_the_sum_of_the_samples_is_the_sum_of_the_pixels(start, step, flip, seed):
    flux = np.random.default_rng(seed).normal(100, 30, N)
    wave = WAVE[::-1] if flip else WAVE
    edges = np.sort(edges_of(wave)[[0, -1]])
    target = np.arange(edges[0] + start, edges[1] + 4 * step, 4 * step)
    out = rebin(*clean(flux), wave, target)
    assert np.nansum(out.flux) == pytest.approx(flux.sum(), rel=1e-9)


def test_variance_and_neighbour_covariance_are_those_of_many_draws(rng):
    target = common_edges(WAVE[None]) + 1.3
    variance = rng.uniform(50, 400, N)
    draws = rng.normal(0, np.sqrt(variance), (20000, N))
    pieces = overlap(edges_of(WAVE), target)
    matrix = np.zeros((target.size - 1, N))
    np.add.at(matrix, (pieces.target, pieces.source), pieces.share)
    samples = draws @ matrix.T
    out = rebin(np.zeros(N), variance, np.zeros(N, np.uint8), WAVE, target)
    inner = slice(2, -3)
    np.testing.assert_allclose(out.variance[inner], samples.var(axis=0)[inner], rtol=0.06)
    measured = np.mean(samples[:, :-1] * samples[:, 1:], axis=0)
    assert np.sum(out.covariance[:-1][inner]) == pytest.approx(np.sum(measured[inner]), rel=0.02)
    assert np.sum(out.variance[inner]) == pytest.approx(np.sum(samples.var(axis=0)[inner]), rel=0.02)


def test_a_line_stays_at_its_wavelength():
    flux = np.exp(-0.5 * ((WAVE - 4600.0) / 6.5) ** 2)
    edges = common_edges(WAVE[None])
    out = rebin(*clean(flux), WAVE, edges)
    place = np.nansum(out.flux * middles(edges)) / np.nansum(out.flux)
    assert place == pytest.approx(4600.0, abs=0.01)


@pytest.mark.parametrize("turn", [1, -1])
def test_back_on_the_pixels_even_noise_is_what_it_was(rng, turn):
    wave = (WAVE + 1e-5 * (WAVE - 4000.0) ** 2)[::turn]  # no pixel finer than a sample
    edges = np.arange(3996.0, wave.max() + 8.0, 3.8)
    flux, variance, mask = rng.normal(100, 10, N), rng.uniform(50, 150, N), np.zeros(N, np.uint8)
    there = rebin(flux, variance, mask, wave, edges)
    back = unbin(there.flux, there.variance, there.mask, edges, wave)
    np.testing.assert_allclose(back.flux, flux, rtol=1e-6)
    np.testing.assert_allclose(back.variance, variance, rtol=1e-5)
    assert (back.mask == 0).all()


def test_back_from_coarser_samples_a_smooth_spectrum_is_what_it_was():
    flux = 100 + 20 * np.sin(WAVE / 90)
    edges = np.arange(3990.0, WAVE[-1] + 10.0, 4.4)
    there = rebin(*clean(flux), WAVE, edges)
    back = unbin(there.flux, there.variance, there.mask, edges, WAVE)
    np.testing.assert_allclose(back.flux, flux, rtol=1e-3)
    assert back.flux.sum() == pytest.approx(flux.sum(), rel=1e-6)


def test_pixels_that_no_good_sample_tells_are_missing_on_the_way_back():
    flux, variance, mask = clean(np.full(N, 50.0))
    flux[100], mask[100] = np.nan, MaskBit.COSMIC
    edges = np.arange(3996.0, WAVE[-1] + 10.0, 3.9)
    there = rebin(flux, variance, mask, WAVE, edges)
    back = unbin(there.flux, there.variance, there.mask, edges, WAVE)
    lost = np.flatnonzero(np.isnan(back.flux))
    assert 100 in lost
    assert np.abs(lost - 100).max() <= 1
    assert (back.mask[lost] & MaskBit.COSMIC).all()
    np.testing.assert_allclose(np.delete(back.flux, lost), 50.0, rtol=1e-4)


def test_beyond_the_spectrum_there_is_nan_and_never_zero():
    out = rebin(*clean(np.ones(N)), WAVE, np.arange(3900.0, 5500.0, 4.0))
    assert np.isnan(out.flux[[0, -1]]).all()
    assert (out.mask[[0, -1]] & MaskBit.NO_DATA).all()
    assert (out.flux[np.isfinite(out.flux)] > 0).all()


def test_a_bad_pixel_costs_precision_and_not_flux():
    flux, variance, mask = clean(np.full(N, 50.0))
    flux[100], mask[100] = np.nan, MaskBit.COSMIC
    edges = 4000 + 12.0 * np.arange(90)
    out = rebin(flux, variance, mask, WAVE, edges)
    whole = rebin(*clean(np.full(N, 50.0)), WAVE, edges)
    touched = (out.mask & MaskBit.COSMIC) != 0
    assert 1 <= touched.sum() <= 2
    np.testing.assert_allclose(out.flux[touched], whole.flux[touched], rtol=0.02)
    assert (out.variance[touched] > whole.variance[touched]).all()


def test_a_logarithmic_grid_has_equal_ratios():
    wave = middles(common_edges(WAVE[None], log_wave=True), log_wave=True)
    assert np.ptp(wave[1:] / wave[:-1]) < 1e-12


def test_wavelengths_that_turn_back_are_refused():
    with pytest.raises(BadFrame, match="do not rise or fall steadily"):
        rebin(*clean(np.ones(N)), np.sin(COLUMN / 50.0), np.arange(0.0, 1.0, 0.1))
