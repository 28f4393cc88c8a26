"""The pixels of a raw file, whatever its format: FITS, FITS compressed by gzip or in tiles, SPE 3.0."""

import hashlib
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io.fits import Header

from kspecdr.arrays import Ints
from kspecdr.io.gzipped import GZIP, expanding
from kspecdr.io.raw_file import file_size, is_spe, named
from kspecdr.io.raw_header import Unit, fits_unit, image_shape, scaling, tiled_image
from kspecdr.io.spe import read_spe

_UNSIGNED = {16: 1 << 15, 32: 1 << 31}  # BITPIX -> BZERO of unsigned integers


def read_pixels(path: Path) -> tuple[Header, Ints, str]:
    """Return the header, the pixels (n_exposure, n_row, n_column), ADU, and the SHA-256 of a raw file.

    The file is read once, so that pixels and hash belong together. The header is that of `read_header`.
    Raises BadFrame in one sentence for whatever is no whole raw file.
    """
    with named(path):
        file_size(path)
        data = path.read_bytes()
        header, pixels = read_spe(BytesIO(data), len(data)) if is_spe(path) else _read_fits(_expanded(data))
        return header, pixels, hashlib.sha256(data).hexdigest()


def _expanded(data: bytes) -> bytes:
    """Return what a gzip file holds, and anything else as it is."""
    return b"".join(expanding(BytesIO(data), len(data))) if data.startswith(GZIP) else data


def _read_fits(data: bytes) -> tuple[Header, Ints]:
    unit = fits_unit(BytesIO(data), len(data))
    if unit.table is None:
        return unit.header, _plain(unit, data, image_shape(unit.header))
    pixels = tiled_image(data, unit.header, unit.table)
    return unit.header, pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _plain(unit: Unit, data: bytes, shape: tuple[int, int, int]) -> Any:
    """Return the pixels of an image, scaled as its header says (FITS 4.0, section 4.4.2.5)."""
    bits = int(unit.header["BITPIX"])
    kind = np.dtype(f">{'f' if bits < 0 else 'u' if bits == 8 else 'i'}{abs(bits) // 8}")
    stored: Any = np.frombuffer(data, kind, prod(shape), unit.start).reshape(shape)
    native = stored.astype(kind.newbyteorder("="))
    scale, zero = scaling(unit.header)
    if scale == 1.0 and zero == _UNSIGNED.get(bits):
        return native.view(f"u{kind.itemsize}") ^ np.array(1, f"u{kind.itemsize}") << (bits - 1)
    if scale == 1.0 and zero == 0.0:
        return native
    return native * scale + zero
