"""show and reproduce on one reduced night."""

import json
import shutil
from pathlib import Path

import pytest


def test_a_product_is_made_again_byte_for_byte(on_night, reds):
    code, out, err = on_night("reproduce", reds[0].path)
    assert (code, err) == (0, "")
    assert out.count("the same bytes") == 4


def test_a_product_that_was_changed_is_told(copy):
    product = copy.reds()[0]
    content = bytearray(product.path.read_bytes())
    content[2880 * 12 + 100] ^= 64
    product.path.write_bytes(content)
    code, out, _ = copy("reproduce", product.path.name)
    assert code == 1
    assert out.count("the same bytes") == 3


def test_show_says_what_a_product_is_and_draws_it(on_night, tmp_path):
    code, out, _ = on_night("show", "object_00001_red.fits", "--png", tmp_path / "x.png")
    assert code == 0
    assert "raw: object_00001.fits" in out
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(on_night("show", "object_00001_red.fits", "--json")[1])["state"] == "current"
    assert on_night("show", "nothing.fits")[::2] == (
        2,
        "kspecdr: nothing.fits: no such product in the catalog; `kspecdr latest` lists them\n",
    )


def test_the_output_directory_is_found_from_the_path_of_a_product(kspecdr, place, reds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    link = place / "out" / reds[0].night / reds[0].path.name
    for path in (reds[0].path, link):
        assert json.loads(kspecdr("show", path, "--json")[1])["fingerprint"] == reds[0].fingerprint
    monkeypatch.chdir(place)
    relative = link.relative_to(place)
    assert kspecdr("show", relative)[0] == 0
    assert kspecdr("reproduce", relative)[0] == 0
    monkeypatch.chdir(link.parent)
    assert "state: current" in kspecdr("show", link.name)[1]
    monkeypatch.chdir(tmp_path)
    assert kspecdr("show", link.name)[2].startswith("kspecdr: reduced: no catalog there")


@pytest.mark.parametrize("command", ["show", "reproduce"])
def test_a_product_whose_files_are_gone_says_what_makes_it_again(kspecdr, copy, monkeypatch, command):
    (red, *_) = copy.reds()
    shutil.rmtree(red.path.parent)
    path = red.path.relative_to(copy.out)
    said = f"kspecdr: {path} is in the catalog, but its file is gone; `kspecdr run` or `reduce` makes it again\n"
    monkeypatch.chdir(copy.out.parent)
    link = Path("out", red.night, red.path.name)
    assert link.is_symlink()
    for name in (link, link.absolute(), "out" / path, red.path):
        assert kspecdr(command, name) == (2, "", said)
    for name in (path, red.path.name):
        assert copy(command, name) == (2, "", said)
    assert copy.again() == 0
    assert copy(command, path)[0] == 0


def test_a_superseded_product_whose_files_are_gone_is_not_made_again(copy):
    (before, *_) = copy.reds()
    for name in ("arc_hgar_00001.fits", "arc_ne_00001.fits"):
        copy("mark-bad", name)
    copy.again()
    shutil.rmtree(before.path.parent)
    code, _, err = copy("show", before.path)
    assert code == 2
    assert err.endswith(" is in the catalog, but its file is gone; it is superseded, and not made again\n")


def test_of_a_product_whose_file_alone_is_gone_the_rest_is_to_be_removed(copy):
    (red, *_) = copy.reds()
    red.path.unlink()
    folder = red.path.parent.relative_to(copy.out)
    said = f"but its file is gone; remove the rest of {folder}, then `kspecdr run` or `reduce` makes it again\n"
    assert copy("show", red.path)[2].endswith(said)
    shutil.rmtree(red.path.parent)
    assert copy.again() == 0
    assert copy("show", red.path)[0] == 0


def test_what_a_product_was_made_from_need_not_be_there_to_make_it_again(copy):
    (red, *_) = copy.reds()
    (converted,) = red.path.parent.glob("*_converted.fits")
    converted.unlink()
    (tlm, *_) = json.loads(copy("latest", "--kind", "tlm", "--json")[1])
    shutil.rmtree((copy.out / tlm["path"]).parent)
    code, out, err = copy("reproduce", red.path)
    assert (code, err, out.count("\n"), out.count("the same bytes")) == (1, "", 4, 3)
    assert f"{converted.name}: its file is gone; there is nothing to compare with" in out


def test_a_product_that_is_not_good_says_what_to_do(copy):
    for name in ("arc_hgar_00001.fits", "arc_ne_00001.fits"):
        copy("mark-bad", name)
    copy.again()
    (red, *_) = copy.reds()
    out = copy("show", red.path)[1]
    assert red.provisional
    assert "what to do: take the calibration that the reason names" in out
