"""Frames that cannot give a right spectrum: each ends in a sentence that names the cause, or with a flag that does."""

import numpy as np
import pytest
from astropy.io import fits

from daemon.commands.batch import take_in
from daemon.config import load
from daemon.service import opened
from kspecdr.simulate import PRESETS, write_night

SETTINGS = {"instrument": {"fibers": 6}, "workers": {"count": 0}}


def change(path, pixels):
    """Write a frame again with its pixels (1, n_row, n_column) changed."""
    with fits.open(path, mode="update") as hdul:
        hdul[0].data = pixels(hdul[0].data)


def without_fiber(pixels):
    """Darken the third fiber of the small night, whose rows are near 103."""
    dark = pixels.copy()
    dark[:, 97:109] = pixels[:, 180:192]
    return dark


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    """A small night with a fiber dark in the flat, full arcs, one object 10 px off and one of no light, reduced."""
    raw, out = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("out")
    write_night(raw, PRESETS["small"])
    bias = fits.getdata(raw / "bias_00001.fits")
    change(raw / "flat_00001.fits", without_fiber)
    change(raw / "arc_hgar_00001.fits", lambda pixels: np.full_like(pixels, 65535))
    change(raw / "arc_ne_00001.fits", lambda pixels: np.full_like(pixels, 65535))
    change(raw / "object_00001.fits", lambda pixels: np.roll(pixels, 10, axis=1))
    change(raw / "object_00002.fits", lambda _: bias)
    finished = []
    with opened(
        load(None, {**SETTINGS, "paths": {"watch": [str(raw)], "out": str(out)}}), batch=True, command="test"
    ) as service:
        take_in(service)
        for _ in range(200):
            tick = service.step().tick
            finished += tick.finished
            if tick.idle:
                break
        reasons = {frame.path: (str(frame.state), frame.reason) for frame in service.catalog.frames()}
    return reasons, {(job.rule, job.frames[0].path): outcome for job, outcome in finished}


def test_a_flat_with_a_fiber_missing_names_it(spoiled):
    _, made = spoiled
    (warning,) = made["tlm", "flat_00001.fits"].warnings
    assert warning.startswith("5 of 6 fibers found (no light at row 10")
    assert warning.endswith("fiber 3); mark it N in the fiber table or check it")
    flags = {figure.name: figure.flag for figure in made["tlm", "flat_00001.fits"].quality}
    assert flags["fibers_interpolated"] == "warn"


def test_a_frame_whose_traces_moved_is_refused(spoiled):
    state, reason = spoiled[0]["object_00001.fits"]
    assert state == "failed"
    assert "10.0 px from the tramline map, expected within 8 px; the fibers moved" in reason


def test_full_arcs_are_refused_for_being_full(spoiled):
    state, reason = spoiled[0]["arc_hgar_00001.fits"]
    assert state == "failed"
    assert "saturated" in reason


def test_an_object_without_light_is_flagged(spoiled):
    outcome = spoiled[1]["object", "object_00002.fits"]
    assert any("no light of the fibers is seen" in warning for warning in outcome.warnings)
    flags = {figure.name: figure.flag for figure in outcome.quality}
    assert flags["signal_to_noise_best"] == "fail"
