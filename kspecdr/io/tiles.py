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


def read_tiles(data: bytes, table: Header, start: int) -> Any:
    """Return the pixels of the image whose tiles lie in the first extension of a FITS file.

    Parameters
    ----------
    data : the whole file
    table : the header of the extension
    start : the byte at which its rows begin

    Raises
    ------
    BadFrame
        Another compression than those of `METHODS`; fewer or larger tiles than the header says: they are
        measured before they are expanded.
    """
    _check_header(data, table, start)
    try:
        with fits.open(BytesIO(data), disable_image_compression=True, memmap=False) as hdul:
            _check_tiles(hdul[1].data, table)
        with fits.open(BytesIO(data), memmap=False, output_verify="ignore") as hdul:
            return hdul[1].data
    except (BadFrame, MemoryError):
        raise
    except Exception as error:
        raise BadFrame(f"its tiles are damaged ({' '.join(str(error).split())}); copy it again") from error


def _check_header(data: bytes, table: Header, start: int) -> None:
    """See that the extension is whole, and of a kind that is read here."""
    end = start + int(table["NAXIS1"]) * int(table["NAXIS2"]) + int(table["PCOUNT"])
    if end > len(data):
        raise BadFrame(f"{len(data)} bytes on disk, expected at least {end} for its tiles: it is truncated")
    if not 1 <= int(table["TFIELDS"]) <= MOST_COLUMNS:
        raise BadFrame(f"its tiles lie in {table['TFIELDS']} columns, expected 1 to {MOST_COLUMNS}")
    if table.get("ZCMPTYPE") not in METHODS:
        raise BadFrame(f"it is compressed by {table.get('ZCMPTYPE')!r}, expected one of {', '.join(METHODS)}")


def _check_tiles(rows: Any, table: Header) -> None:
    """See that there are as many tiles as the image needs, and that none expands beyond its size."""
    axes = [int(table[f"ZNAXIS{k}"]) for k in range(1, int(table["ZNAXIS"]) + 1)]
    tile = [int(table.get(f"ZTILE{k}", axes[0] if k == 1 else 1)) for k in range(1, len(axes) + 1)]
    if any(not 0 < side <= axis for side, axis in zip(tile, axes, strict=True)):
        raise BadFrame(f"its tiles of {tile} pixels do not fit into an image of {axes}")
    n_tile = prod(-(-axis // side) for side, axis in zip(tile, axes, strict=True))
    if len(rows) != n_tile:
        raise BadFrame(f"it has {len(rows)} tiles, expected {n_tile} for {axes} pixels")
    for name in ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA"):
        if name in rows.names and "GZIP" in table["ZCMPTYPE"] + name:
            for k in range(n_tile):
                _check_expanded(bytes(rows[name][k]), prod(tile) * 8)


def _check_expanded(tile: bytes, limit: int) -> None:
    if tile and len(zlib.decompressobj(31).decompress(tile, limit + 1)) > limit:
        raise BadFrame(f"a compressed tile expands to more than {limit} bytes, which no tile here has")
