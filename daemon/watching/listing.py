"""The frame files below a directory, and how a file or directory is known again."""

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from daemon.watching.completeness import suffix_of

SIDECAR_SUFFIX = ".toml"
HIDDEN = (".", "~")  # names of other programs' temporary files begin so

Signature = tuple[int, int, int]  # size, mtime_ns, mtime_ns of the sidecar or 0


def is_frame(name: str) -> bool:
    """Tell by its name whether a file may be a frame."""
    return bool(suffix_of(name)) and not name.startswith(HIDDEN)


def is_hidden(root: Path, path: Path, exclude: Collection[str]) -> bool:
    """Tell whether a path below `root` is hidden or lies in an excluded directory."""
    if any(str(each) in exclude for each in (path, *path.parents)):
        return True
    return any(part.startswith(HIDDEN) for part in path.relative_to(root).parts)


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
        try:
            with os.scandir(folders.pop()) as listing:
                entries = list(listing)
        except OSError:
            continue
        sidecars = {each.name: each for each in entries if each.name.endswith(SIDECAR_SUFFIX)}
        for entry in entries:
            try:
                if entry.name.startswith(HIDDEN):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders += [entry.path] if deep and entry.path not in exclude else []
                elif suffix_of(entry.name) and entry.is_file():
                    status = entry.stat()
                    beside = _listed_sidecar(entry.name, sidecars) if sidecars else 0
                    yield entry.path[prefix:], (status.st_size, status.st_mtime_ns, beside)
            except OSError:
                continue


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
