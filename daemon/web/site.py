"""What the pages show, gathered from the catalog and from the daemon's sign of life."""

import shutil
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from daemon.explaining import Account, accounts
from daemon.lacking import Missing, by_setting
from daemon.lights import FAULTY, Light, light_of, product_light
from daemon.planning.gathering import night_surroundings, surroundings
from daemon.planning.needed import needed
from daemon.pulse import Pulse, read_pulse
from daemon.records import FrameInfo, FrameState
from daemon.rulebook import Rulebook
from daemon.store.pages import Done, PageReader
from daemon.store.queries import Product

NEWEST = 30  # frames listed
LOOKED_AT = 20  # frames listed that need a look
SINCE = timedelta(hours=14)  # how far back frames without a night belong to this one
UNFINISHED = timedelta(minutes=2)  # how long a file may be incomplete before somebody should look
LACKS_FOR = timedelta(seconds=10)  # how long an answer to "what does the night lack" is shown
SPECTRUM_CLASSES = ("MFOBJECT", "MFSKY", "MFFLX")


@dataclass(frozen=True, slots=True)
class Places:
    """Where the pages find what they show."""

    out: Path
    catalog: str  # SQLAlchemy URL, or the output directory whose catalog.db is meant
    timezone: str
    book: Rulebook  # what is wanted of a night


@dataclass(frozen=True, slots=True)
class Row:
    """A frame as one line of the page."""

    frame: FrameInfo
    light: Light
    product: Product | None = None  # what it became: its own spectrum, else what it is part of


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds from landing to the catalog of the last jobs of a rule."""

    rule: str
    last: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Night:
    """Tonight at a glance."""

    now: datetime
    local: datetime
    name: str  # date of the preceding local noon
    pulse: Pulse | None
    trouble: str  # one sentence; empty: the daemon is well
    counts: Mapping[str, int] = field(default_factory=dict)  # frames by state
    newest: Sequence[Row] = ()
    attention: Sequence[Row] = ()  # frames that somebody must look at, the first of them
    n_attention: int = 0  # how many there are
    earlier: Mapping[str, int] = field(default_factory=dict)  # frames of other nights that are not done, by state
    waiting: Mapping[str, Sequence[FrameInfo]] = field(default_factory=dict)  # by reason
    last: Product | None = None  # the last spectrum
    landed: datetime | None = None  # when the last frame landed
    lacks: Sequence[Missing] = ()  # calibrations still to be taken
    times: Sequence[Times] = ()
    free_bytes: int = 0
    total_bytes: int = 0


class Site:
    """The reader of one output directory."""

    def __init__(self, places: Places) -> None:
        self.out = places.out
        self.reader = PageReader(places.catalog, places.out)
        self._zone = ZoneInfo(places.timezone)
        self._book = places.book
        self._comparing = threading.Lock()
        self._compared: tuple[datetime, list[Missing]] = (datetime.fromtimestamp(0, UTC), [])

    def trouble(self, now: datetime) -> str:
        """Say what is wrong with the daemon, in one sentence; empty where it ticks and sees its directories."""
        pulse = read_pulse(self.out)
        return pulse.trouble(now) if pulse else "the daemon does not run, or has not finished its first look"

    def night(self) -> Night:
        """Gather what the first page shows."""
        now, reader = datetime.now(UTC), self.reader
        name, since = reader.last_night(), now - SINCE
        counts = reader.counts(name, since)
        unfinished = reader.of_night(name, since, (FrameState.INCOMPLETE,), landed_before=now - UNFINISHED)
        faulty, poor = reader.of_night(name, since, FAULTY, most=LOOKED_AT), self._poor(name)
        disk = shutil.disk_usage(self.out)
        return Night(
            now,
            now.astimezone(self._zone),
            name,
            read_pulse(self.out),
            self.trouble(now),
            counts,
            self.rows(reader.of_night(name, since, most=NEWEST)),
            [*self.rows([*unfinished, *faulty]), *poor][:LOOKED_AT],
            len(unfinished) + sum(counts.get(state, 0) for state in FAULTY) + len(poor),
            _difference(reader.frame_counts(), counts),
            _by_reason(reader.of_night(name, since, (FrameState.WAITING,), most=500)),
            self._last_spectrum(),
            reader.newest_landed(),
            self._lacks(name, now),
            _times(reader.last_done()),
            disk.free,
            disk.total,
        )

    def _poor(self, night: str) -> list[Row]:
        """Return the products of a night with a figure that says not to trust them, each as its first frame."""
        found = []
        for product in self.reader.poor(night):
            frames = self.reader.frame(product.raw[0]) if product.raw else []
            found += [Row(frame, product_light(product), product) for frame in frames[:1]]
        return found

    def rows(self, frames: Sequence[FrameInfo]) -> list[Row]:
        """Judge frames by what they were made into."""
        made = self.reader.products_of(frame.key for frame in frames)
        return [_row(frame, made.get(frame.key, [])) for frame in frames]

    def accounts(self, frames: Sequence[FrameInfo], now: datetime) -> list[Account]:
        """Explain frames by what matters for them; one request at a time."""
        with self._comparing:
            with self.reader.excerpts() as ask:
                exists = surroundings(ask, self._book, now, (frame.key for frame in frames), batch=False)
            return accounts(self.reader, exists, self._book, now, frames, batch=False)

    def _lacks(self, night: str, now: datetime) -> list[Missing]:
        """Say what the night still lacks; compared anew when the last answer is old, by one request at a time."""
        with self._comparing:
            if now - self._compared[0] > LACKS_FOR:
                with self.reader.excerpts() as ask:
                    exists = night_surroundings(ask, self._book, now, night)
                lacks = needed(exists, self._book, now, night)
                taken = (frame for frame in exists.frames if frame.night == night)
                self._compared = (now, by_setting(lacks, taken))
            return self._compared[1]

    def _last_spectrum(self) -> Product | None:
        of_objects = [self.reader.latest("red", name, 1) for name in SPECTRUM_CLASSES]
        found = [product for some in of_objects for product in some] or self.reader.latest("red", None, 1)
        return max(found, key=lambda each: each.obs_time, default=None)


def _difference(all_nights: Mapping[FrameState, int], tonight: Mapping[str, int]) -> dict[str, int]:
    """Return how many frames of other nights somebody may have to look at, by state."""
    states = (*FAULTY, FrameState.WAITING, FrameState.INCOMPLETE)
    left = {str(state): all_nights.get(state, 0) - tonight.get(state, 0) for state in states}
    return {state: number for state, number in left.items() if number > 0}


def relative(product: Product, out: Path) -> str:
    """Return the path of a product below the output directory."""
    return product.path.relative_to(out).as_posix()


def _row(frame: FrameInfo, products: list[Product]) -> Row:
    if frame.state not in (FrameState.REDUCED, FrameState.USED):
        return Row(frame, light_of(frame, products))
    own = [product for product in products if product.kind in ("red", "fflat")] or products
    return Row(frame, light_of(frame, products), own[0] if own else None)


def _by_reason(frames: Iterable[FrameInfo]) -> dict[str, list[FrameInfo]]:
    found: dict[str, list[FrameInfo]] = defaultdict(list)
    for frame in frames:
        found[frame.reason or "waits for a worker"].append(frame)
    return found


def _times(done: Iterable[Done]) -> list[Times]:
    by_rule: dict[str, list[float]] = defaultdict(list)
    for each in done:
        by_rule[each.rule].append(each.latency_s)
    return [_ranked(rule, values) for rule, values in by_rule.items()]


def _ranked(rule: str, values: list[float]) -> Times:
    ranked = sorted(values)
    return Times(rule, values[0], ranked[round(0.5 * (len(ranked) - 1))], ranked[round(0.95 * (len(ranked) - 1))])
