"""Words to systemd: one datagram each, to the socket that it names in the environment.

The protocol is that of sd_notify(3): lines of KEY=value. Without the socket nothing is said.
"""

import os
import socket
import time
from collections.abc import MutableMapping

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
LONGEST_STATUS = 200  # characters of the line that `systemctl status` shows


class Notifier:
    """Tells systemd how the daemon is.

    Parameters
    ----------
    address : str
        Path of a datagram socket, or with a leading @ its abstract name; empty: nobody listens.
    watchdog_s : float
        How long systemd waits for a sign of life before it kills; 0: it waits for none.
    """

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s
        self._ready = False
        self._status = ""
        self._alive_at = -float("inf")

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] | None = None) -> "Notifier":
        """Take over what systemd has set, and remove it: workers and hooks are not to speak for the daemon."""
        given = os.environ if environment is None else environment
        address, usec, pid = (given.pop(name, "") for name in VARIABLES)
        ours = not pid or pid == str(os.getpid())
        return cls(address, int(usec) / 1e6 if usec.isdigit() and ours else 0.0)

    def ready(self) -> None:
        """Say, once, that the daemon has looked at everything and works."""
        if not self._ready:
            self._ready = True
            self._send("READY=1")

    def stopping(self) -> None:
        """Say that the daemon ends."""
        self._send("STOPPING=1")

    def status(self, line: str) -> None:
        """Say in one line what the daemon does, where it is something new."""
        plain = "".join(letter if letter.isprintable() else " " for letter in line)[:LONGEST_STATUS]
        if plain != self._status:
            self._status = plain
            self._send(f"STATUS={plain}")

    def alive(self) -> None:
        """Give the sign of life that the watchdog waits for; four times as often as it must come."""
        now = time.monotonic()
        if self.watchdog_s and now - self._alive_at >= self.watchdog_s / 4:
            self._alive_at = now
            self._send("WATCHDOG=1")

    def _send(self, words: str) -> None:
        """Send without waiting; a socket that is full or gone is systemd's trouble, not the daemon's."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as channel:
            try:
                channel.sendto(words.encode("utf-8", "replace"), self._address)
            except OSError:
                return
