from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from kspecdr.errors import BadFrame
from kspecdr.io.disk import sync
from kspecdr.io.fits import (
    image_content,
    read_image,
    read_raw,
    read_spectra,
    read_tramlines,
    write_image,
    write_spectra,
    write_tramlines,
)
from kspecdr.io.hdus import lay_down
from kspecdr.io.names import product_path
from kspecdr.products import Fibers, Image, Provenance, Setup, Source, Spectra, TramlineMap

SETUP = Setup(
    "MFARC", 1.5, datetime(2026, 1, 27, 14, 53, 58, tzinfo=UTC), 4.09, 16.03, 65535.0, "2 MHz LowNoise Low",
    6200.0, 3.68, 150.0, focal_length=328.0, binning=(1, 2), lamp="hgar", target="Käfer",
)  # fmt: skip
FIBERS = Fibers(np.array(["P", "S"]), np.array(["a", "sky 1"]), {"row": np.array([3.5, 9.0])})
SOURCES = Provenance((Source("raw", "arc.fits", "ab" * 32),), (("sum_width", "5.0"),))


def arrays(rng, *shape, n=3):
    return [rng.normal(size=shape).astype(np.float32) for _ in range(n)]


def test_an_image_comes_back_as_it_was(tmp_path, rng):
    flux, variance, _ = arrays(rng, 4, 5)
    mask = rng.integers(0, 16, (4, 5)).astype(np.uint8)
    path = write_image(tmp_path / "a_im.fits", Image(flux, variance, mask, SETUP, FIBERS, SOURCES))
    back = read_image(path)
    np.testing.assert_array_equal(back.flux, flux)
    np.testing.assert_array_equal(back.variance, variance)
    np.testing.assert_array_equal(back.mask, mask)
    assert back.setup == replace(SETUP, target="K?fer")  # cards are ASCII
    np.testing.assert_array_equal(back.fibers.columns["row"], [3.5, 9.0])
    assert SOURCES.sources[0] in back.provenance.sources
    assert back.provenance.options == SOURCES.options


def test_tramlines_and_spectra_come_back_as_they_were(tmp_path, rng):
    center, width, wave = (a.astype(float) for a in arrays(rng, 2, 5))
    tlm = TramlineMap(center, width, wave, np.array(["traced", "interpolated"]), SETUP, FIBERS, np.arange(3.0))
    back = read_tramlines(write_tramlines(tmp_path / "a_tlm.fits", tlm))
    np.testing.assert_array_equal(back.center, center)
    np.testing.assert_array_equal(back.status, tlm.status)
    np.testing.assert_array_equal(back.wings, tlm.wings)
    flux, variance, covariance = arrays(rng, 2, 5)
    lines = {"fiber": np.array([1, 2]), "lamp": np.array(["Ne", "Kr"])}
    spectra = Spectra(flux, variance, np.zeros((2, 5), np.uint8), wave, SETUP, FIBERS, covariance, lines=lines)
    again = read_spectra(write_spectra(tmp_path / "a_red.fits", replace(spectra, calibrated=True)))
    np.testing.assert_array_equal(again.covariance, covariance)
    assert list(again.lines["lamp"]) == ["Ne", "Kr"]
    assert again.calibrated
    assert not again.scrunched


def test_the_same_product_has_the_same_bytes_and_valid_checksums(tmp_path, rng):
    flux, variance, _ = arrays(rng, 4, 5)
    image = Image(flux, variance, np.zeros((4, 5), np.uint8), SETUP, FIBERS, SOURCES)
    first, second = (write_image(tmp_path / name, image) for name in ("a_im.fits", "b_im.fits"))
    assert Path(first).read_bytes() == Path(second).read_bytes()
    with fits.open(first, checksum=True) as hdul:
        assert all(hdu.verify_checksum() == 1 for hdu in hdul)


def test_what_is_laid_down_has_the_bytes_of_what_is_written(tmp_path, rng):
    flux, variance, _ = arrays(rng, 4, 5)
    image = Image(flux, variance, np.zeros((4, 5), np.uint8), SETUP, FIBERS, SOURCES)
    written = write_image(tmp_path / "a_im.fits", image)
    laid = lay_down(tmp_path / "b_im.fits", image_content(image))
    sync(laid)
    assert Path(laid).read_bytes() == Path(written).read_bytes()


def test_a_linear_grid_has_a_wcs_that_gives_the_wavelengths(tmp_path):
    wave = np.tile(4000.0 + 3.5 * np.arange(6), (2, 1))
    flux = np.ones((2, 6), np.float32)
    spectra = Spectra(flux, flux, np.zeros((2, 6), np.uint8), wave, SETUP, FIBERS, scrunched=True)
    header = fits.getheader(write_spectra(tmp_path / "a_red.fits", spectra))
    assert (header["CTYPE1"], header["CUNIT1"], header["SCRUNCH"]) == ("AWAV", "Angstrom", True)
    sample = np.arange(1, 7)
    np.testing.assert_allclose(header["CRVAL1"] + header["CDELT1"] * (sample - header["CRPIX1"]), wave[0])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", "is empty"), (b"hello", "is no FITS file"), (b"SIMPLE  =  nonsense", "has no END card")],
)
def test_a_file_that_is_no_frame_is_refused_in_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "x.fits"
    path.write_bytes(content)
    with pytest.raises(BadFrame, match=rf"^x\.fits: it {sentence}"):
        read_raw(path)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "x.fits"
    fits.PrimaryHDU(np.ones((100, 100), np.uint16)).writeto(path)
    path.write_bytes(path.read_bytes()[:8000])
    with pytest.raises(BadFrame, match="8000 bytes on disk, expected at least 22880"):
        read_raw(path)


def test_products_are_named_after_their_exposure():
    assert product_path("work/arc_1_converted.fits", "im") == "work/arc_1_im.fits"
    assert product_path("work/arc_1_im.fits", "tlm") == "work/arc_1_tlm.fits"


def test_texts_beyond_ascii_survive_in_the_tables_of_a_product(tmp_path):
    names = np.array(["\u03b1 Cen", "100% sky"])
    sources = (Source("raw", "Bias 2026 M\u00e4rz 3.fits", "0" * 64), Source("raw", "odd \udcff\n.fits", "1" * 64))
    flux = np.ones((2, 6), np.float32)
    fibers = Fibers(np.array(["P", "S"]), names, {"note": names, "ra": np.array([1.5, 2.5])})
    spectra = Spectra(flux, flux, np.zeros((2, 6), np.uint8), flux, SETUP, fibers, provenance=Provenance(sources))
    again = read_spectra(write_spectra(tmp_path / "a_red.fits", spectra))
    assert again.provenance.sources[-2:] == sources
    assert again.fibers.name.tolist() == again.fibers.columns["note"].tolist() == names.tolist()
    assert again.fibers.columns["ra"].tolist() == [1.5, 2.5]
