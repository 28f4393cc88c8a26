"""What the documented workflow refuses, in one sentence each, and what it leaves alone."""

from dataclasses import replace

import numpy as np
import pytest

from kspecdr.errors import BadFrame, BadOption, MissingCalibration, NoSolution
from kspecdr.extract.make_ex import make_ex
from kspecdr.extract.make_red import make_red
from kspecdr.extract.reduce_arc import reduce_arc, reduce_arcs
from kspecdr.inst.isoplane import write_isoplane_converted_image
from kspecdr.io.fits import read_image, read_spectra, read_tramlines, write_image, write_spectra
from kspecdr.preproc.make_im import make_im
from kspecdr.preproc.preproc import reduce_bias
from kspecdr.reduce_object import reduce_object
from kspecdr.tlm.make_tlm import make_tlm
from kspecdr.wavecal.scrunch import scrunch_from_arc_id


def test_a_misspelt_key_lists_the_known():
    with pytest.raises(BadOption, match="make_ex does not know 'TLMAPFILENAME'; did you mean 'TLMAP_FILENAME'"):
        make_ex({"IMAGE_FILENAME": "x", "TLMAPFILENAME": "y"})


def test_the_wrong_lamp_is_refused_and_leaves_nothing(tmp_path, arc_arguments):
    arguments = arc_arguments("ne") | {
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


def test_an_arcdir_without_the_lamp_is_said(tmp_path, caplog, arc_arguments):
    arguments = arc_arguments("ne") | {"ARCDIR": str(tmp_path), "OUTPUT_FILENAME": str(tmp_path / "a_red.fits")}
    reduce_arc(arguments)
    assert "ARCDIR lacks ne.arc: the packaged tables were read" in caplog.text


def test_an_arc_key_that_does_not_exist_names_reduce_arc(arc_arguments):
    with pytest.raises(BadOption, match="reduce_arc does not know 'RAW_FILENAM'; did you mean 'RAW_FILENAME'"):
        reduce_arc(**{key.lower(): value for key, value in arc_arguments().items()}, raw_filenam="x")


def test_a_flat_of_few_lit_fibers_is_for_sparse_fibs_only(work, tmp_path, truth_of):
    flat = read_image(work / "flat_00001_im.fits")
    truth = truth_of("flat_00001").tramlines
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
        (lambda w: reduce_arcs({"LAMPNAME": str(w)}), "no list of arcs, expected one dictionary for each arc"),
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
