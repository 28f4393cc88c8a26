"""Which frames are reduced together: pure functions of header data, never of arrival."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

from daemon.records import FrameInfo, FrameState, Setting, Setup
from daemon.rulebook import Group, Rule

# A frame in one of these states belongs to no group, whatever its class.
OUTSIDE = frozenset(
    {
        FrameState.INCOMPLETE,
        FrameState.UNCLASSIFIED,
        FrameState.IGNORED,
        FrameState.INVALID,
        FrameState.BAD,
    }
)


@dataclass(frozen=True)
class FrameGroup:
    """Frames that one job takes, sorted by observing time."""

    rule: Rule
    frames: tuple[FrameInfo, ...]

    @cached_property
    def time(self) -> float:
        """Middle of the observing times, seconds since 1970."""
        return (_start(self.frames[0]) + _start(self.frames[-1])) / 2

    @cached_property
    def landed(self) -> float:
        """When the last member landed, seconds since 1970."""
        return max(frame.landed.timestamp() for frame in self.frames)

    @cached_property
    def exposure_s(self) -> float:
        """The longest exposure."""
        return max(frame.exposure_s for frame in self.frames)

    @property
    def setup(self) -> Setup:
        """The header criteria, which the members share as far as the rule asks for it."""
        return self.frames[0].setup

    @property
    def night(self) -> str:
        """The night of the first member."""
        return self.frames[0].night

    @property
    def name(self) -> str:
        """The name of the first member, by which people know the group."""
        return self.frames[0].name

    @cached_property
    def keys(self) -> frozenset[tuple[str, int]]:
        """Content and part of each member."""
        return frozenset(frame.key for frame in self.frames)

    def present(self) -> "FrameGroup | None":
        """Return the group without the frames whose files have vanished, None where nothing is left."""
        frames = tuple(frame for frame in self.frames if frame.state is not FrameState.ABSENT)
        return replace(self, frames=frames) if frames else None

    def ready_at(self, quiet_s: float) -> float:
        """Return when nothing more is to be expected, seconds since 1970.

        The next exposure of a series lands one exposure and readout after the last one; twice that is
        waited for, counted from the end of the last exposure. A backlog, whose exposures ended long
        before they landed, waits for the quiet time only.
        """
        if self.rule.group is None:
            return self.landed
        last = self.frames[-1]
        landed = last.landed.timestamp()
        ended = min(landed, _start(last) + last.exposure_s + last.readout_s)
        return max(self.landed + quiet_s, ended + 2 * (last.exposure_s + last.readout_s))


def night_of(time: datetime, timezone: str) -> str:
    """Return the date of the local noon before a time, by which nights are named."""
    return (time.astimezone(ZoneInfo(timezone)) - timedelta(hours=12)).date().isoformat()


def distinct(frames: Iterable[FrameInfo]) -> tuple[list[FrameInfo], list[tuple[FrameInfo, FrameInfo]]]:
    """Return the frames that count, and the duplicates, each with the frame that counts in its place.

    Among frames of the same content the one that is present and whose path sorts first counts, so that
    the choice does not depend on the order of arrival.
    """
    kept: dict[tuple[str, int], FrameInfo] = {}
    copies: list[tuple[FrameInfo, FrameInfo]] = []
    for frame in sorted(frames, key=_precedence):
        if frame.state in OUTSIDE or frame.obs_time is None:
            continue
        first = kept.setdefault(frame.key, frame)
        if first is not frame and frame.state is not FrameState.ABSENT:
            copies.append((frame, first))
    return list(kept.values()), copies


def undated(frames: Iterable[FrameInfo]) -> list[FrameInfo]:
    """Return the frames that would count if they had an observing time."""
    return [
        frame
        for frame in frames
        if frame.obs_time is None and frame.state not in OUTSIDE and frame.state is not FrameState.ABSENT
    ]


def form_groups(
    rule: Rule, frames: Iterable[FrameInfo], keep_absent: Collection[tuple[str, int]] = ()
) -> list[FrameGroup]:
    """Return the groups of a rule.

    Parameters
    ----------
    rule : Rule
        Its classes, criteria and largest gap.
    frames : iterable of FrameInfo
        Distinct frames of any class.
    keep_absent : collection of keys
        Vanished frames that still count, since a product was made with them.
    """
    members = sorted(
        (
            frame
            for frame in frames
            if frame.frame_class in rule.classes and (frame.state is not FrameState.ABSENT or frame.key in keep_absent)
        ),
        key=_order,
    )
    if rule.group is None:
        return [FrameGroup(rule, (frame,)) for frame in members]
    alike: Mapping[tuple[Setting | None, ...], list[FrameInfo]] = defaultdict(list)
    for frame in members:
        alike[shared_values(rule.group, frame)].append(frame)
    return [FrameGroup(rule, run) for same in alike.values() for run in _runs(same, rule.group.gap_s)]


def shared_values(group: Group, frame: FrameInfo) -> tuple[Setting | None, ...]:
    """Return the values that the members of a group share."""
    return tuple(_value(frame, name) for name in group.by)


def _value(frame: FrameInfo, name: str) -> Setting | None:
    if name == "night":
        return frame.night
    if name == "exposure":
        return round(frame.exposure_s, 3)  # 0.99999999999999989 s is 1 s
    return frame.setup.get(name)


def _runs(frames: list[FrameInfo], gap_s: float) -> list[tuple[FrameInfo, ...]]:
    """Split frames, sorted by time, where the pause between end and start is longer than the gap."""
    runs = [[frames[0]]]
    end = _start(frames[0]) + frames[0].exposure_s
    for frame in frames[1:]:
        if _start(frame) - end > gap_s:
            runs.append([])
        runs[-1].append(frame)
        end = max(end, _start(frame) + frame.exposure_s)
    return [tuple(run) for run in runs]


def _start(frame: FrameInfo) -> float:
    if frame.obs_time is None:
        raise ValueError(f"{frame.path}: a frame without observing time is in no group")
    return frame.obs_time.timestamp()


def _order(frame: FrameInfo) -> tuple[float, str, int]:
    return _start(frame), frame.content_hash, frame.part


def _precedence(frame: FrameInfo) -> tuple[bool, int, str, int]:
    return frame.state is FrameState.ABSENT, frame.root, frame.path, frame.part
