"""The process that serves the pages: apart from the daemon, so that no page ever holds up its loop."""

import logging
import multiprocessing
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from daemon.config import Config
from daemon.web.site import Places
from kspecdr.errors import BadOption

LOG = logging.getLogger("kspecdr.web")
RESTART_AFTER = 30.0  # s between starts of a process that ends by itself


class WebProcess:
    """Keeps the pages served as long as it is open; without a port, or where it is taken, there are none."""

    def __init__(self, config: Config) -> None:
        self._places = places_of(config)
        self._socket = _listening(config.web.host, config.web.port)
        self._process: multiprocessing.process.BaseProcess | None = None
        self._started_at = -float("inf")

    def keep(self) -> None:
        """Start the process where there is none."""
        if self._socket is None or (self._process is not None and self._process.is_alive()):
            return
        now = time.monotonic()
        if now - self._started_at < RESTART_AFTER:
            return
        if self._process is not None:
            LOG.warning("the process that serves the pages has ended (%s); another begins", self._process.exitcode)
        self._started_at = now
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_serve, args=(self._socket, self._places), daemon=True)
        self._process.start()

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port where the pages are; None where there are none."""
        return None if self._socket is None else self._socket.getsockname()[:2]

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()  # it holds nothing that could be left half done
            self._process.join()
        if self._socket is not None:
            self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def places_of(config: Config) -> Places:
    """Return where the pages find what they show."""
    out = Path(config.paths.out).resolve()
    return Places(out, config.catalog.url or str(out), config.site.timezone, config.rulebook())


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises
    ------
    BadOption
        The place is taken, or no place of this machine.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        known = error.errno is not None and error.errno > 0  # a name that is not found bears a number of its own
        why = os.strerror(error.errno or 0) if known else error.strerror
        raise BadOption(f"{host} port {port}: {why}; give another as web.host or web.port") from None


def _listening(host: str, port: int) -> socket.socket | None:
    """Return a socket that listens; None where none is wanted or can be had, which is said."""
    if not port:
        return None
    try:
        found = listen(host, port)
    except BadOption as error:
        LOG.warning("no pages: %s", error)
        return None
    LOG.info("pages on http://%s:%d/", f"[{host}]" if ":" in host else host, found.getsockname()[1])
    return found


def _serve(listening: socket.socket, places: Places) -> None:
    """Serve until the daemon ends, however it does."""
    import signal  # noqa: PLC0415 - what only the new process needs
    import threading  # noqa: PLC0415 - as above

    from daemon.web.server import PageServer  # noqa: PLC0415 - as above

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the daemon says when it ends
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    server = PageServer(listening, places)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    parent = multiprocessing.parent_process()
    with suppress(KeyboardInterrupt):
        if parent is not None:
            parent.join()
