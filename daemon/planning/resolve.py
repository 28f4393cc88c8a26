"""From frames to what each group should be made of: candidates, choices, wanted fingerprints.

A group's wanted fingerprint follows from the frames and from what has failed or was marked bad, and from
nothing else: not from what happens to exist, nor from the order in which it came. It is known long before
its inputs exist, since theirs are known too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto

from daemon.planning.arrangement import Arrangement, Key, acceptable, serves_as_made
from daemon.planning.fingerprint import fingerprint, recipe_hash
from daemon.planning.groups import FrameGroup, group_of_all, night_of
from daemon.planning.matching import Pool, days_between
from daemon.records import Candidate, Made, ProductState, Wake
from daemon.rulebook import TO_TAKE, Rule, Rulebook

RESOLUTION_S = 1e-6  # of a datetime, in which wakes are told
MOST_REJECTED = 5  # candidates of another setting that a reason lists


class Standing(Enum):
    """How a group's wanted product stands."""

    MADE = auto()  # it exists
    PENDING = auto()  # it can be made, now or when its inputs are
    FAILED = auto()  # it was tried and failed
    BAD = auto()  # it exists and was marked bad
    BLOCKED = auto()  # a calibration that it needs does not exist and is not in sight


@dataclass(frozen=True, slots=True)
class Choice:
    """What a group takes of one rule."""

    taken: "Resolved | None"
    provisional: tuple[str, ...] = ()  # why it is less than what is wanted
    rejected: tuple[Candidate, ...] = ()  # nearer ones that cannot be used
    forgone: bool = False  # there is none, and the group is reduced without it


@dataclass(frozen=True, slots=True)
class Resolved:
    """A group, the product that it should have, and what that is made from."""

    group: FrameGroup
    standing: Standing
    wanted: str = ""  # fingerprint; empty where it is blocked
    recipe: str = ""
    reason: str = ""  # why it failed or is blocked
    provisional: tuple[str, ...] = ()
    choices: Mapping[str, Choice] = field(default_factory=dict)  # by rule
    usable: Made | None = None  # the wanted product, or the best there is while that is pending
    missing: tuple[str, ...] = ()  # rules of which it needs a product that is not in sight

    def taken(self) -> Iterator[tuple[str, "Resolved"]]:
        """Yield the rules of which something was chosen, and what."""
        for name, choice in self.choices.items():
            if choice.taken is not None:
                yield name, choice.taken


class Resolver:
    """One comparison of what exists with what the rules want, group by group as they are asked for.

    Parameters
    ----------
    arrangement, book : Arrangement, Rulebook
        What exists and what is wanted.
    now : float
        Seconds since 1970.
    batch : bool
        Nothing more will come, so nothing is waited for.
    bad : Arrangement or None
        The frames that are marked bad, as they would be arranged were they not: to be named beside the
        candidates. None: they are not named.
    """

    def __init__(
        self, arrangement: Arrangement, book: Rulebook, now: float, *, batch: bool, bad: Arrangement | None = None
    ) -> None:
        self.exists = arrangement
        self._bad = bad
        self.book = book
        self.now = now
        self.batch = batch
        self._tonight = night_of(datetime.fromtimestamp(now, UTC), book.timezone)
        self._recipes = {rule.name: recipe_hash(rule, book.options.get(rule.name, {})) for rule in book.rules}
        self._rules = {rule.name: rule for rule in book.rules}
        self._resolved: dict[tuple[str, Key], Resolved] = {}
        self._far: dict[str, tuple[int, Pool]] = {}  # by rule: what is current, as it was made
        self._far_made: dict[tuple[str, frozenset[Key]], Resolved] = {}
        self.wakes: set[Wake] = set()  # when a time limit passes that changes the comparison
        self.n_group = 0  # groups that were resolved
        self._asked: dict[tuple[str, Key], tuple[FrameGroup, tuple[str, ...]]] = {}

    def resolved(self, group: FrameGroup) -> Resolved:
        """Return the product that a group should have, and what that is made from."""
        place = group.rule.name, group.frames[0].key
        found = self._resolved.get(place)
        if found is None:
            self.n_group += 1
            found = self._resolved[place] = self._resolve(group, self._recipes[group.rule.name])
        return found

    def unsettled(self) -> Iterator[Resolved]:
        """Yield what was resolved and will not stay as it is."""
        waiting = {(wake.rule, wake.key) for wake in self.wakes}
        for (rule, _), each in self._resolved.items():
            if each.standing is Standing.PENDING or (rule, each.group.frames[0].key) in waiting:
                yield each

    def waited(self, group: FrameGroup, seconds: float, *, settling: bool = True) -> bool:
        """Tell whether a group has waited so long since it landed; note when it will have."""
        return self.batch or self.passed(group, group.landed + seconds, settling=settling)

    def passed(self, group: FrameGroup, time: float, *, settling: bool = True) -> bool:
        """Tell whether a time has passed that matters for a group; note it where it has not."""
        if self.now >= time - RESOLUTION_S:
            return True
        self.wakes.add(Wake(time, group.rule.name, group.frames[0].key, settling))
        return False

    def _resolve(self, group: FrameGroup, recipe: str) -> Resolved:
        rule = group.rule
        choices: dict[str, Choice] = {}
        for name in self._order(rule):
            choices[name] = self._choose(group, name, choices)
        missing = tuple(n for n in rule.needs if choices[n].taken is None and not choices[n].forgone)
        if missing:
            reason = "; ".join(self.missing_sentence(group, name, choices[name]) for name in missing)
            return Resolved(group, Standing.BLOCKED, recipe=recipe, reason=reason, choices=choices, missing=missing)
        inputs = {name: choice.taken.wanted for name, choice in choices.items() if choice.taken is not None}
        wanted = fingerprint(recipe, rule, group.frames, inputs)
        standing, reason = self._stand(wanted)
        if standing is Standing.PENDING and not self._remakes(group):
            wanted = self._made_before(group, inputs) or wanted
            standing, reason = self._stand(wanted)
        present = group.present()
        if standing is Standing.PENDING and present != group:
            if present is not None:
                return self._resolve(present, recipe)
            return Resolved(group, Standing.BLOCKED, reason=f"the raw file of {group.name} has vanished")
        return Resolved(
            group,
            standing,
            wanted,
            recipe,
            reason,
            self._provisional(group, choices, self.exists.made.get(wanted)),
            choices,
            self._usable(group, wanted, standing),
        )

    def _remakes(self, group: FrameGroup) -> bool:
        """Tell whether a changed recipe alone is a reason to make a product again."""
        policy = self.book.remake
        return policy == "all" or (policy == "tonight" and (self.batch or group.night == self._tonight))

    def _made_before(self, group: FrameGroup, inputs: Mapping[str, str]) -> str:
        """Return the product of the same inputs by another recipe, an empty text where there is none."""
        first = group.frames[0].key
        return max(
            (
                made.fingerprint
                for made in self.exists.products_of(group.rule.name, first)
                if made.state is ProductState.CURRENT
                and made.fingerprint == fingerprint(made.recipe, group.rule, group.frames, inputs)
            ),
            default="",
        )

    def _order(self, rule: Rule) -> list[str]:
        """Return the rules to choose from, those before others through which they are chosen."""
        names = (*rule.needs, *rule.likes)
        return sorted(names, key=lambda name: name in rule.through)

    def _stand(self, wanted: str) -> tuple[Standing, str]:
        made = self.exists.made.get(wanted)
        if made is not None and made.state is ProductState.BAD:
            return Standing.BAD, "marked bad"
        if made is not None:
            return Standing.MADE, ""
        if wanted in self.exists.failed:
            return Standing.FAILED, self.exists.failed[wanted]
        return Standing.PENDING, ""

    def _choose(self, group: FrameGroup, name: str, chosen: Mapping[str, Choice]) -> Choice:
        via = chosen.get(group.rule.through.get(name, ""))
        if via is not None and via.taken is not None and name in via.taken.choices:
            return Choice(via.taken.choices[name].taken)
        rejected: list[Candidate] = []
        lost: list[str] = []
        for each in self.exists.pools[name].near(group):
            candidate = self.resolved(each.group)
            if candidate.standing in (Standing.MADE, Standing.PENDING):
                return Choice(candidate, tuple(lost), tuple(rejected))
            rejected.append(_rejection(name, candidate))
            if candidate.standing is Standing.FAILED:
                lost.append(f"{name} {each.group.name} failed")
        return self._beyond(group, name, (tuple(lost), tuple(rejected)))

    def _beyond(
        self,
        group: FrameGroup,
        name: str,
        nearer: tuple[tuple[str, ...], tuple[Candidate, ...]],
    ) -> Choice:
        """Choose a calibration beyond its time limit, or none, once the group has waited long enough."""
        lost, rejected = nearer
        beyond = self.beyond(group, name) if name in group.rule.needs else []
        without = group.rule.forgoes.get(name, "")
        if name not in group.rule.needs or not (beyond or without):
            return Choice(None, rejected=rejected)
        if not self.waited(group, self.book.timing.provisional_after_s, settling=False):
            return Choice(None, rejected=rejected)
        if not beyond:
            return Choice(None, (*lost, without), rejected, forgone=True)
        nearest = beyond[0]
        age = f"{name} {nearest.group.name} is {days_between(nearest.group, group):.1f} days away"
        return Choice(nearest, (*lost, age), rejected)

    def beyond(self, group: FrameGroup, name: str) -> list[Resolved]:
        """Return the nearest on either side of what was made beyond the time limit, the nearer first.

        So far away a calibration is taken as it is: the current product, whatever its own frames may still
        become.
        """
        nearest = self._nearest(group, name)
        self._asked[name, group.frames[0].key] = group, tuple(each.wanted for each in nearest)
        return nearest

    @property
    def asked(self) -> list[tuple[str, FrameGroup]]:
        """The rules and groups for which one beyond the limit was sought."""
        return [(name, group) for (name, _), (group, _) in self._asked.items()]

    def is_outdated(self) -> bool:
        """Tell whether something nearer has come in since it was sought."""
        return any(
            told != tuple(each.wanted for each in self._nearest(group, name))
            for (name, _), (group, told) in self._asked.items()
        )

    def _nearest(self, group: FrameGroup, name: str) -> list[Resolved]:
        pool = self._far_pool(name)
        found = [
            next((other for other in side if pool.beyond_limit(other, group)), None)
            for side in (pool.before(group), pool.after(group))
        ]
        nearest = sorted(filter(None, found), key=lambda other: (days_between(other, group), other.time))
        return [self._far_made[name, other.keys] for other in nearest]

    def _far_pool(self, name: str) -> Pool:
        version, pool = self._far.get(name, (-1, None))
        if pool is None or version != self.exists.version:
            pool = Pool(self.exists.pools[name].match)
            self._far[name] = self.exists.version, pool
            self._far_made = {place: made for place, made in self._far_made.items() if place[0] != name}
            for made in sorted(self.exists.made_by(name), key=lambda each: each.fingerprint):
                resolved = self._as_made(made) if serves_as_made(self.exists, made) else None
                if resolved is not None and (name, resolved.group.keys) not in self._far_made:
                    self._far_made[name, resolved.group.keys] = resolved
                    pool.add(resolved.group)
        return pool

    def _as_made(self, made: Made) -> Resolved | None:
        """Return a product as it is; None where its frames are not known any more."""
        frames = [self.exists.frame(key) for key in made.keys]
        rule = self._rules.get(made.rule)
        if rule is None or not frames or any(frame is None for frame in frames):
            return None
        group = group_of_all(rule, filter(None, frames))
        used = {name: self.exists.made.get(print_) for name, print_ in made.calibrations.items()}
        resolved = {name: self._as_made(each) for name, each in used.items() if each is not None}
        choices = {name: Choice(each) for name, each in resolved.items() if each is not None}
        return Resolved(group, Standing.MADE, made.fingerprint, made.recipe, "", made.provisional, choices, made)

    def _provisional(self, group: FrameGroup, choices: Mapping[str, Choice], made: Made | None) -> tuple[str, ...]:
        rule = group.rule
        least = rule.group.least if rule.group else 1
        n_frame = len(group.frames) - (len(made.set_aside) if made else 0)
        reasons = [f"{n_frame} of {least} {rule.name} frames"] if n_frame < least else []
        for name in rule.needs:
            choice = choices[name]
            reasons += [*choice.provisional, *(choice.taken.provisional if choice.taken else ())]
        return tuple(dict.fromkeys(reasons))

    def _usable(self, group: FrameGroup, wanted: str, standing: Standing) -> Made | None:
        if standing is Standing.MADE:
            return self.exists.made[wanted]
        if standing is not Standing.PENDING:
            return None
        products = {
            made.fingerprint: made
            for key in group.keys
            for made in self.exists.products_of(group.rule.name, key)
            if acceptable(self.exists, made.fingerprint)
        }
        return max(
            products.values(),
            key=lambda made: (
                made.state is ProductState.CURRENT,
                len(made.keys & group.keys),
                made.fingerprint,
            ),
            default=None,
        )

    def missing_sentence(self, group: FrameGroup, name: str, choice: Choice) -> str:
        """Say what is missing and why each candidate was rejected."""
        why = [f"{each.name}: {each.criterion}" for each in choice.rejected]
        why += [f"{other.name}: {what}" for other, what in self.unsuited(group, name)]
        return f"needs {to_take(name)} ({'; '.join(why) if why else 'no usable one has come'})"

    def unsuited(self, group: FrameGroup, name: str) -> list[tuple[FrameGroup, str]]:
        """Return the candidates marked bad, beyond the time limit or of other settings, the nearest of each first."""
        pool = self.exists.pools[name]
        late = [(each.group, pool.criterion(each.group, group)) for each in self.beyond(group, name)]
        bad = [(each, "marked bad") for each in self._marked_bad(group, name)]
        return [*bad, *late, *pool.disagreeing(group, MOST_REJECTED)][:MOST_REJECTED]

    def _marked_bad(self, group: FrameGroup, name: str) -> Iterator[FrameGroup]:
        """Yield each frame marked bad that could serve otherwise, the nearest group first."""
        for each in self._bad.pools[name].near(group) if self._bad is not None else ():
            for frame in each.group.frames:
                yield FrameGroup(each.group.rule, (frame,))


def article(name: str) -> str:
    """Return the rule's name with its article."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def to_take(name: str) -> str:
    """Return what an observer takes for the product of a rule, with its article."""
    return article(TO_TAKE.get(name, name))


def _rejection(name: str, resolved: Resolved) -> Candidate:
    criterion = f"failed: {resolved.reason}" if resolved.standing is Standing.FAILED else resolved.reason
    if resolved.missing:  # its own reason says why, and would nest a sentence in a sentence
        criterion = f"needs {' and '.join(to_take(name) for name in resolved.missing)} itself"
    return Candidate(name, resolved.group.name, resolved.wanted, criterion=criterion)
