"""The catalog's content in memory, kept up to date by reading only what has changed; part of the catalog.

Every write stamps its rows with a revision, so a refresh asks for rows beyond the last one seen. It does
not matter which process wrote them.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, RowMapping, select

from daemon.records import FrameInfo, Made, Neighbourhood, ProductState
from daemon.rows import frame_of
from daemon.schema import frames, jobs, product_inputs, products, revisions

_AT_ONCE = 500  # fingerprints in one query: SQLite takes some thousand variables


class Mirror:
    """Frames, products, failures and claims as of the last refresh."""

    def __init__(self) -> None:
        self._seen = -1
        self._frames: dict[int, FrameInfo] = {}
        self._made: dict[str, Made] = {}
        self._failed: dict[str, str] = {}
        self._active: dict[str, bool] = {}

    def refresh(self, connection: Connection) -> Neighbourhood:
        """Read what has changed, and return everything."""
        revision = connection.execute(select(revisions.c.value)).scalar_one()
        if revision != self._seen:
            for row in connection.execute(select(frames).where(frames.c.revision > self._seen)).mappings():
                self._frames[row["id"]] = frame_of(row)
            changed = connection.execute(select(jobs).where(jobs.c.revision > self._seen)).mappings().all()
            self._update_jobs(connection, changed)
            self._seen = revision
        return Neighbourhood(
            tuple(self._frames.values()), dict(self._made), dict(self._failed), dict(self._active)
        )

    def _update_jobs(self, connection: Connection, rows: Sequence[RowMapping]) -> None:
        for row in rows:
            print_ = row["fingerprint"]
            self._active.pop(print_, None)
            self._failed.pop(print_, None)
            if row["state"] in ("queued", "running"):
                self._active[print_] = row["state"] == "running"
            elif row["state"] == "failed":
                self._failed[print_] = row["error"]
        done = [row for row in rows if row["state"] == "done"]
        for first in range(0, len(done), _AT_ONCE):
            self._read_products(connection, done[first : first + _AT_ONCE])

    def _read_products(self, connection: Connection, rows: Sequence[RowMapping]) -> None:
        prints = [row["fingerprint"] for row in rows]
        keys: dict[str, set[tuple[str, int]]] = defaultdict(set)
        calibrations: dict[str, dict[str, str]] = defaultdict(dict)
        for each in connection.execute(
            select(product_inputs).where(product_inputs.c.fingerprint.in_(prints))
        ):
            if each.role == "raw":
                keys[each.fingerprint].add((each.input, each.part))
            else:
                calibrations[each.fingerprint][each.role] = each.input
        paths = _paths(connection, prints)
        for row in rows:
            print_ = row["fingerprint"]
            self._made[print_] = Made(
                print_,
                row["rule"],
                frozenset(keys[print_]),
                calibrations[print_],
                paths[print_],
                ProductState(row["product_state"]),
                tuple(row["provisional"]),
                row["exposure_s"],
                {(content, part): reason for content, part, reason in row["set_aside"]},
            )


def _paths(connection: Connection, prints: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return {fingerprint: {kind: path}} of what other jobs can take: files of the group as a whole."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    whole = (products.c.content_hash == "") | products.c.main
    query = select(products.c.fingerprint, products.c.kind, products.c.path, products.c.main)
    for row in connection.execute(query.where(products.c.fingerprint.in_(prints), whole)):
        if row.main or row.kind not in found[row.fingerprint]:
            found[row.fingerprint][row.kind] = row.path
    return found
