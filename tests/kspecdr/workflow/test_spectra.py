"""What the documented workflow gives, held to the truth of the night."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from kspecdr.errors import BadOption
from kspecdr.extract.make_red import make_red
from kspecdr.extract.reduce_arc import reduce_arc
from kspecdr.io.fits import read_image, read_spectra, read_tramlines
from kspecdr.products import MaskBit
from kspecdr.reduce_fflat import reduce_fflat
from kspecdr.reduce_object import SpectralCalibrations, calibrate, reduce_object
from kspecdr.tlm.make_tlm import make_tlm
from kspecdr.wavecal.scrunch import scrunch_from_arc_id

N_FIBER = 6
CLASSES = {"bias": "BIAS", "dark": "DARK", "flat": "MFFFF", "arc": "MFARC", "object": "MFOBJECT"}


def test_the_tramlines_are_where_the_fibers_are(work, truth_of):
    center = read_tramlines(work / "flat_tlm.fits").center
    assert np.sqrt(np.mean((center - truth_of("flat_00001").tramlines) ** 2)) < 0.02


def test_two_lamps_give_wavelengths_to_a_tenth_of_a_pixel(arc, truth_of):
    truth = truth_of("arc_hgar_00001").wavelength
    error = (read_spectra(arc).wave - truth) / np.gradient(truth, axis=1)
    assert np.sqrt(np.mean(error[:, 20:-20] ** 2)) < 0.1
    with fits.open(arc) as hdul:
        assert {"WAVELA", "SHIFTS", "ARCLINES", "FIBRES", "PROVENANCE"} <= {hdu.name for hdu in hdul}


def test_one_arc_is_solved_with_tables_and_a_picture(tmp_path, arc_arguments):
    path = reduce_arc(arc_arguments("ne"), get_diagnostic=True, diagnostic_dir=tmp_path)
    assert Path(path).name == "arc_ne_00001_red.fits"
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"identified_arcs.dat", "global_fit_coefficients.dat", "arc_solution.png"}


def test_the_object_is_rebinned_in_place_and_back(work, arc):
    red = work / "object_00001_red.fits"
    shutil.copy2(work / "object_00001_ex.fits", red)
    native = read_spectra(red)
    scrunch_from_arc_id(obj_filename=str(red), arc_filename=arc, args={"WAVEL_FILENAME": arc}, reverse=False)
    done = read_spectra(red)
    assert done.scrunched
    total, before = np.nansum(done.flux, axis=1), np.nansum(native.flux, axis=1)
    np.testing.assert_allclose(total, before, rtol=1e-6)
    header = fits.getheader(red)
    assert (header["CTYPE1"], header["CUNIT1"]) == ("AWAV", "Angstrom")
    scrunch_from_arc_id(red, arc, {}, reverse=True)
    back = read_spectra(red)
    assert not back.scrunched
    ratio = np.nansum(back.flux, axis=1) / before
    np.testing.assert_allclose(ratio, 1.0, rtol=1e-6)


def test_reduce_object_does_it_in_one_call_with_sky(work, arc, tmp_path):
    fflat = reduce_fflat(
        {
            "IMAGE_FILENAME": str(work / "flat_00001_im.fits"),
            "TLMAP_FILENAME": str(tmp_path / "flat_tlm.fits"),
            "EXTRAC_FILENAME": str(tmp_path / "flat_ex.fits"),
            "OUTPUT_FILENAME": str(tmp_path / "flat_red.fits"),
            "WAVEL_FILENAME": arc,
        }
    )
    path = reduce_object(
        {
            "RAW_FILENAME": str(work / "object_00001_converted.fits"),
            "TLMAP_FILENAME": str(work / "flat_tlm.fits"),
            "WAVEL_FILENAME": arc,
            "FFLAT_FILENAME": fflat,
            "BIAS_FILENAME": str(work / "mbias.fits"),
            "DARK_FILENAME": str(work / "mdark.fits"),
            "OUT_DIRNAME": str(tmp_path),
            "INC_RWSS": True,
            "FIB4": "S",
        }
    )
    assert Path(path) == tmp_path / "object_00001_red.fits"
    with fits.open(path) as hdul:
        assert {"SKY", "RWSS", "COVAR"} <= {hdu.name for hdu in hdul}
        sky_left = np.nanmedian(hdul[0].data[3])
        assert abs(sky_left) < 0.1 * np.nanmedian(hdul["RWSS"].data[3])
    assert (read_image(tmp_path / "object_00001_im.fits").mask & MaskBit.COSMIC).any()


def test_make_red_puts_extracted_spectra_on_the_grid(work, arc, tmp_path):
    path = make_red(
        {
            "EXTRAC_FILENAME": str(work / "object_00001_ex.fits"),
            "OUTPUT_FILENAME": str(tmp_path / "r.fits"),
            "WAVEL_FILENAME": arc,
        }
    )
    assert read_spectra(path).scrunched


def test_the_noise_of_the_sky_is_carried(work, arc):
    """Program fibers hold no more than noise once the sky of the same kind of fiber is off."""
    rng = np.random.default_rng(5)
    spectra = read_spectra(work / "object_00001_ex.fits")
    n_fiber, n_column = spectra.flux.shape
    variance = np.full((n_fiber, n_column), 400.0)
    flat = replace(spectra, flux=np.ones((n_fiber, n_column)), variance=np.zeros((n_fiber, n_column)))
    fibers = replace(spectra.fibers, type=np.array(list("PSPSPP")))
    pulls = []
    for _ in range(5):
        flux = 300.0 + rng.normal(0, 20, (n_fiber, n_column))
        blank = replace(spectra, flux=flux, variance=variance, mask=np.zeros(flux.shape, np.uint8), fibers=fibers)
        done = calibrate(blank, SpectralCalibrations(read_spectra(arc), fflat=flat))
        pulls.append((done.flux / np.sqrt(done.variance))[[0, 2, 4, 5], 10:-10])
    assert np.nanstd(pulls) == pytest.approx(1.0, abs=0.05)


def test_a_quick_look_traces_in_wider_bins(work, tmp_path, truth_of):
    flat, truth = work / "flat_00001_im.fits", truth_of("flat_00001").tramlines
    careful = make_tlm({"IMAGE_FILENAME": str(flat), "TLMAP_FILENAME": str(tmp_path / "a.fits"), "TLM_FIT_RES": True})
    quick = make_tlm(flat, tmp_path / "b.fits", qad_pksearch=True, tlm_fit_res=True)
    residual, coarse = (read_tramlines(path).fit_residual for path in (careful, quick))
    assert coarse.shape[1] < residual.shape[1] / 2
    assert np.abs(read_tramlines(quick).center[1:-1] - truth[1:-1]).max() < 0.1


def test_the_status_of_each_trace_travels_with_the_spectra(work):
    assert list(read_spectra(work / "object_00001_ex.fits").fibers.columns["status"]).count("traced") >= 4


def test_throughput_and_transfer_function_are_applied_as_given(work, arc, tmp_path):
    def reduced(name, **more):
        return read_spectra(
            reduce_object(
                {
                    "RAW_FILENAME": str(work / "object_00001_converted.fits"),
                    "TLMAP_FILENAME": str(work / "flat_tlm.fits"),
                    "WAVEL_FILENAME": arc,
                    "OUTPUT_FILENAME": str(tmp_path / f"{name}_red.fits"),
                    "OUT_DIRNAME": str(tmp_path),
                    **more,
                }
            )
        )

    plain = reduced("plain")
    through = np.linspace(0.8, 1.2, N_FIBER)[:, None]
    fits.PrimaryHDU(through).writeto(tmp_path / "through.fits")
    divided = reduced("divided", THPUT_FILENAME=str(tmp_path / "through.fits"))
    np.testing.assert_allclose(divided.flux, plain.flux / through, rtol=1e-6)
    np.testing.assert_allclose(divided.variance, plain.variance / through**2, rtol=1e-6)
    assert divided.sky is None
    assert reduced("sky", THPUT_FILENAME=str(tmp_path / "through.fits"), FIB4="S").sky is not None

    low, high = plain.wave[0, [0, -1]]
    Table({"wave": [low - 100, high + 100], "sensitivity": [2e15, 2e15]}).write(tmp_path / "curve.csv")
    calibrated = reduced("flux", TRANSFUNC=str(tmp_path / "curve.csv"), CALIBFLUX=True)
    step = np.diff(plain.wave[0]).mean()
    np.testing.assert_allclose(calibrated.flux, plain.flux / (2e15 * step * plain.setup.exposure), rtol=1e-5)
    assert calibrated.unit == "erg / (s cm2 Angstrom)"
    assert reduced("left", TRANSFUNC=str(tmp_path / "curve.csv")).unit == "electron"
    roles = {source.role for source in calibrated.provenance.sources}
    assert {"transfer", "arc", "tlm"} <= roles
    with pytest.raises(BadOption, match="calibflux=True needs transfunc"):
        reduced("without", CALIBFLUX=True)
    with pytest.raises(BadOption, match="calibflux=True needs a transfer function"):
        make_red(work / "object_00001_ex.fits", tmp_path / "x_red.fits", wavel_filename=arc, calibflux=True)
