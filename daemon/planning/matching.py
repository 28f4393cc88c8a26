"""Which calibrations serve a group of frames, and in which order they are tried."""

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from daemon.planning.groups import FrameGroup
from daemon.records import Setting, Setup
from daemon.rulebook import Match, describe_setting

DAY_S = 86400.0
SAME_EXPOSURE = 1e-3  # relative: 999.99999999999989 ms is 1 s

C = TypeVar("C")  # what stands for a group: its product, made or wanted


@dataclass(frozen=True, slots=True)
class Ranked(Generic[C]):
    """A candidate and how far in time it lies from the group that it is to serve."""

    candidate: C
    group: FrameGroup
    days: float


class Pool(Generic[C]):
    """The groups of one rule as candidates, found by the criteria that must agree."""

    def __init__(self, match: Match, candidates: Iterable[tuple[FrameGroup, C]]) -> None:
        self._match = match
        self._values_of: dict[Setup, tuple[Setting | None, ...]] = {}
        self._by_setting: dict[tuple[Setting | None, ...], list[tuple[FrameGroup, C]]] = defaultdict(list)
        for group, candidate in sorted(candidates, key=lambda each: each[0].time):
            self._by_setting[self._values(group)].append((group, candidate))
        self._times = {values: [group.time for group, _ in some] for values, some in self._by_setting.items()}

    def near(self, group: FrameGroup) -> list[Ranked[C]]:
        """Return the candidates that agree and lie within the time limit, the best first."""
        some = self._by_setting.get(self._values(group), [])
        first, last = self._within(group)
        return self._ranked(some[first:last], group)

    def beyond(self, group: FrameGroup) -> list[Ranked[C]]:
        """Return the candidates that agree and lie beyond the time limit, the best first."""
        some = self._by_setting.get(self._values(group), [])
        first, last = self._within(group)
        return self._ranked([*some[:first], *some[last:]], group)

    def _within(self, group: FrameGroup) -> tuple[int, int]:
        """Return the range of candidates of the group's setting, by time, that lie within the limit."""
        times = self._times.get(self._values(group), [])
        limit = self._match.within_days

        def days(time: float) -> float:
            return (time - group.time) / DAY_S

        return bisect_left(times, -limit, key=days), bisect_right(times, limit, key=days)

    def _ranked(self, some: Iterable[tuple[FrameGroup, C]], group: FrameGroup) -> list[Ranked[C]]:
        suited = (
            Ranked(candidate, other, abs(other.time - group.time) / DAY_S)
            for other, candidate in some
            if not self._wrong_exposure(other, group)
        )
        return sorted(suited, key=lambda each: self._rank(each, group))

    def disagreeing(self, group: FrameGroup, most: int) -> list[tuple[FrameGroup, str]]:
        """Return the nearest candidates that cannot serve, each with the criterion that says so."""
        others = sorted(
            (
                other
                for values, members in self._by_setting.items()
                for other, _ in members
                if values != self._values(group) or self._wrong_exposure(other, group)
            ),
            key=lambda other: abs(other.time - group.time),
        )
        return [(other, self.criterion(other, group)) for other in others[:most]]

    def criterion(self, other: FrameGroup, group: FrameGroup) -> str:
        """Return the first criterion by which `other` cannot serve `group`, in words; empty: it can."""
        for name in self._match.agree:
            found, needed = other.setup.get(name), group.setup.get(name)
            if found != needed:
                return f"{describe_setting(name, found)}, needed {_bare(name, needed)}"
        if self._wrong_exposure(other, group):
            return f"exposure {other.exposure_s:g} s, needed {group.exposure_s:g} s"
        days = abs(other.time - group.time) / DAY_S
        if days > self._match.within_days:
            return f"{days:.1f} days away, limit {self._match.within_days:g}"
        return ""

    def _values(self, group: FrameGroup) -> tuple[Setting | None, ...]:
        values = self._values_of.get(group.setup)
        if values is None:
            values = tuple(group.setup.get(name) for name in self._match.agree)
            self._values_of[group.setup] = values
        return values

    def _wrong_exposure(self, other: FrameGroup, group: FrameGroup) -> bool:
        return self._match.exposure == "equal" and not _same(other.exposure_s, group.exposure_s)

    def _rank(self, each: Ranked[C], group: FrameGroup) -> tuple[tuple[int, float], float, float, str]:
        """Sort by exposure where that counts, then time; ties: the earlier one, then the hash."""
        exposure = _scaling(each.group.exposure_s, group.exposure_s) if self._match.exposure == "scaled" else (0, 0.0)
        return exposure, each.days, each.group.time, each.group.frames[0].content_hash


def _same(exposure_s: float, other_s: float) -> bool:
    return math.isclose(exposure_s, other_s, rel_tol=SAME_EXPOSURE, abs_tol=SAME_EXPOSURE)


def _scaling(dark_s: float, frame_s: float) -> tuple[int, float]:
    """Rank a dark: the same exposure, longer ones, then shorter ones, whose noise grows in scaling."""
    if _same(dark_s, frame_s):
        return 0, 0.0
    if dark_s <= 0:
        return 3, 0.0
    if dark_s > frame_s:
        return 1, dark_s
    return 2, -dark_s


def _bare(name: str, value: Setting | None) -> str:
    return describe_setting(name, value).split(" ", 1)[1]
