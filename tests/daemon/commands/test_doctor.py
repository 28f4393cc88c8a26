import pytest

from daemon.commands.doctor import _inotify_limit, _output, _watched, examine
from daemon.config import load


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()

    def with_changes(**changes):
        paths = {"watch": [str(tmp_path / "raw")], "out": str(tmp_path / "out")}
        return load(None, {"paths": paths, **changes})

    return with_changes


def flags(findings):
    return {finding.name.split()[0]: finding.flag for finding in findings}


def test_everything_is_in_order_here(config):
    found = flags(examine(config()))
    assert found["watch"] == "ok"
    assert found["fibers"] == "ok"
    assert found["arc"] == "ok"
    assert "fail" not in found.values()


def test_a_missing_directory_and_a_wrong_table_fail_with_a_remedy(config, tmp_path):
    (tmp_path / "raw").rmdir()
    (tmp_path / "t.csv").write_text("type,nome\nP,a\n")
    findings = examine(config(instrument={"fibers": str(tmp_path / "t.csv")}))
    told = {finding.name.split()[0]: finding.message for finding in findings if finding.flag == "fail"}
    assert set(told) == {"watch", "fibers"}
    assert "make it, mount it" in told["watch"]
    assert "has no column 'name'" in told["fibers"]


def test_a_lamp_without_tables_fails(config):
    findings = examine(config(instrument={"default_lamp": "Unobtainium"}))
    assert flags(findings)["arc"] == "fail"


def test_few_watches_are_a_warning(tmp_path):
    (tmp_path / "limit").write_text("100\n")
    assert _inotify_limit(tmp_path / "limit").flag == "warn"
    assert "raise fs.inotify.max_user_watches" in _inotify_limit(tmp_path / "limit").message
    assert _inotify_limit(tmp_path / "none").flag == "warn"


def test_a_file_in_the_place_of_the_output_fails(tmp_path):
    (tmp_path / "out").write_text("")
    assert [finding.flag for finding in _output(tmp_path / "out", "")] == ["fail"]


def test_another_database_is_named(tmp_path):
    assert [f.message for f in _output(tmp_path, "postgresql+psycopg://host/db")][1] == "postgresql+psycopg database"


def test_the_observer_is_told(tmp_path):
    assert [f.message.split(", ")[1] for f in _watched(tmp_path, "polling")] == ["observed by polling"]
