"""What a person is told where the machine refuses: the path, what is wrong with it, and what to do."""

import errno
import os
from pathlib import Path

from kspecdr.errors import BadOption

REFUSALS = {  # error number -> what is wrong with a path, and what to do
    errno.ENOENT: "is not there and cannot be made; make it, or give another path",
    errno.EACCES: "permission denied; give this user the permission, or give another path",
    errno.EPERM: "the system does not permit it; give this user the permission, or give another path",
    errno.EEXIST: "is a file where a directory is needed; remove it, or give another path",
    errno.ENOTDIR: "a part of this path is a file where a directory is needed; give another path",
    errno.EISDIR: "is a directory; give the path of a file",
    errno.EROFS: "its disk is mounted read-only; mount it writable, or give another path",
    errno.ENOSPC: "its disk is full; make room, then run the command again",
    errno.EDQUOT: "this user's share of the disk is used up; make room, then run the command again",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.EIO: "its disk cannot be read or written; check the disk or the mount",
    errno.ESTALE: "its mount is stale; mount it again",
}


def sentence_of(error: OSError) -> str:
    """Return one sentence for what the machine has refused."""
    path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
    if not path:
        return f"{error.strerror or error}; see `kspecdr doctor`"
    return f"{path}: {REFUSALS.get(error.errno or 0, error.strerror or str(error))}"


def check_file(path: Path | None) -> None:
    """See that a file can be written before work is done for it; None: none is wanted.

    Raises
    ------
    BadOption
        Its directory is not there or cannot be written, or the path is a directory.
    """
    if path is None:
        return
    if path.is_dir():
        raise BadOption(f"{path} is a directory; give the path of a file")
    if not path.parent.is_dir():
        raise BadOption(f"{path.parent} is no directory; make it, or give another path than {path}")
    if not os.access(path if path.exists() else path.parent, os.W_OK, effective_ids=True):
        raise BadOption(f"{path} cannot be written (permission denied); give another path")
