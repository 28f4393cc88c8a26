"""`kspecdr reduce` where the disk is full: it waits, says what is in the way, and goes on at the next call."""

import subprocess

import pytest

from daemon.commands.batch import reduce_directory
from daemon.config import load
from daemon.records import FrameState


@pytest.fixture
def disk(site):
    """The output directory as a disk of its own; `disk(size)` makes it larger."""
    site.out.mkdir(parents=True)

    def mount(option):
        command = ["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(site.out)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603 - a fixed command

    if not mount("size=40m"):
        pytest.skip("a small disk needs the right to mount one")
    yield lambda size: mount(f"remount,size={size}")
    subprocess.run(["umount", "-l", str(site.out)], check=True)  # noqa: S603, S607 - as above


def test_a_reduction_onto_a_full_disk_ends_with_the_reason_and_goes_on_at_the_next_call(
    night, calm, site, disk, capsys
):
    site.land(night)
    paths = {"watch": [str(site.raw)], "out": str(site.out)}
    config = load(None, {"paths": paths, "instrument": {"fibers": 6}, "workers": {"count": 0}})
    assert reduce_directory(config, patience=1.5) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "ended after 1.5 s without progress: " in said
    assert "MB free, 200 MB needed; make room; then run the command again" in said
    assert {state for (state,) in site.sql("select distinct state from frames")} == {FrameState.WAITING}
    assert not site.sql("select 1 from jobs where state in ('queued', 'running')")
    assert disk("2g")
    assert reduce_directory(config, patience=1.5) == 0
    assert site.content()[0] == calm[0]
    capsys.readouterr()
    for path in site.out.glob("catalog.db*"):
        path.unlink()
    assert reduce_directory(config) == 0
    assert "adopted 7 products that stood there whole" in capsys.readouterr().err
    assert site.content()[0] == calm[0]
