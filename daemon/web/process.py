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
    """Keeps the pages served as long as it is open; without a port there are none, where it is taken not yet."""

    def __init__(self, config: Config) -> None:
        self._places = places_of(config)
        self._web = config.web
        self._socket: socket.socket | None = None
        self._refusal = ""
        self._listened_at = -float("inf")
        self._process: multiprocessing.process.BaseProcess | None = None
        self._started_at = -float("inf")
        self._listen()

    def keep(self) -> None:
        """Start the process where there is none."""
        if self._process is not None and self._process.is_alive():
            return
        self._listen()
        now = time.monotonic()
        if self._socket is None or now - self._started_at < RESTART_AFTER:
            return
        if self._process is not None:
            LOG.warning("the process that serves the pages has ended (%s); another begins", self._process.exitcode)
        self._started_at = now
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_serve, args=(self._socket, self._places), daemon=True)
        self._process.start()

    def follow(self, config: Config) -> None:
        """Serve by another configuration; as long as the address stays, nobody is refused meanwhile."""
        if (config.web, places_of(config)) == (self._web, self._places):
            return
        self._end_process()
        self._places = places_of(config)
        if config.web != self._web:
            self._web = config.web
            self._end_listening()
            self._listen()
        self._started_at = -float("inf")

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port where the pages are; None where there are none."""
        return None if self._socket is None else self._socket.getsockname()[:2]

    def close(self) -> None:
        """End the process."""
        self._end_process()
        self._end_listening()

    def _listen(self) -> None:
        """Take the address, where one is wanted and it was not tried just now; a refusal is said once."""
        now = time.monotonic()
        if self._socket is not None or not self._web.port or now - self._listened_at < RESTART_AFTER:
            return
        self._listened_at = now
        try:
            self._socket = listen(self._web.host, self._web.port)
        except BadOption as error:
            if str(error) != self._refusal:
                LOG.warning("no pages: %s", error)
            self._refusal = str(error)
            return
        self._refusal = ""
        host, port = self._socket.getsockname()[:2]
        LOG.info("pages on http://%s:%d/", f"[{host}]" if ":" in host else host, port)

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.kill()  # it holds nothing that could be left half done
            self._process.join()
            self._process = None

    def _end_listening(self) -> None:
        self._listened_at = -float("inf")
        if self._socket is not None:
            self._socket.close()
            self._socket = None

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


def _serve(listening: socket.socket, places: Places) -> None:
    """Serve until the daemon ends, however it does."""
    import signal  # noqa: PLC0415 - what only the new process needs
    import threading  # noqa: PLC0415 - as above

    from daemon import preview  # noqa: PLC0415 - as above
    from daemon.web.server import PageServer  # noqa: PLC0415 - as above

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the daemon says when it ends
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    server = PageServer(listening, places)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Thread(target=preview.load, daemon=True).start()
    parent = multiprocessing.parent_process()
    with suppress(KeyboardInterrupt):
        if parent is not None:
            parent.join()
