from datetime import UTC, datetime

import numpy as np
import pytest

from kspecdr.errors import BadFrame, BadOption
from kspecdr.flux import Standard, Transfer, measure_transfer, outside_telluric
from kspecdr.products import Fibers, MaskBit, Setup, Spectra

WAVE = 3600.0 + 3.9 * np.arange(1340)
TABLE = np.arange(3300.0, 9500.0, 5.0)
SETUP = Setup("MFFLX", 60.0, datetime(2026, 1, 27, tzinfo=UTC), 1.0, 5.0, 65535.0, "mode", 6200.0, 3.68, 150.0)


def efficiency(wave):
    """Glass that cuts off at 4200 Angstrom, and a blaze."""
    return np.exp(-0.5 * (np.log(wave / 5800.0) / 0.45) ** 2) / (1 + np.exp(-(wave - 4200.0) / 90.0))


def star_flux(wave):
    lines = sum(0.2 * np.exp(-0.5 * ((wave - line) / 18.0) ** 2) for line in (4101.7, 4340.5, 4861.3, 6562.8))
    return 4e-13 * (wave / 5500.0) ** -3 * (1 - lines)


def seen_star(rng, *, peak=2000.0, read_noise=36.0):
    """Rate, variance and the true sensitivity of a star of `peak` electrons a sample in 60 s."""
    truth = efficiency(WAVE) * WAVE
    light = truth * star_flux(WAVE)
    truth = truth * peak / (light.max() * 60 * 3.9)
    light = truth * star_flux(WAVE) * 60 * 3.9
    light = light * np.where(outside_telluric(WAVE), 1.0, 0.8)
    variance = light + read_noise**2
    return rng.normal(light, np.sqrt(variance)) / (60 * 3.9), variance / (60 * 3.9) ** 2, truth


def relative_error(transfer, truth):
    """In shape, where the instrument has a twentieth of its best efficiency."""
    judged = (transfer.wave > 3960) & outside_telluric(transfer.wave)
    ratio = transfer.sensitivity / np.interp(transfer.wave, WAVE, truth)
    return (ratio / np.median(ratio[judged]) - 1)[judged]


@pytest.mark.parametrize(("peak", "rms"), [(2e3, 0.02), (2e4, 0.006)])
def test_the_sensitivity_follows_the_blue_cutoff(rng, peak, rms):
    rate, variance, truth = seen_star(rng, peak=peak)
    off = relative_error(measure_transfer(rate, variance, WAVE, Standard(TABLE, star_flux(TABLE))), truth)
    assert np.std(off) < rms


def test_the_lamp_of_the_flat_makes_it_good_to_half_a_percent(rng):
    lamp = efficiency(WAVE) * WAVE**-4 / np.expm1(1.438777e8 / (WAVE * 3200.0))
    rate, variance, truth = seen_star(rng)
    off = relative_error(measure_transfer(rate, variance, WAVE, Standard(TABLE, star_flux(TABLE)), lamp=lamp), truth)
    assert np.std(off) < 0.005
    assert np.abs(off).max() < 0.02


def test_the_curve_is_bridged_across_bands_in_which_the_atmosphere_absorbs(rng):
    rate, variance, truth = seen_star(rng, peak=2e4)
    transfer = measure_transfer(rate, variance, WAVE, Standard(TABLE, star_flux(TABLE)))
    ratio = transfer.sensitivity / np.interp(transfer.wave, WAVE, truth)
    absorbed = ~outside_telluric(transfer.wave) & (transfer.wave < 8400)
    assert np.abs(ratio[absorbed] / np.median(ratio) - 1).max() < 0.02  # the star lacks 20 % there


def test_a_curve_ends_where_the_star_does(rng):
    rate, variance, _ = seen_star(rng)
    light = WAVE > 4400
    rate = np.where(light, rate, rng.normal(0, np.sqrt(variance)))
    transfer = measure_transfer(rate, variance, WAVE, Standard(TABLE, star_flux(TABLE)))
    assert 4200 < transfer.wave[0] < 4410
    assert np.isnan(transfer.at(np.array([4100.0, 9900.0]))).all()


def test_a_star_beyond_its_table_is_refused(rng):
    rate, variance, _ = seen_star(rng)
    with pytest.raises(BadFrame, match="0 samples of the standard star overlap its table, expected 50"):
        measure_transfer(rate, variance, WAVE, Standard(TABLE + 9000.0, star_flux(TABLE)))


def test_a_table_is_brought_to_the_instruments_resolution():
    fwhm, sigma, depth = 12.96, 18.0, 0.4
    table = np.arange(4000.0, 6000.0, 1.0)
    flux = 1 - depth * np.exp(-0.5 * ((table - 5000.0) / sigma) ** 2)
    wave = np.arange(4900.0, 5100.0, 0.05)  # so fine that a pixel does not matter
    wide = np.hypot(sigma, fwhm / 2.35482)
    truth = 1 - depth * sigma / wide * np.exp(-0.5 * ((wave - 5000.0) / wide) ** 2)
    np.testing.assert_allclose(Standard(table, flux).seen_at(wave, fwhm=fwhm), truth, atol=5e-4)


def test_a_table_is_averaged_over_pixels():
    table = np.arange(4000.0, 6000.0, 10.0)
    standard = Standard(table, (table - 4000.0) ** 2)
    wave = np.arange(4500.0, 5500.0, 40.0)
    np.testing.assert_allclose(standard.seen_at(wave), (wave - 4000.0) ** 2 + 40.0**2 / 12, rtol=2e-4)
    assert np.isnan(standard.seen_at(np.arange(3900.0, 4050.0, 40.0))[0])


def spectra_of(rate):
    flux = np.tile(rate * 60 * 3.9, (2, 1))
    shape = flux.shape
    return Spectra(
        flux, np.full(shape, 25.0), np.zeros(shape, np.uint8), np.tile(WAVE, (2, 1)), SETUP, Fibers.of(2),
        covariance=np.full(shape, 5.0), calibrated=True, scrunched=True,
    )  # fmt: skip


def test_flux_and_noise_are_divided_alike():
    transfer = Transfer(WAVE[10:-10], efficiency(WAVE)[10:-10] * 1e15)
    done = transfer.apply(spectra_of(efficiency(WAVE) * 1e15 * star_flux(WAVE)))
    inside = slice(10, -10)
    np.testing.assert_allclose(done.flux[1, inside], star_flux(WAVE)[inside], rtol=1e-12)
    scale = efficiency(WAVE) * 1e15 * 60 * 3.9
    np.testing.assert_allclose(done.variance[0, inside], (25.0 / scale**2)[inside])
    np.testing.assert_allclose(done.covariance[0, 10:-11], 5.0 / (scale[10:-11] * scale[11:-10]))
    assert (done.mask[:, :10] == MaskBit.NO_DATA).all()
    assert done.unit == "erg / (s cm2 Angstrom)"


def test_the_atmosphere_is_taken_out_at_the_airmass_of_each_exposure():
    clear = efficiency(WAVE) * 1e15
    table = np.array([3000.0, 4000.0, 6000.0, 10000.0]), np.array([1.0, 0.4, 0.15, 0.05])
    magnitude = np.interp(WAVE, *table)
    observed = Transfer(WAVE, clear * 10 ** (-0.4 * 1.3 * magnitude))
    above = observed.above_atmosphere(*table, 1.3)
    np.testing.assert_allclose(above.sensitivity, clear, rtol=1e-12)
    rate = clear * 10 ** (-0.4 * 1.8 * magnitude) * star_flux(WAVE)
    np.testing.assert_allclose(above.apply(spectra_of(rate), 1.8).flux[0], star_flux(WAVE), rtol=1e-9)
    with pytest.raises(BadOption, match="give airmass"):
        above.apply(spectra_of(rate))
