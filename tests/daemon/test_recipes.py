"""Recipes on simulated raw frames, as the scheduler hands them over."""

import hashlib
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from daemon.recipes import run
from daemon.records import FrameInfo, Job
from kspecdr.io.fits import read_image
from kspecdr.simulate import PRESETS, write_night

NOW = datetime(2026, 1, 27, tzinfo=UTC)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("raw")
    write_night(root, PRESETS["small"])
    return root


def info(raw, name, frame_class="BIAS", **changes):
    path = raw / name
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    frame = FrameInfo(name, digest, path.stat().st_size, 0, NOW, frame_class=frame_class, fibers="6", obs_time=NOW)
    return replace(frame, **changes)


def job(raw, out, rule, *frames, **changes):
    made = Job(rule, "ab" * 32, frames, {}, {"image": {}}, "2026-01-26", roots=(str(raw),), out=str(out))
    return replace(made, **{"directory": str(out / "job")} | changes)


def test_a_master_is_written_with_its_figures(raw, tmp_path):
    frames = [info(raw, f"bias_0000{k}.fits") for k in (1, 2, 3)]
    outcome = run(job(raw, tmp_path, "bias", *frames))
    assert not outcome.error
    assert [each.kind for each in outcome.products] == ["converted"] * 3 + ["bias"]
    master = read_image(tmp_path / "job" / "bias_00001_bias.fits")
    assert len([s for s in master.provenance.sources if s.role == "raw"]) == 3
    assert {figure.name for figure in outcome.quality} >= {"level_e", "noise_over_expected"}
    assert set(outcome.stage_times) >= {"convert", "image", "combine"}


def test_what_a_person_should_know_of_the_readout_is_told_once_a_product(tmp_path):
    camera = replace(PRESETS["small"].instrument.camera, writes_quality=False)
    night = replace(PRESETS["small"], instrument=replace(PRESETS["small"].instrument, camera=camera))
    write_night(tmp_path, night)
    outcome = run(job(tmp_path, tmp_path, "bias", *(info(tmp_path, f"bias_0000{k}.fits") for k in (1, 2, 3))))
    assert outcome.warnings == ("no ADC QUALITY card: LowNoise assumed",)


def test_kinds_that_are_not_kept_are_not_written(raw, tmp_path):
    outcome = run(job(raw, tmp_path, "bias", info(raw, "bias_00001.fits"), keep=("bias",)))
    assert [each.kind for each in outcome.products] == ["bias"]
    assert [path.name for path in (tmp_path / "job").iterdir()] == ["bias_00001_bias.fits"]


def test_a_damaged_frame_is_told_in_one_sentence_and_not_retried(raw, tmp_path):
    (tmp_path / "bias_x.fits").write_bytes((raw / "bias_00001.fits").read_bytes()[:50000])
    outcome = run(job(tmp_path, tmp_path, "bias", info(tmp_path, "bias_x.fits")))
    assert outcome.error.startswith("bias_x.fits: 50000 bytes on disk, expected at least ")
    assert not outcome.retry


def test_a_vanished_disk_is_tried_again(raw, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    outcome = run(job(raw, tmp_path, "bias", info(raw, "bias_00001.fits"), directory=str(blocked / "job")))
    assert outcome.retry
    assert "file" in outcome.error


def test_frames_of_one_name_in_two_folders_do_not_overwrite_each_other(raw, tmp_path):
    for folder, name in (("a", "bias_00001.fits"), ("b", "bias_00002.fits")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "bias_1.fits").write_bytes((raw / name).read_bytes())
    frames = [info(tmp_path, f"{folder}/bias_1.fits") for folder in "ab"]
    outcome = run(job(tmp_path, tmp_path, "bias", *frames))
    names = [each.path for each in outcome.products]
    assert len(set(names)) == len(names) == 3
    assert all(Path(tmp_path, "job", name).exists() for name in names)


def test_a_file_that_changed_since_is_looked_at_again(raw, tmp_path):
    frame = replace(info(raw, "bias_00001.fits"), content_hash="00" * 32, mtime_ns=1)
    outcome = run(job(raw, tmp_path, "bias", frame))
    assert outcome.retry
    assert "the file has changed since it was recorded (bias_00001.fits)" in outcome.error


def blank(path):
    """Let a frame hold no number at all, which only its pixels tell."""
    with fits.open(path) as hdul:
        shape, header = hdul[0].shape, hdul[0].header
    for name in ("BZERO", "BSCALE"):
        header.remove(name, ignore_missing=True)
    fits.PrimaryHDU(np.full(shape, np.nan, np.float32), header).writeto(path, overwrite=True)


def test_a_frame_whose_damage_only_its_pixels_tell_is_set_aside_and_the_others_are_used(raw, tmp_path):
    names = [f"bias_0000{k}.fits" for k in (1, 2, 3)]
    for name in names:
        shutil.copy(raw / name, tmp_path)
    blank(tmp_path / names[1])
    frames = [info(tmp_path, name) for name in names]
    outcome = run(job(tmp_path, tmp_path, "bias", *frames))
    assert not outcome.error
    ((key, reason),) = outcome.set_aside.items()
    assert key == frames[1].key
    assert reason.startswith("bias_00002.fits: none of ")
    assert f"set aside: {reason}" in outcome.warnings
    alone = replace(job(raw, tmp_path, "bias", frames[0], frames[2]), directory=str(tmp_path / "alone"))
    assert not run(alone).error
    master, expected = (read_image(tmp_path / name / "bias_00001_bias.fits") for name in ("job", "alone"))
    assert np.array_equal(master.flux, expected.flux)


def test_where_every_frame_is_damaged_the_first_says_so(raw, tmp_path):
    for name in ("bias_00001.fits", "bias_00002.fits"):
        shutil.copy(raw / name, tmp_path)
        blank(tmp_path / name)
    outcome = run(job(tmp_path, tmp_path, "bias", *(info(tmp_path, f"bias_0000{k}.fits") for k in (1, 2))))
    assert outcome.error.startswith("bias_00001.fits: none of ")
    assert not outcome.set_aside


def test_a_frame_that_is_gone_is_not_set_aside(raw, tmp_path):
    for name in ("bias_00001.fits", "bias_00002.fits"):
        shutil.copy(raw / name, tmp_path)
    frames = [info(tmp_path, f"bias_0000{k}.fits") for k in (1, 2)]
    (tmp_path / "bias_00002.fits").unlink()
    outcome = run(job(tmp_path, tmp_path, "bias", *frames))
    assert "bias_00002.fits does not exist" in outcome.error
    assert not outcome.set_aside
