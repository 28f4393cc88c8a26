"""The lines of a lamp: as a table has them, and as they appear on a detector in two orders."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kspecdr.arrays import Floats, Ints, Strings

SECOND_ORDER = 0.05  # brightness of a line in second order over first, before anything is known


@dataclass(frozen=True)
class ArcLines:
    """The lines of a lamp, by wavelength."""

    wavelength: Floats  # (n,) Angstrom in air, ascending
    intensity: Floats  # (n,) relative; the scales of different labels are not comparable
    label: Strings  # (n,) the element, e.g. Ne
    files: tuple[str, ...]  # names of the tables read
    lacking: tuple[str, ...] = ()  # tables that arc_dir does not have, so that the packaged ones were read

    def __len__(self) -> int:
        return len(self.wavelength)


@dataclass(frozen=True)
class LampLines:
    """Lines as they appear on the detector, in both orders, by wavelength."""

    wavelength: Floats  # (n,) Angstrom where the line appears: order times its wavelength in air
    intensity: Floats  # (n,) relative, of the table; second orders are taken to be 20 times fainter
    label: Strings  # (n,) element
    order: Ints  # (n,) 1 or 2

    @classmethod
    def of(cls, lamp: ArcLines) -> "LampLines":
        """Return the lines of a lamp in first and second order."""
        order = np.repeat([1, 2], len(lamp))
        apparent = np.tile(lamp.wavelength, 2) * order
        by = np.argsort(apparent, kind="stable")
        bright = np.tile(lamp.intensity, 2) * np.where(order == 1, 1.0, SECOND_ORDER)
        return cls(apparent[by], bright[by], np.tile(lamp.label, 2)[by], order[by])


def joined(tables: Iterable[ArcLines]) -> ArcLines:
    """Return the lines of several lamps as one table, each line once."""
    parts = list(tables)
    wavelength = np.concatenate([part.wavelength for part in parts])
    intensity = np.concatenate([part.intensity for part in parts])
    label = np.concatenate([part.label for part in parts])
    _, first = np.unique(np.char.add(label, np.char.mod("%.4f", wavelength)), return_index=True)
    order = first[np.argsort(wavelength[first], kind="stable")]
    files = tuple(dict.fromkeys(file for part in parts for file in part.files))
    lacking = tuple(dict.fromkeys(name for part in parts for name in part.lacking))
    return ArcLines(wavelength[order], intensity[order], label[order], files, lacking)
