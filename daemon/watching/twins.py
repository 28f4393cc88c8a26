"""One exposure in several files of one name: `X.fits` beside `X.spe`, or compressed. One of them is reduced."""

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


def _rank(path: Path) -> int:
    suffix = suffix_of(path.name)
    return next(k for k, alike in enumerate(PREFERENCE) if suffix in alike)


def _beside(path: Path, choices: tuple[tuple[str, ...], ...]) -> list[Path]:
    """Return which of some other suffixes, in capitals where its own is, a file of this name has."""
    suffix = path.name[len(path.name) - len(suffix_of(path.name)) :]
    stem = path.name.removesuffix(suffix)
    others = (each.upper() if suffix.isupper() else each for alike in choices for each in alike)
    return [each for each in (path.with_name(stem + other) for other in others) if each.is_file()]
