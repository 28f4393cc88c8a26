"""The header of a raw file, without its pixels."""

from pathlib import Path

from astropy.io import fits
from astropy.io.fits import Header

from kspecdr.errors import BadFrame

__all__ = ["Header", "image_shape", "read_header"]  # who reads headers need not know who parses them

BLOCK = 2880
HEADER_LIMIT = 1 << 22  # bytes; far beyond any settings tree, and a bound for damaged files


def read_header(path: Path) -> Header:
    """Return the primary header of a FITS file.

    Bytes that FITS does not allow in a header are read as question marks; astropy warns of keywords and
    cards that it does not understand, now or when they are used.

    Raises BadFrame where the file cannot be read or does not begin with a header.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(BLOCK)
            if not text.startswith(b"SIMPLE  ="):
                what = "is no FITS file (its first bytes are not SIMPLE)" if text else "is empty"
                raise BadFrame(f"{path.name} {what}; expected a FITS file")
            while not _ends(text):
                block = stream.read(BLOCK)
                if not block or len(text) > HEADER_LIMIT:
                    raise BadFrame(f"{path.name} has no END card in its header; write it again")
                text += block
    except OSError as error:
        raise BadFrame(f"{path.name} cannot be read: {error.strerror}; check its permissions") from error
    printable = bytes(byte if 32 <= byte < 127 else ord("?") for byte in text) if _is_damaged(text) else text
    return Header.fromstring(printable)


def _is_damaged(text: bytes) -> bool:
    """Tell whether a header holds bytes that FITS does not allow there."""
    return not text.isascii() or any(byte < 32 or byte == 127 for byte in text)


def _ends(text: bytes) -> bool:
    """Tell whether the last block holds the END card."""
    last = text[-BLOCK:]
    return any(last[k : k + 80].rstrip() == b"END" for k in range(0, len(last), 80))


def image_shape(header: Header) -> tuple[int, int, int]:
    """Return (frames, rows, columns) of the primary image.

    Raises BadFrame for anything but one image or a cube of them.
    """
    try:
        axes = [header.get(f"NAXIS{k}") for k in range(1, 4)][: _whole(header.get("NAXIS", 0))]
    except fits.VerifyError as error:
        raise BadFrame(f"its NAXIS cards cannot be read ({error}); write it again") from error
    if len(axes) not in (2, 3) or not all(_whole(axis) > 0 for axis in axes):
        found = " x ".join(str(axis) for axis in reversed(axes)) or "none"
        raise BadFrame(f"the image has axes {found}, expected (rows, columns) or (frames, rows, columns)")
    columns, rows, *frames = (_whole(axis) for axis in axes)
    return (frames[0] if frames else 1), rows, columns


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
