import threading
from datetime import UTC, datetime

import pytest

from daemon.catalog import Catalog
from daemon.commands import deciding
from daemon.commands.deciding import decide
from daemon.records import FrameState
from daemon.session import locked


@pytest.fixture
def held(catalog, frame_of):
    """An output directory with one frame that a daemon holds."""
    catalog.add_frames([frame_of("a.fits", "MFOBJECT", 0)])
    with locked(catalog.out, "kspecdr run"):
        yield catalog


def test_without_a_daemon_it_is_done_at_once(catalog, frame_of, capsys):
    catalog.add_frames([frame_of("a.fits", "MFOBJECT", 0)])
    assert decide(catalog.out, None, "mark-bad", "a.fits", {"bad": True}) == 0
    assert capsys.readouterr().out.splitlines() == ["a.fits: marked bad", "nothing else depended on it"]
    assert catalog.frames()[0].state is FrameState.BAD


def test_what_the_daemon_answers_is_said(held, capsys):
    stop = threading.Event()

    def answer():
        catalog = Catalog.open(str(held.out))
        while not stop.wait(0.02):
            catalog.apply_requests(datetime.now(UTC))
        catalog.close()

    daemon = threading.Thread(target=answer)
    daemon.start()
    try:
        assert decide(held.out, None, "mark-bad", "a.fits", {"bad": True}) == 0
    finally:
        stop.set()
        daemon.join()
    assert capsys.readouterr().out.startswith("a.fits: marked bad\n")


def test_a_busy_daemon_is_not_waited_for_without_end(held, capsys, monkeypatch):
    monkeypatch.setattr(deciding, "PATIENCE", 0.0)
    assert decide(held.out, None, "retry", "", {}) == 0
    assert capsys.readouterr().out == "retry: left for the daemon, which is busy\n"
