"""A raw file as a whole: how large it may be, what kind it is, and what is said when it is bad."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from astropy.io.fits import VerifyError

from kspecdr.errors import BadFrame

LARGEST = 1 << 30  # bytes of a file or an image: 300 frames of 1340 x 1300; more is damage or an attack


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a raw file into a BadFrame in one sentence that names it."""
    name = shown(path.name)
    try:
        yield
    except BadFrame as error:
        raise BadFrame(f"{name}: {error}") from error
    except FileNotFoundError:
        raise BadFrame(f"{name} does not exist") from None
    except (EOFError, zlib.error) as error:
        raise BadFrame(f"{name}: its gzip stream is damaged ({error}); copy it again") from error
    except OSError as error:
        said = error.strerror or str(error)
        raise BadFrame(f"{name} cannot be read: {said}; check its permissions") from error
    except (KeyError, TypeError, IndexError, ValueError, OverflowError, VerifyError) as error:
        raise BadFrame(f"{name} is damaged: {' '.join(str(error).split())}") from error


def shown(name: str) -> str:
    """Return a name for a sentence: a file may be called what breaks lines or commands terminals."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def is_spe(path: Path) -> bool:
    """Tell by its name whether a file is an SPE file; the format has no bytes of its own to know it by."""
    return path.suffix.lower() == ".spe"


def file_size(path: Path) -> int:
    """Return the size of a raw file; one that no memory holds is a BadFrame."""
    size = path.stat().st_size
    if size > LARGEST:
        raise BadFrame(f"it has {size} bytes, expected at most {LARGEST}")
    return size
