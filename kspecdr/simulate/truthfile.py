"""The truth on disk: an .npz for each frame, one JSON for the night; and the tables of an observer."""

import csv
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from kspecdr.simulate.exposure import Exposure, Truth
from kspecdr.simulate.instrument import Instrument
from kspecdr.simulate.scene import standard_flux_density

DERIVED = ("exposure", "variance")  # not stored as arrays


def write_truth(directory: Path, name: str, truths: tuple[Truth, ...]) -> list[str]:
    """Write the truth of each frame of a file; return the names, `X.npz` or `X_f001.npz` for cubes."""
    stem = Path(name).stem
    names = [f"{stem}.npz" if len(truths) == 1 else f"{stem}_f{n:03d}.npz" for n in range(1, len(truths) + 1)]
    for path, truth in zip(names, truths, strict=True):
        arrays: dict[str, Any] = {
            item.name: _compact(getattr(truth, item.name)) for item in fields(truth) if item.name not in DERIVED
        }
        np.savez(directory / path, exposure=json.dumps(asdict(truth.exposure)), **arrays)
    return names


def _compact(value: Any) -> Any:
    """Return floating images in single precision, all else as it is."""
    array = np.asarray(value)
    whole_image = array.size > 100_000 and array.dtype.kind == "f"
    return array.astype(np.float32) if whole_image else array


def read_truth(path: Path) -> Truth:
    """Read a frame's truth that `write_truth` wrote; images come back in single precision."""
    with np.load(path) as stored:
        values: dict[str, Any] = {key: stored[key] if stored[key].ndim else stored[key].item() for key in stored}
    values["exposure"] = Exposure(**json.loads(values["exposure"]))
    values["variance"] = values["electrons"] + values["read_noise"] ** 2 + values["gain"] ** 2 / 12.0
    return Truth(**values)


def write_night_record(directory: Path, instrument: Instrument, seed: int, frames: list[dict[str, Any]]) -> None:
    """Write `night.json`: instrument, seed, each file with what was asked for and where its truth lies."""
    record = {"seed": seed, "instrument": asdict(instrument), "frames": frames}
    (directory / "night.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def write_fiber_table(path: Path, instrument: Instrument) -> None:
    """Write the fiber table: type, name, fibre (1 is the lowest row), nominal row.

    Rows have the same spacing throughout, at the middle column, overscan rows not counted.
    """
    slit = instrument.slit
    middle = (slit.n_fiber - 1) / 2.0
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["type", "name", "fibre", "row"])
        for n, kind in enumerate(slit.types):
            row = slit.center_row + (n - middle) * slit.spacing
            table.writerow([kind, f"{kind}{n + 1:02d}", n + 1, f"{row:.2f}"])


def write_standard(path: Path) -> None:
    """Write the standard star's table: wavelength (Angstrom, air) and flux density (erg/s/cm2/Angstrom)."""
    wavelength = np.arange(3200.0, 11001.0, 5.0)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["wavelength", "flux"])
        table.writerows(
            (f"{w:.1f}", f"{f:.5e}") for w, f in zip(wavelength, standard_flux_density(wavelength), strict=True)
        )
