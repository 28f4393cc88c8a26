"""One exposure in several files of one name: `X.fits` beside `X.spe`, or compressed. One of them is reduced.

A file that was compressed in its place is the exposure that it was: what was made of it stands.
"""

from collections.abc import Iterator
from pathlib import Path

from daemon.watching.completeness import suffix_of

_FITS = (".fits", ".fit", ".fts")
# The first that is there is reduced: what LightField has exported, then the same compressed, then its own format.
PREFERENCE: tuple[tuple[str, ...], ...] = (
    _FITS,
    tuple(f"{suffix}.gz" for suffix in _FITS),
    tuple(f"{suffix}.fz" for suffix in _FITS),
    (".spe",),
)


def preferred(path: Path) -> list[Path]:
    """Return the files that are there and would be reduced in the place of `path`, the first choice first."""
    return _beside(path, PREFERENCE[: _rank(path)])


def replaced(path: Path) -> list[Path]:
    """Return the files that are there and in whose place `path` would be reduced."""
    return _beside(path, PREFERENCE[_rank(path) + 1 :])


def gone(path: Path) -> list[Path]:
    """Return the files that are not there and of which `path` may be what they have become."""
    return [each for each in _named(path, PREFERENCE) if each != path and not each.exists()]


def _rank(path: Path) -> int:
    suffix = suffix_of(path.name)
    return next(k for k, alike in enumerate(PREFERENCE) if suffix in alike)


def _beside(path: Path, choices: tuple[tuple[str, ...], ...]) -> list[Path]:
    """Return which of some other suffixes a file of this name has."""
    return [each for each in _named(path, choices) if each.is_file()]


def _named(path: Path, choices: tuple[tuple[str, ...], ...]) -> Iterator[Path]:
    """Yield the names with some suffixes; in capitals where its own is, beside what compression adds to it."""
    suffix = path.name[len(path.name) - len(suffix_of(path.name)) :]
    stem = path.name.removesuffix(suffix)
    loud = suffix.partition(".")[2].partition(".")[0].isupper()
    for each in (each for alike in choices for each in alike):
        plain, dot, added = each[1:].partition(".")
        yield path.with_name(f"{stem}.{plain.upper()}{dot}{added}" if loud else stem + each)
        if loud and added:
            yield path.with_name(stem + each.upper())
