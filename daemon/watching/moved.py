"""A watched directory that is found again at another place: moved, or mounted there."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

SAMPLE = 40  # files that are looked for at either place
READ = 3  # of which the content is compared


def has_moved(old: Path, new: Path, sizes: Mapping[str, int], content_of: Callable[[str], str]) -> bool:
    """Tell whether a directory is what another one was: the same files below it, while the old place has none of them.

    Parameters
    ----------
    old, new : where it was, and where it may be now
    sizes : bytes of each file that was there, by its path below the directory
    content_of : returns the SHA-256 of one of these files, as it was recorded
    """
    try:
        return _has_moved(old, new, sizes, content_of)
    except OSError:  # what cannot be read cannot be recognised
        return False


def _has_moved(old: Path, new: Path, sizes: Mapping[str, int], content_of: Callable[[str], str]) -> bool:
    names = sorted(sizes)[:: max(1, len(sizes) // SAMPLE)]
    if not names or any((old / name).exists() for name in names):
        return False
    found = [name for name in names if (new / name).is_file()]
    if 2 * len(found) <= len(names) or any((new / name).stat().st_size != sizes[name] for name in found):
        return False
    return all(_content(new / name) == content_of(name) for name in found[:: max(1, len(found) // READ)][:READ])


def _content(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
