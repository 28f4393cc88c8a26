"""What the pages ask beside what everybody asks, over a connection that cannot write; part of the catalog."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, Select, create_engine, event, func, make_url, or_, select
from sqlalchemy.exc import SQLAlchemyError

from daemon.records import FrameInfo, FrameState, ProductState
from daemon.store import queries
from daemon.store.engines import DATABASE, make_engine
from daemon.store.excerpts import Excerpts
from daemon.store.migrate import HEAD, current_version
from daemon.store.queries import Product
from daemon.store.reader import Key, Reader
from daemon.store.rows import frame_of, of_path
from daemon.store.schema import frames, jobs, product_inputs, products
from kspecdr.errors import KspecError

MOST_PARTS = 500  # frames of a cube that are listed
BUSY_TIMEOUT_MS = 2000  # a page that cannot read in this time says so


class CatalogUnreadable(KspecError):  # noqa: N818 - the word that its readers use
    """The database is not there, locked for long, or damaged."""


@dataclass(frozen=True, slots=True)
class Making:
    """How a product came to be."""

    rule: str
    state: str  # of the job
    inputs: tuple[tuple[str, str], ...] = ()  # role (raw, or a rule) and path of the frame or product
    warnings: tuple[str, ...] = ()
    provisional: tuple[str, ...] = ()
    error: str = ""
    stage_times: dict[str, float] = field(default_factory=dict)  # s
    memory_mb: float = 0.0
    finished: datetime | None = None
    latency_s: float | None = None  # from landing to catalog


@dataclass(frozen=True, slots=True)
class Done:
    """A job that has ended well."""

    fingerprint: str
    rule: str
    finished: datetime
    latency_s: float
    revision: int


class PageReader(Reader):
    """Asks the catalog in another process than the daemon's."""

    def __init__(self, url: str, out: Path) -> None:
        """Prepare to read.

        url : a SQLAlchemy URL, or the path of an output directory, whose catalog.db is meant
        out : the output directory, which product paths are relative to
        """
        super().__init__(_reading_engine(url), out)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Hold a connection; CatalogUnreadable where the database fails."""
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            said = " ".join(str(getattr(error, "orig", None) or error).split())
            raise CatalogUnreadable(
                f"{self.out}: the catalog cannot be read now ({said}); see `kspecdr doctor`"
            ) from error

    def check_version(self) -> None:
        """See that the tables are those of this program.

        Raises
        ------
        CatalogUnreadable
            An older or newer program has written them, or the file is no catalog.
        """
        with self.connect() as connection:
            version = current_version(connection)
        if version != HEAD:
            remedy = "update this program" if version > HEAD else "`kspecdr run` or `reduce` brings it up to date"
            raise CatalogUnreadable(f"{self.out}: the catalog is of version {version or 'none'}, not {HEAD}; {remedy}")

    def newest_landed(self) -> datetime | None:
        """Return when the newest frame landed, by its number: quick with any number of frames."""
        newest = select(frames.c.landed).order_by(frames.c.id.desc()).limit(1)
        with self.connect() as connection:
            return connection.execute(newest).scalar()

    def counts(self, night: str, since: datetime) -> dict[str, int]:
        """Return how many frames of a night are in each state; see `of_night`."""
        query = select(frames.c.state, func.count()).where(_of_night(night, since)).group_by(frames.c.state)
        with self.connect() as connection:
            return {str(state): int(count) for state, count in connection.execute(query)}

    def of_night(
        self,
        night: str,
        since: datetime,
        states: Sequence[FrameState] = (),
        *,
        landed_before: datetime | None = None,
        most: int = 100,
    ) -> list[FrameInfo]:
        """Return frames of a night, the newest first; those without a night when they landed after `since`."""
        query = select(frames).where(_of_night(night, since))
        if states:
            query = query.where(frames.c.state.in_(states))
        if landed_before is not None:
            query = query.where(frames.c.landed < landed_before)
        order = func.coalesce(frames.c.obs_time, frames.c.landed)
        return self._frames(query.order_by(order.desc(), frames.c.id.desc()).limit(most))

    def frame(self, path: str, root: int | None = None) -> list[FrameInfo]:
        """Return the frame of a path, or the frames of a cube; without a root those below any."""
        query = select(frames).where(of_path(path))
        if root is not None:
            query = query.where(frames.c.root == root)
        return self._frames(query.order_by(frames.c.root, frames.c.part).limit(MOST_PARTS))

    def product_and_making(self, path: str) -> tuple[Product, Making] | None:
        """Return the product of a path relative to the output directory, and how it was made."""
        with self.connect() as connection:
            found = queries.chosen(connection, self.out, products.c.path == path, ProductState)
            if not found:
                return None
            return found[0], _making(connection, found[0].fingerprint)

    def siblings(self, fingerprint: str) -> list[Product]:
        """Return all files that one job has written."""
        with self.connect() as connection:
            return queries.chosen(connection, self.out, products.c.fingerprint == fingerprint, ProductState)

    def poor(self, night: str) -> list[Product]:
        """Return the current main products of a night with a figure that says not to trust them."""
        which = products.c.main & (products.c.night == night) & (products.c.flag == "fail")
        with self.connect() as connection:
            return queries.chosen(connection, self.out, which)

    def failure(self, key: Key) -> Making | None:
        """Return the last job that failed with a frame."""
        query = (
            select(jobs.c.fingerprint)
            .join(product_inputs, product_inputs.c.fingerprint == jobs.c.fingerprint)
            .where(product_inputs.c.input == key[0], product_inputs.c.part == key[1], jobs.c.state == "failed")
            .order_by(jobs.c.finished.desc())
        )
        with self.connect() as connection:
            found = connection.execute(query.limit(1)).scalar()
            return None if found is None else _making(connection, found)

    def done_since(self, revision: int, most: int = 20_000) -> list[Done]:
        """Return jobs that have changed after a revision and are done, in the order of their changes."""
        query = select(jobs.c.fingerprint, jobs.c.rule, jobs.c.finished, jobs.c.landed, jobs.c.revision)
        query = query.where(jobs.c.revision > revision, jobs.c.state == "done").order_by(jobs.c.revision).limit(most)
        with self.connect() as connection:
            return [_done(row) for row in connection.execute(query)]

    def last_done(self, most: int = 200) -> list[Done]:
        """Return the last jobs that are done, the last first."""
        query = select(jobs.c.fingerprint, jobs.c.rule, jobs.c.finished, jobs.c.landed, jobs.c.revision)
        query = query.where(jobs.c.state == "done").order_by(jobs.c.revision.desc()).limit(most)
        with self.connect() as connection:
            return [_done(row) for row in connection.execute(query)]

    @contextmanager
    def excerpts(self) -> Iterator[Excerpts]:
        """Hold what a comparison asks, all of one moment."""
        with self.connect() as connection:
            yield Excerpts(connection)

    def job_counts(self) -> dict[str, int]:
        """Return how many jobs are in each state."""
        with self.connect() as connection:
            query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
            return {str(state): int(count) for state, count in connection.execute(query)}

    def _frames(self, query: Select[Any]) -> list[FrameInfo]:
        with self.connect() as connection:
            return [frame_of(row) for row in connection.execute(query).mappings()]


def _reading_engine(url: str) -> Engine:
    """Return an engine that makes no database that is not there, and changes none that is."""
    parsed = make_url(url) if "://" in url else URL.create("sqlite", database=str(Path(url) / DATABASE))
    if parsed.get_backend_name() != "sqlite":
        return make_engine(url).execution_options(postgresql_readonly=True)
    path = Path(parsed.database or "").absolute()
    query = {"mode": "rw", "uri": "true"} | ({} if _may_be_shared(path) else {"immutable": "1"})
    engine = create_engine(URL.create("sqlite", database=f"file:{quote(str(path))}", query=query))
    event.listen(engine, "connect", _read_only)
    return engine


def _may_be_shared(path: Path) -> bool:
    """Tell whether SQLite can see what writers do: it needs the files that it shares with them, or to make them.

    A directory that this user cannot write, and in which no writer has left any, is read as it stands.
    """
    return os.access(path.parent, os.W_OK, effective_ids=True) or path.with_name(f"{path.name}-shm").exists()


def _read_only(connection: Any, _entry: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA query_only = ON")
    cursor.close()


def _of_night(night: str, since: datetime) -> Any:
    return or_(frames.c.night == night, (frames.c.night == "") & (frames.c.landed > since))


def _making(connection: Connection, fingerprint: str) -> Making:
    row = connection.execute(select(jobs).where(jobs.c.fingerprint == fingerprint)).mappings().one()
    raw = select(product_inputs).where(product_inputs.c.fingerprint == fingerprint)
    inputs = [
        (each.role, each.path if each.role == "raw" else _main_path(connection, each.input))
        for each in connection.execute(raw.order_by(product_inputs.c.role, product_inputs.c.path))
    ]
    making = Making(
        row["rule"],
        row["state"],
        tuple(sorted(inputs, key=lambda each: each[0] != "raw")),
        tuple(row["warnings"]),
        tuple(row["provisional"]),
        row["error"],
        dict(row["stage_times"]),
        row["memory_mb"],
        row["finished"],
    )
    return replace(making, latency_s=_seconds(row["landed"], row["finished"])) if row["finished"] else making


def _main_path(connection: Connection, fingerprint: str) -> str:
    query = select(products.c.path).where(products.c.fingerprint == fingerprint, products.c.main)
    return connection.execute(query).scalar() or fingerprint


def _done(row: Any) -> Done:
    return Done(row.fingerprint, row.rule, row.finished, _seconds(row.landed, row.finished), row.revision)


def _seconds(first: datetime, last: datetime) -> float:
    return max((last - first).total_seconds(), 0.0)
