"""Jobs on the workers of a dask scheduler, which see the same directories as the daemon.

A worker runs each job in a process of its own, as the local pool does, with the same limits of time and memory:
what ends a job there ends as it does here. `distributed` (dask.org) does what is between the machines: it carries
jobs to workers and notices when one is gone.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from functools import cache
from importlib.metadata import version
from logging import getLogger
from multiprocessing import current_process
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from daemon.executor import make_executor
from daemon.outage import NoWorker, WorkerDied
from daemon.rulebook import Limits
from daemon.slots import WorkerPool
from kspecdr.errors import BadOption

P = ParamSpec("P")
T = TypeVar("T")

LOG = getLogger("kspecdr.daemon")
ANSWER_S = 10.0  # within which a scheduler or a worker has answered
GLANCE_S = 0.5  # between looks at whether the workers that may have a job are still there
SETTINGS = "settings.json"  # in the output directory: who reads another one there looks at another directory


class WorkerLost(WorkerDied):
    """The machine or the process that had the job is gone."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(0)
        self.names = ", ".join(sorted(names))

    def __reduce__(self) -> tuple[type["WorkerLost"], tuple[tuple[str, ...]]]:
        return WorkerLost, ((self.names,),)

    def __str__(self) -> str:
        return f"the dask worker was lost ({self.names})"


def job_executor(scheduler: str, limits: Limits, module: str, directories: tuple[Path, ...]) -> Executor:
    """Return where jobs run: on the workers of a dask scheduler, or, without its address, on this machine.

    directories : that the jobs read and write, the output directory first
    """
    if not scheduler:
        return make_executor(limits, module)
    return ClusterExecutor(Cluster(scheduler, directories), limits, module)


class ClusterExecutor(Executor):
    """As many jobs at once on a cluster as the limits say; each has a thread here that waits for it.

    Parameters
    ----------
    cluster : Cluster
        Where the workers are.
    limits : Limits
        Jobs at once; seconds and memory of each.
    module : str
        What each worker process imports before its first job comes.
    """

    def __init__(self, cluster: "Cluster", limits: Limits, module: str) -> None:
        self._cluster, self._limits, self._module = cluster, limits, module
        self._tasks: SimpleQueue[tuple[Future[Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._over = threading.Event()
        self._slots = [threading.Thread(target=self._serve, daemon=True) for _ in range(limits.workers)]
        for slot in self._slots:
            slot.start()

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run a function on a worker when fewer than the jobs at once are running."""
        future: Future[T] = Future()
        self._tasks.put((future, (function, args, kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End: after the jobs, or with `cancel_futures` at once; a job that runs elsewhere then ends unheard."""
        if cancel_futures:
            self._over.set()
            self._cancel()
        for _ in self._slots:
            self._tasks.put(None)
        for slot in self._slots if wait else ():
            slot.join()
        self._cluster.leave()

    def _cancel(self) -> None:
        try:
            while True:
                task = self._tasks.get_nowait()
                if task is not None:
                    task[0].cancel()
        except Empty:
            return

    def _serve(self) -> None:
        """Carry one job after the other to the cluster."""
        while (task := self._tasks.get()) is not None:
            future, call = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                answer = self._cluster.perform((self._limits, self._module, *call), self._over)
            except Exception as error:  # noqa: BLE001 - a future carries whatever has ended the job
                future.set_exception(error)
            else:
                future.set_result(answer)


class Cluster:
    """The workers of a dask scheduler that may have our jobs.

    A scheduler that cannot be reached, and workers that do not fit, are said in a sentence; both are looked for
    again with every job.

    Parameters
    ----------
    scheduler : str
        Its address, tcp://HOST:PORT.
    directories : tuple of Path
        That a worker must see, the output directory first.
    """

    def __init__(self, scheduler: str, directories: tuple[Path, ...]) -> None:
        try:
            from distributed import Client  # noqa: PLC0415 - an extra, which the core does without
        except ModuleNotFoundError as error:
            raise BadOption(
                f"workers.executor = \"dask\" needs {error.name}, which is missing; pip install 'kspecdr[dask]'"
            ) from None
        self._connect = Client
        self._address, self._directories = scheduler, tuple(map(str, directories))
        self._lock = threading.Lock()
        self._client: Any = None
        self._faults: dict[str, str] = {}  # worker -> why it gets no job; empty: it does

    def perform(self, call: tuple[Any, ...], over: threading.Event) -> Any:
        """Run a call of `carried` on a worker and return what it returns.

        Raises
        ------
        NoWorker
            The scheduler cannot be reached or is gone, or has no worker that fits.
        WorkerLost
            The worker was lost, and the next ones with it.
        """
        with self._lock:
            client = self._connected()
            fit = self._fit(client)
        task = client.submit(carried, *call, pure=False, workers=sorted(fit), allow_other_workers=False)
        ended = threading.Event()
        task.add_done_callback(lambda _: ended.set())
        while not ended.wait(GLANCE_S):
            if over.is_set():
                client.cancel([task])
                raise NoWorker("the daemon ends")
            if self._are_lost(client, fit):
                client.cancel([task])
                raise WorkerLost(fit)
        return self._answer(task, fit)

    def workers(self) -> tuple[int, int]:
        """Return how many workers there are, and how many of them may have our jobs; NoWorker where none may."""
        with self._lock:
            client = self._connected()
            return len(self._present(client)), len(self._fit(client))

    def leave(self) -> None:
        """Leave the scheduler."""
        with self._lock:
            if self._client is not None:
                self._client.close(timeout=ANSWER_S)
                self._client = None

    def _answer(self, task: Any, fit: set[str]) -> Any:
        from distributed import KilledWorker  # noqa: PLC0415 - as above

        if task.status in ("cancelled", "lost"):
            raise NoWorker(f"the dask scheduler at {self._address} was lost while it had the job")
        try:
            return task.result(timeout=ANSWER_S)
        except KilledWorker as error:
            raise WorkerLost(getattr(error.last_worker, "address", each) for each in sorted(fit)[:1]) from None

    def _connected(self) -> Any:
        if self._client is not None and self._client.status == "closed":
            self._client = None
        if self._client is None:
            self._faults.clear()
            try:
                self._client = self._connect(self._address, timeout=ANSWER_S, set_as_default=False)
            except (OSError, ValueError) as error:
                raise NoWorker(f"no dask scheduler answers at {self._address} ({error}); start it there") from None
        if self._client.status != "running":
            raise NoWorker(f"the dask scheduler at {self._address} does not answer; it is looked for again")
        return self._client

    def _present(self, client: Any) -> set[str]:
        """Ask the scheduler for its workers; what the client keeps of the last answer is often without them."""
        try:
            return set(client.sync(client.scheduler.identity, n_workers=-1)["workers"])
        except (OSError, AttributeError) as error:  # a client that has lost its scheduler has none to ask
            raise NoWorker(f"the dask scheduler at {self._address} was lost ({error})") from None

    def _are_lost(self, client: Any, workers: set[str]) -> bool:
        """Tell whether none of some workers is there any more; a scheduler that does not answer does not say so."""
        try:
            return client.status == "running" and workers.isdisjoint(self._present(client))
        except NoWorker:
            return False

    def _fit(self, client: Any) -> set[str]:
        """Return the workers that may have our jobs; ask those that are new."""
        present = self._present(client)
        new = sorted(present - set(self._faults))
        if new:
            answers = client.run(describe, self._directories, workers=new, on_error="return")
            ours = describe(self._directories)
            for name in new:
                self._faults[name] = fault(answers.get(name), ours)
                if self._faults[name]:
                    LOG.warning("the dask worker %s gets no job: %s", name, self._faults[name])
        fit = {name for name in present if not self._faults[name]}
        if not fit:
            why = next((self._faults[name] for name in sorted(present)), "no worker has joined it")
            raise NoWorker(f"the dask scheduler at {self._address} has no worker for our jobs: {why}")
        return fit


def fault(theirs: object, ours: Mapping[str, str]) -> str:
    """Return why a worker that describes itself so gets no job; empty where it does."""
    if not isinstance(theirs, Mapping):
        return f"it cannot say what it is ({theirs!r}); install kspecdr {ours['kspecdr']} there"
    if theirs["kspecdr"] != ours["kspecdr"]:
        return f"kspecdr {theirs['kspecdr']} is there, {ours['kspecdr']} here; install the same on both"
    if theirs["daemonic"]:
        return "it may start no processes; start it with `dask worker --no-nanny`"
    for name, seen in ours.items():
        if theirs.get(name) != seen:
            return f"{name} is {theirs.get(name)} there, {seen} here; mount the same directory under that name"
    return ""


def describe(directories: tuple[str, ...]) -> dict[str, str]:
    """Say what this process is and sees; on a worker, and here to compare with."""
    seen = {each: _seen(Path(each)) for each in directories}
    return {"kspecdr": program(), "daemonic": "yes" if current_process().daemon else "", **seen}


@cache
def program() -> str:
    """Return the version of the program, and a hash of its files, which tells two of one version apart."""
    root, digest = Path(__file__).resolve().parents[1], hashlib.sha256()
    for path in sorted((*root.glob("kspecdr/**/*.py"), *root.glob("daemon/**/*.py"))):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{version('kspecdr')} ({digest.hexdigest()[:8]})"


def _seen(directory: Path) -> str:
    if not directory.is_dir():
        return "no directory"
    try:
        settings = (directory / SETTINGS).read_bytes()
    except OSError:
        return "a directory"
    return f"a directory with settings {hashlib.sha256(settings).hexdigest()[:8]}"


_POOLS: dict[tuple[Limits, str], WorkerPool] = {}  # of a dask worker
_FILLING = threading.Lock()


def carried(
    limits: Limits, module: str, function: Callable[..., T], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> T:
    """Run a function on a dask worker, in a process of its own, within its limits; the processes stay warm."""
    from distributed import get_worker  # noqa: PLC0415 - as above

    with _FILLING:
        if (limits, module) not in _POOLS:
            slots = Limits(get_worker().state.nthreads, limits.timeout_s, limits.memory_mb, limits.attempts)
            _POOLS[limits, module] = WorkerPool(slots, module)
    return _POOLS[limits, module].submit(function, *args, **kwargs).result()
