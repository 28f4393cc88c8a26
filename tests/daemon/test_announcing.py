import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon.announcing import Surroundings, announcing, frame_events, product_events
from daemon.config import load
from daemon.notify import Notifier
from daemon.pulse import PULSE, read_pulse
from daemon.records import FrameState, Job, Outcome, Quality, Waiting, Written
from daemon.scheduler import Tick


class Heard:
    """Hooks that remember."""

    def __init__(self):
        self.events = []

    def tell(self, event):
        self.events.append(event)

    def close(self, patience):
        self.closed = patience


@pytest.fixture
def announcer(tmp_path):
    """An announcer without systemd and pages, and what its hooks have heard."""
    config = load(None, {"paths": {"watch": [str(tmp_path)], "out": str(tmp_path)}, "web": {"port": 0}})
    with announcing(config, Notifier()) as teller:
        teller._hooks = heard = Heard()
        yield teller, heard


def test_a_product_is_told_with_its_paths_and_a_figure_that_fails_is_an_alarm(frame_of):
    frame = frame_of("object_1.fits", "MFOBJECT", 14, target="M31")
    job = Job("object", "f" * 64, (frame,), {}, {}, "2026-01-27", provisional=("1 of 3 biases",), out="/out")
    quality = (Quality("tramline_shift_px", 4.5, 3.0, "fail"), Quality("signal_to_noise", 20.0))
    outcome = Outcome(job.fingerprint, (Written("red", "object_1_red.fits"),), quality)
    product, alarm = product_events([(job, outcome)])
    assert product["products"] == [{"kind": "red", "path": "/out/2026-01-27/ffffffffffff/object_1_red.fits"}]
    assert (product["raw"], product["target"], product["quality"]) == (["object_1.fits"], "M31", "fail")
    assert product["provisional"] == ["1 of 3 biases"]
    assert product["adopted"] is False
    assert [each["adopted"] for each in product_events([(job, replace(outcome, quality=(), adopted=True))])] == [True]
    assert alarm == {
        "event": "alarm",
        "subject": "object of object_1.fits",
        "message": "tramline_shift_px 4.5, limit 3",
    }


def test_a_job_that_fails_is_told_by_its_frame_once_it_is_final(frame_of):
    frame = frame_of("object_1.fits", "MFOBJECT", 14)
    job = Job("object", "f" * 64, (frame,), {}, {}, "2026-01-27")
    assert list(product_events([(job, Outcome(job.fingerprint, error="the worker died", retry=True))])) == []
    waits = Waiting(frame, "waits for an arc")
    fails = Waiting(frame, "no light in it", state=FrameState.FAILED)
    landed = [frame_of("x.fits", "MFOBJECT", 1, state=FrameState.INVALID, reason="cut short")]
    told = list(frame_events(landed, [waits, fails]))
    assert [(event["frame"], event["state"], event["reason"]) for event in told] == [
        ("x.fits", "invalid", "cut short"),
        ("object_1.fits", "failed", "no light in it"),
    ]


def test_what_happens_around_is_an_alarm_when_it_changes(announcer):
    teller, heard = announcer
    lost = Surroundings(lost=("/data/raw",))
    teller.turn([], Tick(), Surroundings())
    teller.turn([], Tick(), lost)
    teller.turn([], Tick(paused="5 MB free"), lost)
    teller.turn([], Tick(paused="5 MB free"), Surroundings())
    teller.turn([], Tick(), Surroundings())
    assert [event["message"] for event in heard.events] == [
        "is not there",
        "no job begins: 5 MB free",
        "is there again",
        "jobs begin again",
    ]
    assert all(datetime.fromisoformat(event["time"]).tzinfo == UTC for event in heard.events)


def test_the_pulse_says_what_the_daemon_does(announcer, tmp_path, frame_of):
    teller, _ = announcer
    teller.turn([frame_of("a.fits", "BIAS", 0)], Tick(idle=False), Surroundings(("/data/raw",), 3))
    pulse = read_pulse(tmp_path)
    assert pulse.line.startswith("/data/raw is not there; at work, 3 files come in; since the start: 1 landed, 0 made")
    assert (pulse.process, pulse.lost, pulse.incoming, pulse.idle) == (os.getpid(), ("/data/raw",), 3, False)


def test_an_output_directory_that_takes_nothing_does_not_end_the_daemon(announcer, tmp_path, caplog):
    teller, _ = announcer
    (tmp_path / PULSE).mkdir()
    for _ in range(3):
        teller.turn([], Tick(), Surroundings())
    assert caplog.text.count("cannot be written") == 1


def test_other_hooks_and_pages_are_taken_over_while_it_runs(tmp_path):
    def config(port, *hooks, zone="UTC"):
        tables = {"paths": {"watch": [str(tmp_path)], "out": str(tmp_path)}, "hooks": hooks}
        return load(None, {**tables, "web": {"port": port}, "site": {"timezone": zone}})

    tell = [sys.executable, "-c", "import sys; open(sys.argv[1], 'a').write('heard ')"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with announcing(config(0), Notifier()) as teller:
        assert teller._web.address is None
        teller.follow(config(port, {"on": "alarm", "command": [*tell, str(tmp_path / "first")]}))
        assert teller._web.address == ("127.0.0.1", port)
        teller.turn([], Tick(), Surroundings(lost=("/data/raw",)))
        begun = teller._web._process
        teller.follow(config(port, {"on": "alarm", "command": [*tell, str(tmp_path / "second")]}))
        assert teller._web._process is begun
        teller.turn([], Tick(), Surroundings())
        teller.follow(config(port, zone="Asia/Seoul"))
        assert (begun.is_alive(), teller._web.address) == (False, ("127.0.0.1", port))
        teller.turn([], Tick(), Surroundings(lost=("/data/raw",)))
        assert teller._web._process.is_alive()
        end = time.monotonic() + 60
        while not {"first", "second"} <= {path.name for path in tmp_path.iterdir()} and time.monotonic() < end:
            time.sleep(0.05)
    assert (tmp_path / "first").read_text() == "heard "
    assert (tmp_path / "second").read_text() == "heard "


@pytest.fixture
def systemd(tmp_path):
    """The socket that systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def heard_of(systemd):
    words = []
    with suppress(BlockingIOError):
        while True:
            words.append(systemd.recv(4096).decode().partition("=")[0])
    return words


def test_the_sign_of_life_comes_from_turns_of_the_loop_alone(tmp_path, systemd):
    config = load(None, {"paths": {"watch": [str(tmp_path)], "out": str(tmp_path)}, "web": {"port": 0}})
    with announcing(config, Notifier(str(tmp_path / "notify"), watchdog_s=0.04)) as teller:
        teller.turn([], Tick(), Surroundings())
        assert heard_of(systemd) == ["READY", "STATUS", "WATCHDOG"]
        time.sleep(0.2)  # the loop hangs: five times as long as systemd would wait
        assert heard_of(systemd) == []
        teller.turn([], Tick(), Surroundings())
        assert heard_of(systemd) == ["WATCHDOG"]
    assert heard_of(systemd) == ["STOPPING"]


def test_a_daemon_that_begins_anew_does_not_say_that_it_ends(tmp_path, systemd):
    config = load(None, {"paths": {"watch": [str(tmp_path)], "out": str(tmp_path)}, "web": {"port": 0}})
    notifier = Notifier(str(tmp_path / "notify"), watchdog_s=10.0)
    with suppress(InterruptedError), announcing(config, notifier) as teller:
        teller.turn([], Tick(), Surroundings())
        raise InterruptedError
    assert heard_of(systemd) == ["READY", "STATUS", "WATCHDOG"]


def test_systemd_hears_that_the_daemon_is_ready_lives_and_ends(tmp_path):
    (tmp_path / "raw").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        (tmp_path / "config.toml").write_text("[web]\nport = 0\n[workers]\ncount = 0\n")
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        command = [sys.executable, "-m", "daemon.cli", "run", "--watch", "raw", "--out", "out"]
        place = {"cwd": tmp_path, "env": os.environ | environment | {"PYTHONPATH": str(Path.cwd())}}
        daemon = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **place)  # noqa: S603 - our own command
        words = [systemd.recv(4096).decode() for _ in range(5)]
        seen = (tmp_path / "out" / PULSE).exists()
        daemon.terminate()
        _, log = daemon.communicate(timeout=60)
        end = time.monotonic() + 10
        while words[-1] != "STOPPING=1" and time.monotonic() < end:
            words.append(systemd.recv(4096).decode())
    assert (daemon.returncode, seen) == (0, True), log
    assert words[0] == "READY=1"
    assert words[1].startswith("STATUS=idle; since the start: 0 landed")
    assert words[2:5] == ["WATCHDOG=1"] * 3
    assert words[-1] == "STOPPING=1"
    assert not (tmp_path / "out" / PULSE).exists()
