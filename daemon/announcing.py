"""What the daemon tells others after each turn: systemd, the pages, and the hooks of the configuration.

Nothing here waits for whoever listens.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daemon.config import Config
from daemon.hooks import Event, Hooks
from daemon.notify import Notifier
from daemon.planning.fingerprint import directory_name
from daemon.pulse import EVERY, Pulse, remove_pulse, write_pulse
from daemon.records import FrameInfo, FrameState, Job, Outcome, Waiting
from daemon.scheduler import Tick
from daemon.web.process import WebProcess

LOG = logging.getLogger("kspecdr.announcing")
PATIENCE = 5.0  # s at the end for what is still to be delivered to hooks
REFUSED = (FrameState.INVALID, FrameState.UNCLASSIFIED)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the daemon sees around it."""

    lost: tuple[str, ...] = ()  # watched directories that are not there
    incoming: int = 0  # files that are seen and not described yet


class Announcer:
    """Tells what one turn of the daemon has done, and that it lives."""

    def __init__(self, config: Config, notifier: Notifier) -> None:
        self._out = Path(config.paths.out).resolve()
        self._notifier = notifier
        self._config = config
        self._hooks = Hooks(config.hooks)
        self._web = WebProcess(config)
        self._counts = {"landed": 0, "made": 0, "failed": 0}  # frames, jobs, jobs
        self._before = Pulse(datetime.fromtimestamp(0, UTC), os.getpid())
        self._unwritten = ""

    def turn(self, landed: Sequence[FrameInfo], tick: Tick, around: Surroundings) -> None:
        """Tell of a turn that has come to its end.

        landed : frames that are new or have changed
        """
        now = datetime.now(UTC)
        self._count(landed, tick)
        line = self._line(tick, around)
        pulse = Pulse(now, os.getpid(), line, around.lost, tick.paused, around.incoming, tick.idle)
        for event in (*frame_events(landed, tick.changed), *product_events(tick.finished), *self._alarms(pulse)):
            self._hooks.tell({**event, "time": now.isoformat()})
        self._show(pulse)
        self._notifier.ready()
        self._notifier.status(pulse.line)
        self._notifier.alive()
        self._web.keep()

    def follow(self, config: Config) -> None:
        """Go by another configuration from now on; a hook that is no more delivers what it has, and ends."""
        before, self._config = self._config, config
        if config.hooks != before.hooks:
            self._hooks.close(patience=0.0)
            self._hooks = Hooks(config.hooks)
        self._web.follow(config)

    def close(self) -> None:
        """End the pages and the hooks."""
        remove_pulse(self._out)
        self._web.close()
        self._hooks.close(PATIENCE)

    def _count(self, landed: Sequence[FrameInfo], tick: Tick) -> None:
        failed = sum(bool(outcome.error) for _, outcome in tick.finished)
        self._counts["landed"] += len(landed)
        self._counts["made"] += len(tick.finished) - failed
        self._counts["failed"] += failed

    def _line(self, tick: Tick, around: Surroundings) -> str:
        """Say in one line what the daemon does."""
        incoming = around.incoming
        trouble = [f"{', '.join(around.lost)} is not there"] if around.lost else []
        trouble += [f"no job begins: {tick.paused}"] if tick.paused else []
        doing = "idle" if tick.idle and not incoming else f"at work{f', {incoming} files come in' if incoming else ''}"
        counts = ", ".join(f"{n} {what}" for what, n in self._counts.items())
        return "; ".join([*trouble, doing, f"since the start: {counts}"])

    def _alarms(self, pulse: Pulse) -> Iterator[Event]:
        """Yield what has gone wrong, or right again, with the surroundings."""
        before = self._before
        for root in sorted({*before.lost} ^ {*pulse.lost}):
            yield _alarm(root, "is not there" if root in pulse.lost else "is there again")
        if pulse.paused != before.paused:
            yield _alarm(str(self._out), f"no job begins: {pulse.paused}" if pulse.paused else "jobs begin again")

    def _show(self, pulse: Pulse) -> None:
        """Write the sign of life, where it says something new or the last is getting old."""
        before = self._before
        same = (pulse.line, pulse.lost, pulse.paused) == (before.line, before.lost, before.paused)
        if same and 0 <= (pulse.time - before.time).total_seconds() < EVERY:
            return
        self._before = pulse
        unwritten = write_pulse(self._out, pulse)
        if unwritten and unwritten != self._unwritten:
            LOG.error("%s; the pages do not see that the daemon lives", unwritten)
        self._unwritten = unwritten


@contextmanager
def announcing(config: Config, notifier: Notifier) -> Iterator[Announcer]:
    """Return who tells of a daemon, with the pages and hooks that the configuration asks for.

    After an error nothing is said of the end: the daemon may begin anew, and systemd sees the exit where it does not.
    """
    announcer = Announcer(config, notifier)
    try:
        yield announcer
        notifier.stopping()
    finally:
        announcer.close()


def frame_events(landed: Iterable[FrameInfo], changed: Iterable[Waiting]) -> Iterator[Event]:
    """Yield the frames that cannot be reduced as they are."""
    for frame in landed:
        if frame.state in REFUSED:
            yield _failed(frame, frame.state, frame.reason)
    for each in changed:
        if each.state is FrameState.FAILED:
            yield _failed(each.frame, each.state, each.reason)


def product_events(finished: Iterable[tuple[Job, Outcome]]) -> Iterator[Event]:
    """Yield the products that were made, and an alarm for each figure that says not to trust one."""
    for job, outcome in finished:
        if outcome.error:
            continue
        yield _product(job, outcome)
        for each in outcome.quality:
            if each.flag == "fail":
                limit = "" if each.limit is None else f", limit {each.limit:g}"
                yield _alarm(f"{job.rule} of {job.frames[0].name}", f"{each.name} {each.value:g}{limit}")


def _product(job: Job, outcome: Outcome) -> Event:
    directory = Path(job.out, directory_name(job.night, job.fingerprint))
    flags = {each.flag for each in outcome.quality}
    return {
        "event": "product",
        "rule": job.rule,
        "fingerprint": job.fingerprint,
        "night": job.night,
        "frame_class": job.frames[-1].frame_class,
        "target": job.frames[-1].target,
        "lamp": "+".join(dict.fromkeys(frame.lamp for frame in job.frames if frame.lamp)),
        "raw": [frame.path for frame in job.frames],
        "provisional": list(job.provisional),
        "adopted": outcome.adopted,  # it stood there whole, and may have been told before
        "quality": next((flag for flag in ("fail", "warn") if flag in flags), "ok"),
        "products": [{"kind": each.kind, "path": str(directory / each.path)} for each in outcome.products],
    }


def _failed(frame: FrameInfo, state: FrameState, reason: str) -> Event:
    named: dict[str, Any] = {"frame_class": frame.frame_class, "target": frame.target, "lamp": frame.lamp}
    return {"event": "failed", "frame": frame.path, **named, "state": str(state), "reason": reason}


def _alarm(subject: str, message: str) -> Event:
    return {"event": "alarm", "subject": subject, "message": message}
