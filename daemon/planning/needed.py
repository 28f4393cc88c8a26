"""Which calibrations tonight still lacks: pure, so that they can be told before dawn."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from daemon.planning.arrangement import Arrangement
from daemon.planning.groups import OUTSIDE
from daemon.planning.resolve import Resolved, Resolver, Standing
from daemon.records import FrameInfo, FrameState, Neighbourhood, Setup
from daemon.rulebook import OBJECT_CLASSES, Rule, Rulebook, describe_setting

_IMAGINED = "imagined object"  # stands for the science frames of a setting that has none yet
_WITHOUT_SETTING = ("BIAS", "DARK")  # taken with any grating: they make no setting of the night


@dataclass(frozen=True, slots=True)
class Lack:
    """A calibration that a setting of the night still lacks."""

    setup: Setup
    rule: str
    frame_class: str  # of the frames to take
    lacks: int  # frames
    found: int  # frames that serve now
    waiting: int  # science frames that wait for it, or are provisional without it
    reason: str = ""  # what was found that does not serve, or serves only provisionally

    @property
    def setting(self) -> str:
        """The setup in words."""
        return ", ".join(describe_setting(name, value) for name, value in self.setup.items())


def needed(neighbourhood: Neighbourhood, book: Rulebook, now: datetime, night: str) -> list[Lack]:
    """Return what the settings seen in a night lack, by setting and in the order of the rules.

    A calibration beyond its time limit does not count, nor one that failed: it should be taken anew.
    """
    seen = [
        frame
        for frame in neighbourhood.frames
        if frame.night == night
        and frame.obs_time
        and frame.state not in OUTSIDE | {FrameState.ABSENT}
        and frame.frame_class not in _WITHOUT_SETTING
    ]
    imagined = list(_imagined(seen))
    exists = Arrangement(book, replace(neighbourhood, frames=(*neighbourhood.frames, *imagined)))
    resolver = Resolver(exists, book, now.timestamp(), batch=False)
    wanted = [frame.key for frame in (*seen, *imagined) if frame.frame_class in OBJECT_CLASSES]
    lacks: dict[tuple[Setup, str], Lack] = {}
    rules = {rule.name: rule for rule in book.rules}
    for rule in (rule for rule in book.rules if set(rule.classes) & set(OBJECT_CLASSES)):
        groups = {group.frames[0].key: group for key in wanted if (group := exists.group_of(rule.name, key))}
        for group in groups.values():
            resolved = resolver.resolved(group)
            own = {(lack.setup, lack.rule): lack for lack in _lacks(resolved, rules, resolver)}
            for lack in own.values():
                _add(lacks, replace(lack, waiting=int(not _is_imagined(resolved))))
    order = {name: place for place, name in enumerate(rules)}
    return sorted(lacks.values(), key=lambda lack: (lack.setting, order[lack.rule]))


def _imagined(frames: Iterable[FrameInfo]) -> Iterable[FrameInfo]:
    by_setup: dict[Setup, list[FrameInfo]] = {}
    for frame in frames:
        by_setup.setdefault(frame.setup, []).append(frame)
    for setup, some in by_setup.items():
        if not any(frame.frame_class in OBJECT_CLASSES for frame in some):
            name = f"{_IMAGINED} {hash(setup)}"
            yield replace(
                some[-1], path=name, content_hash=name, frame_class=OBJECT_CLASSES[0], state=FrameState.WAITING
            )


def _is_imagined(resolved: Resolved) -> bool:
    return resolved.group.frames[0].path.startswith(_IMAGINED)


def _lacks(resolved: Resolved, rules: dict[str, Rule], resolver: Resolver) -> Iterator[Lack]:
    """Yield what a group lacks; where frames of a calibration are there and lack something themselves, that."""
    for name in resolved.group.rule.needs:
        choice = resolved.choices[name]
        taken = choice.taken
        serves = taken is not None and not choice.provisional
        found = len(taken.group.frames) if taken is not None and serves else 0
        group = rules[name].group
        least = group.least if group else 1
        if found >= least:
            continue
        blocked = None if serves else _blocked(resolved, name, resolver)
        if blocked is not None:
            yield from _lacks(blocked, rules, resolver)
            continue
        reason = ", ".join(choice.provisional)
        if taken is None and not reason:
            reason = resolver.missing_sentence(resolved.group, name, choice)
        setup = resolved.group.frames[0].setup
        yield Lack(setup, name, rules[name].classes[0], least - found, found, 0, reason)


def _blocked(resolved: Resolved, name: str, resolver: Resolver) -> Resolved | None:
    """Return the nearest group of a calibration that only lacks calibrations itself."""
    near = (resolver.resolved(each.group) for each in resolver.exists.pools[name].near(resolved.group))
    return next((each for each in near if each.standing is Standing.BLOCKED and each.missing), None)


def _add(lacks: dict[tuple[Setup, str], Lack], lack: Lack) -> None:
    before = lacks.get((lack.setup, lack.rule))
    if before is not None:
        worse = max(before, lack, key=lambda each: each.lacks)
        lack = replace(worse, waiting=before.waiting + lack.waiting)
    lacks[lack.setup, lack.rule] = lack
