"""Which calibrations serve a group of frames, and in which order they are tried."""

import math
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from daemon.planning.groups import FrameGroup, Values
from daemon.records import Setting, Setup
from daemon.rulebook import Match, describe_setting

DAY_S = 86400.0
SAME_EXPOSURE = 1e-3  # relative: 999.99999999999989 ms is 1 s


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate and how far in time it lies from the group that it is to serve."""

    group: FrameGroup
    days: float


class Pool:
    """The groups of one rule as candidates, found by the criteria that must agree."""

    def __init__(self, match: Match, groups: Iterable[FrameGroup] = ()) -> None:
        self.match = match
        self._values_of: dict[Setup, Values] = {}
        self._by_setting: dict[Values, list[FrameGroup]] = defaultdict(list)
        for group in groups:
            self.add(group)

    def add(self, group: FrameGroup) -> None:
        """Take a group in."""
        insort(self._by_setting[self.values(group.setup)], group, key=_place)

    def remove(self, group: FrameGroup) -> None:
        """Take a group out that was taken in before."""
        some = self._by_setting[self.values(group.setup)]
        place = bisect_left(some, _place(group), key=_place)
        while some[place] is not group:
            place += 1
        del some[place]

    def near(self, group: FrameGroup) -> list[Ranked]:
        """Return the candidates that agree and lie within the time limit, the best first."""
        some = self._by_setting.get(self.values(group.setup), [])
        first, last = self._within(some, group)
        suited = (
            Ranked(other, days_between(other, group))
            for other in some[first:last]
            if not self.wrong_exposure(other, group)
        )
        return sorted(suited, key=lambda each: self._rank(each, group))

    def before(self, group: FrameGroup) -> Iterable[FrameGroup]:
        """Yield the groups of the same setting before a group, the nearest first."""
        some = self._by_setting.get(self.values(group.setup), [])
        return reversed(some[: bisect_left(some, group.time, key=_time)])

    def after(self, group: FrameGroup) -> Iterable[FrameGroup]:
        """Yield the groups of the same setting after a group, the nearest first."""
        some = self._by_setting.get(self.values(group.setup), [])
        return some[bisect_right(some, group.time, key=_time) :]

    def disagreeing(self, group: FrameGroup, most: int) -> list[tuple[FrameGroup, str]]:
        """Return the nearest candidates of those days that cannot serve, each with the criterion that says so."""
        values = self.values(group.setup)
        others: list[FrameGroup] = []
        for found, some in self._by_setting.items():
            first, last = self._within(some, group)
            others += (each for each in some[first:last] if found != values or self.wrong_exposure(each, group))
        others.sort(key=lambda other: (abs(other.time - group.time), *_place(other)))
        return [(other, self.criterion(other, group)) for other in others[:most]]

    def criterion(self, other: FrameGroup, group: FrameGroup) -> str:
        """Return the first criterion by which `other` cannot serve `group`, in words; empty: it can."""
        for name in self.match.agree:
            found, needed = other.setup.get(name), group.setup.get(name)
            if found != needed:
                return f"{describe_setting(name, found)}, needed {_bare(name, needed)}"
        if self.wrong_exposure(other, group):
            return f"exposure {other.exposure_s:g} s, needed {group.exposure_s:g} s"
        days = days_between(other, group)
        if days > self.match.within_days:
            return f"{days:.1f} days away, limit {self.match.within_days:g}"
        return ""

    def values(self, setup: Setup) -> Values:
        """Return the values of a setup that must agree."""
        values = self._values_of.get(setup)
        if values is None:
            values = self._values_of[setup] = tuple(setup.get(name) for name in self.match.agree)
        return values

    def wrong_exposure(self, other: FrameGroup, group: FrameGroup) -> bool:
        """Tell whether the exposure time alone keeps `other` from serving `group`."""
        return self.wrong_length(other.exposure_s, group)

    def wrong_length(self, exposure_s: float, group: FrameGroup) -> bool:
        """Tell whether an exposure time cannot serve a group."""
        return self.match.exposure == "equal" and not _same(exposure_s, group.exposure_s)

    def beyond_limit(self, other: FrameGroup, group: FrameGroup) -> bool:
        """Tell whether `other` would serve `group` if it did not lie too far away in time."""
        return days_between(other, group) > self.match.within_days and not self.wrong_exposure(other, group)

    def _within(self, some: list[FrameGroup], group: FrameGroup) -> tuple[int, int]:
        """Return the range of groups, by time, that lie within the limit."""
        limit = self.match.within_days

        def days(time: float) -> float:
            return (time - group.time) / DAY_S

        first = bisect_left(some, -limit, key=lambda other: days(other.time))
        return first, bisect_right(some, limit, key=lambda other: days(other.time))

    def _rank(self, each: Ranked, group: FrameGroup) -> tuple[tuple[int, float], float, float, str]:
        """Sort by exposure where that counts, then time; ties: the earlier one, then the hash."""
        exposure = _scaling(each.group.exposure_s, group.exposure_s) if self.match.exposure == "scaled" else (0, 0.0)
        return exposure, each.days, *_place(each.group)


def days_between(one: FrameGroup, other: FrameGroup) -> float:
    """Return how far two groups lie apart in time."""
    return abs(one.time - other.time) / DAY_S


def _place(group: FrameGroup) -> tuple[float, str]:
    return group.time, group.frames[0].content_hash


def _time(group: FrameGroup) -> float:
    return group.time


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
