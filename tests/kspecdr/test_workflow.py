"""The documented workflow from raw files to scrunched spectra, step by step, on a small simulated night."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from kspecdr.errors import BadFrame, BadOption, MissingCalibration, NoSolution
from kspecdr.extract.make_ex import make_ex
from kspecdr.extract.make_red import make_red
from kspecdr.extract.reduce_arc import reduce_arc, reduce_arcs
from kspecdr.inst.isoplane import write_isoplane_converted_image
from kspecdr.io.fits import read_image, read_spectra, read_tramlines, write_image, write_spectra
from kspecdr.preproc.make_im import make_im
from kspecdr.preproc.preproc import reduce_bias, reduce_dark
from kspecdr.products import MaskBit
from kspecdr.reduce_fflat import reduce_fflat
from kspecdr.reduce_object import SpectralCalibrations, calibrate, reduce_object
from kspecdr.simulate import PRESETS, write_night
from kspecdr.simulate.truthfile import read_truth
from kspecdr.tlm.make_tlm import make_tlm
from kspecdr.wavecal.scrunch import scrunch_from_arc_id

N_FIBER = 6
CLASSES = {"bias": "BIAS", "dark": "DARK", "flat": "MFFFF", "arc": "MFARC", "object": "MFOBJECT"}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Return the directory in which the workflow was run."""
    home = tmp_path_factory.mktemp("night")
    write_night(home / "raw", PRESETS["small"], truth_dir=home / "truth")
    work = home / "work"
    work.mkdir()
    converted = {}
    for raw in sorted((home / "raw").glob("*.fits")):
        kind = raw.name.split("_")[0]
        path = work / f"{raw.stem}_converted.fits"
        write_isoplane_converted_image(fpath=str(raw), output_fpath=str(path), ndfclass=CLASSES[kind], n_fibers=N_FIBER)
        converted.setdefault(kind, []).append(str(path))
    bias = reduce_bias(raw_files=converted["bias"], output_file=str(work / "mbias.fits"))
    dark = reduce_dark(raw_files=converted["dark"], output_file=str(work / "mdark.fits"), bias_filename=bias)
    detector = {"use_bias": True, "bias_filename": bias, "use_dark": True, "dark_filename": dark}
    for kind in ("flat", "arc", "object"):
        for path in converted[kind]:
            make_im(raw_filename=path, cosmic_ray_method="NONE", **detector)
    make_tlm({"IMAGE_FILENAME": str(work / "flat_00001_im.fits"), "TLMAP_FILENAME": str(work / "flat_tlm.fits")})
    for kind in ("arc", "object"):
        for path in converted[kind]:
            make_ex(
                {
                    "IMAGE_FILENAME": path.replace("_converted", "_im"),
                    "TLMAP_FILENAME": str(work / "flat_tlm.fits"),
                    "EXTRAC_FILENAME": path.replace("_converted", "_ex"),
                    "EXTR_OPERATION": "SUM",
                    "SUM_WIDTH": 5.0,
                }
            )
    return work


def arc_arguments(work, lamp="hgar"):
    return {
        "RAW_FILENAME": str(work / f"arc_{lamp}_00001_converted.fits"),
        "IMAGE_FILENAME": str(work / f"arc_{lamp}_00001_im.fits"),
        "TLMAP_FILENAME": str(work / "flat_tlm.fits"),
        "EXTRAC_FILENAME": str(work / f"arc_{lamp}_00001_ex.fits"),
        "OUTPUT_FILENAME": str(work / f"arc_{lamp}_00001_red.fits"),
        "LAMPNAME": lamp,
        "ARCDIR": str(Path("data/arc_tables")),
        "USE_GENCAL": True,
    }


@pytest.fixture(scope="module")
def arc(work):
    """Return the RED of the first arc, calibrated with all lamps."""
    return reduce_arcs([arc_arguments(work, "hgar"), arc_arguments(work, "ne")])[0]


def truth_of(work, name):
    return read_truth(work.parent / "truth" / f"{name}.npz")


def test_the_tramlines_are_where_the_fibers_are(work):
    center = read_tramlines(work / "flat_tlm.fits").center
    assert np.sqrt(np.mean((center - truth_of(work, "flat_00001").tramlines) ** 2)) < 0.02


def test_two_lamps_give_wavelengths_to_a_tenth_of_a_pixel(work, arc):
    truth = truth_of(work, "arc_hgar_00001").wavelength
    error = (read_spectra(arc).wave - truth) / np.gradient(truth, axis=1)
    assert np.sqrt(np.mean(error[:, 20:-20] ** 2)) < 0.1
    with fits.open(arc) as hdul:
        assert {"WAVELA", "SHIFTS", "ARCLINES", "FIBRES", "PROVENANCE"} <= {hdu.name for hdu in hdul}


def test_one_arc_is_solved_with_tables_and_a_picture(work, tmp_path):
    path = reduce_arc(arc_arguments(work, "ne"), get_diagnostic=True, diagnostic_dir=tmp_path)
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


def test_a_misspelt_key_lists_the_known():
    with pytest.raises(BadOption, match="make_ex does not know 'TLMAPFILENAME'; did you mean 'TLMAP_FILENAME'"):
        make_ex({"IMAGE_FILENAME": "x", "TLMAPFILENAME": "y"})


def test_the_wrong_lamp_is_refused_and_leaves_nothing(work, tmp_path):
    arguments = arc_arguments(work, "ne") | {
        "LAMPNAME": "cd",
        "OUTPUT_FILENAME": str(tmp_path / "bad_red.fits"),
    }
    with pytest.raises(NoSolution, match=r"arc_ne_00001_ex\.fits: "):
        reduce_arc(arguments)
    assert not (tmp_path / "bad_red.fits").exists()


def test_traces_that_moved_by_ten_pixels_are_refused(work, tmp_path):
    image = read_image(work / "arc_ne_00001_im.fits")
    moved = tmp_path / "moved_im.fits"
    write_image(
        moved,
        type(image)(
            *(np.roll(a, 10, axis=0) for a in (image.flux, image.variance, image.mask)),
            image.setup,
            image.fibers,
        ),
    )
    with pytest.raises(BadFrame, match=r"moved_im\.fits: the traces lie \+\d+\.\d px from the tramline map"):
        make_ex(moved, work / "flat_tlm.fits")


def test_a_flat_is_needed_for_tramlines(work):
    with pytest.raises(BadOption, match="is of class MFARC, expected a fiber flat"):
        make_tlm(work / "arc_ne_00001_im.fits")


def test_an_arc_of_another_setting_is_refused(work, arc, tmp_path):
    spectra = read_spectra(arc)
    other = replace(spectra, setup=replace(spectra.setup, lines_per_mm=600.0))
    path = write_spectra(tmp_path / "other_red.fits", other)
    with pytest.raises(BadFrame, match=r"object_00001_ex\.fits: the arc was taken with 600 lines/mm and .* with 150"):
        make_red(work / "object_00001_ex.fits", tmp_path / "r.fits", wavel_filename=path)


def test_an_arc_without_solution_is_refused(work, tmp_path):
    with pytest.raises(MissingCalibration, match=r"the arc has no wavelength solution \(WAVECAL = F\)"):
        make_red(work / "object_00001_ex.fits", tmp_path / "r.fits", wavel_filename=work / "arc_ne_00001_ex.fits")


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


def test_an_arcdir_without_the_lamp_is_said(work, tmp_path, caplog):
    arguments = arc_arguments(work, "ne") | {"ARCDIR": str(tmp_path), "OUTPUT_FILENAME": str(tmp_path / "a_red.fits")}
    reduce_arc(arguments)
    assert "ARCDIR lacks ne.arc: the packaged tables were read" in caplog.text


def test_an_arc_key_that_does_not_exist_names_reduce_arc(work):
    with pytest.raises(BadOption, match="reduce_arc does not know 'RAW_FILENAM'; did you mean 'RAW_FILENAME'"):
        reduce_arc(**{key.lower(): value for key, value in arc_arguments(work).items()}, raw_filenam="x")


def test_a_quick_look_traces_in_wider_bins(work, tmp_path):
    flat, truth = work / "flat_00001_im.fits", truth_of(work, "flat_00001").tramlines
    careful = make_tlm({"IMAGE_FILENAME": str(flat), "TLMAP_FILENAME": str(tmp_path / "a.fits"), "TLM_FIT_RES": True})
    quick = make_tlm(flat, tmp_path / "b.fits", qad_pksearch=True, tlm_fit_res=True)
    residual, coarse = (read_tramlines(path).fit_residual for path in (careful, quick))
    assert coarse.shape[1] < residual.shape[1] / 2
    assert np.abs(read_tramlines(quick).center[1:-1] - truth[1:-1]).max() < 0.1


def test_a_flat_of_few_lit_fibers_is_for_sparse_fibs_only(work, tmp_path):
    flat = read_image(work / "flat_00001_im.fits")
    truth = truth_of(work, "flat_00001").tramlines
    keep = np.zeros(flat.flux.shape, bool)
    rows = np.arange(len(flat.flux))[:, None]
    for center in truth[[1, 2]]:
        keep |= np.abs(rows - center) < 6
    noise = np.random.default_rng(3).normal(0, 16, flat.flux.shape)
    dark = replace(flat, flux=np.where(keep, flat.flux, noise).astype(np.float32))
    path = write_image(tmp_path / "few_im.fits", dark)
    with pytest.raises(BadFrame, match=r"few_im\.fits: 2 of 6 fibers found"):
        make_tlm(path)
    assert np.count_nonzero(read_tramlines(make_tlm(path, sparse_fibs=True)).status != "interpolated") == 2


def test_a_frame_class_that_does_not_exist_lists_those_that_do(work, tmp_path):
    raw = next((work.parent / "raw").glob("bias*.fits"))
    with pytest.raises(BadOption, match="ndfclass is 'FLATT', expected one of BIAS, DARK"):
        write_isoplane_converted_image(raw, tmp_path / "x_converted.fits", "FLATT", n_fibers=6)


def test_raw_files_and_inputs_are_never_overwritten(work, arc):
    raw = next((work.parent / "raw").glob("bias*.fits"))
    before = raw.read_bytes()
    with pytest.raises(BadOption, match="exists and is no product of kspecdr; raw files are never overwritten"):
        write_isoplane_converted_image(raw, raw, "BIAS", n_fibers=6)
    assert raw.read_bytes() == before
    with pytest.raises(BadOption, match="is given as the arc and as the spectra to rebin"):
        scrunch_from_arc_id(arc, arc, {})


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda w: make_im(w / "object_00001_converted.fits", use_bias=True, bias_filename=w / "mdark.fits"),
         r"bias_filename mdark\.fits is of class DARK, expected BIAS"),
        (lambda w: make_im(w / "object_00001_converted.fits", w / "nowhere" / "x_im.fits"),
         "the folder .*nowhere of x_im.fits does not exist"),
        (lambda w: reduce_object(w / "flat_00001_converted.fits", w / "flat_tlm.fits", w / "arc_ne_00001_ex.fits"),
         r"flat_00001_converted\.fits is of class MFFFF, expected one of MFOBJECT"),
        (lambda w: make_ex(w / "object_00001_im.fits", w / "flat_00001_im.fits"),
         r"flat_00001_im\.fits: there is no HDU PROFILE"),
        (lambda w: make_red(w / "object_00001_ex.fits", wavel_filename=w / "object_00001_ex.fits"),
         "the wavelengths are those of a MFOBJECT frame, expected an arc"),
        (lambda w: reduce_arcs(arc_arguments(w)), "no list of arcs, expected one dictionary for each arc"),
        (lambda w: reduce_bias(str(w / "bias_00001_converted.fits"), w / "b.fits"), "expected a list of at least one"),
        (lambda _: write_isoplane_converted_image("x", "y", "BIAS", nfibers=6),
         r"does not know 'nfibers'; did you mean 'n_fibers'\? \(known: fpath"),
        (lambda w: write_isoplane_converted_image(w.parent / "raw" / "bias_00001.fits", "y", "BIAS", n_fibers="six"),
         "n_fibers is 'six', expected a whole number"),
    ],
)  # fmt: skip
def test_a_wrong_call_ends_in_one_sentence(work, call, sentence):
    with pytest.raises((BadOption, BadFrame), match=sentence):
        call(work)


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
