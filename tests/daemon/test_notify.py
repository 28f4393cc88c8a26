import os
import socket

import pytest

from daemon.notify import LONGEST_STATUS, Notifier


@pytest.fixture
def systemd(tmp_path):
    """The socket on which systemd listens, and a function that returns what has come."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    channel.bind(str(tmp_path / "notify"))
    channel.setblocking(False)

    def heard():
        words = []
        while True:
            try:
                words.append(channel.recv(4096).decode())
            except BlockingIOError:
                return words

    yield str(tmp_path / "notify"), heard
    channel.close()


def test_each_word_is_one_datagram(systemd):
    address, heard = systemd
    notifier = Notifier(address, watchdog_s=60.0)
    notifier.ready()
    notifier.alive()
    notifier.stopping()
    assert heard() == ["READY=1", "WATCHDOG=1", "STOPPING=1"]


def test_a_status_is_one_line_whatever_a_name_holds_and_is_said_once(systemd):
    address, heard = systemd
    notifier = Notifier(address)
    notifier.status("waits for a\nREADY=1\x1b[31m.fits " + "x" * 500)
    notifier.status("waits for a\nREADY=1\x1b[31m.fits " + "x" * 500)
    (said,) = heard()
    assert said.startswith("STATUS=waits for a READY=1 [31m.fits x")
    assert len(said) == len("STATUS=") + LONGEST_STATUS


def test_signs_of_life_come_often_enough_and_not_with_each_turn(systemd):
    address, heard = systemd
    notifier = Notifier(address, watchdog_s=3600.0)
    for _ in range(5):
        notifier.alive()
    assert heard() == ["WATCHDOG=1"]
    Notifier(address).alive()
    assert heard() == []


def test_the_environment_is_taken_over_and_not_left_to_children(systemd):
    address, heard = systemd
    environment = {
        "NOTIFY_SOCKET": address,
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    notifier = Notifier.from_environment(environment)
    notifier.ready()
    assert (notifier.watchdog_s, heard(), environment) == (3.0, ["READY=1"], {"HOME": "/"})


def test_the_watchdog_of_another_process_is_not_ours():
    assert Notifier.from_environment({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}).watchdog_s == 0.0


def test_an_abstract_socket_is_understood():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        name = f"kspecdr-{os.getpid()}"
        channel.bind("\0" + name)
        Notifier("@" + name).ready()
        assert channel.recv(100) == b"READY=1"


def test_nobody_listening_disturbs_nothing(tmp_path):
    Notifier(str(tmp_path / "gone")).ready()
    Notifier().ready()
