"""plan(): what exists compared with what the rules want; pure, no clock, no I/O.

The answer is the jobs that can run now, and for every frame where it stands and why.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from daemon.planning.arrangement import Arrangement, Key, beside
from daemon.planning.fingerprint import fingerprint
from daemon.planning.groups import FrameGroup, duplicates, undated
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
    exists = Arrangement(book, neighbourhood)
    planner = Planner(exists, book, now, batch=batch)
    planner.look_at(exists.keys)
    return planner.plan()


def explain(
    neighbourhood: Neighbourhood, book: Rulebook, now: datetime, frame: FrameInfo, *, batch: bool = False
) -> Waiting:
    """Say where a frame stands, what it needs, what was found, and why each candidate was rejected.

    Frames that are marked bad are named here alone: no plan looks for what no group takes.
    """
    exists = Arrangement(book, neighbourhood)
    bad = (each for each in neighbourhood.frames if each.state is FrameState.BAD and exists.frame(each.key) is None)
    unmarked = Neighbourhood(tuple(replace(each, state=FrameState.WAITING) for each in bad))
    return Planner(exists, book, now, batch=batch, bad=Arrangement(book, unmarked)).explained(frame)


class Planner:
    """One comparison, from resolved groups to jobs and standings; parameters as of `Resolver`."""

    def __init__(
        self, exists: Arrangement, book: Rulebook, now: datetime, *, batch: bool, bad: Arrangement | None = None
    ) -> None:
        self.exists = exists
        self.book = book
        self.now = now.timestamp()
        self.batch = batch
        self.resolver = Resolver(exists, book, self.now, batch=batch, bad=bad)
        self.looked: dict[tuple[str, Key], Resolved] = {}  # by rule and first frame of the group
        self.jobs: dict[tuple[str, Key], Job] = {}
        self.keys: set[Key] = set()  # the frames that were looked at
        self._reasons: dict[tuple[str, Key], str] = {}
        self._in: dict[Key, list[Resolved]] = {}  # the groups of each frame, in the order of the rules

    def look_at(self, keys: Iterable[Key]) -> set[Key]:
        """Compare the groups of frames, and all frames that are in a group or a product with them; return those."""
        fresh: set[Key] = set()
        more = set(keys) - self.keys
        while more:
            fresh |= more
            more = beside(self.exists, more) - fresh - self.keys
        self.keys |= fresh
        groups = {_first(group): group for key in fresh for group in self._groups(key)}
        for place, group in groups.items():
            resolved = self.looked[place] = self.resolver.resolved(group)
            for key in group.keys:
                self._in.setdefault(key, []).append(resolved)
        for place in groups:
            if self.looked[place].standing is Standing.PENDING:
                self._pursue(place, self.looked[place])
        return fresh

    def unsettled(self) -> set[Key]:
        """Return the frames of all groups that were met on the way and for which something is still to be done."""
        return {key for each in self.resolver.unsettled() for key in each.group.keys}

    def plan(self) -> Plan:
        """Return the difference, as far as it was looked at."""
        standings = [each for key in self.keys for each in self.standings(key)]
        wakes = frozenset(wake for wake in self.resolver.wakes if wake.key in self.keys)
        return Plan(tuple(sorted(self.jobs.values(), key=by_urgency)), tuple(standings), self._marks(), wakes)

    def explained(self, frame: FrameInfo) -> Waiting:
        """Say where a frame stands, what it needs, what was found, and why each candidate was rejected."""
        self.look_at([frame.key])
        own = (each for each in self.standings(frame.key) if _place(each.frame) == _place(frame))
        standing = next(own, None) or next(iter(self.standings(frame.key)), None)
        if standing is None:
            return Waiting(frame, frame.reason, state=frame.state)
        candidates = tuple(
            candidate
            for resolved in self._in.get(frame.key, ())
            for name in resolved.choices
            for candidate in self.candidates(resolved, name)
        )
        return Waiting(standing.frame, standing.reason, standing.needs, candidates, standing.state)

    def _groups(self, key: Key) -> Iterator[FrameGroup]:
        found = (self.exists.group_of(rule.name, key) for rule in self.book.rules)
        return (group for group in found if group is not None)

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

    def _pursue(self, place: tuple[str, Key], resolved: Resolved) -> None:
        """Find the job that brings a pending group forward, or the reason why it waits."""
        group = resolved.group
        if resolved.wanted in self.exists.active:
            return
        if not self._complete(group):
            self._reasons[_first(group)] = f"waits until the group of {group.rule.name} frames is complete"
            return
        pending = [each for _, each in resolved.taken() if each.standing is Standing.PENDING]
        if not pending:
            inputs = {name: self.exists.made[each.wanted] for name, each in resolved.taken()}
            self.jobs[place] = self._job(resolved, resolved.wanted, inputs, resolved.provisional)
            return
        words = "; ".join(f"{article(each.group.rule.name)} of {each.group.name}" for each in pending)
        if resolved.usable is None and not self.batch and not any(self.is_imminent(each) for each in pending):
            job = self._interim(resolved, words)
            if job is not None:
                self.jobs[place] = job
        self._reasons[_first(group)] = f"waits for {words}"

    def _complete(self, group: FrameGroup) -> bool:
        if self.batch:
            return True
        return self.resolver.passed(group, group.ready_at(self.book.timing.quiet_s))

    def is_imminent(self, resolved: Resolved) -> bool:
        """Tell whether a pending product is being made or could be at once: it is worth waiting for."""
        ready = all(each.standing is Standing.MADE for _, each in resolved.taken())
        return resolved.wanted in self.exists.active or (ready and self._complete(resolved.group))

    def _interim(self, resolved: Resolved, words: str) -> Job | None:
        """Return a job with the calibrations that exist, where those wanted are long in coming."""
        group = resolved.group
        if not self.resolver.waited(group, self.book.timing.like_wait_s):
            return None
        inputs: dict[str, Made] = {}
        for name, choice in resolved.choices.items():
            made = self._available(group, name, choice.taken, inputs)
            if made is not None:
                inputs[name] = made
            elif name in group.rule.needs and not choice.forgone:
                return None
        rule = group.rule
        used = {name: made.fingerprint for name, made in inputs.items()}
        print_ = fingerprint(resolved.recipe, rule, group.frames, used)
        if any(print_ in each for each in (self.exists.made, self.exists.failed, self.exists.active)):
            return None
        reasons = [*resolved.provisional, f"until {words}"]
        for name, made in inputs.items():
            reasons += made.provisional if name in rule.needs else ()
        return self._job(resolved, print_, inputs, tuple(dict.fromkeys(reasons)))

    def _available(
        self, group: FrameGroup, name: str, wanted: Resolved | None, inputs: Mapping[str, Made]
    ) -> Made | None:
        """Return the best calibration of a rule that exists now."""
        via = inputs.get(group.rule.through.get(name, ""))
        if via is not None and name in via.calibrations:
            return self.exists.made.get(via.calibrations[name])
        if wanted is not None and wanted.usable is not None:
            return wanted.usable
        within = (self.resolver.resolved(each.group).usable for each in self.exists.pools[name].near(group))
        return next((usable for usable in within if usable is not None), None)

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

    def _pending_words(self, resolved: Resolved) -> str:
        running = self.exists.active.get(resolved.wanted)
        how = {None: "has yet to be made", False: "is queued", True: "is being made"}[running]
        return f"{article(resolved.group.rule.name)} of {resolved.group.name} {how}"

    def standings(self, key: Key) -> Iterator[Waiting]:
        """Yield where the files of one content stand: the first rule of its class decides, others add to the reason."""
        frame, rows = self.exists.frame(key), self.exists.rows(key)
        for row in undated(rows):
            yield Waiting(row, "its header tells no observing time", state=FrameState.INVALID)
        if frame is None:
            return
        for row in duplicates(rows, frame):
            yield Waiting(row, f"the same content as {frame.path}", state=FrameState.DUPLICATE)
        found: Waiting | None = None
        for resolved in self._in.get(key, ()) if frame.state is not FrameState.ABSENT else ():
            if key not in resolved.group.keys:
                continue
            state, reason = self._standing(resolved, frame)
            if found is None:
                missing = {name for name, choice in resolved.choices.items() if choice.taken is None}
                needs = tuple(name for name in resolved.group.rule.needs if name in missing)
                found = Waiting(frame, reason, needs, state=state)
            elif state in (FrameState.FAILED, FrameState.WAITING) and reason:
                more = "; ".join(filter(None, (found.reason, f"{resolved.group.rule.name}: {reason}")))
                found = replace(found, reason=more)
        yield found or self._unused(frame)

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
        running = self.exists.active.get(resolved.wanted)
        if running is not None:
            return (FrameState.RUNNING if running else FrameState.QUEUED), ""
        reason = self._reasons.get(_first(group))
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
        within = self.exists.pools[name].near(resolved.group)
        return any(self.resolver.resolved(each.group).standing is Standing.MADE for each in within)

    def _marks(self) -> dict[str, Mark]:
        """Return what the catalog should say of each product, where it says something else."""
        current = {each.usable.fingerprint: each for each in self.looked.values() if each.usable is not None}
        marks = {}
        for made in {each.fingerprint: each for key in self.keys for each in self.exists.products(key)}.values():
            if made.state is ProductState.BAD:
                continue
            resolved = current.get(made.fingerprint)
            state = ProductState.SUPERSEDED if resolved is None else ProductState.CURRENT
            final = resolved is not None and resolved.wanted == made.fingerprint
            provisional = resolved.provisional if resolved is not None and final else made.provisional
            if (state, provisional) != (made.state, made.provisional):
                marks[made.fingerprint] = Mark(state, provisional)
        return marks


def by_urgency(job: Job) -> tuple[tuple[int, float], str]:
    """Return what jobs are sorted by."""
    return job.priority, job.fingerprint


def _first(group: FrameGroup) -> tuple[str, Key]:
    return group.rule.name, group.frames[0].key


def _place(frame: FrameInfo) -> tuple[int, str, int]:
    return frame.root, frame.path, frame.part
