from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from kspecdr.coadd import coadd
from kspecdr.coadd_spectra import coadd_spectra, coadded
from kspecdr.errors import BadFrame, BadOption
from kspecdr.io.fits import read_spectra, write_spectra
from kspecdr.products import Fibers, Setup, Spectra

SETUP = Setup("MFOBJECT", 300.0, datetime(2026, 1, 27, tzinfo=UTC), 1.0, 5.0, 65535.0, "mode", 6200.0, 3.68, 150.0)
N_FIBER, N_SAMPLE = 8, 1340
LIGHT = np.linspace(5.0, 900.0, N_FIBER)[:, None] * (1 + 0.3 * np.sin(np.arange(N_SAMPLE) / 90.0))
SCALE = np.array([1.0, 0.6, 1.3, 0.9])


def exposures(rng, scale=SCALE, *, noise=18.0):
    """Exposures whose samples share noise with the next, by a kernel of 0.6 and 0.4 of a pixel's."""
    light = LIGHT * np.asarray(scale)[:, None, None]
    sigma = np.sqrt(light + noise**2)
    pixels = rng.normal(0, 1, (*light.shape[:-1], N_SAMPLE + 1))
    flux = light + sigma * (0.6 * pixels[..., :-1] + 0.4 * pixels[..., 1:])
    return flux, sigma**2 * 0.52, sigma**2 * 0.24, np.ones(flux.shape, bool)


def test_scales_are_found_and_the_noise_is_as_claimed(rng):
    pulls, shared, claimed = [], [], []
    for _ in range(6):
        mean = coadd(*exposures(rng))
        np.testing.assert_allclose(mean.scale, SCALE / SCALE.mean(), rtol=0.005)
        off = mean.flux - LIGHT * SCALE.mean()
        pulls.append(off / np.sqrt(mean.variance))
        shared.append(off[:, :-1] * off[:, 1:] / mean.variance[:, :-1])
        claimed.append(mean.covariance[:, :-1] / mean.variance[:, :-1])
    assert np.std(pulls) == pytest.approx(1.0, abs=0.02)
    assert abs(np.mean(pulls)) < 0.05
    assert np.mean(shared) == pytest.approx(np.mean(claimed), rel=0.05)


def test_the_weights_are_the_best(rng):
    flux, variance, covariance, good = exposures(rng)
    mean = coadd(flux, variance, covariance, good)
    ideal = 1 / ((SCALE / SCALE.mean())[:, None, None] ** 2 / variance).sum(axis=0)
    np.testing.assert_allclose(mean.variance, ideal, rtol=0.02)


def test_a_hit_and_bad_samples_leave_no_trace(rng):
    flux, variance, covariance, good = exposures(rng)
    flux[2, 5, 300] += 5e4
    flux[1, 3, 600:700], good[1, 3, 600:700] = np.nan, False
    flux[:, 6, 900], good[:, 6, 900] = np.nan, False
    mean = coadd(flux, variance, covariance, good)
    pull = (mean.flux - LIGHT * SCALE.mean()) / np.sqrt(mean.variance)
    assert np.abs(pull[5, 300]) < 5
    assert np.std(pull[3, 600:700]) < 1.3
    assert np.isnan(mean.flux[6, 900])
    assert np.isfinite(np.delete(mean.flux[6], 900)).all()


def test_an_exposure_without_light_is_refused(rng):
    flux, variance, covariance, good = exposures(rng)
    good[1] = False
    with pytest.raises(BadFrame, match="exposure 2 of 4 has no good sample"):
        coadd(flux, variance, covariance, good)


def reduced(rng, n=3):
    flux, variance, covariance, _ = exposures(rng, SCALE[:n])
    wave = np.tile(4000.0 + 3.9 * np.arange(N_SAMPLE), (N_FIBER, 1))
    return [
        Spectra(f, v, np.zeros(f.shape, np.uint8), wave, SETUP, Fibers.of(N_FIBER), covariance=c, calibrated=True,
                scrunched=True)
        for f, v, c in zip(flux, variance, covariance, strict=True)
    ]  # fmt: skip


def test_files_are_combined_with_their_provenance(rng, tmp_path):
    paths = [write_spectra(tmp_path / f"{n}_red.fits", each) for n, each in enumerate(reduced(rng))]
    mean = read_spectra(coadd_spectra(paths, tmp_path / "all_red.fits"))
    assert [s.name for s in mean.provenance.sources if s.role == "red"] == ["0_red.fits", "1_red.fits", "2_red.fits"]
    pull = (mean.flux - LIGHT * SCALE[:3].mean()) / np.sqrt(mean.variance)
    assert np.std(pull) == pytest.approx(1.0, abs=0.03)


def test_what_does_not_belong_together_is_refused(rng, tmp_path):
    first, second, _ = reduced(rng)
    with pytest.raises(BadFrame, match="exposure 2 is on another wavelength grid"):
        coadded([first, replace(second, wave=second.wave + 0.5)])
    with pytest.raises(BadFrame, match="exposure 2 is in 'adu', the first in 'electron'"):
        coadded([first, replace(second, unit="adu")])
    elsewhere = replace(second.fibers, name=np.where(np.arange(N_FIBER) == 3, "star", second.fibers.name))
    with pytest.raises(BadFrame, match="exposure 2 has 'star' on fiber 4, the first 'fiber 4'"):
        coadded([first, replace(second, fibers=elsewhere)])
    with pytest.raises(BadOption, match="1 files, expected 2 or more"):
        coadd_spectra(["a_red.fits"], tmp_path / "b.fits")
