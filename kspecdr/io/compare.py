"""Two FITS files compared, as a reader of their numbers sees them."""

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits


def differences(first: str | Path, second: str | Path) -> list[str]:
    """Return a sentence for each HDU in which two files differ in structure or in values; none: they agree.

    Cards are not compared: where the numbers agree and the bytes do not, only headers differ.
    """
    with fits.open(first) as here, fits.open(second) as there:
        names = [[hdu.name for hdu in file] for file in (here, there)]
        if names[0] != names[1]:
            return [f"HDUs {', '.join(names[0])} became {', '.join(names[1])}"]
        found = [_difference(one.name, one.data, other.data) for one, other in zip(here, there, strict=True)]
    return [each for each in found if each]


def _difference(name: str, one: Any, other: Any) -> str:
    if one is None or other is None:
        return "" if one is other else f"{name}: only one has data"
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{name}: {one.dtype} {one.shape} became {other.dtype} {other.shape}"
    if one.dtype.names:
        return "" if one.tobytes() == other.tobytes() else f"{name}: the rows differ"
    same = (one == other) | (np.isnan(one) & np.isnan(other)) if one.dtype.kind == "f" else one == other
    if same.all():
        return ""
    largest = np.nanmax(np.abs(one.astype(float) - other.astype(float)))
    return f"{name}: {np.count_nonzero(~same)} of {same.size} values differ, by {largest:.3g} at most"
