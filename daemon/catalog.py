"""What exists: frames, jobs, products and what people said of them. The only place of SQL.

What is asked stands in `daemon.store.reader` and `daemon.store.planned`, what changes here. Each public method
that changes something is one transaction. A reader in another process sees either all of it or nothing.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, Engine, delete, insert, make_url, select, update

from daemon.adoption import Finished
from daemon.planning.fingerprint import directory_name
from daemon.records import FrameInfo, FrameState, Job, Mark, Outcome, Waiting
from daemon.store import claims, landing, people, upkeep
from daemon.store.engines import DATABASE, CatalogLost, CatalogUnavailable, is_shared, make_engine, place_of, writing
from daemon.store.migrate import alone, current_version, migrate
from daemon.store.planned import PlanReader
from daemon.store.presence import Presence
from daemon.store.schema import (
    events,
    frames,
    jobs,
    planned,
    revisions,
)
from kspecdr.errors import BadOption

ACTIVE = ("queued", "running")  # states of a job that somebody has


class Catalog(PlanReader):
    """The catalog of one output directory.

    Parameters
    ----------
    engine : Engine
        Of a database whose tables are up to date; `Catalog.open` makes both.
    out : Path
        The output directory, which product paths are relative to.
    """

    def __init__(self, engine: Engine, out: Path) -> None:
        super().__init__(engine, out)
        self._writer = writing(engine)
        self._place = place_of(engine)
        self._presence = Presence(engine) if is_shared(engine) else None
        self._claimed: dict[str, str] = {}  # fingerprint -> the name under which this process has taken the job
        self._own: set[int] = set()  # revisions that this process has made, since the one that was last asked for

    @classmethod
    def open(cls, url: str, out: Path | None = None, *, create: bool = True) -> "Catalog":
        """Open a catalog and bring its tables up to date.

        Parameters
        ----------
        url : str
            A SQLAlchemy URL, or the path of an output directory, whose catalog.db is meant.
        out : Path, optional
            The output directory; without it the folder of the SQLite file.
        create : bool
            Make a catalog that does not exist; False: that is an error.

        Raises
        ------
        BadOption
            The database lies on a network mount, does not exist, or is of a newer program.
        """
        if "://" not in url:
            url = f"sqlite:///{Path(url).absolute() / DATABASE}"
        parsed = make_url(url)
        folder = out or Path(parsed.database or ".").parent
        if not create and parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
            raise BadOption(f"{folder}: no catalog there; give the output directory of a reduction")
        engine = make_engine(url)
        with (writing(engine) if create else engine).begin() as connection:
            alone(connection)
            fresh = not current_version(connection)
            if create or fresh:
                migrate(connection, str(parsed.database))
            if fresh:
                people.restore(connection, folder)
        return cls(engine, folder.absolute())

    def close(self) -> None:
        """Close every connection."""
        if self._presence is not None:
            self._presence.leave()
        super().close()

    def check(self) -> None:
        """See that the database is still the one that was opened: what is written to a removed file is lost.

        Raises
        ------
        CatalogLost
            Its file was removed or replaced.
        CatalogUnavailable
            Its directory is another one: a disk is not mounted.
        """
        place = place_of(self._engine)
        if place == self._place or place is None or self._place is None:
            return
        path = self._engine.url.database
        if place[0] != self._place[0]:
            raise CatalogUnavailable(f"the directory of {path} is not the one that was opened; mount it again")
        raise CatalogLost(f"{path} is not the file that was opened, somebody has removed or replaced it")

    # ---- what lands ------------------------------------------------------------------------------

    def add_frames(self, landed: Iterable[FrameInfo]) -> list[FrameInfo]:
        """Record frames as they are described now; return those that are new or have changed.

        What a person has decided of a path stays decided. A frame whose description has not changed
        keeps its state.
        """
        described = list(landed)
        with self._write() as (connection, revision):
            changed = [stored for frame in described if (stored := landing.record(connection, revision, frame))]
            landing.retire_parts(connection, revision, described)
            people.do_restored(connection, revision, {frame.path for frame in described})
        return changed

    def restore(self, done: Iterable[Finished]) -> None:
        """Record frames and products as the records beside the products tell of them, the oldest first."""
        with self._write() as (connection, revision):
            for job, outcome, time in done:
                for frame in job.frames:
                    landing.record(connection, revision, frame)
                claims.claim(connection, revision, job, "", time)
                claims.complete(connection, revision, job, outcome, time)
                place = directory_name(job.night, job.fingerprint)
                subjects = {*(f"{place}/{each.path}" for each in outcome.products), *(f.path for f in job.frames)}
                people.do_restored(connection, revision, subjects)

    def set_absent(self, root: int, paths: Iterable[str]) -> None:
        """Record that raw files have vanished; what was made of them stays."""
        with self._write() as (connection, revision):
            for path in paths:
                connection.execute(
                    update(frames)
                    .where(frames.c.root == root, frames.c.path == path)
                    .values(state=FrameState.ABSENT, reason="the raw file has vanished", revision=revision)
                )

    # ---- what is planned and done -----------------------------------------------------------------

    def set_planned(self, revision: int, book: str) -> None:
        """Record up to which revision everything was compared with what the rules want, and by which rules."""
        with self._writer.begin() as connection:
            connection.execute(delete(planned))
            connection.execute(insert(planned).values(id=1, revision=revision, book=book))

    def apply(self, standings: Sequence[Waiting], marks: Mapping[str, Mark]) -> list[Waiting]:
        """Record where frames stand and what has become of products; return the frames that changed."""
        changed = [each for each in standings if (each.state, each.reason) != (each.frame.state, each.frame.reason)]
        if not changed and not marks:
            return []
        with self._write() as (connection, revision):
            landing.restate(connection, revision, changed)
            for print_, mark in marks.items():
                claims.mark(connection, revision, print_, mark)
        return changed

    def claim(self, job: Job, owner: str, now: datetime) -> bool:
        """Take a job for this process; False where another has it, or where it is done or has failed."""
        with self._write() as (connection, revision):
            taken = claims.claim(connection, revision, job, owner, now)
        if taken:
            self._claimed[job.fingerprint] = owner
        return taken

    def set_running(self, fingerprint: str, now: datetime) -> None:
        """Record that a worker has a job."""
        with self._write() as (connection, revision):
            claims.set_running(connection, revision, fingerprint, now)

    def finish(self, job: Job, outcome: Outcome, now: datetime, *, retry: bool = False) -> list[str]:
        """Record what became of a job; return the fingerprints of what its products take the place of.

        A job that others have taken over, who had reason to think that this process is dead, is theirs.

        Parameters
        ----------
        job, outcome : Job, Outcome
            What was done, and how it ended.
        now : datetime
            The time of the end.
        retry : bool
            A failure is not final: the job is open again.
        """
        superseded: list[str] = []
        with self._write() as (connection, revision):
            if not self._has(connection, job.fingerprint):
                return superseded
            if outcome.error:
                claims.fail(connection, revision, job, outcome, now, retry=retry)
            else:
                superseded = claims.complete(connection, revision, job, outcome, now)
                place = directory_name(job.night, job.fingerprint)
                people.do_restored(connection, revision, {f"{place}/{each.path}" for each in outcome.products})
        self._claimed.pop(job.fingerprint, None)
        return superseded

    @contextmanager
    def entering(self) -> Iterator[int]:
        """Let no other daemon begin meanwhile; how many are at work on a shared catalog."""
        if self._presence is None:
            yield 0
            return
        with self._writer.begin() as connection:
            alone(connection)
            yield self._presence.others()

    def release(self, owner: str) -> list[str]:
        """Open the jobs that dead processes had claimed, all but those of `owner`; return their fingerprints.

        On a shared catalog others may live; see `release_dead`.
        """
        if self._presence is not None:
            self._presence.join(owner)
            return []
        with self._write() as (connection, revision):
            return claims.release(connection, revision, jobs.c.owner != owner)

    def release_dead(self, owner: str, now: datetime) -> list[str]:
        """Open the jobs of other daemons on a shared catalog that have died since; return their fingerprints."""
        if self._presence is None or not self._presence.is_due(now):
            return []
        self._presence.join(owner)
        with self.connect() as connection:
            others = select(jobs.c.owner).where(_active(), jobs.c.owner != owner).distinct()
            dead = self._presence.dead(connection.execute(others).scalars().all(), now)
        if not dead:
            return []
        with self._write() as (connection, revision):
            return claims.release(connection, revision, jobs.c.owner.in_(dead))

    @contextmanager
    def unmade(self, fingerprint: str) -> Iterator[bool]:
        """Keep others from taking a job while what it has left is removed; whether it is neither made nor another's."""
        with self._writer.begin() as connection:
            connection.execute(select(revisions.c.value).with_for_update())
            found = select(jobs.c.state, jobs.c.owner).where(jobs.c.fingerprint == fingerprint)
            row = connection.execute(found).first()
            others = row is not None and row.state in ACTIVE and row.owner != self._claimed.get(fingerprint)
            yield row is None or (row.state != "done" and not others)

    @property
    def is_elsewhere(self) -> bool:
        """Whether it may be there although the output directory is not."""
        url = self._engine.url
        return is_shared(self._engine) or not Path(str(url.database)).resolve().is_relative_to(self.out.resolve())

    def own_after(self, revision: int) -> int:
        """Return up to which revision, beginning after one, nobody but this process has changed anything."""
        self._own = {each for each in self._own if each > revision}  # nobody asks for what was before
        while revision + 1 in self._own:
            revision += 1
        return revision

    def is_empty(self) -> bool:
        """Tell whether nothing was ever recorded."""
        with self.connect() as connection:
            tables = (frames.c.id, jobs.c.fingerprint)
            return all(connection.execute(select(column).limit(1)).first() is None for column in tables)

    def busy(self) -> bool:
        """Tell whether anybody has a job."""
        with self.connect() as connection:
            return connection.execute(select(jobs.c.fingerprint).where(_active()).limit(1)).first() is not None

    def unclaim(self, fingerprint: str) -> None:
        """Give back a job of this process that no worker has begun, or that was interrupted."""
        with self._write() as (connection, revision):
            if self._has(connection, fingerprint):
                claims.release(connection, revision, jobs.c.fingerprint == fingerprint)
        self._claimed.pop(fingerprint, None)

    def lose(self, fingerprints: Collection[str], now: datetime) -> list[str]:
        """Forget products whose files are gone, so that they may be made again; return the paths of the main ones."""
        if not fingerprints:
            return []
        with self._write() as (connection, revision):
            return upkeep.lose(connection, revision, fingerprints, now)

    def forget_open(self, fingerprint: str) -> None:
        """Forget a job that nobody has and nobody wants."""
        with self._writer.begin() as connection:
            connection.execute(delete(jobs).where(jobs.c.fingerprint == fingerprint, jobs.c.state == "open"))

    def record(self, kind: str, subject: str, message: str, now: datetime) -> None:
        """Add an event that concerns no job."""
        with self._writer.begin() as connection:
            connection.execute(insert(events).values(time=now, kind=kind, subject=subject, message=message))

    # ---- what people decide -----------------------------------------------------------------------

    def request(self, kind: str, subject: str, value: Mapping[str, object], now: datetime) -> int:
        """Leave a request for the daemon: classify, retry or mark-bad; see `people.apply`."""
        with self._writer.begin() as connection:
            return people.leave(connection, self.out, (kind, subject, dict(value)), now)

    def apply_requests(self, now: datetime) -> list[str]:
        """Do what people have asked for; return a sentence for each request."""
        with self.connect() as connection:
            if not people.pending(connection):
                return []
        with self._write() as (connection, revision):
            return people.apply(connection, revision, now)

    def backup(self, target: Path) -> None:
        """Copy the database while it is in use."""
        upkeep.copy_database(self._engine, target)

    # ---- inside -----------------------------------------------------------------------------------

    def _has(self, connection: Connection, fingerprint: str) -> bool:
        """Tell whether a job that this process has claimed is still its own; inside a write, so that it stays so."""
        owner = self._claimed.get(fingerprint)
        held = select(jobs.c.fingerprint).where(jobs.c.fingerprint == fingerprint, jobs.c.owner == owner, _active())
        return owner is None or connection.execute(held).first() is not None

    @contextmanager
    def _write(self) -> Iterator[tuple[Connection, int]]:
        """One transaction, and the revision that it stamps its rows with."""
        with self._writer.begin() as connection:
            raised = update(revisions).values(value=revisions.c.value + 1).returning(revisions.c.value)
            revision = int(connection.execute(raised).scalar_one())
            yield connection, revision
        self._own.add(revision)


def _active() -> ColumnElement[bool]:
    return jobs.c.state.in_(ACTIVE)
