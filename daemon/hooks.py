"""What the configuration wants told to others: a command or a web address for each kind of event.

Each hook has a thread and a short queue of its own: a slow one delays nobody, and what does not fit is dropped
and said. A command is run without a shell and gets the event as JSON on its standard input; nothing of a frame's
name or header is ever part of the command.
"""

import json
import logging
import os
import queue
import signal
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from daemon.sections import Hook
from kspecdr.errors import KspecError

LOG = logging.getLogger("kspecdr.hooks")
QUEUED_MOST = 100  # events that wait for one hook
STDERR_MOST = 300  # bytes of its complaint that are logged

Event = Mapping[str, Any]


class HookError(KspecError):
    """A hook did not take an event; the sentence says why."""


class Hooks:
    """Hands events to the hooks that ask for them, without waiting for any."""

    def __init__(self, hooks: Iterable[Hook]) -> None:
        self._lines = [_Line(hook) for hook in hooks]

    def tell(self, event: Event) -> None:
        """Queue an event for every hook that asks for its kind, which stands under `event`."""
        for line in self._lines:
            if line.hook.on == event["event"]:
                line.put(event)

    def close(self, patience: float) -> None:
        """End: deliver what is queued for so many seconds altogether, then give up."""
        for line in self._lines:
            line.end()
        for line in self._lines:
            line.join(patience / len(self._lines))


class _Line:
    """One hook with its queue and its thread."""

    def __init__(self, hook: Hook) -> None:
        self.hook = hook
        self._queue: queue.Queue[Event | None] = queue.Queue(QUEUED_MOST)
        self._dropped = 0
        self._thread = threading.Thread(target=self._work, name=f"hook {hook.on}", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            if not self._dropped:
                LOG.warning("%s does not keep up: %s events are dropped", describe(self.hook), self.hook.on)
            self._dropped += 1
        else:
            if self._queue.qsize() < QUEUED_MOST // 2:  # it keeps up again, not by one place only
                self._dropped = 0

    def end(self) -> None:
        """Let the thread end after what is queued; where nothing more fits, one event gives way."""
        with suppress(queue.Empty):
            if self._queue.full():
                self._queue.get_nowait()
        self._queue.put_nowait(None)

    def join(self, patience: float) -> None:
        self._thread.join(patience)

    def _work(self) -> None:
        while (event := self._queue.get()) is not None:
            try:
                deliver(self.hook, event)
            except Exception as error:  # noqa: BLE001 - the thread goes on to the next event, whatever this one met
                LOG.warning("%s failed: %s", describe(self.hook), error)


def describe(hook: Hook) -> str:
    """Name a hook; of an address only the host, for its path is often a secret."""
    if hook.command:
        return f"hook {hook.command[0]} on {hook.on}"
    return f"hook {hook.url.split('/')[2]} on {hook.on}"


def deliver(hook: Hook, event: Event) -> None:
    """Hand one event to a hook and wait for it.

    Raises
    ------
    HookError
        It did not end well, or not within its time limit.
    """
    body = json.dumps(event, ensure_ascii=True).encode("ascii")
    if hook.command:
        _run(hook, body)
    else:
        _post(hook, body)


def _run(hook: Hook, body: bytes) -> None:
    """Run a command in a process group of its own, so that the time limit ends its children too."""
    with tempfile.TemporaryFile() as complaint:
        process = subprocess.Popen(  # noqa: S603 - the command stands in the configuration, and no shell reads it
            hook.command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=complaint, start_new_session=True
        )
        try:
            process.communicate(body, timeout=hook.timeout)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise HookError(f"not done within {hook.timeout:g} s; it was ended") from None
        if process.returncode:
            complaint.seek(0)
            said = complaint.read(STDERR_MOST).decode("utf-8", "replace").strip()
            raise HookError(f"exit code {process.returncode}" + (f": {said}" if said else ""))


def _post(hook: Hook, body: bytes) -> None:
    """Post to an address; http and https alone, as the configuration makes sure."""
    request = urllib.request.Request(hook.url, body, {"Content-Type": "application/json"})  # noqa: S310 - as above
    try:
        with urllib.request.urlopen(request, timeout=hook.timeout):  # noqa: S310 - as above
            return
    except urllib.error.HTTPError as error:
        raise HookError(f"answered {error.code} {error.reason}") from None
    except OSError as error:
        raise HookError(f"cannot be reached ({getattr(error, 'reason', error)})") from None
