import os
import time

import pytest

from daemon.watching import folders
from daemon.watching.folders import Folders, NothingKnown, Walk

DAY = 86400


class Remembered:
    """Size and mtime_ns of files that were handed on before; counts the questions."""

    def __init__(self, root):
        self.known = {}
        for path in sorted(root.rglob("*.fits")):
            folder = path.parent.relative_to(root).as_posix()
            of_folder = self.known.setdefault("" if folder == "." else folder, {})
            of_folder[path.name] = (path.stat().st_size, path.stat().st_mtime_ns)
        self.asked = []
        self.fails = False

    def files(self, _root, folder):
        if self.fails:
            raise OSError("database is locked")
        self.asked.append(folder)
        return self.known.get(folder, {})

    def folders(self, _root):
        return list(self.known)


@pytest.fixture
def archive(tmp_path):
    """Two old nights, the second in a folder of its own, and a file beside them."""
    for name in ("a.fits", "n1/b.fits", "n1/c.fits", "all/n2/d.fits"):
        path = tmp_path / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    age(tmp_path / "raw")
    return tmp_path / "raw"


def age(root, days=3):
    then = time.time() - days * DAY
    for path in (*root.rglob("*"), root):
        if path.is_dir():
            os.utime(path, (then, then))


def walked(root, known, now=0.0):
    """Walk to the end; return the names that are new, and those that are missing."""
    walk = Walk(root, (), known, now)
    found = [name for name, _ in walk.step(whole=True)]
    return sorted(found), sorted(walk.missing())


def test_everything_is_new_where_nothing_is_known(archive):
    assert walked(archive, Folders(0, NothingKnown())) == (["a.fits", "all/n2/d.fits", "n1/b.fits", "n1/c.fits"], [])


def test_an_archive_that_is_known_is_asked_for_once_and_nothing_of_it_is_held(archive):
    known = Remembered(archive)
    held = Folders(0, known)
    assert walked(archive, held) == ([], [])
    assert sorted(known.asked) == ["", "all", "all/n2", "n1"]
    held.look_at_all()
    assert walked(archive, held, 1.0) == ([], [])
    assert len(known.asked) == 4
    assert all(each.done is None for each in held._folders.values())


def test_what_comes_to_an_old_folder_is_found(archive):
    held = Folders(0, Remembered(archive))
    walked(archive, held)
    (archive / "n1" / "new.fits").write_bytes(b"new")
    (archive / "all" / "n3").mkdir()
    (archive / "all" / "n3" / "e.fits").write_bytes(b"e")
    assert walked(archive, held, 1.0) == (["all/n3/e.fits", "n1/new.fits"], [])


def test_a_file_that_is_written_again_in_an_old_folder_is_found_within_the_hour(archive):
    held = Folders(0, Remembered(archive))
    walked(archive, held)
    (archive / "n1" / "b.fits").write_bytes(b"another")
    assert walked(archive, held, 1.0) == ([], [])
    assert walked(archive, held, folders.SELDOM) == (["n1/b.fits"], [])


def test_a_file_that_is_written_again_in_a_young_folder_is_found_at_once(archive):
    held = Folders(0, Remembered(archive))
    walked(archive, held)
    (archive / "n1").touch()
    (archive / "n1" / "b.fits").write_bytes(b"another")
    assert walked(archive, held, 1.0) == (["n1/b.fits"], [])


def test_what_has_vanished_is_missed_with_its_folder_or_alone(archive):
    held = Folders(0, Remembered(archive))
    walked(archive, held)
    (archive / "n1" / "b.fits").unlink()
    (archive / "all" / "n2" / "d.fits").unlink()
    (archive / "all" / "n2").rmdir()
    assert walked(archive, held, 1.0) == ([], ["all/n2/d.fits", "n1/b.fits"])


def test_what_has_vanished_before_the_first_walk_is_missed(archive):
    held = Folders(0, Remembered(archive))
    (archive / "n1" / "b.fits").unlink()
    (archive / "n1" / "c.fits").unlink()
    (archive / "n1").rmdir()
    assert walked(archive, held) == ([], ["n1/b.fits", "n1/c.fits"])


def test_an_empty_directory_says_nothing_of_its_files(archive, tmp_path):
    held = Folders(0, Remembered(archive))
    (tmp_path / "unmounted").mkdir()
    assert walked(tmp_path / "unmounted", held) == ([], [])


def test_what_is_handed_on_is_held_until_it_is_known(archive):
    known = Remembered(archive)
    held = Folders(0, known)
    walked(archive, held)
    (archive / "n1" / "new.fits").write_bytes(b"new")
    age(archive / "n1", days=1.5)
    ((path, signature),) = Walk(archive, (), held, 1.0).step(whole=True)
    held.put(path, signature)
    assert walked(archive, held, folders.SELDOM + 1) == ([], [])
    assert held._folders["n1/"].done
    known.known = Remembered(archive).known
    assert walked(archive, held, 2 * folders.SELDOM + 2) == ([], [])
    assert held._folders["n1/"].done is None
    assert held.get("n1/new.fits") == signature


def test_steps_find_what_a_whole_walk_finds(archive, monkeypatch):
    monkeypatch.setattr(folders, "AT_LEAST", 1)
    monkeypatch.setattr(folders, "LONGEST_STEP", 0.0)
    age(archive / "all", days=5)  # what has changed last is looked at first
    walk, found = Walk(archive, (), Folders(0, NothingKnown()), 0.0), []
    while not walk.finished:
        found.append([name for name, _ in walk.step(whole=False)])
    assert found == [["a.fits"], ["n1/b.fits", "n1/c.fits"], [], ["all/n2/d.fits"]]


def test_a_catalog_that_cannot_be_asked_loses_nothing(archive):
    known = Remembered(archive)
    known.known.pop("n1")
    walk = Walk(archive, (), Folders(0, known), 0.0)
    known.fails = True
    with pytest.raises(OSError, match="locked"):
        walk.step(whole=True)
    known.fails = False
    assert [name for name, _ in walk.step(whole=True)] == ["n1/b.fits", "n1/c.fits"]
    assert walk.finished
