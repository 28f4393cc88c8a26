import os
import signal
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from daemon.executor import (
    SerialExecutor,
    WorkerPool,
    describe_failure,
    make_executor,
    perform,
    remove_remains,
)
from daemon.planning.fingerprint import directory_name
from daemon.records import Job, Outcome
from daemon.rulebook import Limits
from kspecdr.errors import BadFrame

ROOT = Path(__file__).resolve().parents[2]


def square(number):
    return number * number


def die(number):
    time.sleep(0.3)  # in the midst of the job: a worker that dies before it has told of its start breaks the pool
    os.kill(os.getpid(), signal.SIGKILL)
    return number


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
    sentence, retry = describe_failure(culprit.exception(timeout=30))
    assert retry
    assert sentence.startswith("the worker died")


def test_workers_that_die_between_jobs_are_replaced(pool):
    workers = pool(workers=1)
    os.kill(workers.submit(os.getpid).result(timeout=30), signal.SIGKILL)
    end = time.monotonic() + 10
    while workers._pool.active and time.monotonic() < end:
        time.sleep(0.05)
    assert workers.submit(square, 3).result(timeout=30) == 9


def test_a_job_that_takes_too_long_is_ended(pool):
    late = pool(timeout_s=0.3).submit(sleep, 60)
    sentence, retry = describe_failure(late.exception(timeout=30))
    assert retry
    assert "workers.timeout" in sentence


def test_a_job_that_takes_too_much_memory_is_ended(pool):
    workers = pool(memory_mb=1500, workers=1)
    assert workers.submit(hoard, 10).result(timeout=30) == 10 * 1024 * 1024
    sentence, retry = describe_failure(workers.submit(hoard, 4000).exception(timeout=30))
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
    assert sorted(path.name for path in final.iterdir()) == sorted(w.path for w in outcome.products)
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
