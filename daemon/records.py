"""What the daemon speaks of: frames, jobs, outcomes and reasons, all frozen and picklable.

Nothing here computes. A frame of a cube is a record of its own (`part` 1..n), so that groups,
fingerprints and products need no special case for cubes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

Setting = str | int | float


class FrameState(StrEnum):
    """Where a frame stands; the comment of each member is its meaning."""

    INCOMPLETE = "incomplete"  # still being written: looked at again, never a failure
    UNCLASSIFIED = "unclassified"  # no rule of the configuration says what it is
    IGNORED = "ignored"  # a rule or a person says that it is not to be reduced
    INVALID = "invalid"  # the file is no frame that can be reduced: the reason says why
    DUPLICATE = "duplicate"  # the same content as another frame, which is reduced in its place
    WAITING = "waiting"  # something must exist or come to rest first: the reason names it
    QUEUED = "queued"  # a job that takes it is claimed and stands before the workers
    RUNNING = "running"  # a worker has it
    REDUCED = "reduced"  # its own spectrum exists
    USED = "used"  # it is part of a calibration that exists
    SET_ASIDE = "set aside"  # left out of its group's product as redundant or saturated: a warning
    FAILED = "failed"  # its reduction ended with an error: the reason says which
    BAD = "bad"  # a person has marked it: no group takes it
    ABSENT = "absent"  # the file has vanished; what was made of it stays


class ProductState(StrEnum):
    """Where a product stands."""

    CURRENT = "current"  # what the rules want now, or the best so far while that is made
    SUPERSEDED = "superseded"  # something better took its place
    BAD = "bad"  # a person has marked it: nothing may use it


class Setup(Mapping[str, Setting]):
    """The header values that calibrations are matched by; immutable, hashable, in the order of the names.

    Known names: readout (text of the mode), shape ("1300x1340"), binning ("1x1"), grating (lines/mm),
    center_nm (rounded to 1 nm). A name that a frame lacks matches only frames that lack it too.
    """

    __slots__ = ("_hash", "_values")
    _values: dict[str, Setting]
    _hash: int

    def __init__(self, values: Mapping[str, Setting] | None = None, /, **settings: Setting) -> None:
        self._values = dict(sorted({**(values or {}), **settings}.items()))
        self._hash = hash(tuple(self._values.items()))

    def __getitem__(self, name: str) -> Setting:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Setup) and self._values == other._values)

    def __repr__(self) -> str:
        return f"Setup({self._values})"

    def __reduce__(self) -> tuple[type["Setup"], tuple[dict[str, Setting]]]:
        return Setup, (self._values,)


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """One exposure, as its file, header, name and people describe it."""

    path: str  # relative to the watched root, with forward slashes
    content_hash: str  # sha256 of the whole file, hexadecimal; empty as long as it is incomplete
    size: int  # bytes
    mtime_ns: int
    landed: datetime  # when the file was seen to be complete, UTC
    state: FrameState = FrameState.WAITING
    reason: str = ""  # one sentence, for every state that needs one
    root: int = 0  # which of the watched roots
    part: int = 0  # 0: the file's only frame; 1..n: a frame of a cube
    frame_class: str = "UNCLASSIFIED"
    lamp: str = ""
    target: str = ""
    exposure_s: float = 0.0
    readout_s: float = 0.0  # the time that reading the detector takes
    obs_time: datetime | None = None  # start of the exposure, UTC; None only where no header could be read
    night: str = ""  # date of the preceding local noon, YYYY-MM-DD
    setup: Setup = field(default_factory=Setup)
    fibers: str = ""  # number of fibers or path of the fiber table
    fibers_hash: str = ""  # of what the table says, or the number itself

    @property
    def key(self) -> tuple[str, int]:
        """What the frame is, whatever its name: content and part."""
        return self.content_hash, self.part

    @property
    def name(self) -> str:
        """The file's name, with the number of the frame where the file is a cube."""
        name = self.path.rsplit("/", 1)[-1]
        return f"{name} frame {self.part}" if self.part else name


@dataclass(frozen=True, slots=True)
class Calibration:
    """A product that a job takes as input."""

    rule: str
    fingerprint: str
    paths: Mapping[str, str]  # kind -> path, relative to the output directory
    exposure_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker must know to make one product from raw frames and calibrations."""

    rule: str
    fingerprint: str
    frames: tuple[FrameInfo, ...]  # sorted by observing time
    calibrations: Mapping[str, Calibration]  # by rule; a like that is missing is not in it
    options: Mapping[str, object]  # of the rule, as in the configuration
    night: str
    priority: tuple[int, float] = (0, 0.0)  # the smaller goes first
    provisional: tuple[str, ...] = ()  # reasons; none: final
    recipe: str = ""  # hash of the rule's name, version and options: the part without the inputs
    roots: tuple[str, ...] = ()  # the watched roots, absolute
    out: str = ""  # the output directory, absolute; calibrations are found below it
    directory: str = ""  # where this job writes its products, absolute; nobody else writes there
    keep: tuple[str, ...] = ()  # kinds that are written; none: all

    def raw_path(self, frame: FrameInfo) -> Path:
        """Return the absolute path of a raw frame."""
        return Path(self.roots[frame.root], frame.path)

    def calibration_path(self, rule: str, kind: str) -> Path | None:
        """Return the absolute path of a calibration's product, None where a like is missing."""
        calibration = self.calibrations.get(rule)
        return None if calibration is None else Path(self.out, calibration.paths[kind])


@dataclass(frozen=True, slots=True)
class Written:
    """A file that a job has written."""

    kind: str  # bias dark lflat converted im tlm ex red fflat
    path: str  # relative to the job's directory
    frame: tuple[str, int] | None = None  # key of the one frame that it belongs to; None: of the whole group


@dataclass(frozen=True, slots=True)
class Quality:
    """A number of the quality checklist."""

    name: str
    value: float
    limit: float | None = None
    flag: str = "ok"  # ok, warn, fail


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job."""

    fingerprint: str
    products: tuple[Written, ...] = ()
    quality: tuple[Quality, ...] = ()
    warnings: tuple[str, ...] = ()
    set_aside: Mapping[tuple[str, int], str] = field(default_factory=dict)  # frame key -> why it was left out
    stage_times: Mapping[str, float] = field(default_factory=dict)  # seconds
    error: str = ""  # one sentence; empty: it is done
    retry: bool = False  # whether the same job may succeed when it is run again
    blocked: bool = False  # the output cannot be written, whatever the job: it is as if it had not begun
    memory_mb: float = 0.0  # largest resident size of the worker
    adopted: bool = False  # its products were there already, whole


@dataclass(frozen=True, slots=True)
class Candidate:
    """A calibration that was looked at for a frame."""

    rule: str
    name: str  # of its first frame
    fingerprint: str = ""  # empty as long as it is not known
    chosen: bool = False
    criterion: str = ""  # why it was not taken, or what it still waits for


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a frame is not reduced yet, or what its product was chosen from."""

    frame: FrameInfo
    reason: str
    needs: tuple[str, ...] = ()  # rules whose products are missing
    candidates: tuple[Candidate, ...] = ()
    state: FrameState = FrameState.WAITING


@dataclass(frozen=True, slots=True)
class Made:
    """A product that exists, as the catalog knows it."""

    fingerprint: str
    rule: str
    keys: frozenset[tuple[str, int]]  # the raw frames that it was made from
    calibrations: Mapping[str, str]  # rule -> fingerprint
    paths: Mapping[str, str] = field(default_factory=dict)  # kind -> path relative to the output directory
    state: ProductState = ProductState.CURRENT
    provisional: tuple[str, ...] = ()
    exposure_s: float = 0.0
    set_aside: Mapping[tuple[str, int], str] = field(default_factory=dict)
    recipe: str = ""  # hash of rule, version and options


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What exists, as far as a change can touch it."""

    frames: tuple[FrameInfo, ...] = ()
    made: Mapping[str, Made] = field(default_factory=dict)  # by fingerprint
    failed: Mapping[str, str] = field(default_factory=dict)  # fingerprint -> error
    active: Mapping[str, bool] = field(default_factory=dict)  # claimed fingerprint -> a worker has it


@dataclass(frozen=True, slots=True)
class Mark:
    """What the catalog should say of a product that exists."""

    state: ProductState
    provisional: tuple[str, ...] | None = None  # reasons; None: as they are


@dataclass(frozen=True, slots=True)
class Wake:
    """When the passing of time alone changes what is planned for a group."""

    time: float  # seconds since 1970
    rule: str
    key: tuple[str, int]  # of the group's first frame
    settling: bool  # the end of a quiet time or of a wait for something better; else something is missing


@dataclass(frozen=True, slots=True)
class Plan:
    """The difference between what exists and what should exist."""

    jobs: tuple[Job, ...] = ()  # those that can run now, the most urgent first
    standings: tuple[Waiting, ...] = ()  # of every frame that counts: its state, and the reason
    marks: Mapping[str, Mark] = field(default_factory=dict)  # fingerprint -> what has changed
    wakes: frozenset[Wake] = frozenset()
    behind: bool = False  # more is to be compared: plan again at once

    @property
    def next_wake(self) -> datetime | None:
        """When the passing of time alone changes the plan."""
        first = min((wake.time for wake in self.wakes), default=None)
        return None if first is None else datetime.fromtimestamp(first, UTC)

    @property
    def settling(self) -> bool:
        """Whether a quiet time or a wait for something better is running."""
        return any(wake.settling for wake in self.wakes)

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """The frames that wait, with their reasons."""
        return tuple(each for each in self.standings if each.state is FrameState.WAITING)
