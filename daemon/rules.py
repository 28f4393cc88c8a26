"""plan(): what exists compared with what the rules want; pure, no clock, no I/O.

The answer is the jobs that can run now, and for every frame where it stands and why.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from daemon.planning.fingerprint import fingerprint
from daemon.planning.groups import FrameGroup
from daemon.planning.resolve import Resolved, Resolver, Standing, article
from daemon.records import (
    Calibration,
    Candidate,
    FrameInfo,
    FrameState,
    Job,
    Made,
    Mark,
    Neighbourhood,
    Plan,
    ProductState,
    Waiting,
)
from daemon.rulebook import OBJECT_CLASSES, Rulebook

NEW_SCIENCE, NEW, CALIBRATION_UPGRADE, UPGRADE = range(4)  # which jobs go first


def plan(neighbourhood: Neighbourhood, book: Rulebook, now: datetime, *, batch: bool = False) -> Plan:
    """Compare what exists with what the rules want.

    Parameters
    ----------
    neighbourhood : Neighbourhood
        Frames, products, failures and claims, as far as a change can touch them.
    book : Rulebook
        Rules, criteria, options and times.
    now : datetime
        Time-zone aware.
    batch : bool
        Nothing more will come: groups are complete, and what is missing stays missing.
    """
    return Planner(neighbourhood, book, now, batch=batch).plan()


def explain(
    neighbourhood: Neighbourhood, book: Rulebook, now: datetime, frame: FrameInfo, *, batch: bool = False
) -> Waiting:
    """Say where a frame stands, what it needs, what was found, and why each candidate was rejected."""
    planner = Planner(neighbourhood, book, now, batch=batch)
    found = planner.plan()
    standing = next((each for each in found.standings if each.frame.key == frame.key), None)
    if standing is None:
        return Waiting(frame, frame.reason, state=frame.state)
    candidates = tuple(
        candidate
        for resolved in planner.resolver_of(frame)
        for name in resolved.choices
        for candidate in planner.candidates(resolved, name)
    )
    return Waiting(standing.frame, standing.reason, standing.needs, candidates, standing.state)


class Planner:
    """One comparison, from resolved groups to jobs and standings; parameters as of `plan` and `Resolver`."""

    def __init__(
        self,
        neighbourhood: Neighbourhood,
        book: Rulebook,
        now: datetime,
        *,
        batch: bool,
        settled: Resolver | None = None,
    ) -> None:
        self.neighbourhood = neighbourhood
        self.book = book
        self.now = now.timestamp()
        self.batch = batch
        self.resolver = Resolver(neighbourhood, book, self.now, batch=batch, settled=settled)
        self.jobs: list[Job] = []
        self.reasons: dict[tuple[str, tuple[str, int]], str] = {}  # (rule, key of the first frame)

    def plan(self) -> Plan:
        """Return the whole difference."""
        for resolved in self._all():
            if resolved.standing is Standing.PENDING:
                self._pursue(resolved)
        return Plan(
            tuple(sorted(self.jobs, key=lambda job: (job.priority, job.fingerprint))),
            tuple(self._standings()),
            self._marks(),
            frozenset(self.resolver.wakes),
            frozenset(
                key
                for each in self._all()
                if each.standing in (Standing.PENDING, Standing.BLOCKED)
                for key in each.group.keys
            ),
            self._calibrations(),
        )

    def _calibrations(self) -> frozenset[object]:
        alone = self.book.dead_ends()
        return frozenset(
            (
                each.group.rule.name,
                each.group.keys,
                tuple((frame.path, frame.landed) for frame in each.group.frames),  # a copy may have stepped in
                each.standing,
                each.wanted,
                each.reason,
                each.provisional,
                each.usable.fingerprint if each.usable is not None else "",
            )
            for each in self._all()
            if each.group.rule.name not in alone
        )

    def resolver_of(self, frame: FrameInfo) -> Iterator[Resolved]:
        """Yield the groups that a frame is in, in the order of the rules."""
        return (each for each in self._all() if frame.key in each.group.keys)

    def candidates(self, resolved: Resolved, name: str) -> Iterator[Candidate]:
        """Yield what was looked at for one need or like: the choice, and each one rejected."""
        choice = resolved.choices[name]
        yield from choice.rejected
        if choice.taken is not None:
            made = choice.taken.standing is Standing.MADE
            yield Candidate(
                name,
                choice.taken.group.name,
                choice.taken.wanted,
                chosen=True,
                criterion="" if made else self._pending_words(choice.taken),
            )
        for other, criterion in self.resolver.unsuited(resolved.group, name):
            if choice.taken is None or other is not choice.taken.group:
                yield Candidate(name, other.name, criterion=criterion)

    def _all(self) -> Iterator[Resolved]:
        return (each for rule in self.resolver.rules for each in self.resolver.resolved[rule.name])

    def _pursue(self, resolved: Resolved) -> None:
        """Find the job that brings a pending group forward, or the reason why it waits."""
        group = resolved.group
        if resolved.wanted in self.neighbourhood.active:
            return
        if not self._complete(group):
            self._wait(resolved, f"waits until the group of {group.rule.name} frames is complete")
            return
        pending = [each for _, each in resolved.taken() if each.standing is Standing.PENDING]
        if not pending:
            inputs = {name: self.neighbourhood.made[each.wanted] for name, each in resolved.taken()}
            self.jobs.append(self._job(resolved, resolved.wanted, inputs, resolved.provisional))
            return
        words = "; ".join(f"{article(each.group.rule.name)} of {each.group.name}" for each in pending)
        if resolved.usable is None and not self.batch and not any(self._imminent(each) for each in pending):
            self._interim(resolved, words)
        self._wait(resolved, f"waits for {words}")

    def _complete(self, group: FrameGroup) -> bool:
        if self.batch:
            return True
        return self.resolver.passed(group, group.ready_at(self.book.timing.quiet_s))

    def _imminent(self, resolved: Resolved) -> bool:
        """Tell whether a pending product is being made or could be at once: it is worth waiting for."""
        ready = all(each.standing is Standing.MADE for _, each in resolved.taken())
        return resolved.wanted in self.neighbourhood.active or (ready and self._complete(resolved.group))

    def _interim(self, resolved: Resolved, words: str) -> None:
        """Plan a job with the calibrations that exist, where those wanted are long in coming."""
        group = resolved.group
        if not self.resolver.waited(group, self.book.timing.like_wait_s):
            return
        inputs: dict[str, Made] = {}
        for name, choice in resolved.choices.items():
            made = self._available(group, name, choice.taken, inputs)
            if made is not None:
                inputs[name] = made
            elif name in group.rule.needs and not choice.forgone:
                return
        rule = group.rule
        used = {name: made.fingerprint for name, made in inputs.items()}
        print_ = fingerprint(resolved.recipe, rule, group.frames, used)
        known = (self.neighbourhood.made, self.neighbourhood.failed, self.neighbourhood.active)
        if not any(print_ in each for each in known):
            reasons = [*resolved.provisional, f"until {words}"]
            for name, made in inputs.items():
                reasons += made.provisional if name in rule.needs else ()
            self.jobs.append(self._job(resolved, print_, inputs, tuple(dict.fromkeys(reasons))))

    def _available(
        self, group: FrameGroup, name: str, wanted: Resolved | None, inputs: Mapping[str, Made]
    ) -> Made | None:
        """Return the best calibration of a rule that exists now."""
        via = inputs.get(group.rule.through.get(name, ""))
        if via is not None and name in via.calibrations:
            return self.neighbourhood.made.get(via.calibrations[name])
        if wanted is not None and wanted.usable is not None:
            return wanted.usable
        within = self.resolver.pools[name].near(group)
        return next((each.candidate.usable for each in within if each.candidate.usable is not None), None)

    def _job(self, resolved: Resolved, print_: str, inputs: Mapping[str, Made], provisional: tuple[str, ...]) -> Job:
        group = resolved.group
        return Job(
            group.rule.name,
            print_,
            group.frames,
            {name: Calibration(name, made.fingerprint, made.paths, made.exposure_s) for name, made in inputs.items()},
            self.book.options.get(group.rule.name, {}),
            group.night,
            self._priority(resolved),
            provisional,
            resolved.recipe,
        )

    def _priority(self, resolved: Resolved) -> tuple[int, float]:
        """Put new frames first, as they landed, science before the rest; then upgrades, newest first."""
        group = resolved.group
        if resolved.usable is not None:
            calibration = group.frames[0].frame_class not in OBJECT_CLASSES
            return (CALIBRATION_UPGRADE if calibration else UPGRADE), -group.time
        science = group.frames[0].frame_class == OBJECT_CLASSES[0]
        return (NEW_SCIENCE if science else NEW), group.landed

    def _wait(self, resolved: Resolved, reason: str) -> None:
        self.reasons[resolved.group.rule.name, resolved.group.frames[0].key] = reason

    def _pending_words(self, resolved: Resolved) -> str:
        running = self.neighbourhood.active.get(resolved.wanted)
        how = {None: "has yet to be made", False: "is queued", True: "is being made"}[running]
        return f"{article(resolved.group.rule.name)} of {resolved.group.name} {how}"

    def _standings(self) -> Iterator[Waiting]:
        """Yield where each frame stands: the first rule of its class decides, others add to the reason."""
        found: dict[tuple[str, int], Waiting] = {}
        for resolved in self._all():
            for frame in resolved.group.frames:
                if frame.state is FrameState.ABSENT:
                    continue
                state, reason = self._standing(resolved, frame)
                first = found.get(frame.key)
                if first is None:
                    needs = tuple(n for n, c in resolved.choices.items() if c.taken is None)
                    needs = tuple(n for n in needs if n in resolved.group.rule.needs)
                    found[frame.key] = Waiting(frame, reason, needs, state=state)
                elif state in (FrameState.FAILED, FrameState.WAITING) and reason:
                    more = "; ".join(filter(None, (first.reason, f"{resolved.group.rule.name}: {reason}")))
                    found[frame.key] = Waiting(frame, more, first.needs, state=first.state)
        yield from found.values()
        yield from (self._unused(frame) for frame in self.resolver.frames if frame.key not in found)
        yield from (
            Waiting(frame, "its header tells no observing time", state=FrameState.INVALID)
            for frame in self.resolver.undated
        )
        for copy, first_frame in self.resolver.duplicates:
            reason = f"the same content as {first_frame.path}"
            yield Waiting(copy, reason, state=FrameState.DUPLICATE)

    def _unused(self, frame: FrameInfo) -> Waiting:
        """Say of a frame that no rule takes why that is so."""
        if frame.state is FrameState.ABSENT:
            return Waiting(frame, frame.reason, state=frame.state)
        if frame.frame_class == "IGNORE":
            return Waiting(frame, frame.reason, state=FrameState.IGNORED)
        reason = f"no rule makes a product of class {frame.frame_class}"
        return Waiting(frame, reason, state=FrameState.UNCLASSIFIED)

    def _standing(self, resolved: Resolved, frame: FrameInfo) -> tuple[FrameState, str]:
        group, standing = resolved.group, resolved.standing
        if standing is Standing.FAILED:
            served = self._served_elsewhere(resolved)
            return (FrameState.SET_ASIDE if served else FrameState.FAILED), resolved.reason
        if standing is Standing.BAD:
            return FrameState.BAD, "its product was marked bad"
        if standing is Standing.BLOCKED:
            return FrameState.WAITING, resolved.reason
        if resolved.usable is not None and frame.key in resolved.usable.keys:
            return self._finished(resolved, resolved.usable, frame)
        running = self.neighbourhood.active.get(resolved.wanted)
        if running is not None:
            return (FrameState.RUNNING if running else FrameState.QUEUED), ""
        reason = self.reasons.get((group.rule.name, group.frames[0].key))
        return FrameState.WAITING, reason or "waits for a worker"

    def _finished(self, resolved: Resolved, made: Made, frame: FrameInfo) -> tuple[FrameState, str]:
        if frame.key in made.set_aside:
            return FrameState.SET_ASIDE, made.set_aside[frame.key]
        provisional = resolved.provisional if made.fingerprint == resolved.wanted else made.provisional
        reason = f"provisional: {', '.join(provisional)}" if provisional else ""
        return (FrameState.REDUCED if resolved.group.rule.group is None else FrameState.USED), reason

    def _served_elsewhere(self, resolved: Resolved) -> bool:
        """Tell whether another group of the same setting stands in for one that failed."""
        name = resolved.group.rule.name
        if name not in self.book.matches:
            return False
        within = self.resolver.pools[name].near(resolved.group)
        return any(each.candidate.standing is Standing.MADE for each in within)

    def _marks(self) -> dict[str, Mark]:
        """Return what the catalog should say of each product, where it says something else."""
        current = {each.usable.fingerprint: each for each in self._all() if each.usable is not None}
        marks = {}
        for made in self.neighbourhood.own():
            print_ = made.fingerprint
            if made.state is ProductState.BAD:
                continue
            resolved = current.get(print_)
            state = ProductState.SUPERSEDED if resolved is None else ProductState.CURRENT
            final = resolved is not None and resolved.wanted == print_
            provisional = resolved.provisional if resolved is not None and final else made.provisional
            if (state, provisional) != (made.state, made.provisional):
                marks[print_] = Mark(state, provisional)
        return marks
