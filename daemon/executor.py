"""Where jobs run, worker processes or this one, and how one is run: whole or not at all.

Both speak the interface of concurrent.futures, so that a cluster's client can take their place.
"""

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from errno import EEXIST, ENOTEMPTY
from filecmp import cmpfiles
from pathlib import Path
from socket import gethostname
from typing import ParamSpec, TypeVar

from daemon.adoption import RECORD, adopted, write_record
from daemon.outage import judge
from daemon.planning.fingerprint import directory_name
from daemon.records import Job, Outcome
from daemon.rulebook import Limits
from daemon.slots import WorkerPool
from kspecdr.io.disk import sync

P = ParamSpec("P")
T = TypeVar("T")
Recipe = Callable[[Job], Outcome]


class SerialExecutor(Executor):
    """Runs each job at once in this process."""

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run a function here and return a future that is done."""
        future: Future[T] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - a future carries whatever the function raised
            future.set_exception(error)
        return future


def make_executor(limits: Limits, module: str) -> Executor:
    """Return the executor that the limits ask for: 0 workers means this process."""
    return WorkerPool(limits, module) if limits.workers > 0 else SerialExecutor()


def perform(run: Recipe, job: Job) -> Outcome:
    """Run a recipe in a directory of its own, which becomes visible whole or not at all.

    The recipe writes below `job.directory`; when it has succeeded, the directory is renamed to its
    final name, its record in it. Where it stands there already, whole, nothing is done.
    """
    final = Path(job.out, directory_name(job.night, job.fingerprint))
    return adopted(final, job) or _made(run, job, final)


def _made(run: Recipe, job: Job, final: Path) -> Outcome:
    start = time.perf_counter()
    partial = partial_directory(job)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        outcome = _timed(run(replace(job, directory=str(partial))), start)
        if not outcome.error:
            write_record(partial, job, outcome)
            _publish(partial, final)
    except MemoryError:
        raise  # the worker ends with it; what it holds would leave the next job no room
    except Exception as error:  # noqa: BLE001 - the sentence is the job's outcome, the worker lives on
        outcome = failure(job, error)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _timed(outcome, start)


def _timed(outcome: Outcome, start: float) -> Outcome:
    return replace(outcome, stage_times={**outcome.stage_times, "worker": time.perf_counter() - start})


def failure(job: Job, error: BaseException) -> Outcome:
    """Return the outcome of a job that has ended with an error."""
    verdict = judge(job, error)
    said = f"{job.frames[0].name}: {verdict.sentence}"
    return Outcome(job.fingerprint, error=said, retry=verdict.retry, blocked=verdict.blocked)


def partial_directory(job: Job) -> Path:
    """Return where a job writes before it is done; machine and process are in the name, so that two never meet."""
    final = Path(job.out, directory_name(job.night, job.fingerprint))
    return final.with_name(f".{final.name}.{gethostname()}-{os.getpid()}.partial")


def remove_remains(out: Path, night: str, print_: str) -> None:
    """Remove whatever a job has left, also a whole directory."""
    shutil.rmtree(out / directory_name(night, print_), ignore_errors=True)
    remove_partial(out, night, print_)


def remove_partial(out: Path, night: str, print_: str) -> None:
    """Remove what interrupted attempts at a job have left half done; a whole directory stands for its adoption."""
    _remove_partial(out / directory_name(night, print_))


def remove_half_written(out: Path) -> None:
    """Remove what processes that are dead have left beside the nights: files .<name>.<process> before a rename."""
    for left in out.glob(".*.[0-9]*"):
        if left.suffix[1:].isdigit():
            left.unlink(missing_ok=True)


def _publish(partial: Path, final: Path) -> None:
    """Give a finished directory its name, so that it survives the loss of power.

    An attempt that was given up for lost may end late, on another machine. It finds what the next attempt has
    published, the same bytes, and leaves that alone; or its own directory removed, and can publish nothing.
    """
    sync(partial)
    try:
        partial.rename(final)
    except OSError as error:
        if error.errno not in (ENOTEMPTY, EEXIST):
            raise
        if _is_in(partial, final):
            (partial / RECORD).replace(final / RECORD)  # what stands there may have none that can be believed
        else:
            shutil.rmtree(final)
            partial.rename(final)
    _remove_partial(final)
    sync(final.parent)


def _is_in(partial: Path, final: Path) -> bool:
    """Tell whether each product in one directory is in the other, with the same bytes."""
    names = [each.name for each in partial.iterdir() if each.name != RECORD]  # which tells how long it took
    return not any(cmpfiles(partial, final, names, shallow=False)[1:])


def _remove_partial(final: Path) -> None:
    """Remove what attempts at a job have left half done."""
    for left in final.parent.glob(f".{final.name}.*.partial"):
        shutil.rmtree(left, ignore_errors=True)
