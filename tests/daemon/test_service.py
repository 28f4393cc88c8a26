import shutil
from datetime import UTC, datetime

import pytest

from daemon.config import load
from daemon.records import FrameState, ProductState
from daemon.service import opened, serve
from daemon.store.engines import CatalogUnavailable
from kspecdr.errors import BadOption
from kspecdr.simulate import PRESETS, write_night


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A small simulated night; the files of its frames."""
    return write_night(tmp_path_factory.mktemp("night"), PRESETS["small"])


@pytest.fixture
def config(tmp_path):
    (tmp_path / "raw").mkdir()

    def make(**changes):
        fixed = {
            "paths": {"watch": [str(tmp_path / "raw")], "out": str(tmp_path / "out")},
            "instrument": {"fibers": 6},
            "plan": {"quiet": 0.2, "like_wait": 5.0},
            "workers": {"count": 0},
        }
        return load(None, {**fixed, **changes})

    return make


def states(service):
    return {frame.path: frame.state for frame in service.catalog.frames()}


def test_frames_that_land_one_by_one_become_spectra(config, night, tmp_path):
    with opened(config(), batch=False, command="test") as service:
        service.step()
        for path in night[::-1]:
            shutil.copy(path, tmp_path / "raw")
            service.step()
        service.run(until_idle=0.3)
        found = states(service)
        assert len(found) == len(night)
        assert set(found.values()) == {FrameState.REDUCED, FrameState.USED}
        spectra = service.catalog.latest("red", "MFOBJECT", 0)
        assert [product.raw for product in spectra] == [("object_00001.fits",), ("object_00002.fits",)]
        assert not any(product.provisional for product in spectra)


def test_what_landed_while_the_daemon_was_down_is_reduced_and_nothing_twice(config, night, tmp_path):
    for path in night[:-1]:
        shutil.copy(path, tmp_path / "raw")
    with opened(config(), batch=False, command="test") as service:
        service.run(until_idle=0.3)
        first = {product.fingerprint for product in service.catalog.latest("red", None, 0)}
    shutil.copy(night[-1], tmp_path / "raw")
    with opened(config(), batch=False, command="test") as service:
        made = []
        service.run(until_idle=0.3, watch=lambda step: made.extend(step.tick.finished))
        assert [job.frames[0].name for job, _ in made] == [night[-1].name]
        assert first < {product.fingerprint for product in service.catalog.latest("red", None, 0)}


def test_bad_files_have_a_state_and_the_rest_goes_on(config, night, tmp_path):
    for path in night:
        shutil.copy(path, tmp_path / "raw")
    (tmp_path / "raw" / "object_00007.fits").write_bytes(night[-1].read_bytes()[:5000])
    (tmp_path / "raw" / "object_00008.fits").write_text("no FITS file")
    (tmp_path / "raw" / "M31.fits").write_bytes(night[-1].read_bytes()[:-2880] + bytes(2880))
    with opened(config(watch={"settle": 0.2}), batch=False, command="test") as service:
        service.run(until_idle=0.5)
        found = states(service)
        assert found["object_00007.fits"] is FrameState.INCOMPLETE
        assert found["object_00008.fits"] is FrameState.INVALID
        assert found["M31.fits"] in (FrameState.UNCLASSIFIED, FrameState.INCOMPLETE)
        assert found["object_00001.fits"] is FrameState.REDUCED


def test_products_inside_the_watched_directory_are_no_frames(config, night, tmp_path):
    for path in night[:3]:
        shutil.copy(path, tmp_path / "raw")
    paths = {"watch": [str(tmp_path / "raw")], "out": str(tmp_path / "raw" / "reduced")}
    with opened(config(paths=paths), batch=False, command="test") as service:
        service.run(until_idle=0.3)
        service.run(until_idle=0.3)
        assert set(states(service)) == {path.name for path in night[:3]}


def test_a_second_one_on_the_same_output_is_refused(config):
    second = opened(config(), batch=True, command="kspecdr reduce")
    with (
        opened(config(), batch=False, command="kspecdr run"),
        pytest.raises(BadOption, match="is in use by kspecdr run"),
    ):
        second.__enter__()


def test_raw_and_output_in_one_place_are_refused(config, tmp_path):
    paths = {"watch": [str(tmp_path / "raw")], "out": str(tmp_path / "raw")}
    with pytest.raises(BadOption, match="is watched for frames and named for products"):
        opened(config(paths=paths), batch=False, command="test").__enter__()


def test_a_wrong_fiber_table_is_told_at_once(config, tmp_path):
    with pytest.raises(BadOption, match=r"t\.csv does not exist"):
        opened(config(instrument={"fibers": str(tmp_path / "t.csv")}), batch=False, command="test").__enter__()


def test_a_missing_directory_is_waited_for_and_told_where_the_daemon_is_to_end(config, tmp_path, caplog):
    paths = {"watch": [str(tmp_path / "nosuch")], "out": str(tmp_path / "out")}
    with caplog.at_level("INFO", "kspecdr"):
        assert serve(config(paths=paths), until_idle=0.3) == 1
    assert f"{tmp_path / 'nosuch'} does not exist; make it, mount it, or mend its name" in caplog.text
    assert f"ended without {tmp_path / 'nosuch'}, which is not there" in caplog.text
    assert serve(config(), until_idle=0.1) == 0


@pytest.mark.parametrize("running", [True, False])
def test_a_fiber_table_that_is_edited_makes_again_what_depends_on_it(config, night, tmp_path, running):
    table = tmp_path / "fibers.csv"
    names = ["type,name", *(f"P,star {number}" for number in range(6))]
    table.write_text("\n".join(names) + "\n")
    for path in night:
        shutil.copy(path, tmp_path / "raw")
    settings = config(instrument={"fibers": str(table)}, plan={"quiet": 0.2, "like_wait": 0.2, "remake": "all"})
    edited = "\n".join([names[0], "S,sky 0", *names[2:]]) + "\n"
    with opened(settings, batch=False, command="test") as service:
        service.run(until_idle=0.3)
        before = current(service)
        if running:
            table.write_text(edited)
            service.follow(settings)
            service.run(until_idle=0.3)
            after = current(service)
    if not running:
        table.write_text(edited)
        with opened(settings, batch=False, command="test") as service:
            service.run(until_idle=0.3)
            after = current(service)
    assert {rule for rule, _ in before - after} == {"tlm", "arc", "fflat", "object"}
    assert {rule for rule, _ in after} == {rule for rule, _ in before}
    with opened(settings, batch=False, command="test") as service:
        made = []
        service.run(until_idle=0.3, watch=lambda step: made.extend(step.tick.finished))
        assert not made


def current(service):
    """Return rule and fingerprint of what is current."""
    made = service.catalog.neighbourhood().made.values()
    return {(each.rule, each.fingerprint) for each in made if each.state is ProductState.CURRENT}


GONE = (
    ("bias_00001.fits",),  # of a group of which others are there
    ("object_00001.fits",),
    ("arc_hgar_00001.fits", "object_00002.fits"),
    ("flat_00001.fits", "bias_00001.fits", "bias_00002.fits", "bias_00003.fits"),
    (),
)


@pytest.mark.parametrize("gone", GONE)
def test_a_lost_catalog_gets_back_the_products_of_frames_that_are_gone(config, night, tmp_path, gone):
    """Twice: what was restored stays, also when all is looked at again."""
    names = [path.name for path in night]
    assert set(gone) <= set(names)
    for path in night:
        shutil.copy(path, tmp_path / "raw")
    with opened(config(), batch=False, command="test") as service:
        service.run(until_idle=0.3)
        before = current(service)
    for name in gone or names:
        (tmp_path / "raw" / name).unlink()
    (tmp_path / "raw" / "notes.txt").touch()  # or it would be taken for a mount that is gone
    for path in (tmp_path / "out").glob("catalog.db*"):
        path.unlink()
    made = []
    for _ in range(2):
        with opened(config(), batch=False, command="test") as service:
            service.run(until_idle=0.5, watch=lambda step: made.extend(step.tick.finished))
            assert current(service) == before
            assert all(outcome.adopted for _, outcome in made)
            found = states(service)
        assert {name for name, state in found.items() if state is FrameState.ABSENT} == set(gone or names)
        assert {found[name] for name in names} <= {FrameState.ABSENT, FrameState.USED, FrameState.REDUCED}


def refuse(*_, **__):
    raise CatalogUnavailable("database is locked")


def test_what_a_step_has_done_before_it_was_broken_off_is_told_by_the_next(config, night, tmp_path, monkeypatch):
    shutil.copy(night[0], tmp_path / "raw")
    with opened(config(watch={"settle": 0.0}), batch=False, command="test") as service:
        with monkeypatch.context() as patch:
            patch.setattr(service.scheduler, "tick", refuse)
            while not service.catalog.frames():
                assert service.step().landed == ()
        assert [frame.path for frame in service.step().landed] == [night[0].name]
        assert service.step().landed == ()


def test_what_people_want_to_be_read_again_is_asked_for_until_it_is_known(config, monkeypatch):
    with opened(config(), batch=False, command="test") as service:
        service.catalog.request("retry", "", {}, datetime.now(UTC))
        with monkeypatch.context() as patch:
            patch.setattr(service.catalog, "to_read", refuse)
            assert len(service.step().tick.answers) == 1
        asked = []
        monkeypatch.setattr(service.catalog, "to_read", lambda: asked.append(True) or [])
        for _ in range(3):
            service.step()
        assert asked == [True]


def test_settings_that_were_not_taken_over_whole_are_taken_over_when_that_is_asked_again(config, monkeypatch, caplog):
    other = config(plan={"quiet": 0.4})
    with opened(config(), batch=False, command="test") as service, caplog.at_level("INFO", "kspecdr"):
        with monkeypatch.context() as patch:
            patch.setattr(service.catalog, "files", refuse)
            with pytest.raises(CatalogUnavailable):
                service.follow(other)
        assert service.follow(other) == other
        assert "nothing has changed" not in caplog.text
        service.follow(other)
        assert "nothing has changed" in caplog.text
