"""The documented steps on files, against the light that was put into them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from kspecdr.errors import BadFrame, BadOption
from kspecdr.io.fits import read_image, write_frame
from kspecdr.preproc.detector import divide
from kspecdr.preproc.make_im import Calibrations, make_im
from kspecdr.preproc.preproc import (
    combine_image,
    combine_images,
    reduce_arc,
    reduce_bias,
    reduce_dark,
    reduce_fflat,
    reduce_lflat,
)
from kspecdr.products import Fibers, Frame, Image, MaskBit, Setup

START = datetime(2026, 1, 27, 14, 0, tzinfo=UTC)
SETUP = Setup("BIAS", 0.0, START, 4.0, 16.0, 60000.0, "2 MHz LowNoise Low", 6200.0, 3.68, 150.0)
SHAPE = (120, 90)
DARK_RATE = 2.0  # electron / s


@pytest.fixture
def exposure(tmp_path, rng):
    """Return a function that writes a converted frame of given light (electron) and returns its path."""
    count = iter(range(100))

    def write(frame_class, light=0.0, exposure=0.0, **changes):
        k = next(count)
        electrons = rng.poisson(np.broadcast_to(light + DARK_RATE * exposure, SHAPE)) + rng.normal(0, 16, SHAPE)
        counts = np.clip(np.round(electrons / 4.0 + 612), 0, 65535).astype(np.uint16)
        setup = replace(SETUP, frame_class=frame_class, exposure=exposure, start=START + timedelta(minutes=k))
        frame = Frame(counts, replace(setup, **changes), Fibers.of(2))
        return write_frame(tmp_path / f"{frame_class.lower()}_{k}_converted.fits", frame)

    return write


@pytest.fixture
def bias(exposure, tmp_path):
    return reduce_bias([exposure("BIAS") for _ in range(5)], tmp_path / "mbias.fits")


def test_the_chain_returns_the_light_with_its_noise(exposure, bias, tmp_path):
    dark = reduce_dark([exposure("DARK", exposure=300.0) for _ in range(3)], tmp_path / "mdark.fits", bias)
    raw = exposure("MFOBJECT", light=900.0, exposure=100.0)
    path = make_im(raw, use_bias=True, bias_filename=bias, use_dark=True, dark_filename=dark, verbose=False)
    assert Path(path).name == "mfobject_8_im.fits"
    image = read_image(path)
    assert image.flux.mean() == pytest.approx(900.0, abs=4)
    assert np.mean((image.flux - 900.0) ** 2 / image.variance) == pytest.approx(1.0, abs=0.04)
    roles = {source.role for source in image.provenance.sources}
    assert {"bias", "dark", "converted"} <= roles


def test_darks_of_several_times_become_several_masters(exposure, bias, tmp_path):
    darks = [exposure("DARK", exposure=t) for t in (300.0, 60.0, 300.0)]
    paths = reduce_dark(darks, tmp_path / "mdark.fits", bias)
    assert [Path(path).name for path in paths] == ["mdark_60s.fits", "mdark_300s.fits"]
    assert read_image(paths[1]).flux.mean() == pytest.approx(600, abs=3)


def test_a_long_slit_flat_becomes_the_response_of_the_pixels(exposure, bias, tmp_path, rng):
    response = rng.normal(1.0, 0.05, SHAPE)
    surface = 40000 * (1 + np.linspace(-0.3, 0.3, SHAPE[1]))
    flats = [exposure("LFLAT", light=surface * response) for _ in range(3)]
    lflat = read_image(reduce_lflat(flats, tmp_path / "lflat.fits", bias))
    inner = np.s_[20:-20, 20:-20]
    assert np.std(lflat.flux[inner] - response[inner]) < 0.006


def test_flats_of_different_lamp_levels_are_combined(exposure, bias, tmp_path):
    flats = [exposure("MFFFF", light=light) for light in (20000.0, 23000.0)]
    flat = read_image(reduce_fflat(flats, tmp_path / "flat_im.fits", bias))
    assert flat.flux.mean() == pytest.approx(21500, rel=0.003)


def test_arcs_of_different_lamps_are_not_averaged(exposure, tmp_path):
    arcs = [exposure("MFARC", light=10.0, exposure=1.0, lamp=lamp) for lamp in ("ne", "kr")]
    with pytest.raises(BadOption, match=r"\(kr 1 s, ne 1 s\); use reduce_arcs"):
        reduce_arc(arcs, tmp_path / "arc_im.fits")


def test_images_are_combined_from_files(exposure, bias, tmp_path):
    images = [make_im(exposure("MFFFF", light=5e3), use_bias=True, bias_filename=bias) for _ in range(3)]
    combined = read_image(combine_image(images, tmp_path / "c_im.fits", method="MEDIAN"))
    assert combined.flux.mean() == pytest.approx(5e3, rel=0.002)


def test_saturated_pixels_are_marked_unless_told_otherwise(exposure):
    raw = exposure("MFARC", light=np.where(np.arange(SHAPE[1]) == 40, 3e5, 0.0), exposure=1.0)
    mask = read_image(make_im(raw)).mask
    assert ((mask & MaskBit.SATURATED) != 0)[:, 39:42].all()
    assert not read_image(make_im(raw, mark_saturated=False)).mask.any()


def test_a_calibration_that_does_not_fit_is_refused_by_name(exposure, bias):
    raw = exposure("MFOBJECT", readout="2 MHz LowNoise High")
    with pytest.raises(BadFrame, match=r"_converted.fits: the bias was read in '2 MHz LowNoise Low', the frame in"):
        make_im(raw, use_bias=True, bias_filename=bias)
    with pytest.raises(BadOption, match="use_dark=True needs dark_filename"):
        make_im(raw, use_dark=True)
    with pytest.raises(BadOption, match=r"cosmic_ray_method is 'MAGIC', expected one of NONE, LACOSMIC, PROFILE"):
        make_im(raw, cosmic_ray_method="MAGIC")


def test_a_frame_of_another_class_is_refused_by_name(exposure, tmp_path):
    with pytest.raises(BadFrame, match=r"mffff_1_converted\.fits: it is of class MFFFF, expected BIAS"):
        reduce_bias([exposure("BIAS"), exposure("MFFFF", light=100.0)], tmp_path / "mbias.fits")


def test_the_noise_of_a_response_does_not_average_down(rng):
    """Many flats through one noisy response: the mean keeps the response's noise."""
    shape, n, light, response_variance = (200, 300), 10, 20000.0, 1e-5
    truth = replace(SETUP, frame_class="MFFFF", exposure=1.0)
    zero = np.zeros(shape, np.uint8)
    noisy = (1 + rng.normal(0, np.sqrt(response_variance), shape)).astype(np.float32)
    lflat = Image(noisy, np.full(shape, response_variance, np.float32), zero, truth, Fibers.of(2))
    calibrations = Calibrations(lflat=lflat)
    images = []
    for _ in range(n):
        counts = rng.normal(light, np.sqrt(light), shape).astype(np.float32)
        flux, variance = divide(counts, np.full(shape, light, np.float32), noisy, lflat.variance)
        images.append(Image(flux, variance, zero, truth, Fibers.of(2)))
    mean = combine_images(images, calibrations=calibrations)
    assert np.var(mean.flux) / np.mean(mean.variance) == pytest.approx(1.0, abs=0.03)
