"""One reduced night that the commands are tried on."""

import shutil
from contextlib import closing

import pytest

from daemon.catalog import Catalog
from kspecdr.simulate import PRESETS, write_night


@pytest.fixture(scope="session")
def place(exit_code, tmp_path_factory):
    """A reduced night: raw and out."""
    place = tmp_path_factory.mktemp("place")
    write_night(place / "raw", PRESETS["small"])
    assert exit_code("reduce", place / "raw", "--out", place / "out", "--fibers", 6, "--workers", 0) == 0
    return place


@pytest.fixture
def on_night(kspecdr, place):
    """Run a command on the night; return exit code and what it said."""
    return lambda name, *arguments: kspecdr(name, *arguments, "--out", place / "out")


@pytest.fixture
def copy(kspecdr, place, tmp_path):
    """A copy of the output that a test may change; run commands on it."""
    shutil.copytree(place / "out", tmp_path / "out", symlinks=True)

    def run(name, *arguments):
        return kspecdr(name, *arguments, "--out", tmp_path / "out")

    run.again = lambda: kspecdr("reduce", place / "raw", "--out", tmp_path / "out", "--fibers", 6, "--workers", 0)[0]
    run.reds = lambda: spectra(tmp_path / "out")
    run.out, run.raw = tmp_path / "out", place / "raw"
    return run


@pytest.fixture
def reds(place):
    """The spectra of the night's objects."""
    return spectra(place / "out")


def spectra(out):
    with closing(Catalog.open(str(out), create=False)) as catalog:
        return catalog.latest("red", "MFOBJECT", 0)
