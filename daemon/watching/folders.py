"""What is known of the files below a watched directory, folder by folder, and the walk that compares it.

An archive has a million files of which none has changed. Of a folder in which all is as it was, only a number
is held that tells its listing from any other; what was handed on of its files is asked for again when something
in it has changed. One in which no name has come or gone for a day is not listed every time.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from daemon.watching.listing import Listing, Signature, is_hidden, list_folder

OLD_NS = 86400 * 10**9  # ns since a name has come or gone in a folder: it is listed seldom
SELDOM = 3600.0  # s
AT_LEAST = 2_000  # files that a step of a walk looks at
LONGEST_STEP = 0.2  # s, in which frames that land meanwhile have to wait
OF_A_FOLDER = 10  # files that take as long to look at as to find a folder unchanged


class Known(Protocol):
    """Remembers what was handed on before this watcher began, or by it."""

    def files(self, root: int, folder: str) -> Mapping[str, tuple[int, int]]:
        """Return size and mtime_ns of the files in a folder that need not be handed on again, by name."""

    def folders(self, root: int) -> Collection[str]:
        """Return the folders that files were handed on from."""


class NothingKnown:
    """Remembers nothing."""

    def files(self, root: int, folder: str) -> Mapping[str, tuple[int, int]]:  # noqa: ARG002 - as of `Known`
        """Return that nothing was handed on."""
        return {}

    def folders(self, root: int) -> Collection[str]:  # noqa: ARG002 - as of `Known`
        """Return that nothing was handed on."""
        return ()


@dataclass(slots=True)
class _Folder:
    done: dict[str, Signature] | None = None  # what was handed on, by name; None: what is known of it
    resting: int | None = None  # stands for its files as they were when all was known of them
    n_file: int = 0
    mtime_ns: int = 0
    looked: float | None = None  # when it was last listed, by the clock of the walk; None: list it
    below: tuple[str, ...] = ()  # the folders in it


class Folders:
    """The folders of one watched directory; a path is relative to that, a folder's with a slash at its end."""

    def __init__(self, index: int, known: Known) -> None:
        self._index = index
        self._known = known
        self._folders: dict[str, _Folder] = {}
        self._all_named = False  # whether every folder that is known has a place in `_folders`

    def get(self, path: str) -> Signature | None:
        """Return which version of a file was handed on."""
        return self._done(path).get(_name(path))

    def put(self, path: str, signature: Signature) -> None:
        """Remember which version of a file was handed on."""
        self._done(path)[_name(path)] = signature

    def pop(self, path: str) -> Signature | None:
        """Forget that a file was handed on; return which version."""
        return self._done(path).pop(_name(path), None)

    def is_empty(self) -> bool:
        """Tell whether nothing was ever handed on."""
        return not self._named()

    def look_at_all(self) -> None:
        """Let the next walk list every folder."""
        for folder in self._folders.values():
            folder.looked = None

    def compared(self, folder: str, listing: Listing, now: float) -> tuple[list[str], list[str]]:
        """Return the names of files that are not as they were handed on, and of those that are missing.

        Raises
        ------
        OSError
            What is known cannot be asked now.
        """
        own = self._folders.get(folder) or _Folder()
        number = hash(frozenset(listing.files.items()))
        fresh: list[str] = []
        missing: list[str] = []
        if own.done is not None or own.resting != number:
            done = self._as_known(folder) if own.done is None else own.done
            fresh = [name for name, signature in listing.files.items() if done.get(name) != signature]
            missing = [name for name in done if name not in listing.files]
            as_known = own.done is None or (_is_old(listing.mtime_ns) and done == self._as_known(folder))
            own.done, own.resting = (None, number) if as_known and not fresh and not missing else (done, None)
        own.n_file, own.mtime_ns, own.below, own.looked = len(listing.files), listing.mtime_ns, listing.folders, now
        self._folders[folder] = own
        return fresh, missing

    def unchanged(self, folder: str, mtime_ns: int, now: float) -> tuple[int, tuple[str, ...]] | None:
        """Return the number of files and the folders of one that need not be listed now; None: list it."""
        own = self._folders.get(folder)
        if own is None or own.looked is None or own.mtime_ns != mtime_ns:
            return None
        if not _is_old(mtime_ns) or not 0 <= now - own.looked < SELDOM:
            return None
        return own.n_file, own.below

    def others(self, visited: Collection[str]) -> list[str]:
        """Return the folders from which something was handed on, but for some."""
        return [folder for folder in self._named() if folder not in visited]

    def names(self, folder: str) -> list[str]:
        """Return the files that were handed on from a folder."""
        own = self._folders[folder]
        return list(self._as_known(folder) if own.done is None else own.done)

    def _named(self) -> Collection[str]:
        if not self._all_named:
            for folder in self._known.folders(self._index):
                self._folders.setdefault(f"{folder}/" if folder else "", _Folder())
            self._all_named = True
        return self._folders

    def _done(self, path: str) -> dict[str, Signature]:
        folder = path[: len(path) - len(_name(path))]
        own = self._folders.get(folder) or _Folder()
        if own.done is None:
            own.done = self._as_known(folder)
            own.resting = None
        self._folders[folder] = own
        return own.done

    def _as_known(self, folder: str) -> dict[str, Signature]:
        found = self._known.files(self._index, folder.rstrip("/"))
        return {name: (size, mtime_ns, 0) for name, (size, mtime_ns) in found.items()}


class Walk:
    """One look at everything below a directory, a step at a time, the folders that have changed last first."""

    def __init__(self, root: Path, exclude: Collection[str], folders: Folders, now: float) -> None:
        self._root = str(root).rstrip("/")
        self._exclude = exclude
        self._folders = folders
        self._now = now
        self._left = [] if is_hidden(root, root, exclude) else [""]
        self._visited: set[str] = set()
        self._missing: list[str] = []
        self._n_file = 0
        self.elapsed = 0.0  # s, in all steps

    def step(self, *, whole: bool) -> list[tuple[str, Signature]]:
        """Return the next files that are not as they were handed on, the first written first; all if `whole`.

        Raises
        ------
        OSError
            What is known cannot be asked now; nothing is lost by that.
        """
        begin, n_file = time.monotonic(), 0
        found: list[tuple[str, Signature]] = []
        while self._left and (whole or n_file < AT_LEAST or time.monotonic() - begin < LONGEST_STEP):
            folder = self._left[-1]
            try:
                n, fresh = self._look(folder)
            except OSError:
                if not found:
                    raise
                break
            n_file += n
            found += fresh
        self.elapsed += time.monotonic() - begin
        return sorted(found, key=lambda each: (each[1][1], each[0]))

    @property
    def finished(self) -> bool:
        """Whether every folder was looked at."""
        return not self._left

    def missing(self) -> Iterator[str]:
        """Yield the files that were handed on and that were not met.

        An empty directory may be a mount that has gone: it says nothing of its files.
        """
        if not self._n_file:
            return
        yield from self._missing
        for folder in self._folders.others(self._visited):
            yield from (folder + name for name in self._folders.names(folder))

    def _look(self, folder: str) -> tuple[int, list[tuple[str, Signature]]]:
        """Look at one folder, and put those in it on the list; return what that costs, in files, and what is new."""
        path = f"{self._root}/{folder}"
        try:
            known = self._folders.unchanged(folder, Path(path).stat().st_mtime_ns, self._now)
            listing = list_folder(path, self._exclude) if known is None else None
        except OSError:  # it is there in the next walk, or its files are missed
            self._left.pop()
            return OF_A_FOLDER, []
        found: list[tuple[str, Signature]] = []
        if listing is not None:
            fresh, missing = self._folders.compared(folder, listing, self._now)
            known = len(listing.files), listing.folders
            found = [(folder + name, listing.files[name]) for name in fresh]
            self._missing += [folder + name for name in missing]
        n_file, below = known or (0, ())
        self._left.pop()
        self._visited.add(folder)
        self._n_file += n_file
        self._left += [f"{folder}{name}/" for name in reversed(below)]
        return (OF_A_FOLDER if listing is None else max(n_file, OF_A_FOLDER)), found


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _is_old(mtime_ns: int) -> bool:
    return time.time_ns() - mtime_ns > OLD_NS
