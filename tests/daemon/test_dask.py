"""Jobs on the workers of a real dask scheduler, all processes of this machine."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from daemon.catalog import Catalog
from daemon.cluster import Cluster, ClusterExecutor, describe, fault, job_executor
from daemon.commands.doctor import examine
from daemon.config import load
from daemon.executor import SerialExecutor, perform
from daemon.outage import NoWorker, describe_failure
from daemon.planning.fingerprint import directory_name
from daemon.records import FrameState, Job, Outcome, Written
from daemon.rulebook import Limits, Rulebook
from daemon.scheduler import Places, Scheduler
from daemon.slots import WorkerPool
from kspecdr.errors import BadFrame, BadOption
from kspecdr.simulate import PRESETS, write_night

pytest.importorskip("distributed", reason="dask.distributed is not installed: pip install -e '.[dask]'")

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
NEAR = 60.0  # s within which processes have started, on a busy machine


class Dask:
    """A scheduler and its workers, each a process of its own."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes = []

    def start(self, *command):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started = subprocess.Popen(  # noqa: S603 - dask's own command
            [sys.executable, "-m", "dask", *command], env=ENVIRONMENT, cwd=ROOT, **quiet
        )
        self.processes.append(started)
        return started

    def scheduler(self):
        return self.start("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard", "--no-show")

    def worker(self, *options):
        return self.start(
            "worker",
            self.address,
            "--nthreads",
            "1",
            "--no-dashboard",
            "--host",
            "127.0.0.1",
            *options or ["--no-nanny"],
        )

    def end(self):
        for each in self.processes:
            each.kill()
        for each in self.processes:
            each.wait()


@pytest.fixture(scope="module")
def dask():
    started = Dask()
    started.scheduler()
    for _ in range(2):
        started.worker()
    yield started
    started.end()


@pytest.fixture
def executor_of(dask, tmp_path):
    made = []

    def make(address=dask.address, **limits):
        cluster = Cluster(address, (tmp_path,))
        made.append(ClusterExecutor(cluster, Limits(**{"workers": 2, "timeout_s": 60.0} | limits), __name__))
        return made[-1]

    yield make
    for each in made:
        each.shutdown(cancel_futures=True)


def until(answer):
    """Wait for what other processes do."""
    end = time.monotonic() + NEAR
    while not (found := answer()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def ready(executor, n=2):
    """Wait until so many workers have joined."""

    def joined():
        try:
            with executor._cluster._lock:
                return len(executor._cluster._fit(executor._cluster._connected())) >= n
        except NoWorker:
            return False

    until(joined)
    return executor


def where(_number):
    time.sleep(0.2)
    return os.getpid(), os.getppid()


def raises(sentence):
    raise BadFrame(sentence)


def hangs(path):
    """Say which dask worker has this, and do not end; at the second time end at once."""
    if path.exists():
        return "second"
    path.write_text(f"{os.getppid()}")
    time.sleep(600)
    return "first"


def dies(_number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_jobs_run_beside_each_other_in_processes_of_the_workers(dask, executor_of):
    executor = ready(executor_of())
    found = [each.result(timeout=NEAR) for each in [executor.submit(where, n) for n in range(6)]]
    workers = {process.pid for process in dask.processes[1:]}
    assert {parent for _, parent in found} == workers
    assert os.getpid() not in workers


def test_what_ends_a_job_there_is_told_as_here(executor_of):
    executor = ready(executor_of(timeout_s=0.5))
    with pytest.raises(BadFrame, match="no light"):
        executor.submit(raises, "no light").result(timeout=NEAR)
    late = describe_failure(executor.submit(time.sleep, 60).exception(timeout=NEAR))
    assert late.retry
    assert "workers.timeout" in late.sentence
    dead = describe_failure(executor.submit(dies, 1).exception(timeout=NEAR))
    assert dead.retry
    assert dead.sentence == "the worker died (exit code -9)"
    assert executor.submit(len, "abc").result(timeout=NEAR) == 3


def test_a_worker_lost_in_a_job_is_no_fault_of_the_frame(dask, executor_of, tmp_path):
    executor = ready(executor_of())
    job = executor.submit(hangs, tmp_path / "worker")
    worker = int(until(lambda: (tmp_path / "worker").is_file() and (tmp_path / "worker").read_text()))
    os.kill(worker, signal.SIGKILL)
    lost = describe_failure(job.exception(timeout=NEAR))
    assert lost.retry
    assert not lost.blocked
    assert lost.sentence.startswith("the dask worker was lost (tcp://127.0.0.1:")
    assert executor.submit(hangs, tmp_path / "worker").result(timeout=NEAR) == "second"
    dask.worker()
    ready(executor)


def test_a_night_becomes_the_same_on_a_cluster(executor_of, catalog, night_of, recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    frames = night_of()
    catalog.add_frames(frames)
    now = max(frame.landed for frame in frames)
    awake = threading.Event()
    scheduler = Scheduler(
        catalog, Rulebook(), ready(executor_of()), recipe,
        places=Places((tmp_path,), catalog.out), limits=Limits(workers=2), owner="me", batch=True, wake=awake.set,
    )  # fmt: skip
    finished = []
    while not (tick := scheduler.tick(now)).idle:
        finished += tick.finished
        awake.wait(timeout=1.0)
        awake.clear()
    assert not [outcome.error for _, outcome in finished if outcome.error]
    assert catalog.frame_counts() == {FrameState.REDUCED: 2, FrameState.USED: 7}
    assert all(product.path.is_file() for product in catalog.latest())
    assert not list(catalog.out.glob("*/.*"))


def test_a_scheduler_that_is_lost_is_a_pause_and_found_again(executor_of, tmp_path):
    own = Dask()
    executor = executor_of(own.address)
    gone = describe_failure(executor.submit(len, "abc").exception(timeout=NEAR))
    assert gone.blocked
    assert gone.sentence.startswith(f"no dask scheduler answers at {own.address}")
    try:
        own.scheduler()
        empty = describe_failure(executor.submit(len, "abc").exception(timeout=NEAR))
        assert empty.blocked
        assert "no worker has joined it" in empty.sentence
        own.worker()
        ready(executor, 1)
        job = executor.submit(hangs, tmp_path / "worker")
        until((tmp_path / "worker").is_file)
        own.end()
        lost = describe_failure(job.exception(timeout=NEAR))
        assert lost.blocked
        own.scheduler()
        own.worker()
        ready(executor, 1)
        assert executor.submit(hangs, tmp_path / "worker").result(timeout=NEAR) == "second"
    finally:
        own.end()


def test_a_worker_that_may_start_no_processes_gets_no_job_and_is_told(executor_of):
    own = Dask()
    own.scheduler()
    own.worker("--nanny")
    try:
        executor = executor_of(own.address)

        def refused():
            said = describe_failure(executor.submit(len, "abc").exception(timeout=NEAR)).sentence
            return "--no-nanny" in said and said

        assert until(refused).startswith(f"the dask scheduler at {own.address} has no worker for our jobs: ")
    finally:
        own.end()


def test_a_worker_of_another_version_or_directory_is_told_from_ours(tmp_path):
    ours = describe((str(tmp_path),))
    assert fault(ours, ours) == ""
    assert fault(ours | {"kspecdr": "0.0.9 (ab)"}, ours).startswith("kspecdr 0.0.9 (ab) is there, ")
    assert "install kspecdr" in fault(ModuleNotFoundError("No module named 'daemon'"), ours)
    (tmp_path / "settings.json").write_text("{}")
    assert "mount the same directory under that name" in fault(describe((str(tmp_path),)), ours)
    raw = str(tmp_path / "raw")
    theirs = describe((raw,))
    (tmp_path / "raw").mkdir()
    assert fault(theirs, describe((raw,))).startswith(f"{raw} is no directory there, a directory here")


def test_without_a_scheduler_jobs_stay_on_this_machine(tmp_path):
    assert isinstance(job_executor("", Limits(workers=0), "daemon.records", (tmp_path,)), SerialExecutor)


def test_without_dask_its_setting_is_refused_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BadOption, match=r"pip install 'kspecdr\[dask\]'"):
        Cluster("tcp://127.0.0.1:1", (tmp_path,))


def reduced(night, out, *options):
    command = [sys.executable, "-m", "daemon.cli", "reduce", night, "--out", out, "--fibers", "6", *options]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)  # noqa: S603 - ours
    assert found.returncode == 0, found.stderr
    catalog = Catalog.open(str(out))
    states = {frame.path: (frame.state, frame.reason) for frame in catalog.frames()}
    catalog.close()
    return states, {str(path.relative_to(out)): path.read_bytes() for path in out.glob("*/*/*.fits")}


def test_a_cluster_makes_the_same_bytes_of_a_night_as_this_machine(dask, tmp_path):
    night = write_night(tmp_path / "night", PRESETS["small"])[0].parent
    config = tmp_path / "dask.toml"
    config.write_text(f'[workers]\nexecutor = "dask"\nscheduler = "{dask.address}"\n')
    states, products = reduced(night, tmp_path / "local")
    assert reduced(night, tmp_path / "cluster", "--config", config) == (states, products)
    assert sum(name.endswith("_red.fits") for name in products) == 3


def late_first(job):
    """A recipe whose first attempt ends when the second one has published, its half product removed or not."""
    here, begun = Path(job.directory), Path(job.out, "begun")
    (here / "x_red.fits").write_text("the same bytes")
    if not begun.exists():
        begun.touch()
        until(Path(job.out, directory_name(job.night, job.fingerprint)).is_dir)
        if job.options["there"]:
            here.mkdir(exist_ok=True)
            (here / "x_red.fits").write_text("the same bytes")
        else:
            until(lambda: not here.exists())
    return Outcome(job.fingerprint, (Written("red", "x_red.fits"),))


@pytest.mark.parametrize("there", [True, False])
def test_an_attempt_given_up_for_lost_that_ends_late_publishes_nothing(frame_of, tmp_path, monkeypatch, there):
    monkeypatch.syspath_prepend(str(ROOT))
    frame = frame_of("object_0.fits", "MFOBJECT", 0)
    job = Job("object", "f" * 64, (frame,), {}, {"there": there}, frame.night, out=str(tmp_path))
    final = tmp_path / directory_name(job.night, job.fingerprint)
    pool = WorkerPool(Limits(workers=2), "daemon.records")
    try:
        zombie = pool.submit(perform, late_first, job)
        until((tmp_path / "begun").exists)
        assert pool.submit(perform, late_first, job).result(timeout=NEAR).error == ""
        published = (final / "x_red.fits").stat()
        assert bool(zombie.result(timeout=NEAR).error) is not there
        assert (final / "x_red.fits").stat() == published
        assert [each.name for each in final.parent.iterdir()] == [final.name]
    finally:
        pool.shutdown(cancel_futures=True)


def test_the_doctor_tries_the_scheduler(dask, executor_of, tmp_path):
    def told(address):
        table = {"paths": {"watch": [str(tmp_path)], "out": str(tmp_path)}, "web": {"port": 0}}
        settings = load(None, {**table, "workers": {"executor": "dask", "scheduler": address}})
        return [(each.flag, each.message) for each in examine(settings) if each.name == "dask"]

    ready(executor_of())
    assert told(dask.address) == [("ok", f"{dask.address}: 2 workers, 2 of them may have our jobs")]
    ((flag, said),) = told("tcp://127.0.0.1:9")
    assert (flag, said.startswith("no dask scheduler answers at tcp://127.0.0.1:9")) == ("fail", True)
