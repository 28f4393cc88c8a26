"""How frames that land are recorded; part of the catalog."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, insert, select, update

from daemon.records import FrameInfo, FrameState, Waiting
from daemon.store import people
from daemon.store.rows import frame_of, frame_values
from daemon.store.schema import frames

# A frame that was in one of these states begins anew when it is described as one that can be reduced.
_BEGINS_ANEW = frozenset(
    {
        FrameState.ABSENT,
        FrameState.INCOMPLETE,
        FrameState.UNCLASSIFIED,
        FrameState.IGNORED,
        FrameState.INVALID,
    }
)


def record(connection: Connection, revision: int, frame: FrameInfo) -> FrameInfo | None:
    """Record a frame as it is described now; return it, None where nothing has changed."""
    place = (frames.c.root == frame.root, frames.c.path == frame.path, frames.c.part == frame.part)
    row = connection.execute(select(frames).where(*place)).mappings().first()
    if row is None:
        decided = _decided_before(connection, frame)
        stored = people.with_decisions(decided, frame)
        values = {**frame_values(stored), "decided": decided, "revision": revision}
        connection.execute(insert(frames).values(**values))
        return stored
    before = frame_of(row)
    renewed = before.content_hash != frame.content_hash
    decided = row["decided"] or (_decided_before(connection, frame) if renewed else {})
    stored = merged(before, people.with_decisions(decided, frame))
    if stored == before:
        return None
    values = {**frame_values(stored), "decided": decided, "revision": revision}
    connection.execute(update(frames).where(frames.c.id == row["id"]).values(**values))
    if renewed and before.content_hash:  # another file of the former content may count in its place
        copies = frames.c.content_hash == before.content_hash
        connection.execute(update(frames).where(copies).values(revision=revision))
    return stored


def _decided_before(connection: Connection, frame: FrameInfo) -> dict[str, Any]:
    """Return what a person has decided of a content under another name: a file may be renamed, or compressed."""
    known = (frames.c.content_hash == frame.content_hash, frames.c.part == frame.part)
    query = select(frames.c.decided).where(*known).order_by(frames.c.id)
    told = connection.execute(query).scalars() if frame.content_hash else ()
    return next((dict(decided) for decided in told if decided), {})


def merged(before: FrameInfo, now: FrameInfo) -> FrameInfo:
    """Return what to record of a frame that was known: unchanged content keeps its state and its landing.

    Only a frame that waits anew can keep a state; what the description itself says (not complete, not
    classified, invalid) holds.
    """
    kept = now.state is FrameState.WAITING and before.state not in _BEGINS_ANEW
    if before.content_hash != now.content_hash:
        return now
    landed = replace(now, landed=before.landed)
    return replace(landed, state=before.state, reason=before.reason) if kept else landed


def restate(connection: Connection, revision: int, changed: Iterable[Waiting]) -> None:
    """Record where frames stand that stood elsewhere, in one statement: a calibration can touch a whole night."""
    at = (frames.c.root, frames.c.path, frames.c.part, frames.c.content_hash)
    known = and_(*(column == bindparam(f"at_{column.name}") for column in at))
    said = {"state": bindparam("now"), "reason": bindparam("why"), "revision": revision}
    rows = []
    for each in changed:
        place = {f"at_{column.name}": getattr(each.frame, column.name) for column in at}
        rows.append({**place, "now": each.state, "why": each.reason})
    if rows:
        connection.execute(update(frames).where(known).values(said), rows)


def retire_parts(connection: Connection, revision: int, described: Iterable[FrameInfo]) -> None:
    """Record that frames are gone which a file had when it was a cube of another length."""
    parts: dict[tuple[int, str], set[int]] = defaultdict(set)
    for frame in sorted(described, key=lambda frame: not frame.content_hash):
        present = parts[frame.root, frame.path]
        if frame.content_hash or not present:  # seen while it was written and whole in one go: the whole one counts
            present.add(frame.part)
    for (root, path), present in parts.items():
        others = (frames.c.root == root, frames.c.path == path, frames.c.part.not_in(present))
        # A row without content stood for the file while it was written: nothing was made of it.
        connection.execute(delete(frames).where(*others, frames.c.content_hash == ""))
        connection.execute(
            update(frames)
            .where(*others)
            .where(frames.c.state != FrameState.ABSENT)
            .values(state=FrameState.ABSENT, reason="the file has other frames now", revision=revision)
        )
