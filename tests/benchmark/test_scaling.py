"""How much faster an archive of several nights is reduced by two workers than by one: `pytest -m benchmark -s`.

`kspecdr reduce` on full frames, by worker processes of its own and by workers of a dask scheduler, each with one
and with two, in turns. The machine should have nothing else to do: the wall's clock counts. Beside it stands how
many processors were at work, of daemon, workers and the dask scheduler together.
"""

import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from daemon.catalog import Catalog
from kspecdr.simulate import write_night
from kspecdr.simulate.night import Night
from kspecdr.simulate.presets import arcs, calibrations, targets
from kspecdr.validate.figures import markdown

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3000)]

N_NIGHT, N_OBJECT, N_FIBER, N_ROUND = 3, 20, 14, 3
NIGHT = Night(exposures=(*calibrations(n_flat=1), *arcs(shift=0.1), *targets(N_OBJECT, shift=0.2)))
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
START_S = 8.0  # s that dask's processes have to start


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Return a directory of nights."""
    directory = tmp_path_factory.mktemp("archive")
    for k in range(N_NIGHT):
        night = replace(NIGHT, start=NIGHT.start + timedelta(days=k))
        write_night(directory / f"night_{k}", night, seed=k + 1)
    return directory


@contextmanager
def local(_number):
    """Let the daemon have workers of its own."""
    yield ""


@contextmanager
def dask(number):
    """Let it have workers of a dask scheduler, which have started before the clock does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show"]
    worker = ["worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny"]
    started = [started_dask(*command) for command in (scheduler, *number * [worker])]
    time.sleep(START_S)
    try:
        yield f'executor = "dask"\nscheduler = "{address}"\n'
    finally:
        for each in reversed(started):
            each.terminate()
            each.wait()


def started_dask(*command):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-m", "dask", *command], env=ENVIRONMENT, **quiet)  # noqa: S603 - dask's own


def processor_s():
    """Return the processor's time of all processes that were started and have ended, s."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def reduced(archive, place, how, number):
    """Reduce the archive; return what it took by the wall's clock and the processors', s."""
    before = processor_s()
    with how(number) as settings:
        place.mkdir()
        config = place / "config.toml"
        config.write_text(f"[workers]\ncount = {number}\n{settings}")
        command = [
            "reduce",
            str(archive),
            "--out",
            str(place / "out"),
            "--fibers",
            str(N_FIBER),
            "--config",
            str(config),
        ]
        start = time.perf_counter()
        subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "daemon.cli", *command], check=True, capture_output=True, env=ENVIRONMENT
        )
        took = time.perf_counter() - start
    with closing(Catalog.open(str(place / "out"), create=False)) as catalog:
        assert len(catalog.latest("red", frame_class="MFOBJECT", n=0)) == N_NIGHT * N_OBJECT
    shutil.rmtree(place)
    return took, processor_s() - before


def test_an_archive_by_one_worker_and_by_two(archive, tmp_path):
    pytest.importorskip("distributed", reason="dask.distributed is not installed: pip install -e '.[dask]'")
    cases = [(how, number) for how in (local, dask) for number in (1, 2)]
    times = {case: [] for case in cases}
    for k in range(N_ROUND):
        for how, number in cases if k % 2 == 0 else reversed(cases):
            times[how, number].append(reduced(archive, tmp_path / f"{how.__name__}{number}_{k}", how, number))
    n_frame = N_NIGHT * len(NIGHT.exposures)
    rows = []
    for how, number in cases:
        wall, processor = np.median(times[how, number], axis=0)
        gains = [one[0] / own[0] for one, own in zip(times[how, 1], times[how, number], strict=True)]
        rate = f"{n_frame / wall:.2f} frames/s"
        gain = f"{np.median(gains):.2f} ({min(gains):.2f} to {max(gains):.2f})"
        rows.append((f"{how.__name__}, {number}", f"{wall:.1f} s", rate, f"{processor / n_frame:.3f} s", gain))
    titles = ("workers", "took", "rate", "processor time of a frame", "gain over one worker")
    print("\n\n" + markdown(titles, rows))  # noqa: T201 - the table is what this is for
    assert all(gain > 1.0 for gain in gains)
