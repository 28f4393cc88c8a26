import subprocess
import sys

import pytest

from daemon.config import load
from daemon.session import LOCK, RECORD, is_locked, locked, recall, remember, session_to_read
from kspecdr.errors import BadOption


@pytest.fixture
def config(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "out").mkdir()
    return load(None, {"paths": {"watch": [str(tmp_path / "raw")], "out": str(tmp_path / "out")}})


def test_an_output_directory_has_one_holder(tmp_path):
    with locked(tmp_path / "out", "kspecdr run"):
        assert is_locked(tmp_path / "out").startswith("kspecdr run (process ")
        with pytest.raises(BadOption, match=r"out is in use by kspecdr run \(process \d+\); stop it"):
            locked(tmp_path / "out", "kspecdr reduce").__enter__()
    assert is_locked(tmp_path / "out") == ""
    with locked(tmp_path / "out", "kspecdr reduce"):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = (
        "import sys, os, signal; from pathlib import Path; from daemon.session import locked\n"
        "with locked(Path(sys.argv[1]), 'kspecdr run'): os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)  # noqa: S603 - our own code
    assert killed.returncode == -9
    assert (tmp_path / LOCK).read_text().startswith("kspecdr run")
    assert is_locked(tmp_path) == ""


def test_what_was_remembered_is_recalled(config, tmp_path):
    session = recall(config).renewed(config, batch=True)
    remember(session)
    assert recall(config) == session
    assert session.watched == {0: tmp_path / "raw"}


def test_a_watched_directory_keeps_its_number(config, tmp_path):
    first = recall(config).renewed(config, batch=True)
    other = config.paths.model_copy(update={"watch": (str(tmp_path / "two"), str(tmp_path / "raw"))})
    second = first.renewed(config.model_copy(update={"paths": other}), batch=False)
    assert second.watched == {0: tmp_path / "raw", 1: tmp_path / "two"}
    third = second.renewed(config, batch=False)
    assert (third.watched, third.roots) == ({0: tmp_path / "raw"}, second.roots)


def test_a_directory_that_has_moved_keeps_its_number(config, tmp_path):
    first = recall(config).renewed(config, batch=True)
    paths = config.paths.model_copy(update={"watch": (str(tmp_path / "two"), str(tmp_path / "three"))})
    elsewhere = config.model_copy(update={"paths": paths})
    second = first.renewed(elsewhere, batch=False, moved=lambda number, place: (number, place.name) == (0, "three"))
    assert second.watched == {0: tmp_path / "three", 1: tmp_path / "two"}


def test_reading_goes_by_the_settings_of_the_last_reduction(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    used = config.model_copy(update={"plan": config.plan.model_copy(update={"quiet": 3.0})})
    remember(recall(used).renewed(used, batch=True))
    read = session_to_read(tmp_path / "out", None)
    assert (read.config.plan.quiet, read.batch, read.config.paths.out) == (3.0, True, str(tmp_path / "out"))
    (tmp_path / "other.toml").write_text("[plan]\nquiet = 7\n")
    assert session_to_read(tmp_path / "out", tmp_path / "other.toml").config.plan.quiet == 7


@pytest.mark.parametrize(
    ("record", "roots"),
    [
        ("", ()),
        ("{", ()),
        ("[]", ()),
        ('{"roots": 3}', ()),
        ('{"roots": ["/a"], "config": {"x": 1}}', ("/a",)),
    ],
)
def test_a_record_that_is_not_understood_is_as_none(config, tmp_path, record, roots):
    (tmp_path / "out" / RECORD).write_text(record)
    assert (recall(config).config, recall(config).roots) == (config, roots)


def test_daemons_on_one_server_share_an_output_directory_and_nobody_else_has_it(tmp_path):
    with locked(tmp_path, "one", shared=True), locked(tmp_path, "two", shared=True):
        assert is_locked(tmp_path).startswith("two (process ")
        with pytest.raises(BadOption, match="is in use by two"), locked(tmp_path, "kspecdr retry"):
            pass
    assert is_locked(tmp_path) == ""
    with locked(tmp_path, "kspecdr reduce"), pytest.raises(BadOption), locked(tmp_path, "one", shared=True):
        pass
