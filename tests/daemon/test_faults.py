"""The daemon as its own process, small frames, and what a machine does to it: the end is that of a calm run."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon.catalog import Catalog
from kspecdr.simulate import PRESETS, write_night

PATIENCE = 120.0  # s after which a daemon that has not ended has lost something
KINDS = ("bias", "dark", "tlm", "red", "fflat", "im", "ex", "converted")


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A small simulated night."""
    return write_night(tmp_path_factory.mktemp("night"), PRESETS["small"])


@pytest.fixture(scope="module")
def calm(night, tmp_path_factory):
    """What an undisturbed daemon makes of the night."""
    place = tmp_path_factory.mktemp("calm")
    land(night, place)
    finish(place)
    return content(place / "out")


def land(paths, place):
    (place / "raw").mkdir(exist_ok=True)
    for path in paths:
        fresh = place / "raw" / path.name
        if not fresh.exists():
            shutil.copyfile(path, fresh)


def configured(place, **tables):
    """Write a configuration that waits little."""
    lines = ["[plan]", "quiet = 0.5", "like_wait = 1.0", "[watch]", "rescan = 1.0", "settle = 0.2", "[web]", "port = 0"]
    for name, values in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    (place / "config.toml").write_text("\n".join(lines))
    return place / "config.toml"


@contextmanager
def daemon(place, until_idle=None, **tables):
    """Run the daemon as a process; kill it where the block leaves it alive."""
    arguments = ["run", "--config", configured(place, **tables), "--watch", place / "raw", "--out", place / "out"]
    arguments += ["--fibers", "6", "--workers", "2"]
    if until_idle is not None:
        arguments += ["--until-idle", until_idle]
    with (place / "log").open("a") as log:
        process = subprocess.Popen(  # noqa: S603 - our own code
            [sys.executable, "-m", "daemon.cli", *map(str, arguments)],
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def finish(place, **tables):
    with daemon(place, until_idle=1.5, **tables) as process:
        assert process.wait(timeout=PATIENCE) == 0, (place / "log").read_text()


def current(out):
    """Return current products and frame states; each link leads to what is current."""
    catalog = Catalog.open(str(out), create=False)
    products = set()
    for kind in KINDS:
        for product in catalog.latest(kind, None, 0):
            link = out / product.night / product.path.name
            assert link.resolve() == product.path.resolve()
            products.add((kind, product.raw, product.fingerprint, product.provisional, product.path.stat().st_size))
    states = {(frame.path, frame.state, frame.reason) for frame in catalog.frames()}
    catalog.close()
    return products, states


def content(out):
    """What may not differ: products, frame states, and no directory that the catalog does not know."""
    known = {Path(path).parent for (path,) in _sql(out, "select path from products")}
    there = {path.relative_to(out) for path in out.glob("*/*") if path.is_dir() and not path.is_symlink()}
    assert there == known
    assert not list(out.glob("*/.*"))
    return current(out)


def _sql(out, query):
    with sqlite3.connect(out / "catalog.db") as connection:
        rows = connection.execute(query).fetchall()
    connection.close()
    return rows


def said(place, words, seconds=60.0):
    """Wait until the daemon has said something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if words in (place / "log").read_text():
            return True
        time.sleep(0.05)
    return False


def wait_for(place, query, seconds=90.0):
    """Wait until a query of the catalog finds something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if _sql(place / "out", query):
                return True
        except sqlite3.Error:
            pass
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("select 1 from frames", marks=pytest.mark.soak),
        pytest.param("select 1 from jobs where state = 'queued'", marks=pytest.mark.soak),
        "select 1 from jobs where state = 'running'",
        pytest.param("select 1 from jobs where state = 'done'", marks=pytest.mark.soak),
        "select 1 from jobs where rule = 'object' and state = 'running'",
    ],
)
def test_killed_at_a_transition_it_ends_as_a_calm_run(night, calm, tmp_path, moment):
    land(night, tmp_path)
    with daemon(tmp_path) as process:
        assert wait_for(tmp_path, moment)
        process.send_signal(signal.SIGKILL)
    finish(tmp_path)
    assert content(tmp_path / "out") == calm


@pytest.mark.soak
@pytest.mark.parametrize("n_kill", [3, 200])
def test_killed_at_random_while_frames_land_it_ends_as_a_calm_run(night, calm, tmp_path, n_kill):
    rng = random.Random(n_kill)  # noqa: S311 - repeatable moments, no secrets
    for number in range(n_kill):
        land(night[: 1 + number * len(night) // n_kill], tmp_path)
        with daemon(tmp_path) as process:
            time.sleep(rng.uniform(1.0, 3.0))
            process.send_signal(signal.SIGKILL)
    land(night, tmp_path)
    finish(tmp_path)
    assert current(tmp_path / "out") == calm


def test_a_worker_that_is_killed_costs_nothing(night, calm, tmp_path):
    land(night, tmp_path)
    with daemon(tmp_path, until_idle=1.5) as process:
        assert wait_for(tmp_path, "select 1 from jobs where state = 'running'")
        for worker in _children(process.pid):
            os.kill(worker, signal.SIGKILL)
        assert process.wait(timeout=PATIENCE) == 0
    assert content(tmp_path / "out") == calm


def _children(pid):
    """Return the worker processes of a daemon: those that were spawned to run jobs."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    workers = [int(each) for each in listed if "spawn_main" in Path(f"/proc/{each}/cmdline").read_text()]
    assert workers
    return workers


@pytest.mark.soak
def test_at_sigterm_what_runs_is_finished_or_given_back(night, calm, tmp_path):
    land(night, tmp_path)
    with daemon(tmp_path) as process:
        assert wait_for(tmp_path, "select 1 from jobs where state = 'running'")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30.0) == 0
    assert not _sql(tmp_path / "out", "select 1 from jobs where state in ('queued', 'running')")
    assert not _sql(tmp_path / "out", "select 1 from frames where state in ('queued', 'running')")
    finish(tmp_path)
    assert content(tmp_path / "out") == calm


def test_a_locked_catalog_is_waited_for(night, calm, tmp_path):
    land(night[:3], tmp_path)
    with daemon(tmp_path, until_idle=8.0) as process:
        assert wait_for(tmp_path, "select 1 from jobs where state = 'done'")
        holder = sqlite3.connect(tmp_path / "out" / "catalog.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        land(night, tmp_path)
        assert said(tmp_path, "database is locked")
        assert process.poll() is None
        holder.execute("ROLLBACK")
        holder.close()
        assert said(tmp_path, "jobs begin again")
        assert process.wait(timeout=PATIENCE) == 0
    assert content(tmp_path / "out") == calm


def test_sighup_takes_the_configuration_over_and_says_what_changed(night, tmp_path):
    land(night[:3], tmp_path)
    with daemon(tmp_path) as process:
        assert wait_for(tmp_path, "select 1 from jobs where state = 'done'")
        configured(tmp_path, reduce={"image": 3})
        process.send_signal(signal.SIGHUP)
        assert said(tmp_path, "the configuration stays as it was: ")
        text = configured(tmp_path).read_text()
        (tmp_path / "config.toml").write_text(text.replace("like_wait = 1.0", "like_wait = 2.5"))
        process.send_signal(signal.SIGHUP)
        assert said(tmp_path, "plan.like_wait: 1.0 becomes 2.5")
        assert process.poll() is None


@pytest.fixture
def small_disk(tmp_path):
    """An output directory on a disk of 40 MB; skip where mounts are not allowed."""
    (tmp_path / "out").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(tmp_path / "out")]
    if subprocess.run(mount, check=False, capture_output=True).returncode:  # noqa: S603 - a fixed command
        pytest.skip("a small disk needs the right to mount one")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path / "out")], check=True)  # noqa: S603, S607 - as above


@pytest.mark.soak
def test_a_full_disk_is_waited_for(night, calm, small_disk):
    land(night, small_disk)
    with daemon(small_disk, until_idle=8.0) as process:
        assert said(small_disk, "MB free")
        assert process.poll() is None
        larger = ["mount", "-o", "remount,size=2g", str(small_disk / "out")]
        subprocess.run(larger, check=True)  # noqa: S603 - a fixed command
        assert process.wait(timeout=PATIENCE) == 0
    assert content(small_disk / "out") == calm
