"""Worker processes that stay warm, one to a slot: whatever ends a worker, only the job that it had is concerned.

A slot is a thread that starts its worker, hands it one job at a time and waits for the answer. A worker says
that it has a job before it looks at it, so a job whose worker was gone by then is handed to the next one and has
lost nothing. The end of a worker is seen by the end of its pipe, at once and without a poll.
"""

import importlib
import multiprocessing
import os
import pickle
import resource
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from ctypes import CDLL
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from daemon.arithmetic import one_thread
from daemon.outage import NoWorker, WorkerDied
from daemon.rulebook import Limits

P = ParamSpec("P")
T = TypeVar("T")

READY, TAKEN = b"ready", b"taken"  # what a worker says before its first job, and of each job that it has
START_S = 120.0  # within which a worker has imported what it needs
END_S = 5.0  # that a worker has to end whose pipe has ended
GLANCE_S = 1.0  # between looks at a worker that has nothing to do
HANDED_ON = 3  # workers that may die before they have a job, until it is not handed on any more
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_MIB = 1024 * 1024
_KEPT = ((-1, 256 * _MIB), (-3, 32 * _MIB), (-8, 1))  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX


@dataclass(frozen=True, slots=True)
class _Task:
    future: "Future[Any]"
    payload: bytes  # function, arguments


class WorkerPool(Executor):
    """As many slots as there are workers; each takes the next job when it is free.

    Parameters
    ----------
    limits : Limits
        Number of workers, seconds for one job, address space of a worker.
    module : str
        What each worker imports before the first job comes.
    """

    def __init__(self, limits: Limits, module: str) -> None:
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._ended = False
        self._slots = [_Slot(self._tasks, limits, module) for _ in range(limits.workers)]
        for slot in self._slots:
            slot.start()

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run a function in the next worker that is free."""
        if self._ended:
            raise RuntimeError("the workers have ended; no job can be submitted")
        future: Future[T] = Future()
        self._tasks.put(_Task(future, pickle.dumps((function, args, kwargs))))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers: after their jobs, or with `cancel_futures` at once."""
        self._ended = True
        if cancel_futures:
            self._cancel()
            for slot in self._slots:
                slot.kill()
        for _ in self._slots:
            self._tasks.put(None)
        if wait:
            for slot in self._slots:
                slot.join()

    def _cancel(self) -> None:
        """Cancel what no worker has."""
        try:
            while True:
                task = self._tasks.get_nowait()
                if task is not None:
                    task.future.cancel()
        except Empty:
            return


class _Slot(threading.Thread):
    """Hands jobs to one worker, and starts another where that has died."""

    def __init__(self, tasks: "SimpleQueue[_Task | None]", limits: Limits, module: str) -> None:
        super().__init__(name="kspecdr-slot", daemon=True)
        self._tasks, self._limits, self._module = tasks, limits, module
        self._lock = threading.Lock()  # a worker is not killed while it is being started
        self._over = False
        self._worker: _Worker | None = None

    def run(self) -> None:
        """Take one job after the other, until there are no more."""
        self._revive()
        while True:
            try:
                task = self._tasks.get(timeout=GLANCE_S)
            except Empty:
                if self._worker is not None and self._worker.served and not self._worker.alive:
                    self._revive()  # one that has never been ready is left alone
                continue
            if task is None:
                break
            if task.future.set_running_or_notify_cancel():
                self._settle(task)
        if self._worker is not None:
            self._worker.end()

    def kill(self) -> None:
        """End the worker now, whatever it does; no other is started."""
        with self._lock:
            self._over = True
            if self._worker is not None:
                self._worker.kill()

    def _settle(self, task: _Task) -> None:
        try:
            succeeded, answer = self._carry(task.payload)
        except Exception as error:  # noqa: BLE001 - a future carries whatever has ended the job
            succeeded, answer = False, error
        if succeeded:
            task.future.set_result(answer)
        else:
            task.future.set_exception(answer)

    def _carry(self, payload: bytes) -> tuple[bool, Any]:
        """Hand a job to the worker, or to the next one where it has died before it had it; return the answer."""
        for _ in range(HANDED_ON):
            worker = self._standing()
            if worker.ready() and worker.hand(payload):
                return worker.answer(self._limits.timeout_s)
        code = worker.exit_code()
        raise NoWorker(f"workers end before they take a job (exit code {code}); what they said last is in the log")

    def _standing(self) -> "_Worker":
        """Return the worker, another where it has died."""
        worker = self._worker
        return worker if worker is not None and worker.alive else self._replace()

    def _revive(self) -> None:
        """Have a worker before the next job comes; where that fails, the job tries it again and says so."""
        with suppress(NoWorker):
            self._replace()

    def _replace(self) -> "_Worker":
        with self._lock:
            if self._worker is not None:
                self._worker.end()
                self._worker = None
            if self._over:
                raise NoWorker("the workers have ended")
            try:
                self._worker = _Worker(self._limits, self._module)
            except OSError as error:
                raise NoWorker(f"no worker can be started ({error.strerror or error})") from None
            return self._worker


class _Worker:
    """A worker process and the pipe to it."""

    def __init__(self, limits: Limits, module: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far = context.Pipe()
        self.served = False  # whether it has ever been ready
        self._lost = False  # whether its end of the pipe is gone, or it is to be killed
        arguments = (far, limits.memory_mb, module, os.getpid())
        self._process = context.Process(target=_serve, args=arguments, name="kspecdr-worker", daemon=True)
        self._process.start()
        far.close()  # the worker's end is the worker's alone: with it ends the pipe

    @property
    def alive(self) -> bool:
        return not self._lost and self._process.is_alive()

    def ready(self) -> bool:
        """Wait until it is ready for its first job; False where it has died."""
        self.served = self.served or self._hears(READY, START_S)
        return self.served and self.alive

    def hand(self, payload: bytes) -> bool:
        """Send it a job; False where it has died before it had it."""
        try:
            self._pipe.send_bytes(payload)
        except OSError:
            self._lost = True
            return False
        return self._hears(TAKEN, START_S)

    def answer(self, seconds: float) -> tuple[bool, Any]:
        """Return whether the job has succeeded, and what it has returned or raised."""
        if not self._pipe.poll(seconds):
            self.kill()
            raise TimeoutError
        try:
            said = self._pipe.recv_bytes()
        except (EOFError, OSError):
            self._lost = True
            raise WorkerDied(self.exit_code()) from None
        answer: tuple[bool, Any] = pickle.loads(said)  # noqa: S301 - of our own process
        return answer

    def exit_code(self) -> int:
        """Return how it has ended; negative: by which signal."""
        self._process.join(END_S)
        self._process.kill()
        self._process.join()
        return self._process.exitcode or 0

    def kill(self) -> None:
        self._lost = True
        self._process.kill()

    def end(self) -> None:
        """End it, which has nothing to do any more."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _hears(self, word: bytes, seconds: float) -> bool:
        """Wait for a word of the worker; one that does not say it is ended."""
        try:
            if self._pipe.poll(seconds):
                return self._pipe.recv_bytes() == word
        except (EOFError, OSError):
            self._lost = True
        else:
            self.kill()
        return False


def _serve(pipe: Connection, memory_mb: int, module: str, parent: int) -> None:
    """Do one job after the other, in the worker."""
    _prepare(memory_mb, module, parent)
    try:
        pipe.send_bytes(READY)
        while True:
            payload = pipe.recv_bytes()
            pipe.send_bytes(TAKEN)
            answer, fit = _answer(payload)
            pipe.send_bytes(answer)
            if not fit:
                return
    except (EOFError, OSError):
        return  # the daemon has ended


def _answer(payload: bytes) -> tuple[bytes, bool]:
    """Do a job; return the answer, and whether this worker can do another."""
    try:
        function, args, kwargs = pickle.loads(payload)  # noqa: S301 - of our own daemon
        return pickle.dumps((True, function(*args, **kwargs))), True
    except Exception as error:  # noqa: BLE001 - it is raised again where the job was submitted
        return _told(error), not isinstance(error, MemoryError)  # what it holds leaves no room for the next job


def _told(error: Exception) -> bytes:
    """Return an answer that raises an error, or says what it was where it cannot be sent."""
    try:
        answer = pickle.dumps((False, error))
        pickle.loads(answer)  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - an exception may refuse to be pickled in any way
        return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
    return answer


def _prepare(memory_mb: int, module: str, parent: int) -> None:
    """Make a worker end with its daemon, leave signals to it, keep within its memory, and be warm.

    Pictures of one size come and go: memory that one has left is kept for the next, instead of being given back to
    the system and cleared by it each time.
    """
    libc: Any = CDLL(None)
    for parameter, value in _KEPT if hasattr(libc, "mallopt") else ():  # of the GNU library alone
        libc.mallopt(parameter, value)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # of the thread that has started it: its slot
    if os.getppid() != parent:
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb * _MIB, memory_mb * _MIB))
    one_thread()
    importlib.import_module(module)
