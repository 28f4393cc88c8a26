"""Images compressed in tiles (FITS Standard 4.0, section 10), as fpack writes them: *.fits.fz."""

import zlib
from io import BytesIO
from math import prod
from typing import Any

from astropy.io import fits
from astropy.io.fits import Header

from kspecdr.errors import BadFrame

METHODS = ("RICE_1", "GZIP_1", "GZIP_2", "NOCOMPRESS")  # the others are meant for maps and masks
MOST_COLUMNS = 9  # data, those that could not be compressed, and their scales
_TABLE = ("XTENSION", "PCOUNT", "GCOUNT", "TFIELDS", "EXTNAME", "CHECKSUM", "DATASUM", "EXTEND", "THEAP")
_TILES = (
    *("ZIMAGE", "ZSIMPLE", "ZTENSION", "ZEXTEND", "ZBLOCKED", "ZBITPIX", "ZCMPTYPE", "ZPCOUNT", "ZGCOUNT"),
    *("ZHECKSUM", "ZDATASUM", "ZQUANTIZ", "ZDITHER0", "ZSCALE", "ZZERO", "ZBLANK"),
)
_NUMBERED = ("BITPIX", "NAXIS", "ZNAXIS", "ZTILE", "ZNAME", "ZVAL")
_COLUMN = ("TTYPE", "TFORM", "TUNIT", "TDIM", "TNULL", "TSCAL", "TZERO", "TDISP")


def is_tiled(table: Header) -> bool:
    """Tell whether the header of a table is that of an image in tiles."""
    return table.get("ZIMAGE") is True


def image_header(table: Header) -> Header:
    """Return the header of the image that a table holds in tiles."""
    header = Header([("SIMPLE", True), ("BITPIX", table["ZBITPIX"]), ("NAXIS", table["ZNAXIS"])])
    for k in range(1, min(int(table["ZNAXIS"]), 4) + 1):
        header[f"NAXIS{k}"] = table[f"ZNAXIS{k}"]
    for card in table.cards:
        if not _belongs_to_table(card.keyword):
            header.append(card, end=True)
    return header


def _belongs_to_table(keyword: str) -> bool:
    return keyword in (*_TABLE, *_TILES) or keyword.rstrip("0123456789") in (*_COLUMN, *_NUMBERED)


def check_table(table: Header, start: int, size: int) -> None:
    """See by its header that a table whose rows begin at byte `start` of `size` can hold the tiles of an image.

    Raises BadFrame where the file ends before the table, for another compression than those of `METHODS`, and for
    tiles that do not make up the image.
    """
    rows, columns = _whole(table, "NAXIS2"), _whole(table, "TFIELDS")
    end = start + _whole(table, "NAXIS1") * rows + _whole(table, "PCOUNT")
    if end > size:
        raise BadFrame(f"{size} bytes on disk, expected at least {end} for its tiles: it is truncated")
    if not 1 <= columns <= MOST_COLUMNS:
        raise BadFrame(f"its tiles lie in {columns} columns, expected 1 to {MOST_COLUMNS}")
    if table.get("ZCMPTYPE") not in METHODS:
        raise BadFrame(f"it is compressed by {table.get('ZCMPTYPE')!r}, expected one of {', '.join(METHODS)}")
    axes, tile = _axes(table)
    if any(not 0 < side <= axis for side, axis in zip(tile, axes, strict=True)):
        raise BadFrame(f"its tiles of {tile} pixels do not fit into an image of {axes}")
    n_tile = prod(-(-axis // side) for side, axis in zip(tile, axes, strict=True))
    if rows != n_tile:
        raise BadFrame(f"it has {rows} tiles, expected {n_tile} for {axes} pixels")


def read_tiles(data: bytes, table: Header) -> Any:
    """Return the pixels of the image whose tiles lie in the first extension of a FITS file.

    Parameters
    ----------
    data : the whole file
    table : the header of the extension, as `check_table` accepts it

    Raises
    ------
    BadFrame
        Tiles that are damaged, or larger than the header says: they are measured before they are expanded.
    """
    try:
        with fits.open(BytesIO(data), disable_image_compression=True, memmap=False) as hdul:
            _check_tiles(hdul[1].data, table)
        with fits.open(BytesIO(data), memmap=False, output_verify="ignore") as hdul:
            return hdul[1].data
    except (BadFrame, MemoryError):
        raise
    except Exception as error:
        raise BadFrame(f"its tiles are damaged ({' '.join(str(error).split())}); copy it again") from error


def _axes(table: Header) -> tuple[list[int], list[int]]:
    """Return the lengths of the axes of the image and of a tile; a tile is a row where nothing else is said."""
    numbers = range(1, min(_whole(table, "ZNAXIS"), 4) + 1)
    axes = [_whole(table, f"ZNAXIS{k}") for k in numbers]
    return axes, [_whole(table, f"ZTILE{k}", axes[0] if k == 1 else 1) for k in numbers]


def _whole(table: Header, keyword: str, default: int | None = None) -> int:
    value = table.get(keyword, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadFrame(f"card {keyword} of its tiles is {value!r}, expected a whole number")
    return value


def _check_tiles(rows: Any, table: Header) -> None:
    """See that no tile expands beyond its size."""
    limit = prod(_axes(table)[1]) * 8
    for name in ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA"):
        if name in rows.names and "GZIP" in table["ZCMPTYPE"] + name:
            for tile in rows[name]:
                _check_expanded(bytes(tile), limit)


def _check_expanded(tile: bytes, limit: int) -> None:
    if tile and len(zlib.decompressobj(31).decompress(tile, limit + 1)) > limit:
        raise BadFrame(f"a compressed tile expands to more than {limit} bytes, which no tile here has")
