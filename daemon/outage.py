"""Troubles of the machine that no frame is to blame for: the disk, its mount, the catalog's lock, a worker's end.

A job that the output or the workers refuse is given back as if it had not begun; the daemon pauses, says so,
and goes on when that is over. A job that its own worker did not survive is tried again a bounded number of times.
"""

import errno
from pathlib import Path
from typing import NamedTuple

from daemon.records import Job
from kspecdr.errors import KspecError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
GONE = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EIO, errno.ESTALE})


class WorkerDied(RuntimeError):  # noqa: N818 - what has happened, as the operating system tells it
    """The worker process that had the job has ended."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"the worker died (exit code {self.exit_code})"


class NoWorker(RuntimeError):  # noqa: N818 - as above
    """No worker can be had, whatever the job."""


class Verdict(NamedTuple):
    """What an error means for the job that has raised it."""

    sentence: str
    retry: bool = False  # it may succeed when it is run again
    blocked: bool = False  # no job can succeed now: it is as if this one had not begun


def judge(job: Job, error: BaseException) -> Verdict:
    """Say what a job has raised; a disk that is not there, for products or raw frames, is no matter of the job."""
    verdict = describe_failure(error)
    roots = {job.roots[frame.root] for frame in job.frames if frame.root < len(job.roots)}
    lost = any(is_gone(Path(root)) for root in roots)  # whatever a reader makes of it
    return verdict._replace(blocked=verdict.blocked or lost or blocks_output(error, job.out))


def is_gone(root: Path) -> bool:
    """Tell whether a watched directory is not there, or an empty place where something should be mounted."""
    try:
        return next(root.iterdir(), None) is None
    except OSError:
        return True


def describe_failure(error: BaseException) -> Verdict:
    """Say what a job has raised, and whether it may succeed when it is run again."""
    if isinstance(error, KspecError):
        return Verdict(str(error))
    if isinstance(error, WorkerDied | NoWorker):
        return Verdict(str(error), retry=True, blocked=isinstance(error, NoWorker))
    if isinstance(error, MemoryError):
        return Verdict("the job needed more memory than workers.memory_mb allows", retry=True)
    if isinstance(error, TimeoutError) and error.errno is None:  # that of a network mount has a number
        return Verdict("the job took longer than workers.timeout allows", retry=True)
    if isinstance(error, OSError):
        return Verdict(f"{error.strerror or error} ({error.filename or 'no file'})", retry=True)
    return Verdict(f"unexpected {type(error).__name__}: {error}")


def blocks_output(error: BaseException, out: str) -> bool:
    """Tell whether an error means that the output directory cannot be written now, whatever the job."""
    if not isinstance(error, OSError):
        return False
    if error.errno in FULL:
        return True
    named = error.filename
    return error.errno in GONE and isinstance(named, str | Path) and Path(named).is_relative_to(out)
