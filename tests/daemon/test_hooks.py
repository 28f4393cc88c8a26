import http.server
import json
import logging
import sys
import threading
import time
from pathlib import Path

import pytest

from daemon.hooks import QUEUED_MOST, HookError, Hooks, deliver
from daemon.sections import Hook

FAILED = {"event": "failed", "frame": 'a"; rm -rf $(x)\n.fits', "reason": "truncated"}
KEEP_STDIN = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"


def hook(*command, **settings):
    return Hook.model_validate({"on": "failed", "command": list(command), **settings})


def alive(process):
    """Whether a process still runs; one that has ended and is not buried yet does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def receiver():
    """A web server that keeps what is posted to it, and answers as `status` says."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.server.got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(self.server.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.got, server.status = [], 204
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_command_gets_the_event_as_json_and_no_shell_reads_a_name(tmp_path):
    deliver(hook(sys.executable, "-c", KEEP_STDIN, str(tmp_path / "got; touch x")), FAILED)
    assert json.loads((tmp_path / "got; touch x").read_text()) == FAILED
    assert [path.name for path in tmp_path.iterdir()] == ["got; touch x"]


def test_a_command_that_reads_nothing_is_no_failure():
    deliver(hook("/bin/true"), {**FAILED, "reason": "x" * 1_000_000})


def test_a_command_that_fails_is_told_with_the_beginning_of_its_complaint():
    with pytest.raises(HookError, match=r"^exit code 3: no network x{10,300}$"):
        deliver(
            hook(sys.executable, "-c", "import sys; sys.stderr.write('no network ' + 'x' * 5000); sys.exit(3)"), FAILED
        )


def test_a_command_beyond_its_time_is_ended_with_its_children(tmp_path):
    children = f"sleep 60 & echo $! > {tmp_path}/child; wait"
    begin = time.monotonic()
    with pytest.raises(HookError, match=r"not done within 0\.5 s"):
        deliver(hook("/bin/sh", "-c", children, timeout=0.5), FAILED)
    assert time.monotonic() - begin < 30
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not alive(child):
            return
        time.sleep(0.05)
    raise AssertionError(f"process {child} lives on")


def test_a_command_that_does_not_exist_is_logged_and_the_next_event_is_told(tmp_path, caplog):
    settings = [hook("/no/such/command"), hook(sys.executable, "-c", KEEP_STDIN, str(tmp_path / "got"))]
    with caplog.at_level(logging.WARNING, "kspecdr.hooks"):
        hooks = Hooks(settings)
        hooks.tell(FAILED)
        hooks.tell({"event": "product"})
        hooks.close(patience=20)
    assert "hook /no/such/command on failed failed" in caplog.text
    assert json.loads((tmp_path / "got").read_text())["event"] == "failed"


def test_an_address_gets_the_event(receiver):
    url = f"http://127.0.0.1:{receiver.server_port}/secret"
    deliver(Hook(on="failed", url=url), FAILED)
    assert [(path, json.loads(body)) for path, body in receiver.got] == [("/secret", FAILED)]


def test_an_address_that_refuses_or_is_not_there_is_told_without_its_secret(receiver, caplog):
    receiver.status = 403
    url = f"http://127.0.0.1:{receiver.server_port}/secret"
    with pytest.raises(HookError, match="answered 403"):
        deliver(Hook(on="failed", url=url), FAILED)
    with caplog.at_level(logging.WARNING, "kspecdr.hooks"):
        hooks = Hooks([Hook(on="failed", url="http://127.0.0.1:1/secret")])
        hooks.tell(FAILED)
        hooks.close(patience=20)
    assert "hook 127.0.0.1:1 on failed failed: cannot be reached" in caplog.text
    assert "secret" not in caplog.text


def test_a_slow_hook_delays_nobody_and_what_does_not_fit_is_said_once(tmp_path, caplog):
    slow = hook(
        "/bin/sh", "-c", f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo >> {tmp_path}/count", timeout=60
    )
    with caplog.at_level(logging.WARNING, "kspecdr.hooks"):
        hooks = Hooks([slow])
        for _ in range(QUEUED_MOST + 20):
            hooks.tell(FAILED)
        hooks.close(patience=0.1)
    assert caplog.text.count("does not keep up") == 1
    (tmp_path / "go").touch()


def test_a_hook_with_a_full_queue_ends_too_once_it_is_done(tmp_path):
    slow = hook("/bin/sh", "-c", f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done", timeout=60)
    hooks = Hooks([slow])
    for _ in range(QUEUED_MOST + 20):
        hooks.tell(FAILED)
    hooks.close(patience=0.0)
    (tmp_path / "go").touch()
    thread = hooks._lines[0]._thread
    thread.join(60)
    assert not thread.is_alive()


def test_a_hook_is_a_command_or_an_address():
    for wrong in ({}, {"command": ["x"], "url": "http://x"}, {"url": "file:///etc/passwd"}):
        with pytest.raises(ValueError, match=r"command, url|pattern"):
            Hook.model_validate({"on": "failed", **wrong})
