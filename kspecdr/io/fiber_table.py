"""Fiber tables: from files and numbers to Fibers, and to the FIBRES table of a product."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from kspecdr.errors import BadOption
from kspecdr.io.blocks import Unit, unit_of
from kspecdr.io.cards import from_ascii, to_ascii
from kspecdr.products import Fibers

if TYPE_CHECKING:
    from astropy.table import Table


def load_fibers(fiber_table: Any = None, n_fibers: int | None = None) -> Fibers:
    """Return the fibers that a table or a bare number describes.

    fiber_table : path of a CSV, ECSV or FITS table with columns type and name (any case) and, optionally,
        fibre (1 = lowest row of the normalised frame; without it the order of lines) and others; an
        astropy Table; or Fibers
    n_fibers : number of fibers; with a table, the length that is expected of it
    """
    if fiber_table is None:
        if n_fibers is None:
            raise BadOption("neither n_fibers nor fiber_table is given; one of them says how many fibers there are")
        if isinstance(n_fibers, bool) or not isinstance(n_fibers, int) or n_fibers < 1:
            raise BadOption(f"n_fibers is {n_fibers!r}, expected a whole number of 1 or more")
        return Fibers.of(n_fibers)
    if isinstance(fiber_table, Fibers):
        fibers, name = fiber_table, "fiber table"
    elif hasattr(fiber_table, "colnames"):
        fibers, name = from_table(fiber_table, "fiber table"), "fiber table"
    else:
        name = Path(fiber_table).name
        fibers = from_table(read_table(Path(fiber_table)), name)
    if n_fibers is not None and n_fibers != len(fibers):
        raise BadOption(f"{name} has {len(fibers)} rows, expected {n_fibers} fibers")
    return fibers


def read_table(path: Path) -> "Table":
    """Read a CSV, ECSV or FITS table, of FITS the first extension; what cannot be read is a BadOption that names it."""
    kinds = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits", ".fit": "fits"}
    if path.suffix.lower() not in kinds:
        raise BadOption(f"table {path.name}: expected a file ending in {', '.join(kinds)}")
    kind = kinds[path.suffix.lower()]
    from astropy.table import Table  # noqa: PLC0415 - slow to import, and most nights' workers need none

    try:
        return Table.read(path, format=kind, **({"hdu": 1} if kind == "fits" else {}))
    except FileNotFoundError:
        raise BadOption(f"table {path} does not exist") from None
    except Exception as error:
        raise BadOption(f"table {path.name} cannot be read: {error}") from error


def from_table(table: "Table", name: str) -> Fibers:
    """Return the Fibers of a table, in the order of its column `fibre` where it has one."""
    columns = {column.lower(): np.asarray(table[column]) for column in table.colnames}
    for needed in ("type", "name"):
        if needed not in columns:
            raise BadOption(f"{name} has no column {needed!r} (it has {', '.join(table.colnames)})")
    number = next((columns.pop(key) for key in ("fibre", "fiber") if key in columns), None)
    if number is not None:
        if sorted(number.tolist()) != list(range(1, len(number) + 1)):
            raise BadOption(f"{name}: column fibre must hold each of 1 to {len(number)} once")
        columns = {key: column[np.argsort(number)] for key, column in columns.items()}
    try:
        letters = np.char.strip(columns.pop("type").astype(np.str_))
        return Fibers(letters, columns.pop("name").astype(np.str_), columns)
    except BadOption as error:
        raise BadOption(f"{name}: {error}") from error


def fibers_hdu(fibers: Fibers, **extra: Any) -> fits.BinTableHDU:
    """Return the FIBRES table of a product: TYPE, NAME, what the table brought, and `extra` columns."""
    columns = {"TYPE": fibers.type, "NAME": fibers.name}
    columns |= {key.upper(): column for key, column in fibers.columns.items()} | extra
    return table_hdu({key: _each(to_ascii, column) for key, column in columns.items()}, "FIBRES")


def table_hdu(columns: Mapping[str, Any], name: str) -> fits.BinTableHDU:
    """Return columns of equal length as a table."""
    arrays = {key: np.asarray(column) for key, column in columns.items()}
    kind = [(key, array.dtype, array.shape[1:]) for key, array in arrays.items()]
    table = np.empty(len(next(iter(arrays.values()))), kind)
    for key, array in arrays.items():
        table[key] = array
    return fits.BinTableHDU(table, name=name)


def fibers_unit(fibers: Fibers, **extra: Any) -> Unit:
    """Return the FIBRES table as it is written; it is laid out once for all frames with the same fibers."""
    columns = {"TYPE": fibers.type, "NAME": fibers.name, **fibers.columns, **extra}
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    if any(array.dtype.hasobject for array in arrays.values()):
        return unit_of(fibers_hdu(fibers, **extra))
    return _laid_out(tuple((name, each.dtype.str, each.shape, each.tobytes()) for name, each in arrays.items()))


@lru_cache(maxsize=32)
def _laid_out(columns: tuple[tuple[str, str, tuple[int, ...], bytes], ...]) -> Unit:
    """Return the FIBRES table of columns: name, type, shape and bytes of each."""
    arrays = {name: np.frombuffer(data, kind).reshape(shape) for name, kind, shape, data in columns}
    return unit_of(fibers_hdu(Fibers(arrays.pop("TYPE"), arrays.pop("NAME"), arrays)))


def _each(function: Callable[[str], str], column: Any) -> Any:
    """Return a column of texts with a function applied to each; any other column as it is."""
    array = np.asarray(column)
    return np.array([function(text) for text in array.tolist()], dtype=np.str_) if array.dtype.kind == "U" else column


def fibers_of(hdu: fits.BinTableHDU, *, without: tuple[str, ...] = ()) -> Fibers:
    """Return the Fibers of a FIBRES table, leaving out columns that the product itself added."""
    data = hdu.data
    columns = {
        name.lower(): _each(from_ascii, np.array(data[name])) for name in data.columns.names if name not in without
    }
    letters, names = (columns.pop(key).astype(np.str_) for key in ("type", "name"))
    return Fibers(np.char.strip(letters), np.char.strip(names), columns)
