"""The one door to watchdog: hints by inotify that something may have happened below a directory.

A hint is never the truth; `watcher` looks for itself. A handler that raises would end the observer's
thread, and a queue of the kernel that overflows loses events: the handler only puts a path on a queue,
and an overflow becomes a hint to look at everything.
"""

import logging
import os
import queue
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.inotify import InotifyObserver

# Not `modified`, of which a growing file gives one for every chunk: `closed` follows.
_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileClosedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
]


@dataclass(frozen=True, slots=True)
class Hint:
    """Something to look at."""

    path: Path  # a file; a directory: everything below it
    is_directory: bool = False
    finished: bool = False  # its writer has closed it, or moved it here whole
    deleted: bool = False


class HintQueue(FileSystemEventHandler):
    """Collects hints from the observers' threads; `wake` is called after each."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._queue: queue.SimpleQueue[Hint] = queue.SimpleQueue()
        self._wake = wake

    def put(self, hint: Hint) -> None:
        """Add a hint and wake whoever waits."""
        self._queue.put(hint)
        self._wake()

    def drain(self) -> list[Hint]:
        """Take all hints that are there, one for each path; that its writer has closed it outweighs the others."""
        hints: dict[Path, Hint] = {}
        while True:
            try:
                hint = self._queue.get_nowait()
            except queue.Empty:
                return list(hints.values())
            if hint.finished or hint.path not in hints:
                hints[hint.path] = hint

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Queue the places that an event speaks of; never raise."""
        try:
            for name in (event.src_path, event.dest_path):
                if name:
                    finished = event.event_type == "closed" or (event.event_type == "moved" and name == event.dest_path)
                    deleted = event.event_type == "deleted"
                    self.put(Hint(Path(os.fsdecode(name)), event.is_directory, finished, deleted))
        except Exception:
            logging.getLogger(__name__).exception("an event was not understood; the rescan will find its file")


class _Overflow(logging.Handler):
    """Turns watchdog's warning of lost events into a hint to look at everything."""

    def __init__(self, hints: HintQueue, root: Path) -> None:
        super().__init__(logging.WARNING)
        self._hint = Hint(root, is_directory=True)
        self._hints = hints

    def emit(self, record: logging.LogRecord) -> None:
        """Ask for a full look, whatever the warning says."""
        del record
        self._hints.put(self._hint)


class Subscription:
    """An observer of one root, until `stop`."""

    def __init__(self, root: Path, hints: HintQueue) -> None:
        """Put what happens below `root` on `hints`.

        Raises OSError where the root is missing or the system grants no more watches.
        """
        self._observer = InotifyObserver()
        self._observer.schedule(hints, str(root), recursive=True, event_filter=_EVENTS)
        self._overflow = _Overflow(hints, root)
        logging.getLogger("watchdog").addHandler(self._overflow)
        try:
            self._observer.start()
        except OSError:
            self.stop()
            raise

    @property
    def alive(self) -> bool:
        """Whether the observer's thread runs; that alone does not prove that it sees anything."""
        return self._observer.is_alive()

    def stop(self) -> None:
        """End the observation."""
        logging.getLogger("watchdog").removeHandler(self._overflow)
        self._observer.stop()
        if self._observer.is_alive():
            self._observer.join(timeout=5.0)
