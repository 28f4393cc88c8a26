"""Signals of people and of systemd, as events that the loop looks at between its turns."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

LOG = logging.getLogger("kspecdr.daemon")


@contextmanager
def ends(grace: float) -> Iterator[threading.Event]:
    """Let SIGTERM and SIGINT set an event; elsewhere than in the main thread nothing is caught.

    grace : seconds that running jobs have, which is said
    """
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        LOG.info("%s: ending; running jobs have %g s", signal.Signals(number).name, grace)
        stopping.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def hangups(hangup: threading.Event) -> Iterator[None]:
    """Let SIGHUP set an event; elsewhere than in the main thread nothing is caught."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, lambda _number, _frame: hangup.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
