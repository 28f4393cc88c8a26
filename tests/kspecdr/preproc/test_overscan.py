"""Overscan rows: recognised at either end by what light there is, and the level that they show."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from kspecdr.errors import BadFrame
from kspecdr.options import ImageOptions
from kspecdr.preproc.make_im import Calibrations, preprocess
from kspecdr.preproc.overscan import find_overscan
from kspecdr.preproc.preproc import combine_images
from kspecdr.products import Fibers, Frame, MaskBit, Setup

N_SENSOR, N_OVERSCAN, N_COLUMN, GAIN, READ_NOISE = 260, 30, 400, 4.09, 16.03
SETUP = Setup(
    "BIAS", 0.0, datetime(2026, 1, 27, tzinfo=UTC), GAIN, READ_NOISE, 65535.0, "mode", 6200.0, 3.68, 150.0,
    overscan_rows=N_OVERSCAN,
)  # fmt: skip
STRUCTURE = 600 + 2.0 * np.sin(np.arange(N_SENSOR + N_OVERSCAN) / 60.0)[:, None]  # ADU


@pytest.fixture(params=["first", "last"])
def end(request):
    return request.param


@pytest.fixture
def take(rng, end):
    """Return a function that takes a frame of `electrons` on the sensor's rows, with the bias drifted (ADU)."""
    pad = (N_OVERSCAN, 0) if end == "first" else (0, N_OVERSCAN)

    def frame(frame_class, electrons=0.0, *, drift=0.0, exposure=300.0, **changes):
        lit = np.broadcast_to(electrons, (N_SENSOR, N_COLUMN))
        light = rng.poisson(np.pad(lit, (pad, (0, 0)))) + rng.normal(0, READ_NOISE, (N_SENSOR + N_OVERSCAN, N_COLUMN))
        counts = np.round(light / GAIN + STRUCTURE + drift).astype(np.uint16)
        return Frame(counts, replace(SETUP, frame_class=frame_class, exposure=exposure, **changes), Fibers.of(14))

    return frame


@pytest.fixture
def calibrations(take):
    biases = [preprocess(take("BIAS", exposure=0.0), Calibrations(), ImageOptions()) for _ in range(9)]
    return Calibrations(combine_images(biases))


def fibers_light(middle, peak):
    row = np.arange(N_SENSOR)[:, None]
    return sum(peak * np.exp(-0.5 * ((row - middle - 12.06 * (k - 6.5)) / 1.45) ** 2) for k in range(14))


def marked(image):
    """The rows without data: how many first, how many last."""
    none = ((image.mask & MaskBit.NO_DATA) != 0).all(axis=1)
    return int(none[:N_OVERSCAN].sum()), int(none[-N_OVERSCAN:].sum()), int(none.sum())


def expected(end):
    return (N_OVERSCAN, 0, N_OVERSCAN) if end == "first" else (0, N_OVERSCAN, N_OVERSCAN)


@pytest.mark.parametrize("drift", [-3.0, 0.0, 1.5])
def test_dark_current_tells_the_end_and_the_drift_of_the_bias_is_taken_off(take, calibrations, end, drift):
    image = preprocess(take("DARK", 2.0, drift=drift), calibrations, ImageOptions())
    assert marked(image) == expected(end)
    assert image.flux[image.mask == 0].mean() == pytest.approx(2.0, abs=0.8)


def test_the_fibers_of_a_flat_tell_the_end(take, calibrations, end):
    image = preprocess(take("MFFFF", fibers_light(127.0, 3000.0), exposure=1.0), calibrations, ImageOptions())
    assert marked(image) == expected(end)


def test_where_nothing_tells_nothing_is_marked_and_the_drift_is_taken_off_all_the_same(take, calibrations):
    image = preprocess(take("MFOBJECT", 0.0, drift=2.0), calibrations, ImageOptions())
    assert marked(image) == (0, 0, 0)
    assert image.flux.mean() == pytest.approx(0.0, abs=0.8)


def test_a_dark_brings_its_knowledge_to_a_frame_that_shows_none(take, calibrations, end):
    dark = preprocess(take("DARK", 3.0), calibrations, ImageOptions())
    image = preprocess(take("MFOBJECT", 0.0, exposure=1.0), replace(calibrations, dark=dark), ImageOptions())
    assert marked(image) == expected(end)


def test_a_bias_marks_nothing(take):
    assert not preprocess(take("BIAS", exposure=0.0), Calibrations(), ImageOptions()).mask.any()


def test_a_few_lit_fibers_of_an_object_are_no_slit(rng):
    """The place of the fibers tells the end only where all of them are lit."""
    flux = rng.normal(0, READ_NOISE, (290, 400)) + np.pad(fibers_light(60.0, 500.0), ((30, 0), (0, 0)))
    found = find_overscan(flux, 30, READ_NOISE, GAIN)
    assert (found.low, found.high) == (0, 0)


def test_frames_with_and_without_overscan_are_not_combined_nor_calibrated_by_each_other(take, calibrations):
    whole = take("MFFFF", 100.0)
    short = replace(whole, counts=whole.counts[:N_SENSOR], setup=replace(whole.setup, overscan_rows=0))
    with pytest.raises(BadFrame, match=r"the bias has shape \(290, 400\), expected \(260, 400\) as the frame"):
        preprocess(short, calibrations, ImageOptions())
    images = [preprocess(each, Calibrations(), ImageOptions()) for each in (whole, short)]
    with pytest.raises(BadFrame, match=r"exposures of shape \(290, 400\) and \(260, 400\) cannot be combined"):
        combine_images(images)


def test_rows_without_data_are_no_bad_pixels_of_a_master(take, calibrations, end):
    darks = [preprocess(take("DARK", 3.0), calibrations, ImageOptions()) for _ in range(3)]
    master = combine_images(darks, calibrations=calibrations)
    assert marked(master) == expected(end)
    assert not (master.mask & MaskBit.BAD_PIXEL).any()
