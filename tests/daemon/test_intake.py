from datetime import UTC, datetime

import numpy as np
import pytest

from daemon.catalog import Catalog
from daemon.config import Config
from daemon.intake import NO_FILE, Intake
from daemon.records import FrameState
from daemon.watcher import Sighting, Standing, Watcher
from kspecdr.simulate import PRESETS
from kspecdr.simulate.lightfield import lightfield_cards, write_frame

NOW = datetime(2026, 1, 28, tzinfo=UTC)


@pytest.fixture
def catalog(tmp_path):
    opened = Catalog.open(str(tmp_path / "out"))
    yield opened
    opened.close()


@pytest.fixture
def intake(catalog, tmp_path):
    (tmp_path / "raw").mkdir()
    return Intake(catalog, Config(), {0: tmp_path / "raw"})


@pytest.fixture
def frame(tmp_path):
    def write(name="object_00001.fits", n_frame=1, level=700):
        cards = lightfield_cards(PRESETS["small"].instrument, 10.0, NOW)
        write_frame(tmp_path / "raw" / name, cards, np.full((n_frame, 20, 30), level))
        return tmp_path / "raw" / name

    return write


def sighting(path, standing=Standing.COMPLETE, reason=""):
    size = path.stat().st_size if path.exists() else 0
    return Sighting(standing, 0, path, reason, size, path.stat().st_mtime_ns if path.exists() else 0)


def states(catalog):
    return {(frame.path, frame.part): frame.state for frame in catalog.frames()}


def test_complete_files_become_frames_a_few_at_a_time(intake, catalog, frame):
    intake.put([sighting(frame(f"object_{k:05d}.fits")) for k in range(5)])
    assert [len(intake.take(NOW, most=2)) for _ in range(4)] == [2, 2, 1, 0]
    assert set(states(catalog).values()) == {FrameState.WAITING}
    assert intake.n_waiting == 0


def test_a_file_is_incomplete_until_it_is_there(intake, catalog, frame):
    path = frame()
    intake.put([sighting(path, Standing.INCOMPLETE, "not complete: 3 bytes")])
    intake.take(NOW)
    assert catalog.frames()[0].reason == "not complete: 3 bytes"
    intake.put([sighting(path)])
    intake.take(NOW)
    assert states(catalog) == {("object_00001.fits", 0): FrameState.WAITING}


def test_a_cube_takes_the_place_of_the_incomplete_file(intake, catalog, frame):
    path = frame(n_frame=2)
    intake.put([sighting(path, Standing.STUCK, "not complete: 3 bytes"), sighting(path)])
    intake.take(NOW)
    assert states(catalog) == {
        ("object_00001.fits", 1): FrameState.WAITING,
        ("object_00001.fits", 2): FrameState.WAITING,
    }


def test_a_vanished_file_is_absent(intake, catalog, frame):
    path = frame()
    intake.put([sighting(path)])
    intake.take(NOW)
    path.unlink()
    intake.put([sighting(path, Standing.GONE)])
    intake.take(NOW)
    assert states(catalog) == {("object_00001.fits", 0): FrameState.ABSENT}


def test_only_what_was_understood_is_known_to_the_next_run(intake, catalog, frame, tmp_path):
    (tmp_path / "raw" / "flat_1.fits").write_text("no frame")
    paths = [frame(), frame("M31.fits"), frame("focus.fits"), tmp_path / "raw" / "flat_1.fits"]
    intake.put([sighting(path) for path in paths])
    intake.take(NOW)
    known = Intake(catalog, Config(), {0: tmp_path / "raw"}).known()
    expected = {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in (paths[0], paths[2])}
    expected |= {path.name: NO_FILE for path in (paths[1], paths[3])}  # looked at again; missed when they are gone
    assert (known.folders(0), known.files(0, "")) == ([""], expected)
    paths[3].unlink()
    seen = Watcher({0: tmp_path / "raw"}, Config().watch, known=known).poll(0.0, observe=False)
    assert [each.path.name for each in seen if each.standing is Standing.GONE] == ["flat_1.fits"]


def test_a_failure_of_the_catalog_loses_no_file(intake, catalog, frame, monkeypatch):
    intake.put([sighting(frame())])
    with monkeypatch.context() as broken:
        broken.setattr(catalog, "add_frames", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            intake.take(NOW)
    assert intake.n_waiting == 1
    assert len(intake.take(NOW)) == 1
