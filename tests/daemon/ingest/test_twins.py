"""One exposure in several files: links, names, formats, compressed or written anew in its place."""

import gzip
import os
from datetime import UTC, datetime

import pytest
from astropy.io import fits

from daemon.records import FrameState
from kspecdr.simulate.lightfield import BLOCK
from kspecdr.simulate.spe import write_spe


def test_a_hard_link_is_a_duplicate_and_counts_once(daemon, raw, written, tmp_path, until, masters):
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


def test_a_renamed_file_is_the_same_frame(daemon, raw, written, until, all_used):
    service = daemon()
    paths = [written(raw / f"bias_{k}.fits", k) for k in range(3)]
    until(service, all_used(3))
    before = {product.fingerprint for product in service.catalog.latest("bias", None, 0)}
    paths[0].rename(raw / "bias_first.fits")
    found = until(service, lambda states: states.get("bias_first.fits") is FrameState.USED)
    assert found["bias_0.fits"].state is FrameState.ABSENT
    assert {product.fingerprint for product in service.catalog.latest("bias", None, 0)} == before


def test_a_rewritten_file_is_another_frame(daemon, raw, written, until, all_used, masters):
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


def test_of_one_exposure_in_two_formats_one_is_reduced(daemon, raw, written, until, masters):
    for k in range(3):
        written(raw / f"bias_{k}.spe", k, write_spe)
        written(raw / f"bias_{k}.fits", k)
    service = daemon()
    found = until(service, lambda states: list(states.values()).count(FrameState.USED) == 3)
    assert masters(service) == [tuple(f"bias_{k}.fits" for k in range(3))]
    assert found["bias_1.spe"].state is FrameState.IGNORED
    assert found["bias_1.spe"].reason == "the same exposure as bias_1.fits, which is reduced in its place"


def test_a_file_that_is_not_written_yet_takes_nobodys_place(daemon, raw, written, until, masters):
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


def test_the_second_format_may_come_later_and_may_go_again(daemon, raw, written, until, masters):
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
def test_what_is_compressed_in_its_place_counts_once_and_stays_as_it_was(
    daemon, raw, written, how, running, until, all_used, masters
):
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


def test_what_is_expanded_in_its_place_counts_once(daemon, raw, written, until, all_used):
    service = daemon()
    pressed = [squeezed(written(raw / f"bias_{k}.fits", k), "gz") for k in range(3)]
    until(service, all_used(3))
    (made,) = service.catalog.latest("bias")
    for path in pressed:
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    until(service, lambda states: list(states.values()).count(FrameState.USED) == 3 and states.get("bias_2.fits"))
    assert [each.fingerprint for each in service.catalog.latest("bias")] == [made.fingerprint]


def test_another_exposure_under_a_name_that_is_gone_is_another(daemon, raw, written, until, all_used):
    service = daemon()
    for k in range(3):
        written(raw / f"bias_{k}.fits", k)
    until(service, all_used(3))
    (raw / "bias_2.fits").unlink()
    squeezed(written(raw / "bias_2.fits", 9), "gz")
    until(service, lambda states: states.get("bias_2.fits.gz") is FrameState.USED)
    assert len(service.catalog.neighbourhood().made) == 2
