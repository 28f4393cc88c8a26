"""What the catalog is asked by people and by other programs; part of the catalog."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, select

from daemon.records import FrameInfo, FrameState, ProductState, Quality, Setup
from daemon.store.rows import frame_of, last_part
from daemon.store.schema import events, frames, jobs, products, quality

TIMED = 5_000  # jobs whose times a summary tells


@dataclass(frozen=True, slots=True)
class Product:
    """A product as programs see it."""

    path: Path  # absolute; never changes
    kind: str
    frame_class: str
    lamp: str
    target: str
    raw: tuple[str, ...]  # paths relative to the watched root
    night: str
    obs_time: datetime  # of the last frame
    provisional: bool
    reason: str
    fingerprint: str
    quality: tuple[Quality, ...]
    setup: Setup
    rule: str
    state: ProductState
    flag: str  # the worst of its quality


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened."""

    number: int
    time: datetime
    kind: str  # made, retry, failed, ...
    subject: str
    message: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The catalog in numbers."""

    frames: Mapping[str, int]  # state -> how many
    jobs: Mapping[str, int]  # state -> how many
    products: Mapping[str, int]  # kind -> how many are current
    provisional: int  # current products
    latencies: Mapping[str, tuple[float, float]]  # rule -> p50, p95 from landing to catalog, seconds
    stages: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # stage -> p50, p95, seconds


def latest(connection: Connection, out: Path, kind: str, frame_class: str | None, n: int) -> list[Product]:
    """Return current products of a kind by observing time, the newest last; `n` 0: all."""
    query = select(products).where(products.c.state == ProductState.CURRENT, products.c.kind == kind)
    if frame_class:
        query = query.where(products.c.frame_class == frame_class)
    query = query.order_by(products.c.obs_time.desc(), products.c.path.desc())
    rows = connection.execute(query.limit(n) if n else query).all()[::-1]
    figures = numbers(connection, {row.fingerprint for row in rows})
    return [product_of(row, out, figures[row.fingerprint]) for row in rows]


def chosen(
    connection: Connection, out: Path, which: Any, states: Iterable[ProductState] = (ProductState.CURRENT,)
) -> list[Product]:
    """Return the products of some states that a condition chooses, by path."""
    query = select(products).where(which, products.c.state.in_(list(states))).order_by(products.c.path)
    rows = connection.execute(query).all()
    figures = numbers(connection, {row.fingerprint for row in rows})
    return [product_of(row, out, figures[row.fingerprint]) for row in rows]


def product_at(connection: Connection, out: Path, path: str) -> Product:
    """Return the product of a path relative to the output directory, of any state."""
    row = connection.execute(select(products).where(products.c.path == path)).one()
    return product_of(row, out, numbers(connection, {row.fingerprint})[row.fingerprint])


def frame_list(connection: Connection, criteria: Mapping[str, str]) -> list[FrameInfo]:
    """Return the frames that agree with all criteria, in the order of observing."""
    query = select(frames).order_by(frames.c.obs_time, frames.c.path, frames.c.part)
    for name, value in criteria.items():
        query = query.where(frames.c[name] == value)
    return [frame_of(row) for row in connection.execute(query).mappings()]


def find_frames(connection: Connection, name: str) -> list[FrameInfo]:
    """Return the frames of a path; where there are none, those whose path ends with it."""
    called = select(frames).where(frames.c.file == last_part(name))
    ordered = called.order_by(frames.c.obs_time, frames.c.path, frames.c.part)
    exact = connection.execute(ordered.where(frames.c.path == name)).mappings().all()
    if exact:
        return [frame_of(row) for row in exact]
    ends = frames.c.path.endswith(f"/{name}", autoescape=True)
    return [frame_of(row) for row in connection.execute(called.where(ends)).mappings()]


def similar_frames(connection: Connection, name: str, most: int) -> list[str]:
    """Return paths of frames in which a name is contained."""
    alike = frames.c.path.contains(last_part(name), autoescape=True)
    query = select(frames.c.path).where(alike).distinct().order_by(frames.c.path)
    return list(connection.execute(query.limit(most)).scalars())


def frame_counts(connection: Connection, roots: Collection[int] | None = None) -> dict[FrameState, int]:
    """Return how many frames are in each state, of some roots or of all."""
    some = () if roots is None else (frames.c.root.in_(list(roots)),)
    return {FrameState(state): count for state, count in _counts(connection, frames.c.state, *some).items()}


def summary(connection: Connection) -> Summary:
    """Return counts, latencies and stage times."""
    current = products.c.state == ProductState.CURRENT
    partly = select(func.count()).select_from(products).where(current, products.c.provisional)
    latencies, stages = _times(connection)
    return Summary(
        _counts(connection, frames.c.state),
        _counts(connection, jobs.c.state),
        _counts(connection, products.c.kind, current),
        int(connection.execute(partly).scalar_one()),
        latencies,
        stages,
    )


def event_list(connection: Connection, after: int, most: int) -> list[Event]:
    """Return events in their order."""
    query = select(events).where(events.c.id > after).order_by(events.c.id).limit(most)
    return [Event(*row) for row in connection.execute(query)]


def _counts(connection: Connection, column: Any, *criteria: Any) -> dict[str, int]:
    query = select(column, func.count()).where(*criteria).group_by(column).order_by(column)
    return {str(value): int(count) for value, count in connection.execute(query)}


def _times(
    connection: Connection,
) -> tuple[dict[str, tuple[float, float]], dict[str, tuple[float, float]]]:
    """Return p50 and p95 of the time from landing to the catalog by rule, and of each stage, of the last jobs."""
    latencies, stages = defaultdict(list), defaultdict(list)
    columns = (jobs.c.rule, jobs.c.landed, jobs.c.finished, jobs.c.stage_times)
    done = select(*columns).where(jobs.c.state == "done").order_by(jobs.c.revision.desc()).limit(TIMED)
    for row in connection.execute(done):
        latencies[row.rule].append((row.finished - row.landed).total_seconds())
        for name, seconds in row.stage_times.items():
            stages[name].append(seconds)
    return (
        {name: _percentiles(values) for name, values in latencies.items()},
        {name: _percentiles(values) for name, values in stages.items()},
    )


def _percentiles(values: list[float]) -> tuple[float, float]:
    ranked = sorted(values)
    last = len(ranked) - 1
    return ranked[round(0.5 * last)], ranked[round(0.95 * last)]


def numbers(connection: Connection, prints: Iterable[str]) -> dict[str, list[Quality]]:
    """Return the quality of each fingerprint."""
    found: dict[str, list[Quality]] = defaultdict(list)
    wanted = list(prints)
    for first in range(0, len(wanted), 500):
        some = quality.c.fingerprint.in_(wanted[first : first + 500])
        for row in connection.execute(select(quality).where(some).order_by(quality.c.name)):
            value = float("nan") if row.value is None else row.value
            found[row.fingerprint].append(Quality(row.name, value, row.limit, row.flag))
    return found


def product_of(row: Row[Any], out: Path, figures: list[Quality]) -> Product:
    """Return the product that a row describes; `out` is the output directory."""
    return Product(
        out / row.path,
        row.kind,
        row.frame_class,
        row.lamp,
        row.target,
        tuple(row.raw),
        row.night,
        row.obs_time,
        row.provisional,
        row.reason,
        row.fingerprint,
        tuple(figures),
        Setup(row.setup),
        row.rule,
        ProductState(row.state),
        row.flag,
    )
