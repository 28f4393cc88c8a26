"""Troubles of the machine that no frame is to blame for: the disk, its mount, the catalog's lock.

A job that meets one is given back as if it had not begun; the daemon pauses, says so, and goes on when
there is room again.
"""

import errno
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
GONE = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EIO, errno.ESTALE})


def blocks_output(error: BaseException, out: str) -> bool:
    """Tell whether an error means that the output directory cannot be written now, whatever the job."""
    if not isinstance(error, OSError):
        return False
    if error.errno in FULL:
        return True
    named = error.filename
    return error.errno in GONE and isinstance(named, str | Path) and Path(named).is_relative_to(out)
