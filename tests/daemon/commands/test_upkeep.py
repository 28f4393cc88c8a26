"""mark-bad, needed, prune, reproduce, backup and show on one reduced night."""

import json
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from daemon.catalog import Catalog
from daemon.cli import main
from kspecdr.simulate import PRESETS, write_night


def command(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["kspecdr", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code or 0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A reduced night: raw and out."""
    place = tmp_path_factory.mktemp("place")
    write_night(place / "raw", PRESETS["small"])
    assert command("reduce", place / "raw", "--out", place / "out", "--fibers", 6, "--workers", 0) == 0
    return place


@pytest.fixture
def kspecdr(place, capsys):
    """Run a command on the night; return exit code and what it said."""

    def run(name, *arguments):
        code = command(name, *arguments, "--out", place / "out")
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def copy(place, tmp_path, capsys):
    """A copy of the output that a test may change; run commands on it."""
    shutil.copytree(place / "out", tmp_path / "out", symlinks=True)

    def run(name, *arguments):
        code = command(name, *arguments, "--out", tmp_path / "out")
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    run.out, run.raw = tmp_path / "out", place / "raw"
    return run


def reds(out):
    catalog = Catalog.open(str(out), create=False)
    found = catalog.latest("red", "MFOBJECT", 0)
    catalog.close()
    return found


def directories(out):
    return {path for path in out.glob("*/*") if path.is_dir() and not path.is_symlink()}


def again(copy):
    return command("reduce", copy.raw, "--out", copy.out, "--fibers", 6, "--workers", 0)


def test_a_product_is_made_again_byte_for_byte(kspecdr, place):
    product = reds(place / "out")[0]
    code, out, err = kspecdr("reproduce", product.path)
    assert (code, err) == (0, "")
    assert out.count("the same bytes") == 4


def test_a_product_that_was_changed_is_told(copy):
    product = reds(copy.out)[0]
    content = bytearray(product.path.read_bytes())
    content[2880 * 12 + 100] ^= 64
    product.path.write_bytes(content)
    code, out, _ = copy("reproduce", product.path.name)
    assert code == 1
    assert out.count("the same bytes") == 3


def test_a_bad_frame_is_left_out_and_what_was_made_with_it_made_again(copy):
    before = {product.fingerprint for product in reds(copy.out)}
    code, out, _ = copy("mark-bad", "bias_00001.fits")
    assert (code, out) == (0, "bias_00001.fits: marked bad\n")
    again(copy)
    after = reds(copy.out)
    assert before.isdisjoint(product.fingerprint for product in after)
    assert copy("mark-bad", "bias_00001.fits", "--undo")[0] == 0
    assert again(copy) == 0
    assert {product.fingerprint for product in reds(copy.out)} == before


def test_a_bad_product_is_used_by_nothing(copy):
    link = next(copy.out.glob("*/arc*_red.fits"))
    code, out, _ = copy("mark-bad", link)
    assert (code, "marked bad" in out) == (0, True)
    again(copy)
    assert all("no arc" in product.reason for product in reds(copy.out))


def test_prune_removes_only_what_nothing_uses(copy):
    assert copy("prune", "--older-than", 0, "--dry-run")[1] == "0 directories would be removed\n"
    copy("mark-bad", "object_00002.fits")
    again(copy)
    code, out, _ = copy("prune", "--older-than", 0, "--dry-run")
    doomed = {Path(line) for line in out.splitlines() if line.startswith("/")}
    kept = directories(copy.out) - doomed
    assert (code, len(doomed)) == (0, 1)
    assert copy("prune", "--older-than", 1, "--dry-run")[1] == "0 directories would be removed\n"
    assert copy("prune", "--older-than", 0)[1] == "1 superseded product(s) pruned\n"
    assert directories(copy.out) == kept
    copy("mark-bad", "object_00002.fits", "--undo")
    assert again(copy) == 0
    assert len(reds(copy.out)) == 2
    assert all(product.path.is_file() for product in reds(copy.out))


def test_a_backup_is_a_whole_catalog(kspecdr, tmp_path):
    code, out, _ = kspecdr("backup", tmp_path / "copy.db")
    assert (code, "copy.db" in out) == (0, True)
    with sqlite3.connect(tmp_path / "copy.db") as copy:
        assert copy.execute("pragma integrity_check").fetchone() == ("ok",)
        assert copy.execute("select count(*) from frames").fetchone() == (10,)
    copy.close()


def test_show_says_what_a_product_is_and_draws_it(kspecdr, tmp_path):
    code, out, _ = kspecdr("show", "object_00001_red.fits", "--png", tmp_path / "x.png")
    assert code == 0
    assert "raw: object_00001.fits" in out
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(kspecdr("show", "object_00001_red.fits", "--json")[1])["state"] == "current"
    assert kspecdr("show", "nothing.fits")[::2] == (
        2,
        "kspecdr: nothing.fits: no such product in the catalog; `kspecdr latest` lists them\n",
    )


def test_needed_lists_what_the_night_lacks(kspecdr, copy, place):
    night = reds(place / "out")[0].night
    assert kspecdr("needed", "--night", night)[1] == "nothing is missing\n"
    assert kspecdr("needed")[1:] == ("nothing is missing\n", f"of night {night}\n")
    for name in ("dark_300s_00001.fits", "arc_hgar_00001.fits", "arc_ne_00001.fits"):
        for path in copy.raw.glob(f"{name.split('_')[0]}*"):
            copy("mark-bad", path.name)
    lacks = {each["calibration"]: each for each in json.loads(copy("needed", "--night", night, "--json")[1])}
    assert set(lacks) == {"dark", "arc"}
    assert (lacks["dark"]["lacks"], lacks["dark"]["waiting"], lacks["dark"]["frame_class"]) == (2, 2, "DARK")
    assert (lacks["arc"]["lacks"], lacks["arc"]["waiting"]) == (1, 2)


def test_a_lost_catalog_is_rebuilt_with_the_decisions_of_people(copy):
    copy("mark-bad", "bias_00001.fits")
    copy("classify", "dark_300s_00003.fits", "IGNORE")
    again(copy)
    copy("mark-bad", next(copy.out.glob("*/object_00002_red.fits")))
    again(copy)
    catalog = Catalog.open(str(copy.out), create=False)
    before = {(frame.path, frame.frame_class, frame.state, frame.reason) for frame in catalog.frames()}
    catalog.close()
    products = {(product.fingerprint, product.provisional) for product in reds(copy.out)}
    for left in copy.out.glob("catalog.db*"):
        left.unlink()
    again(copy)
    catalog = Catalog.open(str(copy.out), create=False)
    assert {(frame.path, frame.frame_class, frame.state, frame.reason) for frame in catalog.frames()} == before
    catalog.close()
    assert {(product.fingerprint, product.provisional) for product in reds(copy.out)} == products
    assert "bad" in {state for _, _, state, _ in before}
