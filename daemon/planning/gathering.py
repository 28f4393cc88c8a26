"""What a plan of some frames must know of the catalog, brought together in memory and kept up to date.

A calibration serves within a number of days, so what can matter for a frame lies within the longest chain of
such limits. Calibrations are held for whole days about the frames that were looked at; frames that no other
depends on are held as long as something is to be done for them.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import UTC, datetime

from daemon.planning.arrangement import Arrangement, Key, beside, serves_as_made
from daemon.planning.groups import FrameGroup, Values
from daemon.planning.matching import DAY_S
from daemon.planning.reach import Reach
from daemon.records import Made, Neighbourhood
from daemon.rulebook import Rule, Rulebook
from daemon.rules import Planner
from daemon.store.excerpts import Excerpts, Far

_EARLIEST, _LATEST = 0.0, 253370764800.0  # 1970 and 9999, s: what a database can compare


class Gathering:
    """The part of a catalog that plans have looked at."""

    def __init__(self, book: Rulebook) -> None:
        self.exists = Arrangement(book)
        self.reach = Reach(book)
        self._contents: set[str] = set()  # of which all files and jobs are here
        self._days: dict[str, list[tuple[float, float]]] = {}  # by class: where all frames are here
        self._covered: set[tuple[str, str, int]] = set()  # rules, classes, days of which all that they may take is here
        self._sought: set[tuple[str, Key]] = set()  # rules and groups for which one beyond the limit is here

    def refresh(self, ask: Excerpts, since: int) -> set[Key]:
        """Take in what has changed after a revision; return the frames concerned."""
        changes = ask.changed(since)
        keys = set(changes.keys)
        unknown = []
        for frame in changes.frames:
            before = self.exists.key_at(frame)
            if before is None:
                unknown.append(frame.path)
            else:
                keys.add(before)
        keys |= ask.former(unknown) if since >= 0 else set()
        keys |= ask.users(changes.prints)
        self._contents -= {frame.content_hash for frame in changes.frames}
        rules = self._rules_of(changes.prints)
        self.exists.forget_jobs(changes.prints)
        self.exists.take(Neighbourhood(changes.frames))
        self._take_jobs(ask, changes.prints)
        self.seek_again(rules | self._rules_of(changes.prints))
        return {key for key in keys if key[0]}

    def seek_again(self, rules: Collection[str]) -> None:
        """Forget that products beyond the limits were brought in: one of these rules has come, gone or changed."""
        self._sought = {place for place in self._sought if place[0] not in rules}

    def around(self, ask: Excerpts, keys: Iterable[Key]) -> set[Key]:
        """Bring in what can matter for frames and for those in a group or product with them; return all these."""
        more, found = {key for key in keys if key[0]}, set()
        while more:
            self._load(ask, {content for content, _ in more})
            for key in more:
                self._cover(ask, key)
            found |= more
            more = beside(self.exists, more) - found
        return found

    def day_of(self, key: Key) -> int | None:
        """Return the day of a frame, counted from 1970."""
        frame = self.exists.frame(key)
        return None if frame is None or frame.obs_time is None else math.floor(frame.obs_time.timestamp() / DAY_S)

    def cover_day(self, ask: Excerpts, day: int) -> None:
        """Bring in all that any product may take that is made of what is exposed on a day, also of what may come."""
        for rule in self.exists.book.rules:
            for frame_class in rule.classes:
                self._cover_rule(ask, rule, frame_class, day)

    def beyond(self, ask: Excerpts, asked: Iterable[tuple[str, FrameGroup]]) -> None:
        """Bring in the nearest products beyond the limits for groups that have asked."""
        alike: dict[tuple[str, Values, float, int], list[FrameGroup]] = defaultdict(list)
        for name, group in asked:
            place = name, group.frames[0].key
            if place not in self._sought:
                self._sought.add(place)
                values = self.exists.pools[name].values(group.setup)
                alike[name, values, group.exposure_s, math.floor(group.time / DAY_S)].append(group)
        for (name, *_), groups in alike.items():
            groups.sort(key=lambda group: group.time)
            limit = self.reach.limit_s(name)
            self._nearest(ask, name, groups, ask.nearest_before(name, max(groups[-1].time - limit, _EARLIEST)), -1)
            self._nearest(ask, name, groups[::-1], ask.nearest_after(name, min(groups[0].time + limit, _LATEST)), 1)

    def part(self) -> Neighbourhood:
        """Return what is in memory."""
        exists = self.exists
        rows = tuple(row for key in exists.keys for row in exists.rows(key))
        return Neighbourhood(rows, dict(exists.made), dict(exists.failed), dict(exists.active))

    def forget(self, keys: Collection[Key]) -> None:
        """Let go of frames that nothing else depends on."""
        self._contents -= {content for content, _ in keys}
        self.exists.forget_frames(keys)

    def _load(self, ask: Excerpts, contents: set[str]) -> None:
        """Read every file of some contents, and what was made from them."""
        fresh = contents - self._contents
        if not fresh:
            return
        self._contents |= fresh
        self.exists.take(Neighbourhood(tuple(ask.frames_of(fresh))))
        self._take_jobs(ask, ask.jobs_from(fresh))

    def _take_jobs(self, ask: Excerpts, prints: Iterable[str]) -> None:
        """Read jobs, and what their products were made with."""
        more = set(prints)
        while more:
            found = ask.jobs(more)
            self.exists.take(found)
            used = {print_ for made in found.made.values() for print_ in made.calibrations.values()}
            more = used - self.exists.made.keys() - more

    def _cover(self, ask: Excerpts, key: Key) -> None:
        """Read the days about a frame of which other frames can matter for it."""
        frame, day = self.exists.frame(key), self.day_of(key)
        if frame is None or day is None:
            return
        for rule in self.exists.book.rules:
            if frame.frame_class in rule.classes:
                self._cover_rule(ask, rule, frame.frame_class, day)

    def _cover_rule(self, ask: Excerpts, rule: Rule, frame_class: str, day: int) -> None:
        if (rule.name, frame_class, day) in self._covered:
            return
        self._covered.add((rule.name, frame_class, day))
        first, last = day * DAY_S, (day + 1) * DAY_S
        if rule.group is not None:
            first, last = self._to_pauses(ask, frame_class, first, last)
            self._read(ask, frame_class, first, last)
        self._read_inputs(ask, rule.name, first, last)

    def _read_inputs(self, ask: Excerpts, rule: str, first: float, last: float) -> None:
        for frame_class, far in self.reach.inputs(rule).items():
            self._read_days(ask, frame_class, first - far, last + far)

    def _read_days(self, ask: Excerpts, frame_class: str, first: float, last: float) -> None:
        """Read a class on all days between two times."""
        first, last = math.floor(first / DAY_S) * DAY_S, math.ceil(last / DAY_S) * DAY_S
        if any(begin <= first and last <= end for begin, end in self._days.get(frame_class, ())):
            return
        self._read(ask, frame_class, *self._to_pauses(ask, frame_class, first, last))

    def _to_pauses(self, ask: Excerpts, frame_class: str, first: float, last: float) -> tuple[float, float]:
        """Widen a span to pauses that no group of a class goes across."""
        pause = self.reach.pause_of_class(frame_class)
        while (at := ask.edge(frame_class, _time(first - pause), _time(first), early=True)) is not None:
            if at.timestamp() >= first:
                break
            first = at.timestamp()
        while (at := ask.edge(frame_class, _time(last), _time(last + pause), early=False)) is not None:
            if at.timestamp() <= last:
                break
            last = at.timestamp()
        return first, last

    def _read(self, ask: Excerpts, frame_class: str, first: float, last: float) -> None:
        known = self._days.setdefault(frame_class, [])
        for begin, end in list(_without(first, last, known)):
            self._load(ask, set(ask.observed(frame_class, _time(begin), _time(end))))
        self._days[frame_class] = _joined(known, first, last)

    def _nearest(self, ask: Excerpts, name: str, groups: list[FrameGroup], found: Iterable[Far], side: int) -> None:
        """Read candidates on one side of groups that are alike until no nearer one can follow for any.

        groups : the one first of which the limit lies farthest out on that side
        """
        pool, limit = self.exists.pools[name], self.reach.limit_s(name)
        best: float | None = None
        for far in found:
            if best is not None and _surely_farther(far.time, best, side):
                return
            if (far.time - groups[-1].time) * side <= limit or pool.values(far.setup) != pool.values(groups[0].setup):
                continue
            made = self._candidate(ask, far.fingerprint)
            if made is None or not self._serves(made, groups[0], name):
                continue
            if (far.time - groups[0].time) * side > limit and (best is None or (far.time - best) * side < 0):
                best = far.time

    def _rules_of(self, prints: Iterable[str]) -> set[str]:
        return {self.exists.made[print_].rule for print_ in prints if print_ in self.exists.made}

    def _candidate(self, ask: Excerpts, print_: str) -> Made | None:
        """Read a product, what it was made with, and all their frames."""
        self._take_jobs(ask, {print_} - self.exists.made.keys())
        made = self.exists.made.get(print_)
        if made is not None:
            for each in _chain(self.exists, made):
                self._load(ask, {content for content, _ in each.keys})
        return made

    def _serves(self, made: Made, group: FrameGroup, name: str) -> bool:
        exposed = max((frame.exposure_s for key in made.keys if (frame := self.exists.frame(key))), default=0.0)
        return serves_as_made(self.exists, made) and not self.exists.pools[name].wrong_length(exposed, group)


def night_surroundings(ask: Excerpts, book: Rulebook, now: datetime, night: str) -> Neighbourhood:
    """Return the part of a catalog that matters for a night, also for frames that may still come."""
    gathering = Gathering(book)
    looked = gathering.around(ask, (frame.key for frame in ask.frames_of_night(night)))
    for day in sorted({day for key in looked if (day := gathering.day_of(key)) is not None}):
        gathering.cover_day(ask, day)
    return _completed(gathering, ask, now, looked, batch=False)


def surroundings(ask: Excerpts, book: Rulebook, now: datetime, keys: Iterable[Key], *, batch: bool) -> Neighbourhood:
    """Return the part of a catalog that matters for frames.

    batch : nothing more is to come
    """
    gathering = Gathering(book)
    return _completed(gathering, ask, now, gathering.around(ask, keys), batch=batch)


def _completed(
    gathering: Gathering, ask: Excerpts, now: datetime, looked: Collection[Key], *, batch: bool
) -> Neighbourhood:
    """Add what lies beyond the limits and is looked for there."""
    while True:
        planner = Planner(gathering.exists, gathering.exists.book, now, batch=batch)
        planner.look_at(looked)
        for resolved in list(planner.looked.values()):
            for name in resolved.choices:
                planner.resolver.unsuited(resolved.group, name)
        gathering.beyond(ask, planner.resolver.asked)
        if not planner.resolver.is_outdated():
            return gathering.part()


def _chain(exists: Arrangement, made: Made) -> Iterable[Made]:
    """Yield a product and all that it was made with, directly or not."""
    yield made
    for print_ in made.calibrations.values():
        other = exists.made.get(print_)
        if other is not None:
            yield from _chain(exists, other)


def _surely_farther(time: float, best: float, side: int) -> bool:
    """Tell whether what follows in the order of the last frames cannot lie nearer by the middle."""
    return time < best - DAY_S if side < 0 else time > best + 2 * DAY_S


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(min(max(seconds, _EARLIEST), _LATEST), UTC)


def _without(first: float, last: float, known: Iterable[tuple[float, float]]) -> Iterable[tuple[float, float]]:
    """Yield the parts of a span that lie outside of known ones, which are sorted."""
    for begin, end in known:
        if end <= first or begin >= last:
            continue
        if begin > first:
            yield first, begin
        first = max(first, end)
    if first < last:
        yield first, last


def _joined(known: Iterable[tuple[float, float]], first: float, last: float) -> list[tuple[float, float]]:
    """Return spans with another one, sorted, none touching the next."""
    apart = [each for each in known if each[1] < first or each[0] > last]
    touching = [each for each in known if not (each[1] < first or each[0] > last)]
    first = min([first, *(begin for begin, _ in touching)])
    last = max([last, *(end for _, end in touching)])
    return sorted([*apart, (first, last)])
