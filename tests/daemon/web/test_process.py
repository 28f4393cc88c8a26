import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from daemon.config import load
from daemon.web.process import WebProcess


@pytest.fixture
def config(tmp_path, catalog):
    """Settings for a catalog that exists, with pages on a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    return load(None, {"paths": {"watch": [str(tmp_path)], "out": str(catalog.out)}, "web": {"port": port}})


def test_the_pages_come_from_a_process_of_their_own_that_begins_again_and_ends_with_the_daemon(config):
    with WebProcess(config) as web:
        web.keep()
        host, port = web.address
        address = f"http://{host}:{port}/api/status"
        with urllib.request.urlopen(address, timeout=60) as reply:
            assert json.load(reply)["frames"] == {}
        first = web._process.pid
        web._process.kill()
        web._process.join()
        web.keep()
        assert web._process.pid == first  # not at once: what ends by itself would end again
        web._started_at = -float("inf")
        web.keep()
        assert web._process.pid != first
        with urllib.request.urlopen(address, timeout=60) as reply:
            assert reply.status == 200
        last = web._process
    assert not last.is_alive()


def test_a_port_that_is_taken_is_told_and_the_daemon_goes_on_without_pages(config, caplog):
    with socket.create_server((config.web.host, config.web.port)), WebProcess(config) as web:
        web.keep()
        assert web.address is None
    assert f"no pages: 127.0.0.1 port {config.web.port}: Address already in use" in caplog.text


def test_a_daemon_that_is_killed_takes_its_pages_with_it(config, tmp_path):
    (tmp_path / "raw").mkdir()
    text = f"[web]\nport = {config.web.port}\n[workers]\ncount = 0\n"
    (tmp_path / "config.toml").write_text(text)
    command = [sys.executable, "-m", "daemon.cli", "run", "--watch", "raw", "--out", "other"]
    place = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(Path.cwd())}}
    daemon = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **place)  # noqa: S603 - our own command
    while not _listens(config.web.port):
        assert daemon.poll() is None, daemon.communicate()[1]
        time.sleep(0.05)
    with urllib.request.urlopen(f"http://127.0.0.1:{config.web.port}/healthz", timeout=60) as reply:
        assert reply.status == 200
    daemon.kill()
    daemon.communicate(timeout=60)  # returns only when the other process has closed its standard error as well
    assert not _listens(config.web.port)


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
