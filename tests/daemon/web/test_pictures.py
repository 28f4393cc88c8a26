import io
import os

import pytest
from PIL import Image

from daemon.commands.batch import reduce_directory
from daemon.config import load
from daemon.store.pages import PageReader
from daemon.web import pictures
from daemon.web.pictures import FOLDER, Pictures
from kspecdr.simulate import PRESETS, write_night


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The products of a small simulated night."""
    place = tmp_path_factory.mktemp("night")
    write_night(place / "raw", PRESETS["small"])
    reduce_directory(
        load(
            None,
            {
                "paths": {"watch": [str(place / "raw")], "out": str(place / "out")},
                "instrument": {"fibers": 6},
                "workers": {"count": 0},
            },
        )
    )
    return place / "out"


@pytest.fixture
def latest(out):
    reader = PageReader(str(out), out)
    yield lambda kind: reader.latest(kind, None, 1)[0]
    reader.close()


@pytest.mark.parametrize("kind", ["bias", "dark", "converted", "im", "tlm", "ex", "red", "fflat"])
def test_every_kind_of_product_has_a_picture(latest, out, kind):
    png = Pictures(out).png(latest(kind))
    image = Image.open(io.BytesIO(png)).convert("L")
    assert image.size == (900, 520)
    assert image.getextrema()[1] - image.getextrema()[0] > 100  # something is drawn
    assert image.getpixel((2, 2)) < 40  # on a dark ground


def test_a_picture_is_drawn_once(latest, out):
    product = latest("red")
    first = Pictures(out).png(product)
    kept = [path for path in (out / FOLDER).iterdir() if product.fingerprint[:16] in path.name]
    (path,) = [each for each in kept if "red" in each.name]
    path.write_bytes(b"kept")
    assert Pictures(out).png(product) == b"kept"
    path.write_bytes(first)


def test_only_so_many_are_kept(latest, out, monkeypatch):
    monkeypatch.setattr(pictures, "KEPT", 2)
    for age, kind in enumerate(("bias", "tlm", "red")):
        kept = Pictures(out)
        for path in (out / FOLDER).glob(f"*_{kind}.png"):
            path.unlink()
        kept.png(latest(kind))
        for path in (out / FOLDER).glob(f"*_{kind}.png"):
            os.utime(path, (age + 1e9, age + 1e9))
    assert len(list((out / FOLDER).glob("*.png"))) <= 3
    assert list((out / FOLDER).glob("*_red.png"))


def test_a_full_disk_keeps_no_picture_and_shows_it_all_the_same(latest, tmp_path):
    (tmp_path / FOLDER).write_text("no directory")
    assert Pictures(tmp_path).png(latest("red")).startswith(b"\x89PNG")
