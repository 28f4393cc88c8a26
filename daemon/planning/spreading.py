"""What a change touches: which other frames may be reduced otherwise when a calibration becomes another.

A group takes the nearest calibration that can serve. So a calibration that has changed concerns those that lie
nearer to it than to the next ones that serve as before, and no others; and of those beyond the time limit only
such as had to take what there was, or wait.
"""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime

from daemon.planning.arrangement import Key
from daemon.planning.groups import FrameGroup
from daemon.planning.matching import Pool
from daemon.planning.reach import Reach
from daemon.planning.resolve import Resolved, Standing
from daemon.records import ProductState
from daemon.rules import Planner
from daemon.store.excerpts import Stretch

_EVER = 1e11  # s: longer than any archive


@dataclass(frozen=True, slots=True)
class Known:
    """How a group that others depend on was resolved when it was last looked at."""

    group: FrameGroup
    how: object


class Spreading:
    """Remembers how calibrations resolve, and tells whom it concerns that one does otherwise."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._taken = {rule.name for rule in reach.book.rules if reach.users(rule.name)}
        self._known: dict[tuple[str, Key], Known] = {}  # by rule and each frame of the group

    def beside(self, keys: Iterable[Key]) -> set[Key]:
        """Return the frames that were in a group with one of these."""
        known = (self._known.get((rule, key)) for key in keys for rule in self._taken)
        groups = {id(each.group): each.group.keys for each in known if each is not None}
        return set().union(*groups.values())

    def is_alone(self, rule: str) -> bool:
        """Tell whether no other rule takes what a rule makes."""
        return rule not in self._taken

    def changed(
        self, planner: Planner, keys: Iterable[Key], touched: Mapping[Key, AbstractSet[str]], *, archive: bool
    ) -> list[FrameGroup]:
        """Return the groups of frames that resolve otherwise than they did, as they are or as they were.

        Of a group that was never looked at the catalog tells how it was; where the whole archive is compared
        (`archive`), whatever depends on it is looked at by itself. `touched` are the frames whose rows have
        changed, and the rules that have ever used them.
        """
        stirred = set(touched)  # for quick comparison with the frames of groups
        found: dict[int, FrameGroup] = {}
        for key in keys:
            for rule in self._taken:
                group = planner.exists.group_of(rule, key)
                known = self._known.get((rule, key))
                if known is not None and (group is None or known.group.keys != group.keys):
                    found[id(known.group)] = known.group
                if group is None and known is None and rule in touched.get(key, ()):
                    found |= self._lost(planner, rule, key)
        for group in self._groups(planner, keys):
            known = self._known.get((group.rule.name, group.frames[0].key))
            if self._differs(planner, group, known, stirred, archive=archive):
                found[id(group)] = group
        return list(found.values())

    def remember(self, planner: Planner) -> None:
        """Take what was looked at for how it is."""
        for key in planner.keys:
            for rule in self._taken:
                self._known.pop((rule, key), None)
        for group in self._groups(planner, planner.keys):
            known = Known(group, _how(planner, group))
            for key in group.keys:
                self._known[group.rule.name, key] = known

    def _groups(self, planner: Planner, keys: Iterable[Key]) -> Iterable[FrameGroup]:
        found = (planner.exists.group_of(rule, key) for key in keys for rule in self._taken)
        return {id(group): group for group in found if group is not None}.values()

    def concerned(self, planner: Planner, group: FrameGroup, others: Iterable[FrameGroup]) -> Iterator[Stretch]:
        """Yield where the frames are that a group which has changed, among others, may concern."""
        name = group.rule.name
        pool, limit = planner.exists.pools[name], self._reach.limit_s(name)
        changing = {each.keys for each in others}
        first = self._halfway(planner, pool, group, changing, pool.before(group), -_EVER)
        last = self._halfway(planner, pool, group, changing, pool.after(group), _EVER)
        agreeing = tuple((each, group.setup.get(each)) for each in pool.match.agree)
        for rule in self._reach.users(name):
            slack = self._reach.pause_s(rule) + 1.0
            near = max(first, group.time - limit) - slack, min(last, group.time + limit) + slack
            yield Stretch(rule.classes, _time(near[0]), _time(near[1]), setup=agreeing)
            wide = min(first, group.time - limit) - slack, max(last, group.time + limit) + slack
            yield Stretch(rule.classes, _time(wide[0]), _time(wide[1]), doubtful=True)
        own = group.time - limit - self._reach.pause_s(group.rule), group.time + limit + self._reach.pause_s(group.rule)
        yield Stretch(group.rule.classes, _time(own[0]), _time(own[1]), doubtful=True)

    def _differs(
        self, planner: Planner, group: FrameGroup, known: Known | None, stirred: set[Key], *, archive: bool
    ) -> bool:
        if known is not None:
            return known.how != _how(planner, group)
        return not stirred.isdisjoint(group.keys) or not (archive or _as_recorded(planner, group))

    def _lost(self, planner: Planner, rule: str, key: Key) -> dict[int, FrameGroup]:
        """Return the group of a frame that is in none any more, as far as it is known."""
        frames = [frame for frame in planner.exists.rows(key) if frame.obs_time is not None]
        group = FrameGroup(self._reach.rules[rule], tuple(frames[:1]))
        return {id(group): group} if frames else {}

    def _halfway(
        self,
        planner: Planner,
        pool: Pool,
        group: FrameGroup,
        changing: set[frozenset[Key]],
        side: Iterable[FrameGroup],
        ever: float,
    ) -> float:
        """Return from where on a neighbour that serves as before is nearer, s since 1970."""
        for other in side:
            same = pool.match.exposure == "any" or other.exposure_s == group.exposure_s
            if same and other.keys not in changing and _is_current(planner.resolver.resolved(other)):
                return (group.time + other.time) / 2
            if abs(other.time - group.time) > 2 * self._reach.limit_s(group.rule.name):
                break
        return ever


def _how(planner: Planner, group: FrameGroup) -> object:
    """Return all of a resolved group that others may depend on."""
    resolved = planner.resolver.resolved(group)
    return (
        tuple((each.path, each.landed, each.obs_time, each.exposure_s, each.setup) for each in group.frames),
        resolved.standing,
        resolved.wanted,
        resolved.reason,
        resolved.provisional,
        resolved.missing,
        resolved.usable.fingerprint if resolved.usable is not None else "",
        resolved.usable.provisional if resolved.usable is not None else "",
        resolved.standing is Standing.PENDING and planner.is_imminent(resolved),
        tuple(
            (each.fingerprint, each.state, each.provisional)
            for key in resolved.group.keys
            for each in sorted(planner.exists.products_of(group.rule.name, key), key=lambda made: made.fingerprint)
        ),
    )


def _as_recorded(planner: Planner, group: FrameGroup) -> bool:
    """Tell whether the catalog already says of a group what is found; of one whose frames were looked at."""
    resolved = planner.resolver.resolved(group)
    if resolved.standing is Standing.MADE:
        return _is_current(resolved)
    told = (each for frame in group.frames for each in planner.standings(frame.key) if each.frame == frame)
    return resolved.standing is not Standing.PENDING and all(
        (each.frame.state, each.frame.reason) == (each.state, each.reason) for each in told
    )


def _is_current(resolved: Resolved) -> bool:
    """Tell whether a product exists as it should, and the catalog says so."""
    made = resolved.usable
    if made is None or resolved.standing is not Standing.MADE:
        return False
    return made.state is ProductState.CURRENT and made.provisional == resolved.provisional


def _time(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if abs(seconds) < _EVER / 2 else None
