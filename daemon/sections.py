"""The tables of config.toml, each a frozen model with its defaults."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from daemon.rulebook import MATCHES, RULES
from kspecdr.inst.readout import MODES
from kspecdr.options import (
    ArcOptions,
    ExtractOptions,
    FlatOptions,
    ImageOptions,
    ObjectOptions,
    TramlineOptions,
    options_from,
)

FrameClass = Literal["BIAS", "DARK", "LFLAT", "MFFFF", "MFARC", "MFOBJECT", "MFSKY", "MFFLX", "IGNORE"]
Criterion = Literal["readout", "shape", "binning", "grating", "center_nm"]
Kind = Literal["bias", "dark", "lflat", "converted", "im", "tlm", "ex", "red", "fflat"]

STEP_OPTIONS: Mapping[str, type[Any]] = {
    "image": ImageOptions,
    "tlm": TramlineOptions,
    "extract": ExtractOptions,
    "arc": ArcOptions,
    "flat": FlatOptions,
    "object": ObjectOptions,
}
ALWAYS_KEPT: frozenset[str] = frozenset({"bias", "dark", "lflat", "tlm", "red", "fflat"})


def _anchored(path: str, info: ValidationInfo) -> str:
    """Make a relative path of a file relative to that file's folder."""
    folder = (info.context or {}).get("folder")
    return str(Path(folder) / path) if folder and path else path


def _regex(pattern: str) -> str:
    try:
        re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from None
    return pattern


FilePath = Annotated[str, Field(min_length=1), AfterValidator(_anchored)]
Pattern = Annotated[str, AfterValidator(_regex)]
Seconds = Annotated[float, Field(ge=0)]
Option = bool | int | float | str


def items(*, default: tuple[Any, ...] = (), least: int = 0) -> Any:
    """Return a tuple field that takes the lists of TOML; its items stay strictly typed."""
    return Field(default=default, strict=False, min_length=least)


class Section(BaseModel):
    """A table of the file: strictly typed, frozen, no key beyond its fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Paths(Section):
    """Where frames land and where products go."""

    watch: tuple[FilePath, ...] = items(default=("raw",), least=1)
    out: FilePath = "reduced"


class Site(Section):
    """The observatory."""

    timezone: str = "UTC"

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("a name of the time-zone database, such as Asia/Seoul or UTC") from None
        return name


class FibreTable(Section):
    """The fibre table of the frames whose file name matches."""

    match: str
    table: FilePath


class Mode(Section):
    """Measured values of a readout mode, laid over those that the package knows."""

    gain: float | None = Field(default=None, gt=0)
    read_noise: float | None = Field(default=None, gt=0)
    saturation: float | None = Field(default=None, gt=0)


class Instrument(Section):
    """What no header says of the instrument."""

    fibers: int | FilePath = 14
    fibre_tables: tuple[FibreTable, ...] = items()
    date_obs: Literal["start", "end"] = "start"
    default_lamp: str = "HgArNeKrCd"
    readout: dict[str, Mode] = Field(default={})

    @field_validator("fibers")
    @classmethod
    def _positive(cls, fibers: int | str) -> int | str:
        if isinstance(fibers, int) and fibers < 1:
            raise ValueError("a positive number of fibres or the path of a fibre table")
        return fibers

    @field_validator("readout")
    @classmethod
    def _measured(cls, readout: dict[str, Mode]) -> dict[str, Mode]:
        for name, mode in readout.items():
            if name not in MODES and (mode.gain is None or mode.read_noise is None):
                raise ValueError(f"{name!r} needs gain and read_noise (measured are {', '.join(MODES)})")
        return readout


class HeaderTest(Section):
    """A header card, by its name or the end of its name, and what its value must match."""

    card: str
    match: Pattern


class ClassRule(Section):
    """A frame belongs to `frame_class` when everything that is given here matches.

    The regular expressions are searched without regard to case; their named groups `lamp`,
    `target` and `exposure` are taken over.
    """

    frame_class: FrameClass = Field(alias="class")
    name: Pattern = ""
    folder: Pattern = ""
    header: tuple[HeaderTest, ...] = items()
    lamp: str = ""
    target: str = ""
    reason: str = ""

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not (self.name or self.folder or self.header):
            raise ValueError("one of name, folder, header is needed to match by")
        return self


class Sidecar(Section):
    """What a person writes beside a frame, in FRAME.toml."""

    frame_class: FrameClass | None = Field(default=None, alias="class")
    lamp: str = ""
    target: str = ""
    fibers: int | FilePath | None = None


class Names(Section):
    """Regular expressions that read a setting from a file name, to compare with the header."""

    setting: Pattern = r"(?<!\d)(?P<grating>150|300|600|1200)_(?P<center_nm>[2-9]\d\d|1\d{3})(?!\d)"
    exposure: Pattern = r"(?<![a-z0-9.])(?P<exposure>\d+(?:\.\d+)?)(?P<unit>ms|s|secs?|min)(?![a-z0-9])"


class Watch(Section):
    """How frames are noticed."""

    settle: Seconds = 1.0
    observer: Literal["auto", "inotify", "polling"] = "auto"
    poll: float = Field(default=1.0, gt=0)
    rescan: float = Field(default=15.0, gt=0)
    stuck_after: Seconds = 300.0


class Plan(Section):
    """When jobs may run."""

    quiet: Seconds = 10.0
    like_wait: Seconds = 30.0
    provisional_after: Seconds = 900.0
    remake: Literal["nothing", "tonight", "all"] = "tonight"


class MatchSection(Section):
    """What must agree between a frame and a calibration of this rule, and how far apart they may be."""

    agree: tuple[Criterion, ...] = items()
    within_days: float = Field(default=1.0, gt=0)
    exposure: Literal["any", "scaled", "equal"] = "any"


def _match(rule: str) -> MatchSection:
    default = MATCHES[rule]
    return MatchSection.model_validate(
        {"agree": default.agree, "within_days": default.within_days, "exposure": default.exposure}
    )


class Matches(Section):
    """The criteria of each calibration."""

    bias: MatchSection = _match("bias")
    dark: MatchSection = _match("dark")
    lflat: MatchSection = _match("lflat")
    tlm: MatchSection = _match("tlm")
    arc: MatchSection = _match("arc")
    fflat: MatchSection = _match("fflat")


class GroupSection(Section):
    """The frames that are combined: at least so many, and a longer gap starts another group."""

    least: int = Field(default=1, ge=1)
    gap_minutes: float = Field(default=120.0, gt=0)


def _group(name: str) -> GroupSection:
    group = next(rule.group for rule in RULES if rule.name == name)
    return GroupSection(least=group.least, gap_minutes=group.gap_s / 60) if group else GroupSection()


class Groups(Section):
    """The groups of each calibration."""

    bias: GroupSection = _group("bias")
    dark: GroupSection = _group("dark")
    lflat: GroupSection = _group("lflat")
    tlm: GroupSection = _group("tlm")
    arc: GroupSection = _group("arc")
    fflat: GroupSection = _group("fflat")


class Reduce(Section):
    """Options of the reduction, by step; the names are those of `kspecdr.options`."""

    image: dict[str, Option] = Field(default={"cosmic_ray_method": "PROFILE"})
    tlm: dict[str, Option] = Field(default={})
    extract: dict[str, Option] = Field(default={"extr_operation": "OPTEX", "scatsub": True})
    arc: dict[str, Option] = Field(default={})
    flat: dict[str, Option] = Field(default={})
    object: dict[str, Option] = Field(default={})

    @model_validator(mode="after")
    def _known(self) -> Self:
        for step, kind in STEP_OPTIONS.items():
            options_from(kind, getattr(self, step), owner=f"reduce.{step}")
        return self


class Workers(Section):
    """The processes that reduce: of this machine, or those that a dask scheduler has."""

    executor: Literal["local", "dask"] = "local"
    scheduler: str = Field(default="", pattern=r"^((tcp|tls)://[^/\s]+:\d+)?$")
    count: int = Field(default=2, ge=0)
    timeout: float = Field(default=600.0, gt=0)
    memory_mb: int = Field(default=4000, gt=0)
    attempts: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _found(self) -> Self:
        if (self.executor == "dask") != bool(self.scheduler):
            raise ValueError('executor = "dask" and its scheduler (tcp://HOST:PORT) together, or neither')
        if self.executor == "dask" and not self.count:
            raise ValueError("count is at least 1 with a dask scheduler: the jobs that it has at once")
        return self


class Store(Section):
    """The catalog; an empty url is OUT/catalog.db."""

    url: str = ""

    @property
    def shared(self) -> bool:
        """Whether several daemons may work on it."""
        return self.url.startswith("postgresql")

    @field_validator("url")
    @classmethod
    def _known(cls, url: str) -> str:
        if url and not url.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE")
        if urlsplit(url).password:
            raise ValueError("a url without its password, which others could read in OUT; put that in ~/.pgpass")
        return url


class Web(Section):
    """The pages and metrics; port 0 is none."""

    host: str = "127.0.0.1"
    port: int = Field(default=8650, ge=0, le=65535)


class Hook(Section):
    """Who is told of an event: a command, which gets JSON on its standard input, or a web address."""

    on: Literal["product", "failed", "alarm"]
    command: tuple[str, ...] = items()
    url: str = Field(default="", pattern=r"^(https?://[^/\s]+\S*)?$")
    timeout: float = Field(default=10.0, gt=0)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("one of command, url is needed, and not both")
        return self
