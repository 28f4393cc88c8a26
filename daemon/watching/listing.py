"""The frame files below a directory, and how a file or directory is known again."""

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from daemon.watching.completeness import CHECKS, suffix_of

SIDECAR_SUFFIX = ".toml"
HIDDEN = (".", "~")  # names of other programs' temporary files begin so
SUFFIXES = tuple(CHECKS)

Signature = tuple[int, int, int]  # size, mtime_ns, mtime_ns of the sidecar or 0


def is_frame(name: str) -> bool:
    """Tell by its name whether a file may be a frame."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(HIDDEN)


def is_hidden(root: Path, path: Path, exclude: Collection[str]) -> bool:
    """Tell whether a path below `root` is hidden or lies in an excluded directory."""
    if any(str(each) in exclude for each in (path, *path.parents)):
        return True
    return any(part.startswith(HIDDEN) for part in path.relative_to(root).parts)


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies in one folder."""

    files: Mapping[str, Signature]  # the frame files, by name
    folders: tuple[str, ...]  # names of the folders in it, the last changed first
    mtime_ns: int  # of the folder itself, as it was before it was listed


def list_folder(path: str, exclude: Collection[str]) -> Listing:
    """Return the frame files and folders in a folder; what cannot be asked now is left out.

    Raises
    ------
    OSError
        The folder cannot be listed.
    """
    mtime_ns = Path(path).stat().st_mtime_ns
    with os.scandir(path) as listing:
        entries = list(listing)
    sidecars = {each.name: each for each in entries if each.name.endswith(SIDECAR_SUFFIX)}
    files: dict[str, Signature] = {}
    folders: list[tuple[int, str]] = []
    for entry in entries:
        try:
            if entry.name.startswith(HIDDEN):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders += [(-entry.stat().st_mtime_ns, entry.name)] if entry.path not in exclude else []
            elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                status = entry.stat()
                beside = _listed_sidecar(entry.name, sidecars) if sidecars else 0
                files[entry.name] = (status.st_size, status.st_mtime_ns, beside)
        except OSError:
            continue
    return Listing(files, tuple(name for _, name in sorted(folders)), mtime_ns)


def frame_files(
    root: Path, folder: Path, exclude: Collection[str], *, deep: bool = True
) -> Iterator[tuple[str, Signature]]:
    """Yield path below `root` and signature of every frame file in a folder, and below it if `deep`.

    What cannot be listed now is skipped; it is there in the next scan.
    """
    if is_hidden(root, folder, exclude):
        return
    folders, prefix = [str(folder)], len(str(root).rstrip("/")) + 1
    while folders:
        path = folders.pop()
        try:
            listing = list_folder(path, exclude)
        except OSError:
            continue
        below = f"{path}/"[prefix:]
        yield from ((below + name, signature) for name, signature in listing.files.items())
        folders += [f"{path}/{name}" for name in listing.folders] if deep else []


def sidecars_of(path: Path) -> tuple[Path, Path]:
    """Return where a sidecar of a frame may lie: `X.fits.toml`, then `X.toml`."""
    stem = path.name[: len(path.name) - len(suffix_of(path.name))]
    return path.with_name(path.name + SIDECAR_SUFFIX), path.with_name(stem + SIDECAR_SUFFIX)


def sidecar_mtime(path: Path) -> int:
    """Return the mtime_ns of a frame's sidecar, 0 where it has none."""
    return max(_mtime(each) for each in sidecars_of(path))


def directory_identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a directory, None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


def is_gone(path: Path) -> bool:
    """Tell whether a file is surely not there; one that cannot be reached for now is not gone."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _listed_sidecar(name: str, sidecars: Mapping[str, os.DirEntry[str]]) -> int:
    stem = name[: -len(suffix_of(name))]
    found = (sidecars.get(name + SIDECAR_SUFFIX), sidecars.get(stem + SIDECAR_SUFFIX))
    return max((each.stat().st_mtime_ns for each in found if each), default=0)


def _mtime(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
