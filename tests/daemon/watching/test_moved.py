import hashlib
import shutil

import pytest

from daemon.watching.moved import has_moved


@pytest.fixture
def places(tmp_path):
    """A directory of frames, another place, and what was recorded of the frames."""
    old, new = tmp_path / "old", tmp_path / "new"
    for k in range(100):
        path = old / f"night {k % 3}" / f"bias_{k}.fits"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([k]) * (100 + k))
    known = {path.relative_to(old).as_posix(): path.read_bytes() for path in old.rglob("*.fits")}
    sizes = {name: len(data) for name, data in known.items()}
    return old, new, sizes, lambda name: hashlib.sha256(known[name]).hexdigest()


def test_the_same_files_elsewhere_are_the_same_directory(places):
    old, new, *recorded = places
    old.rename(new)
    (new / "another.fits").write_bytes(b"new")
    (new / "night 0" / "bias_0.fits").unlink()
    assert has_moved(old, new, *recorded)
    assert not has_moved(old, new.parent / "nowhere", *recorded)


def test_a_copy_is_another_directory_as_long_as_the_first_is_there(places):
    old, new, *recorded = places
    shutil.copytree(old, new)
    assert not has_moved(old, new, *recorded)
    shutil.rmtree(old)
    old.mkdir()  # an empty mount point
    assert has_moved(old, new, *recorded)


@pytest.mark.parametrize("content", [b"x", b"other"])
def test_files_of_the_same_names_and_another_content_are_others(places, content):
    old, new, sizes, content_of = places
    old.rename(new)
    for path in new.rglob("*.fits"):
        size = path.stat().st_size if content == b"x" else 5
        path.write_bytes(content * (size // len(content)))
    assert not has_moved(old, new, sizes, content_of)


def test_a_directory_of_which_nothing_is_known_is_no_other(places):
    old, new, _, content_of = places
    old.rename(new)
    assert not has_moved(old, new, {}, content_of)
