"""Plans that cost what has changed, not what exists.

Looked at are the frames whose own rows have changed, those for which a time has passed that they waited for,
and those that a calibration concerns which resolves otherwise than before. A plan over everything gives the
same answer, which the tests hold. What concerns many frames of other nights (a changed configuration, the
first plan of an archive) is compared a slice at a time, the last recorded first, beside what is new.
"""

import hashlib
import math
from collections import deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from daemon.catalog import Catalog
from daemon.planning.arrangement import Key
from daemon.planning.gathering import Gathering
from daemon.planning.groups import FrameGroup, night_of
from daemon.planning.matching import DAY_S
from daemon.planning.resolve import RESOLUTION_S, Standing
from daemon.planning.spreading import Spreading
from daemon.records import FrameState, Job, Plan, Wake
from daemon.rulebook import Rulebook
from daemon.rules import Planner, by_urgency
from daemon.store.excerpts import Excerpts, Stretch

AT_ONCE = 300  # frames of other nights that one plan compares
BESIDE = 10  # with something new to plan, one part in so many: it shall not wait for an archive
FEW = 1_000  # frames: so many that have changed are looked at as new ones
MOST_HELD = 60_000  # frames in memory before those are let go of for which nothing is to be done
NOTED_EVERY = timedelta(minutes=1)  # how often it is recorded up to where everything was compared
ARCHIVE = Stretch()  # everything
DOUBTFUL = Stretch(doubtful=True)  # all that waits, has failed or is provisional
UNSETTLED = (FrameState.WAITING, FrameState.QUEUED, FrameState.RUNNING)

Touched = Mapping[Key, AbstractSet[str]]  # frames whose rows have changed, and the rules that have ever used them


@dataclass(frozen=True, slots=True)
class Open:
    """A group for which something is still to be done."""

    keys: frozenset[Key]
    job: Job | None
    wakes: tuple[Wake, ...]
    hidden: bool  # the states of its frames do not tell that something is to be done: a product is made better


@dataclass(slots=True)
class _Late:
    """A stretch that is compared a slice at a time."""

    which: Stretch
    below: int | None = None  # the row to go on before


class Replanner:
    """Compares again what a change can have touched.

    Parameters
    ----------
    catalog, book : Catalog, Rulebook
        What exists and what is wanted.
    batch : bool
        Nothing more will come.
    at_once : int
        Frames of other nights that one plan compares.
    """

    def __init__(self, catalog: Catalog, book: Rulebook, *, batch: bool, at_once: int = AT_ONCE) -> None:
        self._catalog = catalog
        self._book = book
        self._batch = batch
        self._at_once = at_once
        self.digest = _digest(book, batch=batch)
        self.n_row = 0  # rows that plans have read
        self.n_group = 0  # groups that they have resolved
        self.forget()

    def forget(self) -> None:
        """Begin anew with what the catalog says: what the last plan said was not recorded."""
        self._gathering = Gathering(self._book)
        self._spreading = Spreading(self._gathering.reach)
        self._open: dict[tuple[str, Key], Open] = {}
        self._late: deque[_Late] = deque()
        self._seen = -2  # the revision up to which changes were taken in; -2: none were
        self._night = ""
        self._noted: datetime | None = None  # when that was recorded up to which everything was compared

    @property
    def seen(self) -> int:
        """The revision of the catalog that the last plan belongs to."""
        return self._seen

    @property
    def behind(self) -> bool:
        """Whether there is more to compare than the last plan did."""
        return bool(self._late)

    def is_new_night(self, now: datetime) -> bool:
        """Tell whether a night has begun since the last plan: a plan before its first frame makes ready for that."""
        return night_of(now, self._book.timezone) != self._night

    def plan(self, now: datetime) -> Plan:
        """Return a plan: all jobs and waits; standings and marks of what was compared."""
        self._note(now)
        with self._catalog.excerpts() as ask:
            keys = self._begin(ask) if self._seen < -1 else self._gathering.refresh(ask, self._seen)
            self._seen = ask.revision
            self._turn_night(ask, now)
            tried = ask.tried(content for content, _ in keys)
            self._gathering.seek_again({rule for rules in tried.values() for rule in rules})
            touched = {key: frozenset[str]() for key in keys} | tried
            planner = self._compared(ask, now, keys | self._due(now), touched)
            found = planner.plan()
            self._keep(planner, found)
            self.n_row += ask.n_row
        self.n_group += planner.resolver.n_group
        jobs = (each.job for each in self._open.values() if each.job is not None)
        wakes = frozenset(wake for each in self._open.values() for wake in each.wakes)
        return replace(found, jobs=tuple(sorted(jobs, key=by_urgency)), wakes=wakes, behind=self.behind)

    def _begin(self, ask: Excerpts) -> set[Key]:
        """Say what is to be compared at first: what has changed since everything was, and what is not done."""
        since, book = ask.planned()
        if since < 0 or book.partition(":")[0] != self.digest.partition(":")[0]:
            self._late.append(_Late(ARCHIVE))
            return set()
        self._late += [_Late(Stretch(states=(state,))) for state in UNSETTLED]
        if book != self.digest:
            self._late.append(_Late(DOUBTFUL))
        if ask.n_changed(since, FEW) >= FEW:
            self._late.append(_Late(ARCHIVE))
            return set()
        return self._gathering.refresh(ask, since)

    def _turn_night(self, ask: Excerpts, now: datetime) -> None:
        """At noon, and at first: what a changed recipe makes again is told by the night.

        Then there is time to bring in the calibrations about the coming night, so that its first frame need not wait.
        """
        night = night_of(now, self._book.timezone)
        if self.is_new_night(now):
            self._late += [_Late(Stretch(night=each)) for each in (night, self._night) if each]
            self._night = night
            for day in (0, 1):
                self._gathering.cover_day(ask, math.floor(now.timestamp() / DAY_S) + day)

    def _due(self, now: datetime) -> set[Key]:
        """Return the frames for which a time has passed that they waited for."""
        limit = now.timestamp() + RESOLUTION_S
        waited = (each for each in self._open.values() if any(wake.time <= limit for wake in each.wakes))
        return {key for each in waited for key in each.keys}

    def _compared(self, ask: Excerpts, now: datetime, keys: set[Key], touched: Touched) -> Planner:
        """Look at frames, at whatever their changes concern, and at a slice of what is late."""
        planner = self._planner(now)
        self._spread(ask, planner, keys, touched)
        most = max(self._at_once // BESIDE, 1) if keys else self._at_once
        while self._late and len(planner.keys) < most + len(keys):
            late = self._late[0].which
            self._spread(ask, planner, self._slice(ask, most), {}, archive=late == ARCHIVE)
        while self._is_outdated(ask, planner):
            looked, planner = planner.keys, self._planner(now)
            self._spread(ask, planner, looked, touched, archive=True)
        return planner

    def _is_outdated(self, ask: Excerpts, planner: Planner) -> bool:
        """Bring in what was sought beyond the limits; tell whether that changes an answer."""
        self._gathering.beyond(ask, planner.resolver.asked)
        return planner.resolver.is_outdated()

    def _planner(self, now: datetime) -> Planner:
        return Planner(self._gathering.exists, self._book, now, batch=self._batch)

    def _spread(
        self,
        ask: Excerpts,
        planner: Planner,
        keys: Iterable[Key],
        touched: Touched,
        *,
        archive: bool = False,
    ) -> None:
        """Look at frames, at what they wait for, and at those that changed calibrations concern."""
        agenda = set(keys)
        while agenda:
            looked = planner.look_at(self._gathering.around(ask, self._with_former(agenda)))
            changed = self._spreading.changed(planner, looked, touched, archive=archive)
            agenda = (self._concerned(ask, planner, changed) | planner.unsettled()) - planner.keys

    def _with_former(self, keys: set[Key]) -> set[Key]:
        """Add the frames that were in a group with others when it was last looked at."""
        former = self._spreading.beside(keys)
        opened = (self._open.get((rule.name, key)) for key in keys for rule in self._book.rules)
        return keys | former | {key for each in opened if each is not None for key in each.keys}

    def _concerned(self, ask: Excerpts, planner: Planner, changed: list[FrameGroup]) -> set[Key]:
        """Return the frames that changed calibrations concern; many are left for later."""
        if not changed:
            return set()
        keys = {key for each in self._open.values() for key in each.keys}
        stretches = {which for group in changed for which in self._spreading.concerned(planner, group, changed)}
        for which in sorted(stretches, key=repr):
            some, below = ask.stretch(which, None, self._at_once)
            keys |= set(some)
            if below is not None:
                late = _Late(which, below)
                self._late += [late] if late not in self._late else []
        return keys

    def _slice(self, ask: Excerpts, most: int) -> list[Key]:
        """Return the next frames of what is late."""
        late = self._late[0]
        keys, late.below = ask.stretch(late.which, late.below, most, former=late.which == ARCHIVE)
        if late.below is None:
            self._late.popleft()
        return keys

    def _keep(self, planner: Planner, found: Plan) -> None:
        """Remember what is still to be done, and how calibrations resolved; let go of the rest."""
        self._spreading.remember(planner)
        for place in [place for place in self._open if place[1] in planner.keys]:
            del self._open[place]
        telling = {each.frame.key for each in found.standings if each.state in UNSETTLED}
        wakes: dict[tuple[str, Key], list[Wake]] = {}
        for wake in found.wakes:
            wakes.setdefault((wake.rule, wake.key), []).append(wake)
        for place, resolved in planner.looked.items():
            own = (resolved.group.rule.name, resolved.group.frames[0].key)
            waits = tuple(wakes.get(own, ()))
            if waits or resolved.standing is Standing.PENDING:
                keys = resolved.group.keys | {place[1]}
                self._open[place] = Open(keys, planner.jobs.get(place), waits, hidden=telling.isdisjoint(keys))
        self._let_go(planner.keys)

    def _let_go(self, keys: Iterable[Key]) -> None:
        """Forget frames that no other depends on and for which nothing is to be done; all, where it is too much."""
        if len(self._gathering.exists) > MOST_HELD:
            self._gathering = Gathering(self._book)
            self._spreading = Spreading(self._gathering.reach)
            return
        busy = {key for each in self._open.values() for key in each.keys}
        self._gathering.forget([key for key in keys if key not in busy and self._is_alone(key)])

    def _is_alone(self, key: Key) -> bool:
        exists = self._gathering.exists
        return not any(
            rule.group is not None or not self._spreading.is_alone(rule.name)
            for rule in self._book.rules
            for frame in exists.rows(key)
            if frame.frame_class in rule.classes
        )

    def _note(self, now: datetime) -> None:
        """Record up to where everything was compared, now and then; what the last plan said is recorded by now.

        Not as long as something is open that the catalog does not tell by itself: the next start is to find it.
        """
        if self._seen < 0 or self.behind or (self._noted is not None and now - self._noted < NOTED_EVERY):
            return
        if any(each.hidden for each in self._open.values()):
            return
        self._catalog.set_planned(self._seen, self.digest)
        self._noted = now


def _digest(book: Rulebook, *, batch: bool) -> str:
    """Return what tells one way of comparing an archive from another: of everything, and of what waits.

    A changed recipe concerns other nights only where it makes all of them again. How long is waited concerns
    only what waits, or was made without waiting any longer, which is provisional.
    """
    rules, options = book.rules, book.options
    if book.remake != "all" and not (batch and book.remake == "tonight"):
        rules, options = tuple(replace(rule, version=0) for rule in rules), {}
    everything, waits = repr((rules, sorted(book.matches.items()), options)), repr((book.timing, batch))
    return ":".join(hashlib.sha256(said.encode()).hexdigest() for said in (everything, waits))
