"""Everything that may land, through the daemon: watcher, intake, catalog, plan and recipes together."""

import gzip
import os
import shutil
import unicodedata
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from time import monotonic

import numpy as np
import pytest
from astropy.io import fits

from daemon.config import load
from daemon.records import FrameState
from daemon.service import opened
from kspecdr.simulate import PRESETS
from kspecdr.simulate.lightfield import BLOCK, lightfield_cards, write_frame
from kspecdr.simulate.spe import write_spe

START = datetime(2026, 1, 27, 14, 0, tzinfo=UTC)
SHAPE = (1, 20, 30)
NAMES = (
    "two  words",
    'it\'s "quoted"',
    "two\nlines",
    unicodedata.normalize("NFC", "Grün März"),
    unicodedata.normalize("NFD", "Grün April"),
    "-rf",
    "$(x) `y` %s {0} \\ & <b>",
    "n" * 240,
)


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


@pytest.fixture
def written():
    """Write a bias, one of its own by its number."""

    def write(path, number, writer=write_frame):
        path.parent.mkdir(parents=True, exist_ok=True)
        cards = lightfield_cards(PRESETS["small"].instrument, 0.0, START + timedelta(seconds=10 * number))
        writer(path, cards, np.random.default_rng(number).poisson(600, SHAPE).astype(np.uint16))
        return path

    return write


@pytest.fixture
def daemon(tmp_path, raw):
    """Start a daemon on `raw`, without workers; all that are started end with the test."""
    with ExitStack() as stack:

        def start(*roots, **changes):
            watched = [str(root) for root in roots or (raw,)]
            settings = {
                "paths": {"watch": watched, "out": str(tmp_path / "out")},
                "instrument": {"fibers": 6},
                "plan": {"quiet": 0.3},
                "watch": {"settle": 0.2},
                "workers": {"count": 0},
            }
            return stack.enter_context(opened(load(None, {**settings, **changes}), batch=False, command="test"))

        start.stop = stack.close
        yield start


def until(service, condition, limit=20.0):
    """Let the daemon turn until something is true; return where the frames stand, by path."""
    end = monotonic() + limit
    while monotonic() < end:
        service.step()
        found = {frame.path: frame for frame in service.catalog.frames()}
        if condition({path: frame.state for path, frame in found.items()}):
            return found
        service.wait(0.05)
    raise AssertionError({path: (str(frame.state), frame.reason) for path, frame in found.items()})


def all_used(number):
    return lambda states: len(states) == number and set(states.values()) == {FrameState.USED}


def masters(service):
    return [product.raw for product in service.catalog.latest("bias", None, 0)]


def test_any_name_goes_all_the_way(daemon, raw, written):
    service = daemon()
    service.step()
    paths = [written(raw / "bias" / f"{name}.fits", k) for k, name in enumerate(NAMES)]
    until(service, all_used(len(NAMES)))
    assert masters(service) == [tuple(f"bias/{path.name}" for path in paths)]
    (product,) = service.catalog.latest("bias", None, 0)
    assert fits.getdata(product.path).shape == SHAPE[1:]
    assert product.path.is_relative_to(service.catalog.out)


def test_products_that_are_copied_among_the_frames_are_no_frames(daemon, raw, written):
    service = daemon()
    written(raw / "bias_0.fits", 0)
    until(service, all_used(1))
    (converted,) = service.catalog.latest("converted")
    shutil.copy(converted.path, raw / "bias_0_converted.fits")
    found = until(service, lambda states: len(states) == 2 and FrameState.IGNORED in states.values())
    assert found["bias_0_converted.fits"].reason == "a product of kspecdr, not a raw frame"
    assert masters(service) == [("bias_0.fits",)]


@pytest.mark.parametrize(("remake", "expected"), [("all", {"5"}), ("tonight", {"6"}), ("nothing", {"6"})])
def test_another_number_of_fibers_concerns_the_frames_that_are_to_be_made_again(
    tmp_path, raw, written, remake, expected
):
    def settings(fibers):
        table = {
            "paths": {"watch": [str(raw)], "out": str(tmp_path / "out")},
            "instrument": {"fibers": fibers},
            "plan": {"quiet": 0.3, "remake": remake},
            "watch": {"settle": 0.2},
            "workers": {"count": 0},
        }
        return load(None, table)

    written(raw / "bias_0.fits", 0)  # of another night than this one
    with opened(settings(6), batch=False, command="test") as service:
        until(service, all_used(1))
    with opened(settings(5), batch=False, command="test") as service:
        for _ in range(5):
            service.step()
        until(service, all_used(1))
        assert {frame.fibers for frame in service.catalog.frames()} == expected


def test_new_folders_are_seen_at_once_with_all_that_is_in_them(daemon, raw, written):
    service = daemon(watch={"settle": 0.2, "rescan": 1000.0, "observer": "inotify"})
    service.step()
    for k in range(4):
        written(raw / "2026-01-28" / f"more {k}" / "bias" / f"{k}.fits", k)
    until(service, all_used(4))


@pytest.mark.parametrize("number", [300, pytest.param(8000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_thousands_at_once_are_all_taken_in(daemon, raw, written, number):
    service = daemon(plan={"quiet": 600.0})
    service.step()
    first = written(raw / "dark_0.fits", 0).read_bytes()
    for k in range(1, number):
        (raw / f"dark_{k}.fits").write_bytes(first[:-2000] + k.to_bytes(2, "big") + first[-1998:])
    found = until(service, lambda states: len(states) == number and FrameState.INCOMPLETE not in states.values(), 300)
    assert {frame.state for frame in found.values()} == {FrameState.WAITING}


def test_a_hard_link_is_a_duplicate_and_counts_once(daemon, raw, written, tmp_path):
    service = daemon()
    service.step()
    for k in range(3):
        written(raw / f"bias_{k}.fits", k)
    os.link(written(tmp_path / "elsewhere.fits", 3), raw / "bias_3.fits")
    os.link(raw / "bias_0.fits", raw / "bias_9.fits")
    found = until(service, lambda states: list(states.values()).count(FrameState.USED) == 4)
    assert found["bias_9.fits"].state is FrameState.DUPLICATE
    assert found["bias_9.fits"].reason == "the same content as bias_0.fits"
    assert masters(service) == [tuple(f"bias_{k}.fits" for k in range(4))]


def test_a_renamed_file_is_the_same_frame(daemon, raw, written):
    service = daemon()
    paths = [written(raw / f"bias_{k}.fits", k) for k in range(3)]
    until(service, all_used(3))
    before = {product.fingerprint for product in service.catalog.latest("bias", None, 0)}
    paths[0].rename(raw / "bias_first.fits")
    found = until(service, lambda states: states.get("bias_first.fits") is FrameState.USED)
    assert found["bias_0.fits"].state is FrameState.ABSENT
    assert {product.fingerprint for product in service.catalog.latest("bias", None, 0)} == before


def test_a_rewritten_file_is_another_frame(daemon, raw, written):
    service = daemon()
    paths = [written(raw / f"bias_{k}.fits", k) for k in range(3)]
    before = until(service, all_used(3))
    written(paths[0], 7)
    after = until(
        service,
        lambda states: (
            set(states.values()) == {FrameState.USED}
            and len(service.catalog.latest("bias", None, 0)) == 1
            and service.catalog.find_frames("bias_0.fits")[0].content_hash != before["bias_0.fits"].content_hash
        ),
    )
    assert masters(service) == [("bias_1.fits", "bias_2.fits", "bias_0.fits")]
    assert len(after) == 3


@pytest.mark.parametrize("unfinished", ["growing", "set aside", "cut off"])
def test_what_is_not_all_there_is_waited_for(daemon, raw, written, unfinished, tmp_path):
    service = daemon(watch={"settle": 0.2, "stuck_after": 0.6})
    for k in range(3):
        written(raw / f"bias_{k}.fits", k)
    whole = written(tmp_path / "whole.fits", 3).read_bytes()
    part = len(whole) - BLOCK + 500  # some of the pixels, which lie in the last block
    fourth = raw / "bias_3.fits"
    fourth.write_bytes(whole[:part] + (bytes(BLOCK - 500) if unfinished == "set aside" else b""))
    found = until(service, lambda states: states.get("bias_3.fits") is FrameState.INCOMPLETE and len(states) == 4)
    assert found["bias_3.fits"].reason.startswith("not complete: ")
    if unfinished == "cut off":
        found = until(service, lambda _: "copy it again" in service.catalog.find_frames("bias_3.fits")[0].reason)
    with fourth.open("r+b") as stream:
        stream.seek(part)
        stream.write(whole[part:])
    until(service, all_used(4))


def test_an_unreadable_file_is_told_and_read_again_on_request(daemon, raw, written, ordinary_user):
    with ordinary_user():
        service = daemon()
        for k in range(4):
            written(raw / f"bias_{k}.fits", k)
        (raw / "bias_3.fits").chmod(0)
        found = until(service, lambda states: states.get("bias_3.fits") is FrameState.INVALID and len(states) == 4)
        assert found["bias_3.fits"].reason == "bias_3.fits cannot be read (Permission denied); check its permissions"
        until(service, lambda states: list(states.values()).count(FrameState.USED) == 3)
        (raw / "bias_3.fits").chmod(0o644)
        service.catalog.request("retry", "bias_3.fits", {}, datetime.now(UTC))
        until(service, all_used(4))
    assert masters(service) == [tuple(f"bias_{k}.fits" for k in range(4))]


def test_a_header_that_promises_100_gb_is_refused_by_its_size(daemon, raw, written):
    service = daemon()
    path = written(raw / "bias_0.fits", 0)
    promised = path.read_bytes().replace(b"NAXIS1  =                   30", b"NAXIS1  =           2684354560")
    assert promised != path.read_bytes()
    path.write_bytes(promised)
    found = until(service, lambda states: states.get("bias_0.fits") is FrameState.INVALID)
    assert found["bias_0.fits"].reason.startswith("bias_0.fits")


@pytest.mark.parametrize("seconds", [-1e9, 1e9])
def test_a_clock_of_another_machine_is_no_harm(daemon, raw, written, seconds):
    service = daemon()
    service.step()
    for k in range(3):
        path = written(raw / f"bias_{k}.fits", k)
        status = path.stat()
        os.utime(path, (status.st_atime + seconds, status.st_mtime + seconds))
    until(service, all_used(3))


def test_the_night_is_that_of_the_observatory(daemon, raw, written):
    service = daemon(site={"timezone": "Pacific/Kiritimati"})  # 14 h before UTC: its next day has begun
    for k in range(3):
        written(raw / f"bias_{k}.fits", k)
    until(service, all_used(3))
    (product,) = service.catalog.latest("bias", None, 0)
    assert product.path.relative_to(service.catalog.out).parts[0] == "2026-01-27"
    assert (START + timedelta(hours=14)).isoformat().startswith("2026-01-28T04:00")


def test_two_roots_are_told_apart_and_one_may_be_lost_and_come_back(daemon, raw, written, tmp_path):
    other = tmp_path / "other"
    for k in range(3):
        written(raw / f"bias_{k}.fits", k)
        written(other / f"bias_{k}.fits", 3 + k)
    service = daemon(raw, other, watch={"settle": 0.2, "rescan": 0.3})
    service.run(until_idle=0.6)
    frames = service.catalog.frames()
    assert {(frame.root, frame.state) for frame in frames} == {(0, FrameState.USED), (1, FrameState.USED)}
    assert len(frames) == 6
    other.rename(tmp_path / "away")
    until(service, lambda _: service.surroundings.lost == (str(other),))
    assert service.catalog.frames() == frames
    (tmp_path / "away").rename(other)
    written(other / "bias_9.fits", 9)
    until(service, lambda states: states.get("bias_9.fits") is FrameState.USED)
    assert service.surroundings.lost == ()
    assert len(service.catalog.frames()) == 7


def test_a_root_that_has_moved_brings_no_duplicates(daemon, raw, written, tmp_path):
    with ExitStack() as first:
        settings = {"paths": {"watch": [str(raw)], "out": str(tmp_path / "out")}, "instrument": {"fibers": 6}}
        quiet = {"plan": {"quiet": 0.3}, "workers": {"count": 0}}
        service = first.enter_context(opened(load(None, {**settings, **quiet}), batch=False, command="test"))
        for k in range(3):
            written(raw / f"bias_{k}.fits", k)
        until(service, all_used(3))
        before = service.catalog.latest("bias", None, 0)
    shutil.copytree(raw, tmp_path / "mounted here")  # with other times of change
    shutil.rmtree(raw)
    service = daemon(tmp_path / "mounted here")
    service.run(until_idle=0.6)
    assert [(frame.root, frame.state) for frame in service.catalog.frames()] == 3 * [(0, FrameState.USED)]
    assert service.catalog.latest("bias", None, 0) == before
    written(tmp_path / "mounted here" / "bias_3.fits", 3)
    until(service, all_used(4))
    assert masters(service) == [tuple(f"bias_{k}.fits" for k in range(4))]


def test_a_root_that_does_not_exist_is_told_loudly(daemon, tmp_path, caplog):
    service = daemon(tmp_path / "typo")
    service.step()
    assert service.surroundings.lost == (str(tmp_path / "typo"),)
    (said,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert said.startswith(f"{tmp_path / 'typo'} does not exist; make it, mount it, or mend its name")


def tiled(path, cards, counts):
    header = fits.Header()
    for keyword, value in cards.items():
        header[keyword if len(keyword) < 9 else f"HIERARCH {keyword}"] = value
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(counts, header)]).writeto(path)


def test_a_damaged_tile_costs_its_frame_alone(daemon, raw, written):
    service = daemon()
    paths = [written(raw / f"bias_{k}.fits.fz", k, tiled) for k in range(4)]
    with fits.open(paths[3], disable_image_compression=True) as hdul:
        start, length = hdul[1].fileinfo()["datLoc"], hdul[1].header["NAXIS1"] * hdul[1].header["NAXIS2"]
    data = bytearray(paths[3].read_bytes())
    data[start + length : start + length + 40] = b"\xff" * 40
    paths[3].write_bytes(data)
    found = until(service, lambda states: list(states.values()).count(FrameState.USED) == 3)
    assert found["bias_3.fits.fz"].state is FrameState.INVALID
    assert "bias_3.fits.fz: its tiles are damaged" in found["bias_3.fits.fz"].reason
    assert masters(service) == [tuple(f"bias_{k}.fits.fz" for k in range(3))]


def test_of_one_exposure_in_two_formats_one_is_reduced(daemon, raw, written):
    for k in range(3):
        written(raw / f"bias_{k}.spe", k, write_spe)
        written(raw / f"bias_{k}.fits", k)
    service = daemon()
    found = until(service, lambda states: list(states.values()).count(FrameState.USED) == 3)
    assert masters(service) == [tuple(f"bias_{k}.fits" for k in range(3))]
    assert found["bias_1.spe"].state is FrameState.IGNORED
    assert found["bias_1.spe"].reason == "the same exposure as bias_1.fits, which is reduced in its place"


def test_a_file_that_is_not_written_yet_takes_nobodys_place(daemon, raw, written):
    service = daemon()
    whole = written(raw / "bias_0.fits", 0).read_bytes()
    (raw / "bias_0.fits").write_bytes(whole[:-BLOCK] + bytes(BLOCK))  # set aside in full: its header can be read
    for k in range(3):
        written(raw / f"bias_{k}.spe", k, write_spe)
    until(service, lambda states: list(states.values()).count(FrameState.USED) == 3)
    assert masters(service) == [tuple(f"bias_{k}.spe" for k in range(3))]
    (raw / "bias_0.fits").write_bytes(whole)
    found = until(service, lambda states: states["bias_0.fits"] is FrameState.USED)
    assert found["bias_0.spe"].state is FrameState.IGNORED
    assert masters(service) == [("bias_0.fits", "bias_1.spe", "bias_2.spe")]


def test_the_second_format_may_come_later_and_may_go_again(daemon, raw, written):
    service = daemon(plan={"quiet": 1.5})
    service.step()
    for k in range(3):
        written(raw / f"bias_{k}.spe", k, write_spe)
    until(service, lambda states: set(states.values()) == {FrameState.WAITING} and len(states) == 3)
    written(raw / "bias_0.fits", 0)
    written(raw / "bias_1.fits", 8)  # another exposure of that name
    path = written(raw / "bias_2.fits", 2)
    gone = gzip.compress(path.read_bytes())
    until(service, lambda states: states.get("bias_2.spe") is FrameState.IGNORED)
    path.unlink()
    (raw / "bias_2.fits.gz").write_bytes(gone[:-100])  # not all there: it takes nobody's place
    found = until(service, lambda states: list(states.values()).count(FrameState.USED) == 4)
    assert found["bias_0.spe"].state is FrameState.IGNORED
    assert sorted(masters(service)[0]) == ["bias_0.fits", "bias_1.fits", "bias_1.spe", "bias_2.spe"]


def squeezed(path, how):
    """Put a compressed file in the place of another, as gzip and fpack do."""
    target = path.with_name(f"{path.name}.{how}")
    if how == "gz":
        target.write_bytes(gzip.compress(path.read_bytes()))
    else:
        data, header = fits.getdata(path), fits.getheader(path)
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, header)]).writeto(target)
    path.unlink()
    return target


@pytest.mark.parametrize("how", ["gz", "fz"])
@pytest.mark.parametrize("running", [True, False])
def test_what_is_compressed_in_its_place_counts_once_and_stays_as_it_was(daemon, raw, written, how, running):
    """Nothing is made again for it, a mark of a person stays; what comes later is made from what is there now."""
    names = [f"bias_{k}.fits" for k in range(4)]
    service = daemon()
    for k, name in enumerate(names):
        written(raw / name, k)
    until(service, all_used(4))
    service.catalog.request("mark-bad", names[3], {}, datetime.now(UTC))
    until(service, lambda _: masters(service) == [tuple(names[:3])])
    (made,) = service.catalog.latest("bias")
    if not running:
        daemon.stop()
    for name in names:
        squeezed(raw / name, how)
        if running and name == names[1]:  # seen beside each other, or only one after the other
            service.step()
    service = service if running else daemon()
    pressed = [f"{name}.{how}" for name in names]
    found = until(service, lambda states: states.get(pressed[0]) is states.get(pressed[2]) is FrameState.USED)
    found = until(service, lambda states: states[names[3]] is FrameState.ABSENT and pressed[3] in states)
    assert [each.fingerprint for each in service.catalog.latest("bias")] == [made.fingerprint]
    assert found[pressed[3]].state is FrameState.BAD
    assert {found[name].state for name in names} == {FrameState.ABSENT}
    written(raw / "bias_4.fits", 4)
    until(service, lambda _: masters(service) == [(*pressed[:3], "bias_4.fits")])


def test_what_is_expanded_in_its_place_counts_once(daemon, raw, written):
    service = daemon()
    pressed = [squeezed(written(raw / f"bias_{k}.fits", k), "gz") for k in range(3)]
    until(service, all_used(3))
    (made,) = service.catalog.latest("bias")
    for path in pressed:
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    until(service, lambda states: list(states.values()).count(FrameState.USED) == 3 and states.get("bias_2.fits"))
    assert [each.fingerprint for each in service.catalog.latest("bias")] == [made.fingerprint]


def test_another_exposure_under_a_name_that_is_gone_is_another(daemon, raw, written):
    service = daemon()
    for k in range(3):
        written(raw / f"bias_{k}.fits", k)
    until(service, all_used(3))
    (raw / "bias_2.fits").unlink()
    squeezed(written(raw / "bias_2.fits", 9), "gz")
    until(service, lambda states: states.get("bias_2.fits.gz") is FrameState.USED)
    assert len(service.catalog.neighbourhood().made) == 2


def without_numbers(path, cards, counts):
    """Write a frame that is whole and whose pixels are no numbers."""
    tiled(path.with_suffix(".tmp"), cards, counts)
    header = fits.getheader(path.with_suffix(".tmp"), 1)
    for name in ("BZERO", "BSCALE"):
        header.remove(name, ignore_missing=True)
    fits.PrimaryHDU(np.full(counts.shape[-2:], np.nan, np.float32), header).writeto(path)
    path.with_suffix(".tmp").unlink()


def test_damage_that_only_a_reduction_finds_costs_its_frame_alone(daemon, raw, written):
    """The master is made of the others, provisionally where these are too few; a file that is mended joins them."""
    service = daemon()
    for k in range(2):
        written(raw / f"bias_{k}.fits", k)
    written(raw / "bias_2.fits", 2, without_numbers)
    found = until(service, lambda states: list(states.values()).count(FrameState.SET_ASIDE) == 1)
    assert found["bias_2.fits"].reason.startswith("bias_2.fits: none of 600 pixels has a value")
    found = until(service, lambda _: [product.provisional for product in service.catalog.latest("bias")] == [True])
    assert [product.reason for product in service.catalog.latest("bias")] == ["2 of 3 bias frames"]
    assert found["bias_0.fits"].state is found["bias_1.fits"].state is FrameState.USED
    (raw / "bias_2.fits").unlink()
    written(raw / "bias_2.fits", 2)
    until(service, all_used(3))
    assert [product.provisional for product in service.catalog.latest("bias")] == [False]
