"""Which frames are reduced together: pure functions of header data, never of arrival."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

from daemon.records import FrameInfo, FrameState, Setting, Setup
from daemon.rulebook import Rule

Values = tuple[Setting | None, ...]

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


def counting(rows: Iterable[FrameInfo]) -> FrameInfo | None:
    """Return which of the files of one content counts, None where none does.

    It is one that is present, with the shortest name, since who copies a file adds to its name, then the one whose
    path sorts first: the choice does not depend on the order of arrival.
    """
    return min(
        (row for row in rows if row.state not in OUTSIDE and row.obs_time is not None), key=_precedence, default=None
    )


def duplicates(rows: Iterable[FrameInfo], counts: FrameInfo | None) -> list[FrameInfo]:
    """Return the files of one content that another one stands for."""
    return [
        row
        for row in rows
        if row is not counts and row.obs_time is not None and row.state not in OUTSIDE | {FrameState.ABSENT}
    ]


def undated(rows: Iterable[FrameInfo]) -> list[FrameInfo]:
    """Return the frames that would count if they had an observing time."""
    return [row for row in rows if row.obs_time is None and row.state not in OUTSIDE | {FrameState.ABSENT}]


def shared_values(rule: Rule, frame: FrameInfo | None) -> Values:
    """Return what the members of a group share; a rule without groups takes each frame alone."""
    if frame is None:
        return ()
    if rule.group is None:
        return frame.key
    return tuple(_value(frame, name) for name in rule.group.by)


def runs_of(rule: Rule, frames: Iterable[FrameInfo]) -> list[FrameGroup]:
    """Return the groups of frames that share what the rule asks for: a long pause starts another."""
    members = sorted(frames, key=_order)
    if rule.group is None:
        return [FrameGroup(rule, (frame,)) for frame in members]
    return [FrameGroup(rule, run) for run in _runs(members, rule.group.gap_s)]


def group_of_all(rule: Rule, frames: Iterable[FrameInfo]) -> FrameGroup:
    """Return frames as one group, whatever they share."""
    return FrameGroup(rule, tuple(sorted(frames, key=_order)))


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


def _precedence(frame: FrameInfo) -> tuple[bool, int, int, str, int]:
    name = frame.path.rpartition("/")[2]
    return frame.state is FrameState.ABSENT, len(name), frame.root, frame.path, frame.part
