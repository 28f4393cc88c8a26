import socket
import sys
from datetime import UTC, datetime
from importlib.metadata import version

import pytest

from daemon.commands.doctor import _inotify_limit, _output, _watched, examine
from daemon.config import load
from daemon.pulse import Pulse, write_pulse
from daemon.session import locked


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()

    def with_changes(**changes):
        paths = {"watch": [str(tmp_path / "raw")], "out": str(tmp_path / "out")}
        return load(None, {"paths": paths, "web": {"port": 0}, **changes})

    return with_changes


def flags(findings):
    return {finding.name.split()[0]: finding.flag for finding in findings}


def told(findings):
    return {finding.name: (finding.flag, finding.message) for finding in findings}


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
    assert _output(tmp_path / "out").flag == "fail"


def test_the_catalog_is_opened(config, on_night, place, tmp_path):
    assert told(examine(config()))["catalog"][1].startswith("none yet; SQLite on a local disk (")
    code, out, _ = on_night("doctor")
    assert (code, "ok    catalog: 10 frames; SQLite on a local disk (" in out) == (0, True)
    assert (place / "out" / "catalog.db").is_file()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "catalog.db").write_text("no database at all, but of some length\n")
    flag, message = told(examine(config()))["catalog"]
    assert (flag, "file is not a database" in message) == ("fail", True)


def test_a_database_without_its_driver_is_told(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    flag, message = told(examine(config(catalog={"url": "postgresql+psycopg://me@host/db"})))["catalog"]
    assert flag == "fail"
    assert message.startswith("host/db: catalog.url names PostgreSQL, for which psycopg is missing; pip install")


def test_the_version_stands_in_the_list(config):
    assert f"kspecdr {version('kspecdr')}, numpy " in told(examine(config()))["versions"][1]


def test_the_observer_is_told(tmp_path):
    assert [f.message.split(", ")[1] for f in _watched(tmp_path, "polling")] == ["observed by polling"]


def test_a_port_that_is_taken_is_a_warning(config):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        found = told(examine(config(web={"port": port})))["pages"]
    assert found == ("warn", f"127.0.0.1 port {port}: Address already in use; give another as web.host or web.port")
    assert told(examine(config(web={"port": port})))["pages"] == ("ok", f"127.0.0.1 port {port} is free")


def test_pages_for_everybody_are_a_warning(config):
    flag, message = told(examine(config(web={"host": "0.0.0.0", "port": 18650})))["pages"]  # noqa: S104 - what is warned of
    assert (flag, "without a password" in message) == ("warn", True)


def test_a_hook_that_cannot_be_run_fails(config):
    hooks = [{"on": "alarm", "command": ["/no/such"]}, {"on": "alarm", "command": ["sh"]}]
    assert told(examine(config(hooks=hooks)))["hook on alarm"][0] == "fail"


def test_a_daemon_in_trouble_is_told(config, tmp_path):
    assert told(examine(config()))["daemon"] == ("ok", f"none works in {tmp_path / 'out'}")
    with locked(tmp_path / "out", "kspecdr run"):
        write_pulse(tmp_path / "out", Pulse(datetime.now(UTC), 1, "idle"))
        assert told(examine(config()))["daemon"][1].endswith("): idle")
        write_pulse(tmp_path / "out", Pulse(datetime.now(UTC), 1, lost=("/data/raw",)))
        flag, message = told(examine(config()))["daemon"]
        assert (flag, "/data/raw is not there" in message) == ("warn", True)
