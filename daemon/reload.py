"""Another configuration while the daemon runs: what has changed, and what waits for the next start."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from daemon.config import Config

AT_NEXT_START = ("paths", "watch", "workers", "catalog")  # tables that hold open files and processes
NO_PRODUCT = (*AT_NEXT_START, "web", "hooks")  # tables on which no product depends


def taken_over(now: Config, wanted: Config) -> Config:
    """Return the wanted configuration without what only another start can change."""
    return wanted.model_copy(update={name: getattr(now, name) for name in AT_NEXT_START})


def changes(now: Config, wanted: Config) -> list[str]:
    """Return a sentence for each value that differs."""
    return list(_differing("", now.model_dump(by_alias=True), wanted.model_dump(by_alias=True)))


def matters(sentences: Iterable[str]) -> list[str]:
    """Return those of `changes` that can change a product or where a frame stands."""
    return [each for each in sentences if each.partition(":")[0].split(".", maxsplit=1)[0] not in NO_PRODUCT]


def _differing(where: str, now: Any, wanted: Any) -> Iterator[str]:
    if isinstance(now, Mapping) and isinstance(wanted, Mapping):
        for name in dict.fromkeys((*now, *wanted)):
            yield from _differing(f"{where}.{name}" if where else str(name), now.get(name), wanted.get(name))
    elif now != wanted:
        later = " (at the next start)" if where.split(".", maxsplit=1)[0] in AT_NEXT_START else ""
        told = "has changed" if where.split(".", maxsplit=1)[0] == "hooks" else f"{now!r} becomes {wanted!r}"
        yield f"{where}: {told}{later}"
