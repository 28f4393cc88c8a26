"""What a catalog is asked by people and by other programs; part of the catalog."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, func, select

from daemon.planning.fingerprint import directory_name
from daemon.records import FrameInfo, FrameState, ProductState
from daemon.store import people, queries, upkeep
from daemon.store.queries import Event, Product, Summary
from daemon.store.rows import frame_of, slices
from daemon.store.schema import frames, jobs, product_inputs, products, requests

Key = tuple[str, int]  # content hash and part of a frame


class Reader:
    """Asks the catalog of one output directory, and changes nothing in it.

    Parameters
    ----------
    engine : Engine
        Of a database whose tables are up to date.
    out : Path
        The output directory, which product paths are relative to.
    """

    def __init__(self, engine: Engine, out: Path) -> None:
        self.out = out
        self._engine = engine

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Hold a connection."""
        with self._engine.connect() as connection:
            yield connection

    def latest(self, kind: str = "red", frame_class: str | None = None, n: int = 0) -> list[Product]:
        """Return the current products of a kind by observing time, the newest last; `n` 0: all."""
        with self.connect() as connection:
            return queries.latest(connection, self.out, kind, frame_class, n)

    def frames(self, **criteria: str) -> list[FrameInfo]:
        """Return frames in the order of observing; criteria: state, night, frame_class."""
        with self.connect() as connection:
            return queries.frame_list(connection, criteria)

    def frame_counts(self, roots: Collection[int] | None = None) -> dict[FrameState, int]:
        """Return how many frames are in each state, of some roots or of all."""
        with self.connect() as connection:
            return queries.frame_counts(connection, roots)

    def last_night(self) -> str:
        """Return the last night that has frames, YYYY-MM-DD; empty where there is none."""
        with self.connect() as connection:
            return connection.execute(select(func.max(frames.c.night))).scalar() or ""

    def find_frames(self, name: str) -> list[FrameInfo]:
        """Return the frames that a path, or the end of one, means."""
        with self.connect() as connection:
            return queries.find_frames(connection, name)

    def frames_at(self, root: int, paths: Sequence[str]) -> dict[str, list[FrameInfo]]:
        """Return the frames of files that were described, by their paths below a root, in the order of the paths."""
        found: dict[str, list[FrameInfo]] = {path: [] for path in paths}
        query = select(frames).where(frames.c.root == root, frames.c.path.in_(paths), frames.c.content_hash != "")
        with self.connect() as connection:
            for row in connection.execute(query.order_by(frames.c.part)).mappings():
                found[row["path"]].append(frame_of(row))
        return {path: some for path, some in found.items() if some}

    def similar_frames(self, name: str, most: int = 3) -> list[str]:
        """Return paths of frames in which the file name of a path is contained."""
        with self.connect() as connection:
            return queries.similar_frames(connection, name, most)

    def summary(self) -> Summary:
        """Return counts of states, latencies and stage times."""
        with self.connect() as connection:
            return queries.summary(connection)

    def events(self, after: int = 0, most: int = 1000) -> list[Event]:
        """Return what has happened since the event of number `after`."""
        with self.connect() as connection:
            return queries.event_list(connection, after, most)

    def job(self, fingerprint: str) -> dict[str, Any] | None:
        """Return all that is recorded of a job."""
        with self.connect() as connection:
            row = connection.execute(select(jobs).where(jobs.c.fingerprint == fingerprint)).mappings().first()
            return None if row is None else dict(row)

    def product(self, path: str) -> Product:
        """Return the product of a path relative to the output directory; KeyError where there is none."""
        with self.connect() as connection:
            return queries.product_at(connection, self.out, path)

    def find_product(self, name: str) -> str:
        """Return the path, relative to the output directory, of the product that a path, a link or a name means.

        Its file may be gone, and a link to it dangle.
        """
        home = self.out.resolve()
        below = [each for each in (self.out / name, Path(name)) if each.resolve().is_relative_to(home)]
        there = (each for each in below if each.exists() or each.is_symlink())
        meant = next(there, below[-1] if below else None)
        path = meant.resolve().relative_to(home).as_posix() if meant else name
        with self.connect() as connection:
            return upkeep.find_product(connection, path) or upkeep.find_product(connection, name)

    def similar_products(self, name: str, most: int = 3) -> list[str]:
        """Return paths of current products whose file is called like that of a path."""
        called = products.c.file == Path(name).name
        query = (
            select(products.c.path).where(called, products.c.state == ProductState.CURRENT).order_by(products.c.path)
        )
        with self.connect() as connection:
            return list(connection.execute(query.limit(most)).scalars())

    def recipe(self, fingerprint: str) -> upkeep.Recipe | None:
        """Return what a product was made from."""
        with self.connect() as connection:
            return upkeep.recipe_of(connection, fingerprint)

    def prunable(self, before: datetime) -> list[tuple[str, str]]:
        """Return fingerprint and night of superseded products, made before a time, that nothing uses."""
        with self.connect() as connection:
            return upkeep.prunable(connection, before)

    def pruned(self) -> list[tuple[str, str]]:
        """Return fingerprint and night of what was pruned and whose files are there no longer, or should not be."""
        with self.connect() as connection:
            return upkeep.pruned(connection)

    def directory(self, fingerprint: str, night: str) -> Path:
        """Return the directory of the products of a job."""
        return self.out / directory_name(night, fingerprint)

    def products_of(self, keys: Iterable[Key]) -> dict[Key, list[Product]]:
        """Return, for each frame, what it was made into: the main products that are current."""
        found: dict[Key, list[Product]] = defaultdict(list)
        with self.connect() as connection:
            pairs = _made_from(connection, {content for content, _ in keys if content})
            made = queries.chosen(
                connection, self.out, products.c.main & products.c.fingerprint.in_({p for p, _ in pairs})
            )
        by_print = {product.fingerprint: product for product in made}
        for print_, key in pairs:
            if print_ in by_print:
                found[key].append(by_print[print_])
        return found

    def main_products(self, prints: Iterable[str]) -> dict[str, Product]:
        """Return the main product of each fingerprint, of any state."""
        with self.connect() as connection:
            which = products.c.main & products.c.fingerprint.in_(list(prints))
            return {each.fingerprint: each for each in queries.chosen(connection, self.out, which, ProductState)}

    def times_of(self, prints: Iterable[str]) -> dict[str, list[datetime]]:
        """Return when the raw frames of products were exposed, by fingerprint."""
        raw = product_inputs.c
        query = (
            select(raw.fingerprint, frames.c.obs_time)
            .join(frames, (frames.c.content_hash == raw.input) & (frames.c.part == raw.part))
            .where(raw.fingerprint.in_(list(prints)), raw.role == "raw", frames.c.obs_time.is_not(None))
            .order_by(frames.c.obs_time)
        )
        found: dict[str, list[datetime]] = defaultdict(list)
        with self.connect() as connection:
            for print_, time in connection.execute(query):
                found[print_].append(time)
        return dict(found)

    def answer(self, number: int) -> tuple[bool, str]:
        """Return whether a request of a person was applied, and the sentence that answers it, empty until then."""
        query = select(requests.c.state, requests.c.answer).where(requests.c.id == number)
        with self.connect() as connection:
            row = connection.execute(query).one()
            return row.state == "applied", row.answer

    # ---- what the daemon asks --------------------------------------------------------------

    def known_files(self, root: int = 0, folder: str | None = None) -> dict[str, tuple[int, int, FrameState]]:
        """Return size, mtime_ns and state of every file of a root, or of one folder below it, by its path."""
        query = select(frames.c.path, frames.c.size, frames.c.mtime_ns, frames.c.state).where(frames.c.root == root)
        if folder is not None:
            query = query.where(frames.c.folder == folder)
        with self.connect() as connection:
            rows = connection.execute(query).all()
        here = sorted(rows, key=lambda row: row.state != FrameState.ABSENT)  # a part that is there decides
        return {row.path: (row.size, row.mtime_ns, FrameState(row.state)) for row in here}

    def folders(self, root: int) -> list[str]:
        """Return the folders of a root in which files are known."""
        query = select(frames.c.folder).where(frames.c.root == root).distinct()
        with self.connect() as connection:
            return list(connection.execute(query).scalars())

    def files(self, night: str = "", states: Sequence[FrameState] = ()) -> list[tuple[int, str]]:
        """Return root and path of files, of a night if one is given, with a frame in one of the states."""
        query = select(frames.c.root, frames.c.path).distinct()
        if night:
            query = query.where(frames.c.night == night)
        if states:
            query = query.where(frames.c.state.in_(states))
        with self.connect() as connection:
            return [(row.root, row.path) for row in connection.execute(query)]

    def fiber_tables(self, night: str = "") -> list[tuple[str, str]]:
        """Return path and hash of each fiber table that frames were described with; of a night, or of all."""
        query = select(frames.c.fibers, frames.c.fibers_hash).distinct()
        query = query.where(frames.c.fibers != frames.c.fibers_hash)  # a number is its own
        with self.connect() as connection:
            found = connection.execute(query.where(frames.c.night == night) if night else query)
            return [(row.fibers, row.fibers_hash) for row in found]

    def described_with(self, table: tuple[str, str], night: str = "") -> list[tuple[int, str]]:
        """Return root and path of the frames that were described with a table of fibers: path and hash."""
        query = select(frames.c.root, frames.c.path).distinct()
        query = query.where(frames.c.fibers == table[0], frames.c.fibers_hash == table[1])
        with self.connect() as connection:
            found = connection.execute(query.where(frames.c.night == night) if night else query)
            return [(row.root, row.path) for row in found]

    def last_landed(self) -> datetime | None:
        """Return when the last frame landed, None where there is none."""
        with self.connect() as connection:
            return connection.execute(select(func.max(frames.c.landed, type_=frames.c.landed.type))).scalar()

    def to_read(self) -> list[tuple[int, str]]:
        """Return root and path of the files that somebody wants to be read again."""
        asked = (frames.c.state == FrameState.INCOMPLETE, frames.c.reason == people.TO_READ)
        query = select(frames.c.root, frames.c.path).where(*asked).distinct()
        with self.connect() as connection:
            return [(row.root, row.path) for row in connection.execute(query)]

    def attempts(self, fingerprint: str) -> int:
        """Return how often a job was begun."""
        with self.connect() as connection:
            query = select(jobs.c.attempts).where(jobs.c.fingerprint == fingerprint)
            return int(connection.execute(query).scalar() or 0)

    def open_jobs(self) -> list[tuple[str, str]]:
        """Return fingerprint and night of the jobs that were begun and given back."""
        with self.connect() as connection:
            query = select(jobs.c.fingerprint, jobs.c.night).where(jobs.c.state == "open")
            return [(row.fingerprint, row.night) for row in connection.execute(query)]

    def paths(self, fingerprints: Sequence[str]) -> list[tuple[str, bool]]:
        """Return the paths of products, relative to the output directory, and whether each is current."""
        query = select(products.c.path, products.c.state).where(products.c.fingerprint.in_(fingerprints))
        with self.connect() as connection:
            return [(row.path, row.state == ProductState.CURRENT) for row in connection.execute(query)]

    def last_made(self, most: int | None) -> list[tuple[str, str]]:
        """Return fingerprint and night of the jobs whose products are current, the last ones first; None: of all."""
        current = (jobs.c.state == "done", jobs.c.product_state == ProductState.CURRENT)
        query = select(jobs.c.fingerprint, jobs.c.night).where(*current)
        with self.connect() as connection:
            found = connection.execute(query.order_by(jobs.c.revision.desc()).limit(most))
            return [(row.fingerprint, row.night) for row in found]

    def recent_products(self, most: int = 200) -> list[tuple[str, bool]]:
        """Return the paths that the last `most` jobs have written, and whether each is current."""
        query = select(jobs.c.fingerprint).where(jobs.c.state == "done")
        with self.connect() as connection:
            recent = connection.execute(query.order_by(jobs.c.revision.desc()).limit(most)).scalars().all()
        return self.paths(recent)


def _made_from(connection: Connection, contents: Iterable[str]) -> list[tuple[str, Key]]:
    """Return (fingerprint, key of the raw frame) of the current products of frames."""
    found = []
    raw = product_inputs.c
    for some in slices(contents):
        query = (
            select(raw.fingerprint, raw.input, raw.part)
            .join(jobs, jobs.c.fingerprint == raw.fingerprint)
            .where(raw.role == "raw", raw.input.in_(some))
            .where(jobs.c.product_state == ProductState.CURRENT)
        )
        found += [(row.fingerprint, (row.input, row.part)) for row in connection.execute(query)]
    return found
