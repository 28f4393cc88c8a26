"""Files that are not complete, not readable or damaged: each costs its own frame alone."""

from datetime import UTC, datetime

import numpy as np
import pytest
from astropy.io import fits

from daemon.records import FrameState
from kspecdr.simulate.lightfield import BLOCK


@pytest.mark.parametrize("unfinished", ["growing", "set aside", "cut off"])
def test_what_is_not_all_there_is_waited_for(daemon, raw, written, unfinished, tmp_path, until, all_used):
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


def test_an_unreadable_file_is_told_and_read_again_on_request(
    daemon, raw, written, ordinary_user, until, all_used, masters
):
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


def test_a_header_that_promises_100_gb_is_refused_by_its_size(daemon, raw, written, until):
    service = daemon()
    path = written(raw / "bias_0.fits", 0)
    promised = path.read_bytes().replace(b"NAXIS1  =                   30", b"NAXIS1  =           2684354560")
    assert promised != path.read_bytes()
    path.write_bytes(promised)
    found = until(service, lambda states: states.get("bias_0.fits") is FrameState.INVALID)
    assert found["bias_0.fits"].reason.startswith("bias_0.fits")


def tiled(path, cards, counts):
    header = fits.Header()
    for keyword, value in cards.items():
        header[keyword if len(keyword) < 9 else f"HIERARCH {keyword}"] = value
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(counts, header)]).writeto(path)


def test_a_damaged_tile_costs_its_frame_alone(daemon, raw, written, until, masters):
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


def without_numbers(path, cards, counts):
    """Write a frame that is whole and whose pixels are no numbers."""
    tiled(path.with_suffix(".tmp"), cards, counts)
    header = fits.getheader(path.with_suffix(".tmp"), 1)
    for name in ("BZERO", "BSCALE"):
        header.remove(name, ignore_missing=True)
    fits.PrimaryHDU(np.full(counts.shape[-2:], np.nan, np.float32), header).writeto(path)
    path.with_suffix(".tmp").unlink()


def test_damage_that_only_a_reduction_finds_costs_its_frame_alone(daemon, raw, written, until, all_used):
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
