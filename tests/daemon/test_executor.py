import multiprocessing
import os
import random
import signal
import time
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.adoption import RECORD
from daemon.executor import SerialExecutor, make_executor, perform, remove_half_written, remove_remains
from daemon.outage import NoWorker, WorkerDied, describe_failure, judge
from daemon.planning.fingerprint import directory_name
from daemon.records import Job, Outcome
from daemon.rulebook import Limits
from daemon.slots import WorkerPool
from kspecdr.errors import BadFrame

ROOT = Path(__file__).resolve().parents[2]


def square(number):
    return number * number


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)
    return number


class UnsendableError(Exception):
    def __init__(self, number, kind):
        super().__init__(f"of {number} {kind}")


def raise_unsendable(number):
    raise UnsendableError(number, "things")


def children():
    """Return the worker processes of this process."""
    return [each for each in multiprocessing.active_children() if each.name == "kspecdr-worker"]


def sleep(seconds):
    time.sleep(seconds)
    return seconds


def hoard(mebibytes):
    return len(bytearray(mebibytes * 1024 * 1024))


@pytest.fixture
def pool(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))  # so that a worker can import this file
    made = []

    def make(**limits):
        made.append(WorkerPool(Limits(**{"workers": 2, **limits}), __name__))
        return made[-1]

    yield make
    for each in made:
        each.shutdown(cancel_futures=True)


@pytest.fixture
def job(frame_of, tmp_path):
    frame = frame_of("bias_0.fits", "BIAS", 0)
    return Job("bias", "f" * 64, (frame,), {}, {}, frame.night, out=str(tmp_path))


def test_a_worker_that_dies_takes_only_its_own_job_with_it(pool):
    workers = pool()
    others = [workers.submit(square, n) for n in range(4)]
    culprit = workers.submit(die, 1)
    others += [workers.submit(square, n) for n in range(4, 8)]
    assert [each.result(timeout=30) for each in others] == [n * n for n in range(8)]
    sentence, retry, blocked = describe_failure(culprit.exception(timeout=30))
    assert (sentence, retry, blocked) == ("the worker died (exit code -9)", True, False)


def test_workers_that_die_between_jobs_are_replaced(pool):
    workers = pool(workers=1)
    for number in range(3):
        os.kill(workers.submit(os.getpid).result(timeout=30), signal.SIGKILL)
        assert workers.submit(square, number).result(timeout=30) == number * number


@pytest.mark.parametrize("n_kill", [12, pytest.param(300, marks=pytest.mark.soak)])
def test_a_kill_at_the_moment_of_taking_concerns_one_job_at_most(pool, n_kill):
    workers, rng, n_died = pool(), random.Random(n_kill), 0  # noqa: S311 - repeatable moments, no secrets
    for _ in range(n_kill):
        some = [workers.submit(square, n) for n in range(6)]
        time.sleep(rng.uniform(0.0, 0.002))
        while not (alive := children()):
            time.sleep(0.001)
        rng.choice(alive).kill()
        errors = [each.exception(timeout=60) for each in some]
        died = [error for error in errors if error is not None]
        assert len(died) <= 1
        assert all(isinstance(error, WorkerDied) for error in died)
        assert all(each.result() == n * n for n, each in enumerate(some) if not errors[n])
        n_died += len(died)
    assert n_died < n_kill


def test_workers_that_cannot_start_are_no_fault_of_the_job():
    workers = WorkerPool(Limits(workers=1), "no.such.module")
    with pytest.raises(NoWorker, match=r"end before they take a job \(exit code 1\)") as caught:
        workers.submit(square, 2).result(timeout=60)
    workers.shutdown(cancel_futures=True)
    assert describe_failure(caught.value).blocked


def test_an_error_that_cannot_be_sent_is_told_in_words(pool):
    workers = pool(workers=1)
    with pytest.raises(RuntimeError, match="UnsendableError: of 3 things"):
        workers.submit(raise_unsendable, 3).result(timeout=30)
    assert workers.submit(square, 3).result(timeout=30) == 9


def test_the_end_leaves_no_worker_and_no_job_in_doubt(pool):
    workers = pool()
    numbers = {workers.submit(os.getpid).result(timeout=30)}
    running = [workers.submit(sleep, 60) for _ in range(2)]
    waiting = workers.submit(square, 1)
    while not all(each.running() for each in running):
        time.sleep(0.01)
    workers.shutdown(cancel_futures=True)
    assert waiting.cancelled()
    assert all(isinstance(each.exception(timeout=30), WorkerDied | NoWorker) for each in running)
    assert not [number for number in numbers if Path(f"/proc/{number}/cmdline").exists()]
    with pytest.raises(RuntimeError, match="have ended"):
        workers.submit(square, 1)


def test_a_job_that_takes_too_long_is_ended(pool):
    late = pool(timeout_s=0.3).submit(sleep, 60)
    sentence, retry, _ = describe_failure(late.exception(timeout=30))
    assert retry
    assert "workers.timeout" in sentence


def test_a_job_that_takes_too_much_memory_is_ended(pool):
    workers = pool(memory_mb=1500, workers=1)
    assert workers.submit(hoard, 10).result(timeout=30) == 10 * 1024 * 1024
    sentence, retry, _ = describe_failure(workers.submit(hoard, 4000).exception(timeout=30))
    assert retry
    assert "workers.memory_mb" in sentence
    assert workers.submit(square, 3).result(timeout=30) == 9


def test_a_worker_leaves_interrupts_to_the_daemon(pool):
    workers = pool(workers=1)
    number = workers.submit(os.getpid).result(timeout=30)
    os.kill(number, signal.SIGINT)
    assert workers.submit(os.getpid).result(timeout=30) == number


def test_a_job_that_has_not_begun_can_be_cancelled(pool):
    workers = pool(workers=1)
    workers.submit(sleep, 0.5)
    second = workers.submit(square, 2)
    assert second.cancel()
    with pytest.raises(CancelledError):
        second.result(timeout=30)


def test_without_workers_jobs_run_in_this_process():
    executor = make_executor(Limits(workers=0), "daemon.records")
    assert isinstance(executor, SerialExecutor)
    assert executor.submit(os.getpid).result() == os.getpid()


def test_products_appear_whole_under_their_final_name(job, recipe, tmp_path):
    final = tmp_path / directory_name(job.night, job.fingerprint)
    seen = []

    def run(placed):
        seen.append((Path(placed.directory).is_dir(), final.exists()))
        return recipe(placed)

    outcome = perform(run, job)
    assert seen == [(True, False)]
    assert {path.name for path in final.iterdir()} == {RECORD, *(w.path for w in outcome.products)}
    assert [path.name for path in final.parent.iterdir()] == [final.name]
    assert outcome.stage_times["worker"] > 0


@pytest.mark.parametrize(
    ("error", "sentence", "retry"),
    [
        (BadFrame("bias_0.fits: no light"), "bias_0.fits: bias_0.fits: no light", False),
        (OSError(28, "No space left on device", "x"), "bias_0.fits: No space left on device (x)", True),
        (KeyError("a"), "bias_0.fits: unexpected KeyError: 'a'", False),
    ],
)
def test_what_a_recipe_raises_becomes_an_outcome_and_leaves_nothing(job, error, sentence, retry, tmp_path):
    def run(placed):
        Path(placed.directory, "half.fits").write_text("half")
        raise error

    outcome = perform(run, job)
    assert (outcome.error, outcome.retry) == (sentence, retry)
    assert not list((tmp_path / job.night).iterdir())


def test_a_watched_directory_that_is_gone_is_no_fault_of_the_frame(job, tmp_path):
    raw, error = tmp_path / "raw", BadFrame("bias_0.fits: it does not exist")
    placed = replace(job, roots=(str(raw),))
    assert judge(placed, error).blocked
    raw.mkdir()
    assert judge(placed, error).blocked  # nothing is mounted there
    (raw / "another.fits").write_text("x")
    assert not judge(placed, error).blocked


def test_an_outcome_with_an_error_publishes_nothing(job, tmp_path):
    def run(placed):
        Path(placed.directory, "half.fits").write_text("half")
        return Outcome(placed.fingerprint, error="no light")

    assert perform(run, job).error == "no light"
    assert not list((tmp_path / job.night).iterdir())


def test_the_remains_of_an_interrupted_job_are_removed_and_no_others(job, tmp_path):
    final = tmp_path / directory_name(job.night, job.fingerprint)
    other = final.with_name("0123456789ab")
    for directory in (final, final.with_name(f".{final.name}.77.partial"), other):
        directory.mkdir(parents=True)
        (directory / "x.fits").write_text("x")
    remove_remains(tmp_path, job.night, job.fingerprint)
    assert list(final.parent.iterdir()) == [other]


def test_what_dead_processes_were_writing_beside_the_nights_is_removed_and_nothing_else(tmp_path):
    for name in (".pulse.json.77", ".settings.json.123", ".pulse.json", ".lock", "catalog.db", "2026-01-27"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".link.99").symlink_to("nowhere")
    remove_half_written(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".pulse.json", "2026-01-27", "catalog.db"]
