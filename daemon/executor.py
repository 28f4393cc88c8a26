"""Where jobs run: warm worker processes, of which only the culprit dies, or this process.

Both speak the interface of concurrent.futures, so that a cluster's client can take their place.
"""

import importlib
import multiprocessing
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from ctypes import CDLL
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from pebble import ProcessExpired, ProcessPool

from daemon.outage import blocks_output
from daemon.planning.fingerprint import directory_name
from daemon.records import Job, Outcome
from daemon.rulebook import Limits
from kspecdr.errors import KspecError

P = ParamSpec("P")
T = TypeVar("T")
Recipe = Callable[[Job], Outcome]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_MIB = 1024 * 1024
# What ends a job that no frame is to blame for, and how it is said; TimeoutError before OSError, whose kind it is.
_MACHINE: dict[type[BaseException], str] = {
    ProcessExpired: "the worker died (exit code {exitcode})",
    BrokenProcessPool: "the worker processes died",
    TimeoutError: "the job took longer than workers.timeout allows",
    MemoryError: "the job needed more memory than workers.memory_mb allows",
}


class JobExecutor(Protocol):
    """What the scheduler asks of an executor."""

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run a function somewhere."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End; without `wait` jobs that run are interrupted."""


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


class WorkerPool(Executor):
    """Worker processes that stay warm; a crash, a time-out or a lack of memory ends one job alone.

    Parameters
    ----------
    limits : Limits
        Number of workers, seconds for one job, address space of a worker.
    module : str
        What each worker imports before the first job comes.
    """

    def __init__(self, limits: Limits, module: str) -> None:
        self._limits, self._module = limits, module
        self._pool = self._filled()

    def _filled(self) -> ProcessPool:
        limits = self._limits
        pool = ProcessPool(
            max_workers=limits.workers,
            initializer=_prepare,
            initargs=(limits.memory_mb, self._module, os.getpid()),
            context=multiprocessing.get_context("spawn"),
        )
        for _ in range(limits.workers):
            pool.schedule(os.getpid)  # the processes start now, not with the first frame
        return pool

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run a function in a worker; where all workers have died between jobs, in a new one."""
        if not self._pool.active:
            self._pool.stop()  # type: ignore[no-untyped-call]  # pebble leaves it untyped
            self._pool = self._filled()
        timeout = self._limits.timeout_s
        future: Future[T] = self._pool.schedule(function, args=args, kwargs=kwargs, timeout=timeout)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers: after their jobs, or with `cancel_futures` at once."""
        if cancel_futures:
            self._pool.stop()  # type: ignore[no-untyped-call]  # pebble leaves it untyped
        else:
            self._pool.close()  # type: ignore[no-untyped-call]  # as above
        if wait:
            self._pool.join()


def make_executor(limits: Limits, module: str) -> Executor:
    """Return the executor that the limits ask for: 0 workers means this process."""
    return WorkerPool(limits, module) if limits.workers > 0 else SerialExecutor()


def perform(run: Recipe, job: Job) -> Outcome:
    """Run a recipe in a directory of its own, which becomes visible whole or not at all.

    The recipe writes below `job.directory`; when it has succeeded, the directory is renamed to its
    final name.
    """
    start = time.perf_counter()
    partial = partial_directory(job)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        outcome = run(replace(job, directory=str(partial)))
        if not outcome.error:
            _publish(partial, Path(job.out, directory_name(job.night, job.fingerprint)))
    except Exception as error:  # noqa: BLE001 - the sentence is the job's outcome, the worker lives on
        sentence, retry = describe_failure(error)
        said = f"{job.frames[0].name}: {sentence}"
        outcome = Outcome(job.fingerprint, error=said, retry=retry, blocked=blocks_output(error, job.out))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    times = {**outcome.stage_times, "worker": time.perf_counter() - start}
    return replace(outcome, stage_times=times)


def partial_directory(job: Job) -> Path:
    """Return where a job writes before it is done; the process is in the name, so that two never meet."""
    final = Path(job.out, directory_name(job.night, job.fingerprint))
    return final.with_name(f".{final.name}.{os.getpid()}.partial")


def remove_remains(out: Path, night: str, print_: str) -> None:
    """Remove what an interrupted job has left: half a directory, or a whole one that no row speaks of."""
    final = out / directory_name(night, print_)
    for left in (*final.parent.glob(f".{final.name}.*.partial"), final):
        shutil.rmtree(left, ignore_errors=True)


def describe_failure(error: BaseException) -> tuple[str, bool]:
    """Return a sentence for what a job has raised, and whether it may succeed when it is run again."""
    if isinstance(error, KspecError):
        return str(error), False
    for kind, sentence in _MACHINE.items():
        if isinstance(error, kind):
            return sentence.format(exitcode=getattr(error, "exitcode", "")), True
    if isinstance(error, OSError):
        return f"{error.strerror or error} ({error.filename or 'no file'})", True
    return f"unexpected {type(error).__name__}: {error}", False


def _publish(partial: Path, final: Path) -> None:
    """Give a finished directory its name, so that it survives the loss of power."""
    _sync(partial)
    shutil.rmtree(final, ignore_errors=True)  # of a run that ended before its rows were written
    partial.rename(final)
    _sync(final.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prepare(memory_mb: int, module: str, parent: int) -> None:
    """Make a worker end with its daemon, leave signals to it, keep within its memory, and be warm."""
    libc: Any = CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb * _MIB, memory_mb * _MIB))
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    importlib.import_module(module)
