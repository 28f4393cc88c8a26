"""What people decide of frames and products, and how it is done; part of the catalog.

A command leaves a request; the one writer applies it. Each request is also appended to decisions.jsonl,
from which a lost catalog gets its human part back.
"""

import json
import os
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update

from daemon.records import FrameInfo, FrameState, ProductState
from daemon.rulebook import CLASSES
from daemon.store import upkeep
from daemon.store.rows import frame_of, of_path
from daemon.store.schema import frames, jobs, product_inputs, products, requests
from kspecdr.errors import BadOption

DECISIONS = "decisions.jsonl"
KINDS = ("classify", "retry", "mark-bad", "prune")
RESTORED = "restored"  # the state of a request of a lost catalog whose subject is not there yet
TO_READ = "to be read again"  # the reason of a frame whose file somebody wants to be described anew


def leave(connection: Connection, out: Path, what: tuple[str, str, dict[str, object]], now: datetime) -> int:
    """Leave a request (kind, subject, value); return its number.

    classify : subject a frame's path; value frame_class, and lamp and target if they are known
    retry    : subject a frame's path, or nothing for all that failed
    mark-bad : subject the path of a frame or of a product; value {"bad": false} takes it back
    prune    : no subject; value {"before": time of ISO 8601}: forget superseded products that nothing uses

    Raises
    ------
    BadOption
        The kind or the class is not known.
    """
    kind, subject, value = what
    if kind not in KINDS:
        raise BadOption(f"request {kind!r} is not known; expected one of {', '.join(KINDS)}")
    if kind == "classify" and value.get("frame_class") not in CLASSES:
        raise BadOption(f"class {value.get('frame_class')!r} is not known; expected one of {', '.join(CLASSES)}")
    row = {"time": now, "kind": kind, "subject": subject, "value": value}
    number = connection.execute(insert(requests).values(**row, state="new", answer="")).inserted_primary_key
    _append(out / DECISIONS, {**row, "time": now.isoformat()})
    return int(number[0]) if number else 0


def restore(connection: Connection, out: Path) -> None:
    """Take the decisions of a lost catalog up; each is done when its frame or product is there again."""
    path = out / DECISIONS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in lines:
        try:
            told = json.loads(line)
            row = {name: told[name] for name in ("kind", "subject", "value")}
            time = datetime.fromisoformat(told["time"])
        except (ValueError, KeyError, TypeError):
            continue  # the last line of a machine that lost its power
        if row["kind"] in ("classify", "mark-bad"):
            connection.execute(insert(requests).values(**row, time=time, state=RESTORED, answer=""))


def do_restored(connection: Connection, revision: int, subjects: Collection[str]) -> None:
    """Do what was decided of frames and products that have come back."""
    some = select(requests).where(requests.c.state == RESTORED).order_by(requests.c.id)
    for row in connection.execute(some).all():
        if row.subject in subjects:
            act = _classify if row.kind == "classify" else _mark_bad
            _, answer = act(connection, row.subject, row.value, revision)
            connection.execute(update(requests).where(requests.c.id == row.id).values(state="applied", answer=answer))


def pending(connection: Connection) -> bool:
    """Tell whether there is a request that was not answered yet."""
    return connection.execute(select(requests.c.id).where(requests.c.state == "new").limit(1)).first() is not None


def apply(connection: Connection, revision: int, now: datetime) -> list[str]:  # noqa: ARG001 - answers bear no time yet
    """Do what was asked for; return a sentence for each request."""
    answers = []
    for row in connection.execute(select(requests).where(requests.c.state == "new").order_by(requests.c.id)):
        act = {"classify": _classify, "retry": _retry, "mark-bad": _mark_bad, "prune": _prune}[row.kind]
        count, words = act(connection, row.subject, row.value, revision)
        answer = words if count else f"{row.subject}: nothing of that name in the catalog"
        state = "applied" if count else "refused"
        connection.execute(update(requests).where(requests.c.id == row.id).values(state=state, answer=answer))
        answers.append(answer)
    return answers


def with_decisions(decided: dict[str, Any], frame: FrameInfo) -> FrameInfo:
    """Return a frame as a person has decided that it is."""
    known = {name: decided[name] for name in ("frame_class", "lamp", "target") if name in decided}
    state, reason = frame.state, frame.reason
    if "frame_class" in known and state in (FrameState.UNCLASSIFIED, FrameState.IGNORED):
        state, reason = FrameState.WAITING, ""
    if decided.get("bad") == frame.content_hash:
        state, reason = FrameState.BAD, "marked bad"
    return replace(frame, **known, state=state, reason=reason)


def _classify(connection: Connection, subject: str, value: dict[str, Any], revision: int) -> tuple[int, str]:
    rows = connection.execute(select(frames).where(of_path(subject))).mappings().all()
    for row in rows:
        decided = {**row["decided"], **{name: text for name, text in value.items() if text is not None}}
        frame = with_decisions(decided, replace(frame_of(row), state=FrameState.WAITING, reason=""))
        described = row["state"] in (FrameState.INVALID, FrameState.INCOMPLETE, FrameState.ABSENT)
        connection.execute(
            update(frames)
            .where(frames.c.id == row["id"])
            .values(
                decided=decided,
                frame_class=frame.frame_class,
                lamp=frame.lamp,
                target=frame.target,
                state=row["state"] if described else frame.state,
                reason=row["reason"] if described else frame.reason,
                revision=revision,
            )
        )
    return len(rows), f"{subject}: classified as {value['frame_class']}"


def _retry(connection: Connection, subject: str, _value: dict[str, Any], revision: int) -> tuple[int, str]:
    failed = jobs.c.state == "failed"
    if subject:
        of_frame = (
            select(product_inputs.c.fingerprint)
            .join(frames, frames.c.content_hash == product_inputs.c.input)
            .where(of_path(subject), product_inputs.c.role == "raw")
        )
        failed = failed & jobs.c.fingerprint.in_(of_frame)
    opened = connection.execute(
        update(jobs).where(failed).values(state="open", attempts=0, error="", revision=revision)
    ).rowcount
    unread = frames.c.state == FrameState.INVALID
    if subject:
        unread = unread & of_path(subject)
    asked = connection.execute(
        update(frames).where(unread).values(state=FrameState.INCOMPLETE, reason=TO_READ, revision=revision)
    ).rowcount
    words = f"{opened} failed job(s) to be tried again" + (f", {asked} file(s) to be read again" if asked else "")
    return max(opened + asked, not subject), words


def _mark_bad(connection: Connection, subject: str, value: dict[str, Any], revision: int) -> tuple[int, str]:
    bad = bool(value.get("bad", True))
    words = f"{subject}: {'marked bad' if bad else 'no longer bad'}"
    product = select(products.c.fingerprint).where(products.c.path == subject)
    print_ = connection.execute(product).scalar()
    if print_ is not None:
        state = ProductState.BAD if bad else ProductState.SUPERSEDED  # the next plan makes it current if it is
        connection.execute(
            update(jobs).where(jobs.c.fingerprint == print_).values(product_state=state, revision=revision)
        )
        connection.execute(update(products).where(products.c.fingerprint == print_).values(state=state))
        return 1, words
    rows = connection.execute(select(frames).where(of_path(subject))).mappings().all()
    for row in rows:
        decided = {**row["decided"], "bad": row["content_hash"] if bad else ""}
        values: dict[str, Any] = {"decided": decided, "revision": revision}
        if bad:
            values |= {"state": FrameState.BAD, "reason": "marked bad"}
        elif row["state"] == FrameState.BAD:
            values |= {"state": FrameState.WAITING, "reason": ""}
        connection.execute(update(frames).where(frames.c.id == row["id"]).values(**values))
    return len(rows), words


def _prune(connection: Connection, _subject: str, value: dict[str, Any], revision: int) -> tuple[int, str]:
    count = upkeep.prune(connection, revision, datetime.fromisoformat(str(value["before"])))
    return 1, f"{count} superseded product(s) pruned"


def _append(path: Path, record: dict[str, object]) -> None:
    """Append a line that survives the loss of power."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
