"""The output directory between commands: its lock, and the settings that it was made with."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from daemon.config import Config, load, overlaid
from daemon.fiber_tables import tables_of
from kspecdr.errors import BadOption

LOCK = ".lock"
RECORD = "settings.json"


Moved = Callable[[int, Path], bool]


@dataclass(frozen=True, slots=True)
class Session:
    """The settings of the last command that reduced into an output directory."""

    config: Config
    batch: bool = False  # it was a `reduce`: nothing more was to come
    roots: tuple[str, ...] = ()  # every directory that was ever watched, absolute; the place is its number
    tables: tuple[tuple[str, str], ...] = ()  # fiber tables that the settings name, and the hash of what each says

    def renewed(self, config: Config, *, batch: bool, moved: Moved = lambda _number, _to: False) -> "Session":
        """Return the session of a new command; a directory that was watched before keeps its number.

        moved : number of a directory that is not watched now, and a new one: whether it is the same at another place
        """
        watched = [str(Path(each).resolve()) for each in config.paths.watch]
        roots = list(self.roots)
        for each in dict.fromkeys(watched):
            if each not in roots:
                left = (number for number, root in enumerate(roots) if root not in watched)
                number = next((number for number in left if moved(number, Path(each))), len(roots))
                roots[number : number + 1] = [each]
        return Session(config, batch, tuple(roots), tables_of(config))

    @property
    def watched(self) -> dict[int, Path]:
        """The directories that are watched now, by their numbers."""
        wanted = {str(Path(each).resolve()) for each in self.config.paths.watch}
        return {number: Path(root) for number, root in enumerate(self.roots) if root in wanted}


@contextmanager
def locked(out: Path, owner: str, *, shared: bool = False) -> Iterator[None]:
    """Hold the output directory; nobody else reduces into it, or with `shared` only who shares it as well.

    Raises
    ------
    BadOption
        Another process holds it; the message names it.
    """
    out.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(out / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            raise BadOption(f"{out} is in use by {holder}; stop it, or give another --out") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{owner} (process {os.getpid()})\n".encode(), 0)
        yield
        if not shared:  # others may still be there
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def is_locked(out: Path) -> str:
    """Return who holds an output directory, an empty text where nobody does."""
    try:
        writable = os.access(out / LOCK, os.W_OK)  # as an exclusive lock asks on a network mount
        descriptor = os.open(out / LOCK, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_size:  # left by one that was killed, or of several that share it
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
    else:
        return ""
    finally:
        os.close(descriptor)


def remember(session: Session) -> None:
    """Write the settings beside the products, for the next command and for those that read."""
    out = Path(session.config.paths.out)
    config = session.config.model_dump(mode="json", by_alias=True, exclude={"hooks"})  # an address may be a secret
    table = {"batch": session.batch, "roots": list(session.roots), "tables": session.tables, "config": config}
    fresh = out / f".{RECORD}.{os.getpid()}"
    fresh.write_text(json.dumps(table, indent=1), encoding="utf-8")
    fresh.replace(out / RECORD)


def recall(config: Config) -> Session:
    """Return the session that the output directory of `config` was last reduced with.

    Where there was none, or its record is of another program version, it is one with `config`.
    """
    try:
        table = json.loads((Path(config.paths.out) / RECORD).read_text(encoding="utf-8"))
        roots = tuple(str(each) for each in table["roots"])
        tables = tuple((str(path), str(content)) for path, content in table.get("tables", ()))
    except (OSError, ValueError, KeyError, TypeError):
        return Session(config)
    try:
        remembered = Config.model_validate(table["config"])
    except (ValueError, KeyError):
        return Session(config, roots=roots, tables=tables)
    paths = remembered.paths.model_copy(update={"out": config.paths.out})
    return Session(remembered.model_copy(update={"paths": paths}), bool(table.get("batch")), roots, tables)


def session_to_read(
    out: Path | None, path: Path | None, given: Mapping[str, Mapping[str, Any]] | None = None
) -> Session:
    """Return the settings that a reading command goes by: those of the last reduction, or of `path`.

    given : values by table and name that go over both; None: not given
    """
    settings = load(path, {"paths": {"out": str(out) if out else None}})
    last = recall(settings)
    session = last if path is None else replace(last, config=settings)
    return replace(session, config=overlaid(session.config, given or {}))
