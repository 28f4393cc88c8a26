"""tick(now): collect what workers have done, plan, claim, submit. No clock, no loop, no sleep of its own."""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, wait
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from daemon.catalog import Catalog
from daemon.executor import Recipe, failure, perform
from daemon.output import Output
from daemon.planning.replan import Replanner
from daemon.records import Job, Outcome, Plan, Waiting
from daemon.rulebook import Limits, Rulebook

AHEAD = 1  # jobs that stand ready before the workers, so that none waits for a tick
LEAST_FREE_BYTES = 200_000_000  # on the output's disk; with less no job begins
RETRY_AFTER_S = 1.0  # doubled with each attempt
BLOCKED_S = 5.0  # until the next attempt when the output could not be written


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are."""

    roots: tuple[Path, ...]  # the watched directories
    out: Path
    keep: tuple[str, ...] = ()  # kinds of products to write; none: all


@dataclass(frozen=True, slots=True)
class Tick:
    """What one tick has done and what comes next."""

    started: tuple[Job, ...] = ()
    finished: tuple[tuple[Job, Outcome], ...] = ()
    changed: tuple[Waiting, ...] = ()  # frames whose state or reason has changed
    answers: tuple[str, ...] = ()  # to what people asked for
    next_wake: datetime | None = None  # when a tick is due although nothing happens
    idle: bool = True  # nothing runs and nothing will run unless something comes or a limit passes
    settling: bool = False  # a quiet time or a wait for something better is running
    paused: str = ""  # why no job begins


@dataclass(slots=True)
class _Running:
    job: Job
    future: "Future[Outcome]"
    begun: bool = False


class Scheduler:
    """Brings what exists to what the rules want.

    Parameters
    ----------
    catalog : Catalog
        What exists; this scheduler is its only writer beside requests.
    book : Rulebook
        What is wanted.
    executor, run : Executor, callable
        Where jobs run, and the recipe: a picklable function of a Job that returns an Outcome.
    places, limits : Places, Limits
        Directories; workers, and attempts.
    owner : str
        The name under which jobs are claimed, no other process's.
    batch : bool
        Nothing more will come: groups are complete.
    wake : callable, optional
        Called from another thread whenever a job ends.
    """

    def __init__(
        self,
        catalog: Catalog,
        book: Rulebook,
        executor: Executor,
        run: Recipe,
        *,
        places: Places,
        limits: Limits,
        owner: str,
        batch: bool = False,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._catalog = catalog
        self._planner = Replanner(catalog, book, batch=batch)
        self._batch = batch
        self._executor = executor
        self._run = run
        self._places = places
        self._limits = limits
        self._owner = owner
        self._wake = wake
        self._running: dict[str, _Running] = {}
        self._not_before: dict[str, datetime] = {}
        self._finished: list[tuple[Job, Outcome]] = []  # what no tick has told of yet; one may be broken off
        self._answers: list[str] = []  # as above
        self._changed: list[Waiting] = []  # as above
        self._plan = Plan()
        self._planned_at = -1  # the revision that the plan belongs to
        self._output = Output(catalog, places.out, batch=batch)
        self._blocked = ""  # what kept a job from writing, until a time
        self._blocked_until: datetime | None = None

    def recover(self) -> list[str]:
        """Give back what a dead process had claimed, and remove its half products; return fingerprints.

        A whole product that was not recorded any more is adopted when its job comes up again. One whose files are
        gone, of those made last, is made again; of a batch any.
        """
        released = self._catalog.release(self._owner)
        self._output.recover()
        return released

    def tick(self, now: datetime, held: str = "") -> Tick:
        """Do what can be done at this moment, without waiting for anything.

        held : why nothing may be planned now; what runs is collected
        """
        self._catalog.check()
        self._collect(now)
        self._catalog.release_dead(self._owner, now)
        self._answers += self._catalog.apply_requests(now)
        if self._answers:
            self._output.remove_pruned()
        paused = held or self._shortage(now)
        self._answers += () if paused else self._without_lost(now)
        self._changed += [] if held else self._replan(now)
        self._output.link()
        started = () if paused else tuple(self._submit(now))
        self._begin(now)
        ready = [job for job in self._plan.jobs if job.fingerprint not in self._running]
        wakes = [self._plan.next_wake, self._blocked_until, *(self._not_before.get(job.fingerprint) for job in ready)]
        again = not held and (self._plan.behind or not self._is_last or bool(self._output.lost and not paused))
        idle = not (held or again or self._output.lost or self._running or ready or self._catalog.busy())
        if idle and not self._plan.settling:
            self._output.forget_unwanted(self._plan.jobs)
        finished, self._finished = tuple(self._finished), []
        answers, self._answers = tuple(self._answers), []
        changed, self._changed = tuple(self._changed), []
        return Tick(
            started,
            finished,
            changed,
            answers,
            now if again else min((each for each in wakes if each and each > now), default=None),
            idle,
            self._plan.settling,
            paused,
        )

    @property
    def _is_last(self) -> bool:
        """Whether nobody else has changed anything since the last plan, which may have been overtaken otherwise."""
        return self._catalog.own_after(self._planned_at) == self._catalog.revision

    @property
    def busy(self) -> bool:
        """Whether a job is with the executor."""
        return bool(self._running)

    def follow(self, book: Rulebook, keep: tuple[str, ...]) -> None:
        """Want something else from now on: other rules, options and times, other kinds of products."""
        self._planner = Replanner(self._catalog, book, batch=self._batch)
        self._places = replace(self._places, keep=keep)
        self._planned_at = -1

    def stop(self, now: datetime, grace_s: float) -> tuple[tuple[Job, Outcome], ...]:
        """End: let running jobs finish within the grace time, give back the others; return those that ended."""
        begun = [each.future for each in self._running.values() if each.begun]
        for each in self._running.values():
            if not each.begun:
                each.future.cancel()
        wait(begun, timeout=grace_s)
        self._collect(now)
        self._executor.shutdown(wait=True, cancel_futures=True)
        for print_, each in self._running.items():
            self._catalog.unclaim(print_)
            self._output.remove(each.job.night, print_, whole=False)
        self._running.clear()
        self._replan(now)  # no frame is left as queued or running
        self._output.link()
        return tuple(self._finished)

    def _collect(self, now: datetime) -> None:
        """Record the jobs that have ended, and note them to be told."""
        ended = [each for each in self._running.values() if each.future.done()]
        for each in ended:
            job = each.job
            outcome = _outcome(each)
            if outcome is None or outcome.blocked:
                self._give_back(job, outcome, now)
                continue
            attempts = self._catalog.attempts(job.fingerprint) if outcome.error else 0
            again = outcome.retry and attempts < self._limits.attempts
            if outcome.error:
                self._output.remove(job.night, job.fingerprint, whole=not again)
            if again:
                delay = timedelta(seconds=RETRY_AFTER_S * 2 ** (attempts - 1))
                self._not_before[job.fingerprint] = now + delay
            superseded = self._catalog.finish(job, outcome, now, retry=again)
            del self._running[job.fingerprint]  # not before it is recorded
            self._output.changed([job.fingerprint, *superseded])
            self._finished.append((job, outcome))

    def _give_back(self, job: Job, outcome: Outcome | None, now: datetime) -> None:
        """Open a job that was never begun, or that could not write; then no job begins for a while."""
        self._output.remove(job.night, job.fingerprint, whole=False)
        self._catalog.unclaim(job.fingerprint)
        del self._running[job.fingerprint]
        if outcome is not None:
            self._blocked = f"{outcome.error}; mend that, it is tried again by itself"
            self._blocked_until = now + timedelta(seconds=BLOCKED_S)

    def _replan(self, now: datetime) -> list[Waiting]:
        """Compare again where something has changed or a time limit has passed."""
        passed = self._plan.next_wake is not None and now >= self._plan.next_wake
        due = passed or self._planner.is_new_night(now)
        if self._catalog.revision == self._planned_at and not due and not self._plan.behind:
            return []
        try:
            self._plan = self._planner.plan(now)
            changed = self._catalog.apply(self._plan.standings, self._plan.marks)
        except BaseException:
            self._planner.forget()
            raise
        if self._plan.marks:
            self._output.changed(list(self._plan.marks))
        self._planned_at = self._catalog.own_after(self._planner.seen)
        return changed

    def _shortage(self, now: datetime) -> str:
        """Say why no job can begin, an empty text where one can."""
        if self._blocked_until is not None and now < self._blocked_until:
            return self._blocked
        self._blocked_until = None
        if not os.access(self._places.out, os.W_OK):
            return f"{self._places.out} cannot be written; mount it for writing, or mend its permissions"
        if self._output.is_unmounted:
            return f"{self._places.out} holds no night at all, but the catalog names products in it; mount it"
        free = shutil.disk_usage(self._places.out).free
        if free >= LEAST_FREE_BYTES:
            return ""
        return f"{self._places.out}: {free / 1e6:.0f} MB free, {LEAST_FREE_BYTES / 1e6:.0f} MB needed; make room"

    def _submit(self, now: datetime) -> Iterator[Job]:
        """Claim and submit as many jobs as the workers can take."""
        room = max(self._limits.workers, 1) + (AHEAD if self._limits.workers else 0)
        for planned in self._plan.jobs:
            if len(self._running) >= room:
                return
            print_ = planned.fingerprint
            if print_ in self._running or self._not_before.get(print_, now) > now:
                continue
            if self._output.misses(planned):
                continue
            job = self._located(planned)
            if not self._catalog.claim(job, self._owner, now):
                continue
            self._not_before.pop(print_, None)
            future = self._executor.submit(perform, self._run, job)
            self._running[print_] = _Running(job, future)
            future.add_done_callback(lambda _: self._wake())
            self._planned_at = self._catalog.own_after(self._planned_at)
            yield job

    def _without_lost(self, now: datetime) -> tuple[str, ...]:
        """Forget products whose files are gone, so that they are made again where they are wanted; say which."""
        lost = self._catalog.lose(self._output.lost, now)
        self._output.lost.clear()
        return tuple(f"{path} is gone; it is made again where it is wanted" for path in lost)

    def _begin(self, now: datetime) -> None:
        """Record which of the submitted jobs the workers have."""
        for each in self._running.values():
            if not each.begun and (each.future.running() or each.future.done()):
                each.begun = True
                self._catalog.set_running(each.job.fingerprint, now)

    def _located(self, job: Job) -> Job:
        places = self._places
        return replace(job, roots=tuple(str(root) for root in places.roots), out=str(places.out), keep=places.keep)


def _outcome(each: _Running) -> Outcome | None:
    """Return how a job has ended; None: it was never begun."""
    try:
        return each.future.result()
    except CancelledError:
        return None
    except Exception as error:  # noqa: BLE001 - whatever ended the worker is the job's outcome
        return failure(each.job, error)
