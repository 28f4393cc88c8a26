"""SIGKILL of the daemon and of its workers at any moment: the end is that of an undisturbed run."""

import os
import random
import shutil
import signal
import threading
import time

import pytest

ATTEMPTS = {"workers": {"attempts": 50}}  # that a job loses its worker by bad luck again and again is not the matter


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("n_kill", [20, pytest.param(200, marks=pytest.mark.soak)])
def test_killed_at_random_while_frames_land(long_night, long_calm, site, workers, n_kill):
    rng = random.Random(n_kill)  # noqa: S311 - repeatable moments, no secrets
    for number in range(n_kill):
        site.land(long_night[: 1 + number * len(long_night) // n_kill])
        with site.daemon(**ATTEMPTS) as process:
            if rng.random() < 0.1:
                time.sleep(rng.uniform(0.0, 1.5))  # in the moments of the start
            else:
                site.progress(rng.randrange(1, 12))
                time.sleep(rng.uniform(0.0, 0.05))
            if rng.random() < 0.3:
                kill_one(workers(process.pid), rng)
                time.sleep(rng.uniform(0.0, 0.3))
            assert process.poll() is None
            process.send_signal(signal.SIGKILL)
    assert len(site.sql("select 1 from frames")) > len(long_night) // 2
    site.land(long_night)
    site.finish(**ATTEMPTS)
    assert site.content() == long_calm


def kill_one(pids, rng):
    if pids:
        try:
            os.kill(rng.choice(pids), signal.SIGKILL)
        except ProcessLookupError:
            return


@pytest.mark.parametrize(
    "numbers",
    [(30, 75, 140), pytest.param(range(1, 240, 2), marks=[pytest.mark.soak, pytest.mark.timeout(1800)])],
    ids=["some", "all"],
)
def test_killed_before_a_change_of_the_disk_or_the_catalog(night, calm, site, numbers):
    """Each start of the daemon is ended in the moment before its n-th change, workers left to die with it.

    A start that has fewer changes to make comes to its end; then all begins anew.
    """
    site.land(night)
    ended = 0
    for number in numbers:
        with site.daemon(until_idle=3.0, environment={"KILL_AT": str(number)}) as process:
            killed = process.wait(timeout=120.0) == -signal.SIGKILL
        ended += killed
        if not killed:
            assert site.content() == calm
            shutil.rmtree(site.out)
    assert ended >= len(numbers) // 3
    site.finish()
    assert site.content() == calm


@pytest.mark.parametrize("number", [3, *(pytest.param(n, marks=pytest.mark.soak) for n in (*range(1, 40, 2), 12))])
def test_a_worker_killed_before_a_change_of_the_disk(night, calm, site, number):
    site.land(night)
    site.finish(environment={"KILL_WORKER": f"{number}:{site.place / 'killed'}"})
    assert (site.place / "killed").exists()
    assert site.content() == calm


@pytest.mark.soak
def test_workers_killed_all_the_time_cost_nothing(night, calm, site, workers):
    site.land(night)
    rng, over = random.Random(4), threading.Event()  # noqa: S311 - as above
    with site.daemon(until_idle=4.0, **ATTEMPTS) as process:
        assert site.wait_for("select 1 from jobs")
        for _ in range(12):
            kill_one(workers(process.pid), rng)
            over.wait(rng.uniform(0.1, 0.6))
        assert process.wait(timeout=120.0) == 0
    assert site.content() == calm


def test_after_a_kill_nobody_says_that_something_runs(night, site):
    site.land(night)
    with site.daemon() as process:
        assert site.wait_for("select 1 from jobs where state = 'running'")
        process.send_signal(signal.SIGKILL)
        process.wait()
    status = site.command("status")
    assert "not running" in status
    assert " running" not in status.replace("not running", "")
