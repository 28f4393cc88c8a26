"""What a plan asks of the catalog: a part of it, by index, all of one moment; part of the catalog.

Every write stamps its rows with a revision, so what has changed is what lies beyond the last one seen. It does
not matter which process wrote it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, and_, func, literal_column, select

from daemon.records import FrameInfo, Made, Neighbourhood, ProductState, Setup
from daemon.store.rows import frame_of, slices
from daemon.store.schema import frames, jobs, planned, product_inputs, products, revisions

_PAGE = 20  # products read at a time in a search for the nearest
_LONGEST_GROUP = timedelta(days=2)  # of which one product is made
Key = tuple[str, int]  # content and part of a frame


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames that a change may have concerned."""

    classes: tuple[str, ...] = ()  # none: all
    first: datetime | None = None  # observed between these, None: without limit
    last: datetime | None = None
    doubtful: bool = False  # only those of which something is said: they wait, have failed or are provisional
    states: tuple[str, ...] = ()  # none: all
    night: str = ""  # empty: any
    setup: tuple[tuple[str, Any], ...] = ()  # names and values of header criteria that must agree


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed since a revision."""

    frames: tuple[FrameInfo, ...] = ()
    prints: frozenset[str] = frozenset()  # jobs
    keys: frozenset[Key] = frozenset()  # the frames concerned


@dataclass(frozen=True, slots=True)
class Far:
    """A current product as a candidate."""

    fingerprint: str
    time: float  # the middle of its frames, s since 1970
    setup: Setup


class Excerpts:
    """Parts of a catalog as it is at one moment; `n_row` counts the frames and jobs that were read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.n_row = 0
        self.revision = int(connection.execute(select(revisions.c.value)).scalar_one())

    def planned(self) -> tuple[int, str]:
        """Return up to which revision everything was compared, and by which rules; -1: nothing was."""
        row = self._connection.execute(select(planned)).first()
        return (-1, "") if row is None else (row.revision, row.book)

    def changed(self, since: int) -> Changes:
        """Return what has changed after a revision."""
        if since >= self.revision:
            return Changes()
        rows = self._frames(select(frames).where(frames.c.revision > since))
        prints = frozenset(
            self._connection.execute(select(jobs.c.fingerprint).where(jobs.c.revision > since)).scalars()
        )
        keys = {frame.key for frame in rows}
        for some in slices(prints):
            inputs = select(product_inputs.c.input, product_inputs.c.part).where(product_inputs.c.role == "raw")
            keys |= {
                (row.input, row.part)
                for row in self._connection.execute(inputs.where(product_inputs.c.fingerprint.in_(some)))
            }
        return Changes(tuple(rows), prints, frozenset(keys))

    def n_changed(self, since: int, most: int) -> int:
        """Return how many frames have changed after a revision, `most` where there are more."""
        some = select(frames.c.id).where(frames.c.revision > since).limit(most).subquery()
        return int(self._connection.execute(select(func.count()).select_from(some)).scalar_one())

    def frames_of(self, contents: Iterable[str]) -> Iterator[FrameInfo]:
        """Yield every file of some contents."""
        for some in slices(contents):
            yield from self._frames(select(frames).where(frames.c.content_hash.in_(some)))

    def frames_of_night(self, night: str) -> list[FrameInfo]:
        """Return the frames of a night."""
        return self._frames(select(frames).where(frames.c.night == night))

    def former(self, paths: Iterable[str]) -> set[Key]:
        """Return what was taken from paths for products, as it was then."""
        found: set[Key] = set()
        for some in slices(paths):
            query = select(product_inputs.c.input, product_inputs.c.part).where(product_inputs.c.path.in_(some))
            found |= {(row.input, row.part) for row in self._connection.execute(query)}
        return found

    def observed(self, frame_class: str, first: datetime, last: datetime) -> list[str]:
        """Return the contents of a class that were observed between two times."""
        query = select(frames.c.content_hash).where(*_observed(frame_class, first, last)).distinct()
        return list(self._connection.execute(query).scalars())

    def edge(self, frame_class: str, first: datetime, last: datetime, *, early: bool) -> datetime | None:
        """Return when the first (or last) frame of a class was observed between two times."""
        at = frames.c.obs_time
        pick: Any = func.min(at, type_=at.type) if early else func.max(at, type_=at.type)
        return self._connection.execute(select(pick).where(*_observed(frame_class, first, last))).scalar()

    def jobs_from(self, contents: Iterable[str]) -> set[str]:
        """Return the fingerprints of all that was made, or tried to be, from some contents."""
        found: set[str] = set()
        for some in slices(contents):
            query = select(product_inputs.c.fingerprint).where(
                product_inputs.c.input.in_(some), product_inputs.c.role == "raw"
            )
            found |= set(self._connection.execute(query).scalars())
        return found

    def tried(self, contents: Iterable[str]) -> dict[Key, set[str]]:
        """Return by which rules each frame of some contents was ever used, well or not."""
        found: dict[Key, set[str]] = defaultdict(set)
        raw = product_inputs.c
        query = select(jobs.c.rule, raw.input, raw.part).join(product_inputs, raw.fingerprint == jobs.c.fingerprint)
        for some in slices(contents):
            for row in self._connection.execute(query.where(raw.role == "raw", raw.input.in_(some))):
                found[row.input, row.part].add(row.rule)
        return found

    def users(self, prints: Iterable[str]) -> set[Key]:
        """Return the frames of whatever was made with bad or superseded products, also by way of others."""
        level = {
            print_
            for some in slices(prints)
            for print_ in self._connection.execute(
                select(jobs.c.fingerprint).where(
                    jobs.c.fingerprint.in_(some),
                    jobs.c.product_state.in_((ProductState.BAD, ProductState.SUPERSEDED)),
                )
            ).scalars()
        }
        seen: set[str] = set()
        while level:
            seen |= level
            query = select(product_inputs.c.fingerprint).where(product_inputs.c.role != "raw")
            level = {
                print_
                for some in slices(level)
                for print_ in self._connection.execute(query.where(product_inputs.c.input.in_(some))).scalars()
            } - seen
        return self._raw(seen)

    def jobs(self, prints: Iterable[str]) -> Neighbourhood:
        """Return products, failures and claims of fingerprints."""
        made: dict[str, Made] = {}
        failed: dict[str, str] = {}
        active: dict[str, bool] = {}
        for some in slices(prints):
            rows = self._connection.execute(select(jobs).where(jobs.c.fingerprint.in_(some))).mappings().all()
            self.n_row += len(rows)
            done = [row for row in rows if row["state"] == "done"]
            made |= {each.fingerprint: each for each in self._made(done)}
            failed |= {row["fingerprint"]: row["error"] for row in rows if row["state"] == "failed"}
            active |= {
                row["fingerprint"]: row["state"] == "running" for row in rows if row["state"] in ("queued", "running")
            }
        return Neighbourhood((), made, failed, active)

    def stretch(
        self, which: Stretch, below: int | None, most: int, *, former: bool = False
    ) -> tuple[list[Key], int | None]:
        """Return frames of a stretch, the last recorded first, and below which row to go on; None: no more.

        former : also what their files were when products were made of them
        """
        columns = (frames.c.id, frames.c.content_hash, frames.c.part, frames.c.setup, frames.c.path)
        query = select(*columns).where(*_of_stretch(which)).order_by(frames.c.id.desc()).limit(most)
        rows = self._connection.execute(query if below is None else query.where(frames.c.id < below)).all()
        keys = [
            (row.content_hash, row.part)
            for row in rows
            if row.content_hash and all(row.setup.get(name) == value for name, value in which.setup)
        ]
        if former:
            keys += self.former(row.path for row in rows) - set(keys)
        return keys, rows[-1].id if len(rows) == most else None

    def nearest_before(self, rule: str, time: float) -> Iterator[Far]:
        """Yield the current products of a rule whose frames ended before about a time, the last first."""
        ends = products.c.obs_time
        begun = datetime.fromtimestamp(time, UTC) + _LONGEST_GROUP
        return self._far(_far_query(rule).where(ends < begun).order_by(ends.desc(), products.c.id.desc()))

    def nearest_after(self, rule: str, time: float) -> Iterator[Far]:
        """Yield the current products of a rule whose frames ended after a time, the first first."""
        ends = products.c.obs_time
        return self._far(_far_query(rule).where(ends > datetime.fromtimestamp(time, UTC)).order_by(ends, products.c.id))

    def whole(self) -> Neighbourhood:
        """Return everything."""
        rows = self._frames(select(frames))
        some = self.jobs(self._connection.execute(select(jobs.c.fingerprint)).scalars().all())
        return Neighbourhood(tuple(rows), some.made, some.failed, some.active)

    def _far(self, query: Select[Any]) -> Iterator[Far]:
        page, size = 0, _PAGE
        while True:
            rows = self._connection.execute(query.limit(size).offset(page)).all()
            for row in rows:
                middle = (row.first_obs.timestamp() + row.obs_time.timestamp()) / 2
                yield Far(row.fingerprint, middle, Setup(row.setup))
            if len(rows) < size:
                return
            page, size = page + size, size * 4

    def _frames(self, query: Select[Any]) -> list[FrameInfo]:
        rows = [frame_of(row) for row in self._connection.execute(query).mappings()]
        self.n_row += len(rows)
        return rows

    def _raw(self, prints: Iterable[str]) -> set[Key]:
        raw = select(product_inputs.c.input, product_inputs.c.part).where(product_inputs.c.role == "raw")
        return {
            (row.input, row.part)
            for some in slices(prints)
            for row in self._connection.execute(raw.where(product_inputs.c.fingerprint.in_(some)))
        }

    def _made(self, rows: list[RowMapping]) -> Iterator[Made]:
        prints = [row["fingerprint"] for row in rows]
        keys: dict[str, set[Key]] = defaultdict(set)
        calibrations: dict[str, dict[str, str]] = defaultdict(dict)
        inputs = select(product_inputs).where(product_inputs.c.fingerprint.in_(prints))
        for each in self._connection.execute(inputs):
            if each.role == "raw":
                keys[each.fingerprint].add((each.input, each.part))
            else:
                calibrations[each.fingerprint][each.role] = each.input
        paths = _paths(self._connection, prints)
        for row in rows:
            print_ = row["fingerprint"]
            yield _made_of(row, frozenset(keys[print_]), calibrations[print_], paths[print_])


def _observed(frame_class: str, first: datetime, last: datetime) -> tuple[Any, ...]:
    between = frames.c.obs_time.between(first, last)
    return frames.c.frame_class == frame_class, between, frames.c.content_hash != ""


def _of_stretch(which: Stretch) -> list[Any]:
    criteria: list[Any] = []
    if which.classes:
        criteria.append(frames.c.frame_class.in_(which.classes))
    if which.first is not None:
        criteria.append(frames.c.obs_time >= which.first)
    if which.last is not None:
        criteria.append(frames.c.obs_time <= which.last)
    if which.states:
        criteria.append(frames.c.state.in_(which.states))
    if which.night:
        criteria.append(frames.c.night == which.night)
    if which.doubtful:
        criteria.append(literal_column("frames.reason") != literal_column("''"))  # as the index says it
    return criteria


def _far_query(rule: str) -> Select[Any]:
    columns = (products.c.fingerprint, products.c.first_obs, products.c.obs_time, products.c.setup)
    return select(*columns).where(
        and_(products.c.rule == rule, products.c.state == ProductState.CURRENT, products.c.main)
    )


def _made_of(row: RowMapping, keys: frozenset[Key], calibrations: dict[str, str], paths: dict[str, str]) -> Made:
    return Made(
        row["fingerprint"],
        row["rule"],
        keys,
        calibrations,
        paths,
        ProductState(row["product_state"]),
        tuple(row["provisional"]),
        row["exposure_s"],
        {(content, part): reason for content, part, reason in row["set_aside"]},
        row["recipe"],
    )


def _paths(connection: Connection, prints: Collection[str]) -> dict[str, dict[str, str]]:
    """Return {fingerprint: {kind: path}} of what other jobs can take: files of the group as a whole."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    whole = (products.c.content_hash == "") | products.c.main
    query = select(products.c.fingerprint, products.c.kind, products.c.path, products.c.main)
    for row in connection.execute(query.where(products.c.fingerprint.in_(prints), whole)):
        if row.main or row.kind not in found[row.fingerprint]:
            found[row.fingerprint][row.kind] = row.path
    return found
