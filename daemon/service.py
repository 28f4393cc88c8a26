"""The daemon: watcher, intake and scheduler wired together, until a signal or nothing is left."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from secrets import token_hex

from daemon.agreement import Agreement
from daemon.announcing import Announcer, Surroundings, announcing
from daemon.catalog import Catalog
from daemon.clock import SteadyClock
from daemon.cluster import job_executor
from daemon.config import Config
from daemon.fiber_tables import tables_of
from daemon.intake import Intake
from daemon.notify import Notifier
from daemon.preconditions import check_agreement, check_fibers, check_places, is_at, tell_other_settings
from daemon.records import FrameInfo, FrameState
from daemon.reload import changes, taken_over
from daemon.restoring import restore_vanished
from daemon.scheduler import Places, Scheduler, Tick
from daemon.session import Session, locked, recall, remember
from daemon.signals import ends, hangups
from daemon.store.engines import CatalogLost
from daemon.turn_log import TurnLog
from daemon.watcher import Watcher
from daemon.worker import MODULE, run
from kspecdr.errors import KspecError

LOG = logging.getLogger("kspecdr.daemon")
GRACE = 20.0  # s that running jobs have to finish when the daemon is stopped
NOT_UNDERSTOOD = (FrameState.UNCLASSIFIED, FrameState.IGNORED, FrameState.INVALID)  # other rules may say otherwise
LONGEST_WAIT = 1.0  # s between ticks: requests of people and signals are seen so soon


@dataclass(frozen=True, slots=True)
class Step:
    """What one turn of the loop has done."""

    landed: tuple[FrameInfo, ...]
    tick: Tick


class Service:
    """One daemon at work on one output directory."""

    def __init__(
        self, session: Session, catalog: Catalog, stopping: threading.Event, before: Session | None = None
    ) -> None:  # `before`: with what the output directory was last reduced
        config = session.config
        self._session = session
        out = Path(config.paths.out).resolve()
        self._awake = threading.Event()
        self._stopping = stopping
        self.batch = session.batch
        self.catalog = catalog
        self.intake = Intake(catalog, config, session.watched)
        inside = any(out.is_relative_to(root) for root in session.watched.values())
        no_frames = [out] if inside else []  # products are no frames
        self._clock = SteadyClock(catalog.last_landed())
        before = before or session
        edited = before.tables != session.tables
        outdated = self.intake.outdated(before.config, self._clock.now(), batch=session.batch, edited=edited)
        self.watcher = Watcher(
            session.watched, config.watch, exclude=no_frames, known=self.intake.known(outdated), wake=self._awake.set
        )
        limits = config.limits()
        self.scheduler = Scheduler(
            catalog,
            config.rulebook(),
            job_executor(config.workers.scheduler, limits, MODULE, (out, *session.watched.values())),
            run,
            places=Places(tuple(Path(root) for root in session.roots), out, config.kinds_kept()),
            limits=limits,
            owner=f"{socket.gethostname()}:{os.getpid()}:{token_hex(4)}",  # in containers the first two are often alike
            batch=session.batch,
            wake=self._awake.set,
        )
        for fingerprint in self.scheduler.recover():
            LOG.info("job %s of a process that ended is taken up again", fingerprint[:8])
        self._agreement = Agreement() if config.catalog.shared else None
        self._active_at = time.monotonic()
        self._due = 0.0
        self._landed: list[FrameInfo] = []  # what no step has told of yet; one may be broken off
        self._answered = False  # people were answered, and may want files to be read again
        self.log = TurnLog()

    def step(self) -> Step:
        """Do what can be done now: look, describe a few files, plan, submit, collect.

        In a batch everything was looked at before; nothing more comes. What the machine refuses (a full disk,
        a catalog that another process holds) is a pause: the next step tries again.
        """
        try:
            return self._step()
        except OSError as error:
            pause = Tick(idle=False, paused=str(error))
            self.log.tell(pause)
            self._active_at = time.monotonic()
            self._due = time.monotonic() + LONGEST_WAIT
            return Step((), pause)

    def _step(self) -> Step:
        now = self._clock.now()
        if not self.batch:
            self.look()
        self._landed += self.intake.take(now)
        tick = self.scheduler.tick(now, self._agreement.trouble(self._session.config) if self._agreement else "")
        landed, self._landed = tuple(self._landed), []
        self._answered |= bool(tick.answers)
        with suppress(OSError):  # the next step asks again
            self._read_again()
        self.log.tell(tick)
        if landed or tick.started or tick.finished or tick.settling or not tick.idle or self.n_waiting:
            self._active_at = time.monotonic()
        wake = LONGEST_WAIT if tick.next_wake is None else (tick.next_wake - now).total_seconds()
        self._due = 0.0 if self.intake.n_waiting else time.monotonic() + wake
        return Step(landed, tick)

    def follow(self, config: Config) -> Config:
        """Go by another configuration from now on, as far as that needs no new start; say what changes.

        Return the configuration that is gone by.
        """
        before = self._session
        said = changes(before.config, config)
        for sentence in said or ["nothing has changed"]:
            LOG.info("configuration: %s", sentence)
        config = taken_over(before.config, config)
        check_fibers(config)
        tables = tables_of(config)
        if said:
            self._describe_by(config)
        outdated = self.intake.outdated(
            before.config, self._clock.now(), batch=self.batch, edited=tables != before.tables
        )
        for index, name in outdated:
            self.watcher.look_again(index, self.intake.roots[index] / name)
        session = replace(before, config=config if said else before.config, tables=tables)
        remember(session)  # at the end: what was broken off before is done when it is asked for again
        self._session = session
        return session.config

    def _describe_by(self, config: Config) -> None:
        """Go by another configuration; look again at what the last one has not understood."""
        self.intake.follow(config)
        self.scheduler.follow(config.rulebook(), config.kinds_kept())
        for index, name in self.catalog.files(states=NOT_UNDERSTOOD):
            if index in self.intake.roots:
                self.watcher.look_again(index, self.intake.roots[index] / name)

    def _read_again(self) -> None:
        """Let the watcher say anew what people want to be tried again."""
        if self._answered:
            for index, name in self.catalog.to_read():
                if index in self.intake.roots:
                    self.watcher.look_again(index, self.intake.roots[index] / name)
            self._answered = False

    def look(self) -> None:
        """Let the watcher look, and queue what it has seen."""
        for index, path in self.intake.changed:
            self.watcher.look_again(index, path)
        self.intake.changed.clear()
        self.intake.put(self.watcher.poll(time.monotonic(), observe=not self.batch))
        for note in self.watcher.notes:
            LOG.warning(note)
        self.watcher.notes.clear()

    def wait(self, longest: float = LONGEST_WAIT) -> None:
        """Sleep until something happens or is due."""
        now = time.monotonic()
        seconds = min(self._due - now, longest)
        if not self.batch:
            seconds = min(seconds, self.watcher.next_wake() - now)
        if not self.stopping:
            self._awake.wait(max(seconds, 0.0))
        self._awake.clear()

    @property
    def n_waiting(self) -> int:
        """How many files are complete and not described yet, or about to be complete."""
        return self.intake.n_waiting + self.watcher.n_settling

    @property
    def surroundings(self) -> Surroundings:
        """What the daemon sees around it."""
        return Surroundings(self.watcher.lost, self.n_waiting)

    @property
    def idle_s(self) -> float:
        """For how long nothing has been left to do and no file has changed."""
        return time.monotonic() - max(self._active_at, self.watcher.last_change)

    @property
    def stopping(self) -> bool:
        """Whether somebody has asked for the end."""
        return self._stopping.is_set()

    def run(self, until_idle: float | None = None, watch: Callable[[Step], None] = lambda _: None) -> None:
        """Turn until somebody asks for the end, or until nothing has been left for `until_idle` seconds."""
        while not self.stopping:
            watch(self.step())
            left = LONGEST_WAIT if until_idle is None else until_idle - self.idle_s
            if left <= 0:
                return
            self.wait(min(left, LONGEST_WAIT))

    def stop(self) -> None:
        """End: stop looking, let running jobs finish within the grace time, give back the others."""
        self.watcher.stop()
        try:
            finished = self.scheduler.stop(self._clock.now(), GRACE)
        except OSError as error:
            LOG.warning("what was left at the end is taken up at the next start: %s", error)
        else:
            self.log.tell(Tick(finished=finished, paused=self.log.paused))


@contextmanager
def opened(config: Config, *, batch: bool, command: str) -> Iterator[Service]:
    """Hold the output directory and its catalog, and a service on them that ends with the block."""
    out = Path(config.paths.out)
    check_places(config, out)
    check_fibers(config)
    with ends(GRACE) as stopping, locked(out, command, shared=config.catalog.shared):
        catalog = Catalog.open(config.catalog.url or str(out), out)
        try:
            with catalog.entering() as others:
                before = recall(config)
                tell_other_settings(before, config)
                session = before.renewed(config, batch=batch, moved=partial(is_at, before.roots, catalog))
                if others:
                    check_agreement(before, session)
                remember(session)
                restore_vanished(catalog, session.roots)
                service = Service(session, catalog, stopping, before)
            try:
                yield service
            finally:
                service.stop()
        finally:
            catalog.close()


def serve(config: Config, *, until_idle: float | None = None, reload: Callable[[], Config] | None = None) -> int:
    """Run the daemon; return the exit code. At SIGHUP it goes by what `reload` returns.

    A watched directory that is not there is waited for; one that is to end when nothing is left ends with 1.
    Where somebody removes the catalog under it, it begins anew and builds another.
    """
    notifier = Notifier.from_environment()
    while True:
        try:
            lost = _serve(config, notifier, until_idle=until_idle, reload=reload)
        except CatalogLost as error:
            LOG.error("%s; all is looked at again", error)  # noqa: TRY400 - the sentence says all
        else:
            LOG.error("ended without %s, which is not there", " and ".join(lost)) if lost else LOG.info("ended")
            return int(bool(lost))


def _serve(
    config: Config, notifier: Notifier, *, until_idle: float | None, reload: Callable[[], Config] | None
) -> tuple[str, ...]:
    """Run until the end; return the watched directories that were missing when nothing was left."""
    hangup = threading.Event()
    with opened(config, batch=False, command="kspecdr run") as service, announcing(config, notifier) as announcer:
        LOG.info("watching %s, products in %s", ", ".join(config.paths.watch), config.paths.out)

        def turned(step: Step) -> None:
            announcer.turn(step.landed, step.tick, service.surroundings)
            if hangup.is_set():
                hangup.clear()
                _reload(service, announcer, reload)

        with hangups(hangup):
            service.run(until_idle, watch=turned)
        return () if service.stopping else service.watcher.lost


def _reload(service: Service, announcer: Announcer, reload: Callable[[], Config] | None) -> None:
    """Go by the configuration as it is now; a mistake in it is told and changes nothing."""
    try:
        if reload is not None:
            announcer.follow(service.follow(reload()))
    except (KspecError, OSError) as error:
        LOG.error("the configuration stays as it was: %s", error)  # noqa: TRY400 - the sentence says all
