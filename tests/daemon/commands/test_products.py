"""show and reproduce on one reduced night."""

import json


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


def test_a_product_that_is_not_good_says_what_to_do(copy):
    for name in ("arc_hgar_00001.fits", "arc_ne_00001.fits"):
        copy("mark-bad", name)
    copy.again()
    (red, *_) = copy.reds()
    out = copy("show", red.path)[1]
    assert red.provisional
    assert "what to do: take the calibration that the reason names" in out
