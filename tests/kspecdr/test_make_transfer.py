from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from kspecdr.errors import BadFrame, BadOption
from kspecdr.io.fits import read_spectra, write_spectra
from kspecdr.make_throughput import make_throughput
from kspecdr.make_transfer import make_transfer, read_transfer
from kspecdr.products import Fibers, Setup, Spectra

N_FIBER, N_COLUMN = 5, 1340
SETUP = Setup("MFFLX", 60.0, datetime(2026, 1, 27, tzinfo=UTC), 1.0, 5.0, 65535.0, "mode", 6200.0, 3.68, 150.0)
NATIVE = 4000.0 + 3.9 * np.arange(N_COLUMN) + np.linspace(-2, 2, N_FIBER)[:, None]


def sensitivity(wave):
    return 1e15 * np.exp(-0.5 * ((wave - 6300.0) / 1700.0) ** 2)


def star_flux(wave):
    return 4e-13 * (wave / 5500.0) ** -3


def of_fibers(flux, variance, wave, frame_class="MFFLX", **more):
    mask = np.zeros(flux.shape, np.uint8)
    return Spectra(flux, variance, mask, wave, replace(SETUP, frame_class=frame_class), Fibers.of(N_FIBER), **more)


@pytest.fixture
def files(rng, tmp_path):
    """Return a reduced standard star on fiber 3, its table, an extinction table and the flat."""
    wave = np.tile(NATIVE[2], (N_FIBER, 1))
    light = np.where(np.arange(N_FIBER)[:, None] == 2, sensitivity(wave) * star_flux(wave) * 60 * 3.9, 0.0)
    variance = light + 200.0
    star = of_fibers(rng.normal(light, np.sqrt(variance)), variance, wave, calibrated=True, scrunched=True)
    write_spectra(tmp_path / "star_red.fits", replace(star, notes={"ARC_FWHM": 3.3}))
    table = np.arange(3500.0, 9800.0, 5.0)
    Table({"wavelength": table, "flux": star_flux(table)}).write(tmp_path / "star.ecsv")
    Table({"wavelength": [3000.0, 5000.0, 10000.0], "magnitude": [1.0, 0.2, 0.05]}).write(tmp_path / "site.csv")
    lamp = sensitivity(NATIVE) * NATIVE * 1e-15
    one = np.ones_like(NATIVE)
    flat = of_fibers(one, 0 * one + 1e-8, NATIVE, "MFFFF", lamp=lamp, calibrated=True, unit="")
    write_spectra(tmp_path / "flat_red.fits", flat)
    return tmp_path


def test_the_transfer_function_is_a_table_with_provenance(files):
    path = make_transfer(
        {
            "RED_FILENAME": str(files / "star_red.fits"),
            "TABLE_FILENAME": str(files / "star.ecsv"),
            "FFLAT_FILENAME": str(files / "flat_red.fits"),
        }
    )
    assert path == str(files / "star_transfer.fits")
    transfer = read_transfer(path)
    ratio = transfer.sensitivity / sensitivity(transfer.wave)
    assert np.std(ratio) < 0.005
    assert abs(ratio.mean() - 1) < 0.005
    with fits.open(path) as hdul:
        assert hdul["TRANSFER"].columns["WAVE"].unit == "Angstrom"
        assert {"red", "standard", "fflat"} <= set(hdul["PROVENANCE"].data["ROLE"])


def test_with_extinction_the_curve_is_the_one_above_the_atmosphere(files):
    star = make_transfer(files / "star_red.fits", files / "star.ecsv", files / "seen.fits")
    above = make_transfer(
        files / "star_red.fits", files / "star.ecsv", files / "above.fits",
        extinct_filename=files / "site.csv", airmass=1.5,
    )  # fmt: skip
    seen, clear = read_transfer(star), read_transfer(above)
    at = np.array([5000.0, 7500.0])
    np.testing.assert_allclose(clear.at(at) / seen.at(at), 10 ** (0.4 * 1.5 * np.array([0.2, 0.125])), rtol=1e-3)
    np.testing.assert_allclose(clear.at(at, 1.5), seen.at(at), rtol=1e-6)


def test_wrong_calls_end_in_one_sentence(files):
    star, table = files / "star_red.fits", files / "star.ecsv"
    with pytest.raises(BadOption, match="EXTINCT_FILENAME and AIRMASS together"):
        make_transfer(star, table, airmass=1.2)
    with pytest.raises(BadOption, match=r"star_red.fits: FIBER is 9, expected 1 to 5"):
        make_transfer(star, table, fiber=9)
    with pytest.raises(BadFrame, match=r"star_red.fits with star.ecsv: .* expected 50 or more with light"):
        make_transfer(star, table, fiber=1)
    write_spectra(files / "done_red.fits", replace(read_spectra(star), unit="erg / (s cm2 Angstrom)"))
    with pytest.raises(BadFrame, match="expected electrons on one wavelength grid"):
        make_transfer(files / "done_red.fits", table)


def test_a_table_of_words_is_refused(files):
    (files / "bad.csv").write_text("wavelength,flux\nblue,1\nred,2\n")
    with pytest.raises(BadFrame, match=r"bad.csv: expected numbers"):
        make_transfer(files / "star_red.fits", files / "bad.csv")


def test_twilight_gives_throughputs_beyond_the_flat(files, rng):
    truth = np.array([1.03, 0.98, 1.0, 0.97, 1.02])[:, None]
    light = 4000.0 * (1 - 0.3 * np.exp(-0.5 * ((NATIVE - 6562.8) / 7.0) ** 2)) * truth
    sky = of_fibers(rng.normal(light, np.sqrt(light + 200)), light + 200, NATIVE, "MFSKY")
    write_spectra(files / "sky_ex.fits", sky)
    write_spectra(files / "arc_red.fits", of_fibers(light, light, NATIVE, "MFARC", calibrated=True))
    path = make_throughput(
        {
            "EXTRAC_FILENAME": str(files / "sky_ex.fits"),
            "WAVEL_FILENAME": str(files / "arc_red.fits"),
            "FFLAT_FILENAME": str(files / "flat_red.fits"),
        }
    )
    assert path == str(files / "sky_thput.fits")
    found = read_spectra(path).flux
    ratio = found / truth
    assert np.std(ratio / ratio.mean()) < 0.002
