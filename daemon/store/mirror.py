"""The catalog's content in memory, kept up to date by reading only what has changed; part of the catalog.

Every write stamps its rows with a revision, so a refresh asks for rows beyond the last one seen. It does
not matter which process wrote them.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from sqlalchemy import Connection, RowMapping, select

from daemon.records import FrameInfo, Made, Neighbourhood, ProductState
from daemon.rulebook import Rulebook
from daemon.store.rows import frame_of
from daemon.store.schema import frames, jobs, product_inputs, products, revisions
from daemon.store.upkeep import PRUNED

_AT_ONCE = 500  # fingerprints in one query: SQLite takes some thousand variables
Key = tuple[str, int]  # content and part of a frame


class Mirror:
    """Frames, products, failures and claims as of the last refresh, found by what a plan asks for."""

    def __init__(self) -> None:
        self._seen = -1
        self._touched: set[Key] = set()
        self._frames: dict[int, FrameInfo] = {}
        self._made: dict[str, Made] = {}
        self._failed: dict[str, str] = {}
        self._active: dict[str, bool] = {}
        self._of_key: dict[Key, set[int]] = defaultdict(set)  # rows of frames
        self._copied: set[Key] = set()  # of more than one row: which of them counts is a matter of all
        self._of_class: dict[str, set[int]] = defaultdict(set)
        self._from_key: dict[Key, set[str]] = defaultdict(set)  # fingerprints
        self._of_rule: dict[str, set[str]] = defaultdict(set)

    def refresh(self, connection: Connection) -> None:
        """Read what has changed."""
        revision = connection.execute(select(revisions.c.value)).scalar_one()
        if revision == self._seen:
            return
        for row in connection.execute(select(frames).where(frames.c.revision > self._seen)).mappings():
            self._touched |= self._put_frame(row["id"], frame_of(row))
        changed = connection.execute(select(jobs).where(jobs.c.revision > self._seen)).mappings().all()
        for first in range(0, len(changed), _AT_ONCE):
            self._touched |= self._put_jobs(connection, changed[first : first + _AT_ONCE])
        self._seen = revision

    def take_touched(self) -> set[Key]:
        """Return the frames that a change has concerned since the last time this was asked."""
        touched, self._touched = self._touched, set()
        return touched

    @property
    def copied(self) -> frozenset[Key]:
        """Frames with copies: which copy counts may depend on any other frame's class."""
        return frozenset(self._copied)

    def whole(self) -> Neighbourhood:
        """Return everything."""
        return Neighbourhood(tuple(self._frames.values()), dict(self._made), dict(self._failed), dict(self._active))

    def part(self, keys: AbstractSet[Key], book: Rulebook) -> Neighbourhood:
        """Return all that others depend on, and of the rest the frames of `keys` with what they became."""
        ends = book.dead_ends()
        classes = {name for rule in book.rules if rule.name in ends for name in rule.classes}
        rows = {row for name, some in self._of_class.items() if name not in classes for row in some}
        prints = {print_ for name, some in self._of_rule.items() if name not in ends for print_ in some}
        for key in keys:
            rows |= self._of_key.get(key, set())
            prints |= self._from_key.get(key, set())
        return Neighbourhood(
            tuple(self._frames[row] for row in rows),
            {print_: self._made[print_] for print_ in prints},
            dict(self._failed),
            dict(self._active),
        )

    def ends_only(self, keys: AbstractSet[Key], book: Rulebook) -> Neighbourhood | None:
        """Return the frames of `keys` alone; None where another frame may depend on one of them."""
        ends = book.dead_ends()
        classes = {name for rule in book.rules if rule.name not in ends for name in rule.classes}
        rows = [row for key in keys for row in self._of_key.get(key, ())]
        prints = frozenset(print_ for key in keys for print_ in self._from_key.get(key, ()))
        if (
            not keys.isdisjoint(self._copied)
            or any(self._frames[row].frame_class in classes for row in rows)
            or any(self._made[print_].rule not in ends for print_ in prints)
        ):
            return None
        found = tuple(self._frames[row] for row in rows)
        return Neighbourhood(found, self._made, self._failed, self._active, prints)

    def _put_frame(self, row: int, frame: FrameInfo) -> set[Key]:
        before = self._frames.get(row)
        if before is not None:
            self._of_key[before.key].discard(row)
            self._of_class[before.frame_class].discard(row)
        self._frames[row] = frame
        self._of_key[frame.key].add(row)
        if len(self._of_key[frame.key]) > 1:
            self._copied.add(frame.key)
        self._of_class[frame.frame_class].add(row)
        return {frame.key} if before is None else {frame.key, before.key}

    def _put_jobs(self, connection: Connection, rows: Sequence[RowMapping]) -> set[Key]:
        prints = [row["fingerprint"] for row in rows]
        keys: dict[str, set[Key]] = defaultdict(set)
        calibrations: dict[str, dict[str, str]] = defaultdict(dict)
        inputs = select(product_inputs).where(product_inputs.c.fingerprint.in_(prints))
        for each in connection.execute(inputs):
            if each.role == "raw":
                keys[each.fingerprint].add((each.input, each.part))
            else:
                calibrations[each.fingerprint][each.role] = each.input
        paths = _paths(connection, prints)
        for row in rows:
            print_ = row["fingerprint"]
            self._put_claim(row)
            if row["state"] == PRUNED:
                self._drop_made(print_)
            if row["state"] == "done":
                made = _made(row, frozenset(keys[print_]), calibrations[print_], paths[print_])
                self._put_made(made)
        return {key for some in keys.values() for key in some}

    def _put_claim(self, row: RowMapping) -> None:
        print_ = row["fingerprint"]
        self._active.pop(print_, None)
        self._failed.pop(print_, None)
        if row["state"] in ("queued", "running"):
            self._active[print_] = row["state"] == "running"
        elif row["state"] == "failed":
            self._failed[print_] = row["error"]

    def _drop_made(self, print_: str) -> None:
        made = self._made.pop(print_, None)
        if made is not None:
            self._of_rule[made.rule].discard(print_)
            for key in made.keys:
                self._from_key[key].discard(print_)

    def _put_made(self, made: Made) -> None:
        self._made[made.fingerprint] = made
        self._of_rule[made.rule].add(made.fingerprint)
        for key in made.keys:
            self._from_key[key].add(made.fingerprint)


def _made(row: RowMapping, keys: frozenset[Key], calibrations: dict[str, str], paths: dict[str, str]) -> Made:
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


def _paths(connection: Connection, prints: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return {fingerprint: {kind: path}} of what other jobs can take: files of the group as a whole."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    whole = (products.c.content_hash == "") | products.c.main
    query = select(products.c.fingerprint, products.c.kind, products.c.path, products.c.main)
    for row in connection.execute(query.where(products.c.fingerprint.in_(prints), whole)):
        if row.main or row.kind not in found[row.fingerprint]:
            found[row.fingerprint][row.kind] = row.path
    return found
