"""Lamp line tables: where they lie, how they read, how a mixed lamp is composed of its elements.

A table is a text file `<lamp>.arc`, one line each: wavelength in air (Angstrom), relative intensity
and an optional `label=XX`; `#` and `*` begin comments. The packaged tables name their sources.
"""

import re
from functools import lru_cache
from os import PathLike
from pathlib import Path

import numpy as np

from kspecdr.arrays import Floats, Strings
from kspecdr.errors import BadOption
from kspecdr.wavecal.lamp import ArcLines

PACKAGED = Path(__file__).resolve().parents[1] / "data" / "arc_tables"


def read_arc_file(
    nx: int,
    xvec: Floats | None,
    lamp: str,
    max_entries: int = 20000,
    arc_dir: str | PathLike[str] | None = None,
) -> tuple[Floats, Floats, Strings, int]:
    """Read the lines of a lamp that fall on a spectrum.

    Parameters
    ----------
    nx
        Number of columns of the spectrum, the length of `xvec`.
    xvec
        (nx,) predicted wavelength of each column, Angstrom, in either direction. Lines between its
        extremes, half a column included, are returned; None returns all lines (`nx` is not used then).
    lamp
        Name of the lamp: a table's name, or its elements in a row such as HgArNeKrCd, in any case.
    max_entries
        The strongest `max_entries` lines are kept.
    arc_dir
        Directory of `<lamp>.arc` files; a lamp that it lacks comes from the packaged tables.

    Returns
    -------
    wavelengths, intensities, labels, n
        (n,) Angstrom in air, ascending; (n,) relative intensity; (n,) element; the number of lines.
    """
    table = load_arc_lines(lamp, arc_dir)
    inside = np.ones(len(table), dtype=bool)
    if xvec is not None:
        low, high = _column_limits(nx, np.asarray(xvec, dtype=float))
        inside = (table.wavelength >= low) & (table.wavelength <= high)
    chosen = np.flatnonzero(inside)
    strongest = np.argsort(-table.intensity[chosen], kind="stable")[:max_entries]
    chosen = np.sort(chosen[strongest])
    return table.wavelength[chosen], table.intensity[chosen], table.label[chosen], len(chosen)


def load_arc_lines(lamp: str, arc_dir: str | PathLike[str] | None = None) -> ArcLines:
    """Return all lines of a lamp; see `read_arc_file` for the names and directories that are understood."""
    directory = PACKAGED if arc_dir is None else Path(arc_dir)
    key = re.sub(r"[^a-z0-9]", "", lamp.lower())
    own = _tables_in(directory)
    packaged = _tables_in(PACKAGED)
    if key in own or key in packaged:
        names = [key]
    else:
        names = _elements(key, {**packaged, **own})
        if not names:
            known = ", ".join(sorted({*packaged, *own}))
            raise BadOption(f"lamp {lamp!r} has no line table; known are {known} and any row of them, e.g. HgArNeKrCd")
    paths = [own.get(name, packaged.get(name)) for name in names]
    tables = [_read_table(path, path.stat().st_mtime_ns) for path in paths if path is not None]
    order = np.argsort(np.concatenate([table.wavelength for table in tables]), kind="stable")
    return ArcLines(
        np.concatenate([table.wavelength for table in tables])[order],
        np.concatenate([table.intensity for table in tables])[order],
        np.concatenate([table.label for table in tables])[order],
        tuple(file for table in tables for file in table.files),
        () if arc_dir is None else tuple(f"{name}.arc" for name in names if name not in own),
    )


def _tables_in(directory: Path) -> dict[str, Path]:
    return {path.stem.lower(): path for path in sorted(directory.glob("*.[aA][rR][cC]"))}


def _elements(key: str, tables: dict[str, Path]) -> list[str]:
    """Split `krnear` into the two-letter symbols that have tables; empty where that does not work out."""
    symbols = [key[k : k + 2] for k in range(0, len(key), 2)]
    return list(dict.fromkeys(symbols)) if symbols and all(symbol in tables for symbol in symbols) else []


def _column_limits(nx: int, xvec: Floats) -> tuple[float, float]:
    if xvec.shape != (nx,) or nx < 2 or not np.isfinite(xvec).all():
        raise BadOption(f"xvec has shape {xvec.shape}, expected ({nx},) finite wavelengths, at least two")
    half = 0.5 * np.max(np.abs(np.diff(xvec)))
    return float(xvec.min() - half), float(xvec.max() + half)


@lru_cache(maxsize=64)
def _read_table(path: Path, modified_ns: int) -> ArcLines:  # noqa: ARG001 - part of the cache's key
    """Read one table; the cache is renewed when the file changes."""
    rows = [
        (float(number[0]), float(number[1]), label)
        for number, label in (_parse(path, n, text) for n, text in _content(path))
    ]
    if not rows:
        raise BadOption(f"{path.name}: the line table is empty; expected 'wavelength intensity [label=XX]' lines")
    wavelength, intensity, label = (np.array(column) for column in zip(*sorted(rows), strict=True))
    for array in (wavelength, intensity, label):
        array.flags.writeable = False
    return ArcLines(wavelength, intensity, label, (path.name,))


def _content(path: Path) -> list[tuple[int, str]]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    stripped = ((n, re.split(r"[#*]", text, maxsplit=1)[0].strip()) for n, text in enumerate(lines, start=1))
    return [(n, text) for n, text in stripped if text]


def _parse(path: Path, n: int, text: str) -> tuple[tuple[float, float], str]:
    match = re.match(r"(\S+)\s+(\S+)(?:.*?\blabel=(\S+))?", text)
    try:
        wavelength, intensity = (float(word) for word in match.group(1, 2)) if match else (np.nan, np.nan)
    except ValueError:
        wavelength = intensity = np.nan
    if match is None or not 0 < wavelength < np.inf or not 0 <= intensity < np.inf:
        raise BadOption(
            f"{path.name} line {n}: {text!r} is not 'wavelength intensity [label=XX]' with positive numbers"
        )
    return (wavelength, intensity), match.group(3) or path.stem.title()
