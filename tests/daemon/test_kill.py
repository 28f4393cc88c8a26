"""A scheduler that is killed at any moment ends where an undisturbed one does."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daemon.catalog import Catalog

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import os, sys, threading, time
from datetime import UTC, datetime
from pathlib import Path
from daemon.catalog import Catalog
from daemon.executor import make_executor
from daemon.rulebook import Limits, Rulebook
from daemon.scheduler import Places, Scheduler
from tests.daemon.conftest import make_night, more_objects, slow_write_names

if __name__ == "__main__":
    out, limits, wake = Path(sys.argv[1]), Limits(workers=2), threading.Event()
    catalog = Catalog.open(str(out))
    scheduler = Scheduler(
        catalog, Rulebook(), make_executor(limits, "tests.daemon.conftest"), slow_write_names,
        places=Places((out,), out), limits=limits, owner=str(os.getpid()), batch=True, wake=wake.set,
    )
    scheduler.recover()
    catalog.add_frames([*make_night(), *more_objects()])
    print("ready", flush=True)
    while True:
        wake.clear()
        tick = scheduler.tick(datetime.now(UTC))
        if tick.idle and tick.next_wake is None:
            break
        wake.wait(0.5)
    scheduler.stop(datetime.now(UTC), 5.0)
"""


def start(out):
    return subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, "-c", SCRIPT, str(out)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )


def run_to_the_end(out):
    with start(out) as process:
        assert process.wait(timeout=60) == 0


def kill_after(out, seconds):
    """Kill a run some seconds after it is ready; tell whether it was still at work."""
    with start(out) as process:
        process.stdout.readline()
        time.sleep(seconds)
        at_work = process.poll() is None
        process.send_signal(signal.SIGKILL)
    return at_work


def content(out):
    """What may not differ: current products with their bytes, frame states, and files that nobody knows."""
    catalog = Catalog.open(str(out), create=False)
    products = {
        (product.kind, product.raw, product.fingerprint, product.provisional, product.path.read_text())
        for kind in ("bias", "dark", "tlm", "red", "fflat", "im", "converted")
        for product in catalog.latest(kind)
    }
    products = {(*each[:4], each[4].replace(str(out), "")) for each in products}
    states = {frame.path: (frame.state, frame.reason) for frame in catalog.frames()}
    jobs = catalog.summary().jobs
    catalog.close()
    known = {each.name for each in (out / "2026-01-27").iterdir() if each.is_dir()}
    return products, states, jobs, known


@pytest.mark.parametrize("n_kill", [6, pytest.param(200, marks=pytest.mark.soak)])
def test_killed_at_any_moment_it_ends_where_an_undisturbed_one_does(tmp_path, n_kill):
    run_to_the_end(tmp_path / "calm")
    rng = random.Random(n_kill)  # noqa: S311 - repeatable moments, no secrets
    killed = sum(kill_after(tmp_path / "rough", rng.uniform(0.1, 0.5)) for _ in range(n_kill))
    run_to_the_end(tmp_path / "rough")
    assert killed >= 3
    assert content(tmp_path / "rough") == content(tmp_path / "calm")
