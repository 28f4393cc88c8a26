"""A watched directory -> the files in it that are complete.

Events are hints, an idempotent rescan is the truth. `poll` looks at what was hinted at, at what is not
complete yet and, when it is time, at everything; it says once for each version of a file where it stands.
"""

import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from daemon.mounts import observer_for
from daemon.sections import Watch
from daemon.watching.completeness import Incomplete, check
from daemon.watching.folders import Folders, Known, NothingKnown, Walk
from daemon.watching.listing import (
    SIDECAR_SUFFIX,
    Signature,
    directory_identity,
    frame_files,
    is_frame,
    is_gone,
    is_hidden,
    sidecar_mtime,
)
from daemon.watching.observing import Hint, HintQueue, Subscription

ROOT_CHECK = 2.0  # s between looks whether a root is still the same directory
REPLACED = (0, 0)  # no directory has this device and inode
SCAN_SHARE = 10.0  # a full scan may take one part in so many of the time

Key = tuple[int, str]  # which root, and the path below it


class Standing(StrEnum):
    """Where a file or a root stands."""

    COMPLETE = "complete"  # all there and at rest: describe it
    INCOMPLETE = "incomplete"  # something is missing yet: it is looked at again
    STUCK = "stuck"  # something has been missing for too long
    GONE = "gone"  # the file has vanished
    ROOT_LOST = "root lost"  # the watched directory is not there; nothing is said of its files
    ROOT_FOUND = "root found"  # it is there (again)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What became of one version of a file."""

    standing: Standing
    root: int
    path: Path  # absolute
    reason: str = ""
    size: int = 0
    mtime_ns: int = 0


@dataclass(slots=True)
class _Pending:
    """A version of a file that is not handed on yet."""

    signature: Signature
    since: float  # when this version was first seen
    begun: float  # when the file was first seen
    finished: bool  # its writer has closed it
    look_at: float
    reason: str = ""  # why it is incomplete, once that was said
    stuck: bool = False


@dataclass(slots=True)
class _Root:
    path: Path
    observer: str  # inotify or polling
    folders: Folders  # what was handed on
    identity: tuple[int, int] | None = REPLACED  # device and inode; None while it is lost
    subscription: Subscription | None = None
    rescan_at: float = 0.0
    walk: Walk | None = None  # the full scan that is under way
    pending: dict[str, _Pending] = field(default_factory=dict)

    def look_at_all(self) -> None:
        """Let a full scan begin that takes nothing for unchanged."""
        self.rescan_at, self.walk = 0.0, None
        self.folders.look_at_all()


class Watcher:
    """Watches directories; every method is called from one thread."""

    def __init__(
        self,
        roots: Mapping[int, Path],
        settings: Watch,
        *,
        exclude: Iterable[Path] = (),
        known: Known | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare to watch `roots`.

        roots : directories by their number in the catalog
        exclude : directories that are never looked into, such as the output
        known : the files that were handed on before
        wake : called from another thread whenever a poll is worth while
        """
        self._settings = settings
        self._roots = {
            index: _Root(
                root.absolute(), observer_for(root, settings.observer), Folders(index, known or NothingKnown())
            )
            for index, root in roots.items()
        }
        self._exclude = {str(each.absolute()) for each in exclude}
        self._hints = HintQueue(wake)
        self._hinted: deque[Hint] = deque()  # hints that are still to be followed
        self._said: list[Sighting] = []  # what a poll found that did not come to its end
        self._roots_at = 0.0
        self.notes: list[str] = []  # what a person should know of the observation itself

    def poll(self, now: float, *, observe: bool = True) -> list[Sighting]:
        """Look at whatever is due and return what was not said before.

        now : seconds of a clock that never steps, such as time.monotonic()
        observe : subscribe to events, and scan in steps, so that what lands need not wait for an archive;
            without it every poll is a full scan

        Raises
        ------
        OSError
            What was handed on before cannot be asked now; the next poll goes on, nothing is lost.
        """
        for sighting in self._poll(now, observe=observe):
            self._said.append(sighting)
        said, self._said = self._said, []
        return said

    def _poll(self, now: float, *, observe: bool) -> Iterator[Sighting]:
        self._hinted += self._hints.drain()
        for root in self._roots.values():
            if any(hint.deleted and hint.path == root.path for hint in self._hinted):
                root.identity, self._roots_at = REPLACED, now  # a new one may bear the same inode
        if now >= self._roots_at or not observe:
            self._roots_at = now + ROOT_CHECK
            for index, root in self._roots.items():
                yield from self._check_root(index, root, observe=observe)
        while self._hinted:
            yield from self._follow(self._hinted[0], now)
            self._hinted.popleft()
        for index, root in self._roots.items():
            if root.identity is None:
                continue
            if now >= root.rescan_at or root.walk is not None or not observe:
                yield from self._rescan(index, root, now, whole=not observe)
            for name in [name for name, each in root.pending.items() if now >= each.look_at]:
                yield from self._look(index, name, now)

    def next_wake(self) -> float:
        """Return when the next poll is due, by the clock of `poll`."""
        due = [self._roots_at]
        for root in self._roots.values():
            if root.identity is not None:
                due.append(root.rescan_at if root.walk is None else 0.0)
            due += [each.look_at for each in root.pending.values()]
        return min(due)

    def look_again(self, index: int, path: Path) -> None:
        """Forget what was said of a file, so that the next poll says it anew."""
        root = self._roots[index]
        root.folders.pop(path.relative_to(root.path).as_posix())
        self._hints.put(Hint(path))

    @property
    def n_settling(self) -> int:
        """How many files are all there but not at rest yet."""
        return sum(not each.reason for root in self._roots.values() for each in root.pending.values())

    @property
    def lost(self) -> tuple[str, ...]:
        """The watched directories that are not there."""
        return tuple(str(root.path) for root in self._roots.values() if root.identity is None)

    @property
    def last_change(self) -> float:
        """When a file that is not handed on was last seen to change, by the clock of `poll`."""
        return max((each.since for root in self._roots.values() for each in root.pending.values()), default=0.0)

    def stop(self) -> None:
        """End the observation."""
        for root in self._roots.values():
            self._unsubscribe(root)

    def _check_root(self, index: int, root: _Root, *, observe: bool) -> Iterator[Sighting]:
        """See that the root is the directory that it was; subscribe before the scan."""
        identity = directory_identity(root.path)
        seeing = root.subscription is not None and root.subscription.alive
        wanted = observe and identity is not None and root.observer == "inotify"
        if identity == root.identity and (seeing or not wanted):
            return
        self._unsubscribe(root)
        if identity is None:
            gone = "does not exist; make it, mount it, or mend its name in paths.watch or --watch"
            gone = gone if root.identity == REPLACED and root.folders.is_empty() else "is not there any more"
            root.identity = None
            yield Sighting(Standing.ROOT_LOST, index, root.path, f"{root.path} {gone}; it is waited for")
            return
        if identity != root.identity:
            yield Sighting(Standing.ROOT_FOUND, index, root.path, f"{root.path} is watched by {root.observer}")
        root.identity = identity
        root.look_at_all()
        if wanted:
            try:
                root.subscription = Subscription(root.path, self._hints)
            except OSError as error:
                root.observer = "polling"
                self.notes.append(f"{root.path}: no inotify watch ({error.strerror}); polling instead")

    def _unsubscribe(self, root: _Root) -> None:
        if root.subscription:
            root.subscription.stop()
            root.subscription = None

    def _follow(self, hint: Hint, now: float) -> Iterator[Sighting]:
        for index, root in self._roots.items():
            if not hint.path.is_relative_to(root.path) or root.identity is None:
                continue
            if hint.path == root.path:
                root.look_at_all()
            elif hint.is_directory:
                for name, signature in frame_files(root.path, hint.path, self._exclude):
                    yield from self._consider(index, name, signature, now)
            elif hint.path.name.endswith(SIDECAR_SUFFIX):
                for name, signature in frame_files(root.path, hint.path.parent, self._exclude, deep=False):
                    yield from self._consider(index, name, signature, now)
            elif is_frame(hint.path.name) and not is_hidden(root.path, hint.path, self._exclude):
                name = hint.path.relative_to(root.path).as_posix()
                yield from self._look(index, name, now, finished=hint.finished)

    def _rescan(self, index: int, root: _Root, now: float, *, whole: bool) -> Iterator[Sighting]:
        """Compare what is there with what was said: everything if `whole`, else the next folders."""
        if whole:
            root.look_at_all()
        if root.walk is None:
            root.walk = Walk(root.path, self._exclude, root.folders, now)
        for name, signature in root.walk.step(whole=whole):
            yield from self._consider(index, name, signature, now)
        if not root.walk.finished:
            return
        for name in list(root.walk.missing()):
            yield from self._vanished(index, name)
        interval = self._settings.poll if root.observer == "polling" else self._settings.rescan
        root.rescan_at, root.walk = now + max(interval, SCAN_SHARE * root.walk.elapsed), None

    def _look(self, index: int, name: str, now: float, *, finished: bool = False) -> Iterator[Sighting]:
        """Look at one file."""
        path = self._roots[index].path / name
        try:
            status = path.stat()
        except OSError:
            yield from self._vanished(index, name)
            return
        if stat.S_ISREG(status.st_mode):
            signature = (status.st_size, status.st_mtime_ns, sidecar_mtime(path))
            yield from self._consider(index, name, signature, now, finished=finished)

    def _consider(
        self, index: int, name: str, signature: Signature, now: float, *, finished: bool = False
    ) -> Iterator[Sighting]:
        """Say where a file stands, if that was not said of this version."""
        root = self._roots[index]
        if root.folders.get(name) == signature:
            root.pending.pop(name, None)
            return
        pending = root.pending.get(name)
        if pending is None or pending.signature != signature:
            since = now - self._rested(root, signature)
            begun, reason = (pending.begun, pending.reason) if pending else (since, "")
            pending = _Pending(signature, since, begun, finished, now, reason)
            root.pending[name] = pending
        pending.finished |= finished
        yield from self._judged(index, name, pending, now)

    def _judged(self, index: int, name: str, pending: _Pending, now: float) -> Iterator[Sighting]:
        root, settings = self._roots[index], self._settings
        path, (size, mtime_ns, _) = root.path / name, pending.signature
        rested = now - pending.since
        try:
            check(path)
        except Incomplete as missing:
            pending.look_at = now + max(settings.settle, 0.2)
            reason = f"not complete: {missing}"
            if rested >= settings.stuck_after and not pending.stuck:
                pending.stuck, pending.reason = True, reason
                reason += f", and nothing was added for {rested:.0f} s; copy it again or remove it"
                yield Sighting(Standing.STUCK, index, path, reason, size, mtime_ns)
            elif not pending.reason and now - pending.begun >= settings.settle:
                pending.reason = reason
                yield Sighting(Standing.INCOMPLETE, index, path, reason, size, mtime_ns)
            return
        except FileNotFoundError:
            yield from self._vanished(index, name)
            return
        except OSError:
            pass  # it cannot be read: whoever describes it says so
        if pending.finished or rested >= settings.settle:
            root.folders.put(name, pending.signature)
            del root.pending[name]
            yield Sighting(Standing.COMPLETE, index, path, "", size, mtime_ns)
        else:
            pending.look_at = pending.since + settings.settle

    def _vanished(self, index: int, name: str) -> Iterator[Sighting]:
        """Forget a file that is not there; one that only cannot be reached for now is kept."""
        root = self._roots[index]
        if not is_gone(root.path / name):
            return
        told = root.folders.pop(name)
        waited = root.pending.pop(name, None)
        if told or (waited and waited.reason):
            yield Sighting(Standing.GONE, index, root.path / name, f"{root.path / name} has vanished")

    def _rested(self, root: _Root, signature: Signature) -> float:
        """Return for how long a file has been at rest when it is first seen; 0 where clocks may differ."""
        if root.observer == "polling":
            return 0.0
        return min(max(time.time() - signature[1] * 1e-9, 0.0), self._settings.settle)
