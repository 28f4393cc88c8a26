import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from daemon.adoption import END, RECORD, adopted, finished
from daemon.executor import perform
from daemon.planning.fingerprint import directory_name
from daemon.records import Job, Outcome, Quality, Written
from kspecdr.io.blocks import image_unit
from kspecdr.io.hdus import Content, lay_down
from kspecdr.products import Provenance

TOLD = "ein Streifen \N{LATIN SMALL LETTER U WITH DIAERESIS}ber Faser 7\n"


def tell(job):
    """A recipe that says all that an outcome can say."""
    Path(job.directory, "one_red.fits").write_bytes(bytes(range(256)) * 9000)
    Path(job.directory, "all_im.fits").write_bytes(b"im")
    figures = (Quality("snr", 12.5, 3.0, "warn"), Quality("nothing", math.nan))
    written = (Written("red", "one_red.fits", job.frames[0].key), Written("im", "all_im.fits"))
    aside = {job.frames[0].key: "no light"}
    return Outcome(job.fingerprint, written, figures, (TOLD,), aside, {"trace": 0.25}, memory_mb=300.0)


def refuse(job):
    raise AssertionError(f"{job.rule} is made again")


@pytest.fixture
def job(frame_of, tmp_path):
    frame = frame_of("bias_0.fits", "BIAS", 0)
    return Job("bias", "ab" * 32, (frame,), {}, {}, frame.night, recipe="cd" * 32, out=str(tmp_path))


@pytest.fixture
def directory(job):
    """Where the job stands done."""
    perform(tell, job)
    return Path(job.out, directory_name(job.night, job.fingerprint))


def said(outcome):
    """Return all of an outcome that can be compared, NaN included."""
    return repr(replace(outcome, stage_times={}, adopted=False))


def test_what_stands_done_is_adopted_with_all_that_was_said_of_it(job, directory):
    before = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    found = perform(refuse, job)
    assert found.adopted
    assert said(found) == said(tell(replace(job, directory=str(directory.parent))))
    assert found.stage_times["trace"] == 0.25
    assert found.stage_times["worker"] > 0
    assert {path: path.stat().st_mtime_ns for path in directory.iterdir()} == before


def damage(path, how):
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif how == "other":
        whole = bytearray(path.read_bytes())
        whole[len(whole) // 2] ^= 1
        path.write_bytes(whole)
    else:
        path.unlink()


@pytest.mark.parametrize("name", [RECORD, "one_red.fits", "all_im.fits"])
@pytest.mark.parametrize("how", ["cut", "other", "gone"])
def test_what_is_damaged_is_made_again(job, directory, name, how):
    good = (directory / name).read_bytes()
    damage(directory / name, how)
    if (name, how) != (RECORD, "other"):  # a letter of a time may be another and yet be read
        assert adopted(directory, job) is None
        assert not perform(tell, job).adopted
    perform(tell, job)
    assert name == RECORD or (directory / name).read_bytes() == good
    assert perform(refuse, job).adopted


def test_products_that_have_lost_their_record_stay_and_get_another(job, directory):
    (directory / RECORD).unlink()
    before = (directory / "one_red.fits").stat()
    assert not perform(tell, job).adopted
    after = (directory / "one_red.fits").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert perform(refuse, job).adopted


def write_product(path, level):
    """Write a file as products are written, larger than what is looked at in full."""
    plane = np.full((300, 400), level)
    units = image_unit(plane, []), image_unit(plane, [], name="VARIANCE")
    lay_down(path, Content(units, Provenance()))
    assert path.stat().st_size > 4 * END


@pytest.fixture
def product(job):
    """The path of a product that stands done."""

    def run(placed):
        write_product(Path(placed.directory, "one_im.fits"), 1.0)
        return Outcome(placed.fingerprint, (Written("im", "one_im.fits"),))

    perform(run, job)
    return Path(job.out, directory_name(job.night, job.fingerprint), "one_im.fits")


@pytest.mark.parametrize("where", [0.01, 0.2, 0.4, 0.6, 0.8, 0.99])
def test_one_bit_of_a_product_tells_that_it_is_damaged(job, product, where):
    assert perform(refuse, job).adopted
    whole = bytearray(product.read_bytes())
    whole[int(where * len(whole))] ^= 4
    product.write_bytes(whole)
    assert adopted(product.parent, job) is None


def test_another_product_in_its_place_is_not_taken_for_it(job, product):
    write_product(product, 2.0)
    assert adopted(product.parent, job) is None


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "ab" * 6 + "00" * 26},  # another job in the directory of the same first digits
        {"format": 2},
        {"products": [{"kind": "red", "path": "../x", "frame": None, "size": 0, "crc32": 0}]},
        {"quality": [{"name": "snr", "value": 1.0, "limit": None, "flag": "no flag"}]},
        {"warnings": 3},
    ],
)
def test_a_record_that_does_not_fit_is_not_believed(job, directory, change):
    (directory.parent / "x").touch()
    record = json.loads((directory / RECORD).read_text())
    (directory / RECORD).write_text(json.dumps({**record, **change}))
    assert adopted(directory, job) is None


@pytest.mark.parametrize(
    ("kept", "wanted", "enough"),
    [((), ("red",), True), (("red",), (), False), (("red", "im"), ("red",), True), (("red",), ("red", "im"), False)],
)
def test_kinds_that_were_not_kept_and_are_wanted_now_are_made(job, kept, wanted, enough):
    perform(tell, replace(job, keep=kept))
    assert perform(tell, replace(job, keep=wanted)).adopted == enough


def test_a_failed_job_leaves_nothing_to_adopt(job):
    perform(lambda placed: Outcome(placed.fingerprint, error="no light"), job)
    assert not perform(tell, job).adopted


def test_what_stands_done_is_found_with_all_that_it_was_made_from(job, directory, tmp_path):
    ((found, outcome, time),) = finished(tmp_path)
    assert found == replace(job, out="")
    assert said(outcome) == said(tell(replace(job, directory=str(directory.parent))))
    assert time.timestamp() == pytest.approx((directory / RECORD).stat().st_mtime)


@pytest.mark.parametrize("change", [{"night": "../.."}, {"night": "2026-01-28"}, {"fingerprint": "00" * 32}])
def test_a_record_that_speaks_of_another_place_is_not_believed(directory, tmp_path, change):
    record = json.loads((directory / RECORD).read_text())
    (directory / RECORD).write_text(json.dumps({**record, **change}))
    assert not list(finished(tmp_path))
