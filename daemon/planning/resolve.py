"""From frames to what each group should be made of: candidates, choices, wanted fingerprints.

A group's wanted fingerprint follows from the frames and from what has failed or was marked bad, and from
nothing else: not from what happens to exist, nor from the order in which it came. It is known long before
its inputs exist, since theirs are known too.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto

from daemon.planning.fingerprint import fingerprint, recipe_hash
from daemon.planning.groups import FrameGroup, distinct, form_groups, night_of, undated
from daemon.planning.matching import Pool, Ranked
from daemon.records import Candidate, Made, Neighbourhood, ProductState, Wake
from daemon.rulebook import Match, Rule, Rulebook

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
    """One comparison of what exists with what the rules want.

    Parameters
    ----------
    neighbourhood, book : Neighbourhood, Rulebook
        What exists and what is wanted.
    now : float
        Seconds since 1970.
    batch : bool
        Nothing more will come, so nothing is waited for.
    settled : Resolver, optional
        An earlier comparison whose calibrations still hold: only what nothing else depends on is looked at.
    """

    def __init__(
        self,
        neighbourhood: Neighbourhood,
        book: Rulebook,
        now: float,
        *,
        batch: bool,
        settled: "Resolver | None" = None,
    ) -> None:
        self.neighbourhood = neighbourhood
        self.book = book
        self.now = now
        self.batch = batch
        self._tonight = night_of(datetime.fromtimestamp(now, UTC), book.timezone)
        self.wakes: set[Wake] = set()  # when a time limit passes that changes the comparison
        self.pools: dict[str, Pool[Resolved]] = {}
        self.resolved: dict[str, list[Resolved]] = {}
        self.frames, self.duplicates = distinct(neighbourhood.frames)
        self.undated = undated(neighbourhood.frames)
        self._products: dict[tuple[str, tuple[str, int]], list[Made]] = {}
        for made in neighbourhood.own():
            for key in made.keys:
                self._products.setdefault((made.rule, key), []).append(made)
        ends = book.dead_ends()
        self.rules = tuple(rule for rule in book.rules if settled is None or rule.name in ends)
        if settled is not None:
            self.pools |= {name: pool for name, pool in settled.pools.items() if name not in ends}
        for rule in self.rules:
            self._resolve_rule(rule)

    def waited(self, group: FrameGroup, seconds: float, *, settling: bool = True) -> bool:
        """Tell whether a group has waited so long since it landed; note when it will have."""
        return self.batch or self.passed(group, group.landed + seconds, settling=settling)

    def passed(self, group: FrameGroup, time: float, *, settling: bool = True) -> bool:
        """Tell whether a time has passed that matters for a group; note it where it has not."""
        if self.now >= time - RESOLUTION_S:
            return True
        self.wakes.add(Wake(time, group.rule.name, group.frames[0].key, settling))
        return False

    def _resolve_rule(self, rule: Rule) -> None:
        kept = {
            key
            for (name, key), products in self._products.items()
            if name == rule.name and any(made.state is ProductState.CURRENT for made in products)
        }
        recipe = recipe_hash(rule, self.book.options.get(rule.name, {}))
        resolved = [self._resolve(group, recipe) for group in form_groups(rule, self.frames, kept)]
        self.resolved[rule.name] = resolved
        match = self.book.matches.get(rule.name, Match())
        self.pools[rule.name] = Pool(match, ((each.group, each) for each in resolved))

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
            self._provisional(group, choices),
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
                for made in self._products.get((group.rule.name, first), ())
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
        made = self.neighbourhood.made.get(wanted)
        if made is not None and made.state is ProductState.BAD:
            return Standing.BAD, "marked bad"
        if made is not None:
            return Standing.MADE, ""
        if wanted in self.neighbourhood.failed:
            return Standing.FAILED, self.neighbourhood.failed[wanted]
        return Standing.PENDING, ""

    def _choose(self, group: FrameGroup, name: str, chosen: Mapping[str, Choice]) -> Choice:
        via = chosen.get(group.rule.through.get(name, ""))
        if via is not None and via.taken is not None and name in via.taken.choices:
            return Choice(via.taken.choices[name].taken)
        rejected: list[Candidate] = []
        lost: list[str] = []
        for each in self.pools[name].near(group):
            if each.candidate.standing in (Standing.MADE, Standing.PENDING):
                return Choice(each.candidate, tuple(lost), tuple(rejected))
            rejected.append(_rejection(name, each))
            if each.candidate.standing is Standing.FAILED:
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
        beyond = self.pools[name].beyond(group) if name in group.rule.needs else []
        able = [each for each in beyond if each.candidate.standing in (Standing.MADE, Standing.PENDING)]
        without = group.rule.forgoes.get(name, "")
        if name not in group.rule.needs or not (able or without):
            return Choice(None, rejected=rejected)
        if not self.waited(group, self.book.timing.provisional_after_s, settling=False):
            return Choice(None, rejected=rejected)
        if not able:
            return Choice(None, (*lost, without), rejected, forgone=True)
        age = f"{name} {able[0].group.name} is {able[0].days:.1f} days away"
        return Choice(able[0].candidate, (*lost, age), rejected)

    def _provisional(self, group: FrameGroup, choices: Mapping[str, Choice]) -> tuple[str, ...]:
        rule = group.rule
        least = rule.group.least if rule.group else 1
        reasons = [f"{len(group.frames)} of {least} {rule.name} frames"] if len(group.frames) < least else []
        for name in rule.needs:
            choice = choices[name]
            reasons += [*choice.provisional, *(choice.taken.provisional if choice.taken else ())]
        return tuple(dict.fromkeys(reasons))

    def _usable(self, group: FrameGroup, wanted: str, standing: Standing) -> Made | None:
        if standing is Standing.MADE:
            return self.neighbourhood.made[wanted]
        if standing is not Standing.PENDING:
            return None
        products = {
            made.fingerprint: made
            for key in group.keys
            for made in self._products.get((group.rule.name, key), ())
            if self.acceptable(made.fingerprint)
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

    def acceptable(self, print_: str, seen: AbstractSet[str] = frozenset()) -> bool:
        """Tell whether neither a product nor anything that it was made from is marked bad."""
        made = self.neighbourhood.made.get(print_)
        if made is None or print_ in seen:
            return True
        return made.state is not ProductState.BAD and all(
            self.acceptable(each, seen | {print_}) for each in made.calibrations.values()
        )

    def missing_sentence(self, group: FrameGroup, name: str, choice: Choice) -> str:
        """Say what is missing and why each candidate was rejected."""
        why = [f"{each.name}: {each.criterion}" for each in choice.rejected]
        why += [f"{other.name}: {what}" for other, what in self.unsuited(group, name)]
        return f"needs {article(name)} ({'; '.join(why) if why else 'none has come'})"

    def unsuited(self, group: FrameGroup, name: str) -> list[tuple[FrameGroup, str]]:
        """Return the candidates of other settings or beyond the time limit, the nearest first."""
        pool = self.pools[name]
        late = [(each.group, pool.criterion(each.group, group)) for each in pool.beyond(group)]
        return [*late, *pool.disagreeing(group, MOST_REJECTED)][:MOST_REJECTED]


def article(name: str) -> str:
    """Return the rule's name with its article."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _rejection(name: str, each: Ranked[Resolved]) -> Candidate:
    resolved = each.candidate
    criterion = f"failed: {resolved.reason}" if resolved.standing is Standing.FAILED else resolved.reason
    if resolved.missing:  # its own reason says why, and would nest a sentence in a sentence
        criterion = f"needs {' and '.join(article(name) for name in resolved.missing)} itself"
    return Candidate(name, each.group.name, resolved.wanted, criterion=criterion)
