"""The rules as data: which product comes from which frames and calibrations, and how they are matched.

`rules.plan` reads this table and knows no product by name. The configuration replaces groups, matches,
options and times; a rule's version is raised by hand whenever its recipe gives other numbers than before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from daemon.records import Setting

OBJECT_CLASSES = ("MFOBJECT", "MFSKY", "MFFLX")
CLASSES = ("BIAS", "DARK", "LFLAT", "MFFFF", "MFARC", *OBJECT_CLASSES, "IGNORE", "UNCLASSIFIED")
KINDS = ("bias", "dark", "lflat", "converted", "im", "tlm", "ex", "red", "fflat")

# What an observer takes for the product of a rule, where that has another name than the rule.
TO_TAKE: Mapping[str, str] = {"tlm": "fiber flat", "fflat": "fiber flat", "lflat": "long-slit flat"}

DETECTOR = ("readout", "shape", "binning")
GEOMETRY = ("shape", "binning", "grating", "center_nm")  # traces and wavelengths do not ask how it was read
SETTING = (*DETECTOR, "grating", "center_nm")


@dataclass(frozen=True, slots=True)
class Group:
    """Which frames are reduced together."""

    by: tuple[str, ...] = ()  # names of Setup, and "night", "exposure": members agree in all of them
    gap_s: float = 7200.0  # a longer pause in observing time starts another group
    least: int = 1  # with fewer members the product is provisional


@dataclass(frozen=True, slots=True)
class Match:
    """Which calibrations of a rule serve a frame."""

    agree: tuple[str, ...] = ()  # names of Setup
    within_days: float = 1.0  # either side; what lies beyond serves only provisionally
    exposure: str = "any"  # "any"; "scaled": the nearest exposure time first, any allowed; "equal"


@dataclass(frozen=True, slots=True)
class Rule:
    """How one product is made."""

    name: str
    classes: tuple[str, ...]  # frame classes that it is made from
    makes: str  # the kind of product that others take
    needs: tuple[str, ...] = ()  # rules whose products must exist
    likes: tuple[str, ...] = ()  # rules whose products are taken where they exist
    through: Mapping[str, str] = field(default_factory=dict)  # {"tlm": "arc"}: the TLM that the arc was made with
    forgoes: Mapping[str, str] = field(default_factory=dict)  # {need: reason}: done without, provisionally
    group: Group | None = None  # None: each frame alone
    reads: tuple[str, ...] = ()  # fields of FrameInfo beyond the content that change the product
    version: int = 1


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the daemon waits for what may come."""

    quiet_s: float = 10.0  # a group is run when nothing has joined it for so long
    like_wait_s: float = 30.0  # how long a frame waits for a better calibration that is on its way
    provisional_after_s: float = 900.0  # after this a calibration beyond its time limit serves, provisionally


@dataclass(frozen=True, slots=True)
class Limits:
    """What jobs may use."""

    workers: int = 2  # 0: in the daemon's own process
    timeout_s: float = 600.0
    memory_mb: int = 4000  # address space of a worker
    attempts: int = 3  # of a job whose worker died, ran out of time or memory, or met an OSError


MATCHES: Mapping[str, Match] = {
    "bias": Match(DETECTOR, within_days=7.0),
    "dark": Match(DETECTOR, within_days=30.0, exposure="scaled"),
    "lflat": Match((*DETECTOR, "grating", "center_nm"), within_days=30.0),
    "tlm": Match(GEOMETRY, within_days=1.0),
    "arc": Match(GEOMETRY, within_days=1.0),
    "fflat": Match(GEOMETRY, within_days=1.0),
}

RULES: tuple[Rule, ...] = (
    Rule("bias", ("BIAS",), "bias", group=Group((*DETECTOR, "night"), least=3), version=2),
    Rule(
        "dark",
        ("DARK",),
        "dark",
        needs=("bias",),
        group=Group((*DETECTOR, "night", "exposure"), least=2),
        version=2,
    ),
    Rule(
        "lflat",
        ("LFLAT",),
        "lflat",
        needs=("bias",),
        likes=("dark",),
        group=Group((*SETTING, "night")),
        version=2,
    ),
    Rule(
        "tlm",
        ("MFFFF",),
        "tlm",
        needs=("bias",),
        likes=("dark", "lflat"),
        group=Group((*SETTING, "night"), gap_s=1800.0),
        reads=("fibers_hash",),
        version=2,
    ),
    Rule(
        "arc",
        ("MFARC",),
        "red",
        needs=("bias", "tlm"),
        likes=("dark", "lflat"),
        group=Group(SETTING),
        reads=("lamp", "fibers_hash"),
        version=2,
    ),
    Rule(
        "fflat",
        ("MFFFF",),
        "fflat",
        needs=("bias", "tlm", "arc"),
        likes=("dark", "lflat"),
        through={"tlm": "arc"},
        group=Group((*SETTING, "night"), gap_s=1800.0),
        reads=("fibers_hash",),
        version=2,
    ),
    Rule(
        "object",
        OBJECT_CLASSES,
        "red",
        needs=("bias", "dark", "tlm", "arc"),
        likes=("lflat", "fflat"),
        through={"tlm": "arc"},
        forgoes={"dark": "without a dark", "arc": "wavelengths predicted, no arc"},
        reads=("frame_class", "target", "fibers_hash"),
        version=2,
    ),
)


@dataclass(frozen=True, slots=True)
class Rulebook:
    """Everything that plan() decides by."""

    rules: tuple[Rule, ...] = RULES  # a rule stands after those that it needs or likes
    matches: Mapping[str, Match] = field(default_factory=lambda: dict(MATCHES))
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # by rule; part of fingerprints
    timing: Timing = Timing()
    remake: str = "all"  # what a changed recipe makes again: "nothing", "tonight" or "all"
    timezone: str = "UTC"  # in which a night ends at noon

    def dead_ends(self) -> frozenset[str]:
        """Return the rules whose products no other rule takes."""
        taken = {name for rule in self.rules for name in (*rule.needs, *rule.likes)}
        return frozenset(rule.name for rule in self.rules if rule.name not in taken)


def describe_setting(name: str, value: Setting | None) -> str:
    """Return a header criterion in words: `grating 300 lines/mm`."""
    unit = {"grating": " lines/mm", "center_nm": " nm"}.get(name, "")
    title = {"center_nm": "center"}.get(name, name)
    return f"{title} {'unknown' if value is None else f'{value}{unit}'}"
