"""How jobs are claimed, ended and given back, and products marked; part of the catalog.

Each function works inside the transaction of its caller and stamps what it changes with the revision.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from daemon.records import Job, Mark, Outcome, ProductState, Quality
from daemon.store.rows import FLAGS, INHERITED, OF_DARK_FIBERS, input_values, job_values, product_values, quality_values
from daemon.store.schema import events, jobs, product_inputs, products, quality
from daemon.store.upkeep import PRUNED


def claim(connection: Connection, revision: int, job: Job, owner: str, now: datetime) -> bool:
    """Take a job; False where it is another's, done or failed. Of two that try, one succeeds."""
    claimed = {"state": "queued", "owner": owner, "claimed": now, "revision": revision, "error": ""}
    taken = connection.execute(
        update(jobs)
        .where(jobs.c.fingerprint == job.fingerprint, jobs.c.state.in_(("open", PRUNED)))
        .values(**claimed, attempts=jobs.c.attempts + 1, provisional=list(job.provisional))
    )
    if taken.rowcount == 1:
        return True
    try:
        with connection.begin_nested():
            connection.execute(insert(jobs).values(**job_values(job), **claimed))
            connection.execute(insert(product_inputs), input_values(job))
    except IntegrityError:
        return False
    return True


def set_running(connection: Connection, revision: int, fingerprint: str, now: datetime) -> None:
    """Record that a worker has a job."""
    connection.execute(
        update(jobs)
        .where(jobs.c.fingerprint == fingerprint, jobs.c.state == "queued")
        .values(state="running", started=now, revision=revision)
    )


def fail(connection: Connection, revision: int, job: Job, outcome: Outcome, now: datetime, *, retry: bool) -> None:
    """Record a failure: final, or with `retry` open again."""
    connection.execute(
        update(jobs)
        .where(jobs.c.fingerprint == job.fingerprint)
        .values(**_ended(outcome, now), state="open" if retry else "failed", revision=revision)
    )
    _event(connection, now, "retry" if retry else "failed", job, outcome.error)


def complete(connection: Connection, revision: int, job: Job, outcome: Outcome, now: datetime) -> list[str]:
    """Record products, which take the place of those that the same rule made of the same frames; return those."""
    outcome = replace(outcome, quality=(*outcome.quality, *_inherited(connection, job)))
    superseded = _sharing(connection, job)
    for print_ in superseded:
        mark(connection, revision, print_, Mark(ProductState.SUPERSEDED))
    connection.execute(
        update(jobs)
        .where(jobs.c.fingerprint == job.fingerprint)
        .values(**_ended(outcome, now), state="done", product_state=ProductState.CURRENT, revision=revision)
    )
    rows = [product_values(job, outcome, written) for written in outcome.products]
    if rows:
        connection.execute(insert(products), rows)
    numbers = list(quality_values(job, outcome))
    if numbers:
        connection.execute(insert(quality), numbers)
    found = ("adopted as it was found",) if outcome.adopted else ()
    _event(connection, now, "made", job, "; ".join((*found, *outcome.warnings)))
    return superseded


def release(connection: Connection, revision: int, which: ColumnElement[bool]) -> list[str]:
    """Open claimed jobs; return their fingerprints. The attempt does not count: no job has failed."""
    held = (jobs.c.state.in_(("queued", "running")), which)
    released = list(connection.execute(select(jobs.c.fingerprint).where(*held)).scalars())
    connection.execute(
        update(jobs).where(*held).values(state="open", owner="", attempts=jobs.c.attempts - 1, revision=revision)
    )
    return released


def mark(connection: Connection, revision: int, fingerprint: str, how: Mark) -> None:
    """Set the state of all products of a fingerprint, and what makes them provisional."""
    of_job: dict[str, Any] = {"product_state": how.state, "revision": revision}
    of_products: dict[str, Any] = {"state": how.state}
    if how.provisional is not None:
        of_job["provisional"] = list(how.provisional)
        of_products |= {"provisional": bool(how.provisional), "reason": ", ".join(how.provisional)}
    connection.execute(update(jobs).where(jobs.c.fingerprint == fingerprint).values(**of_job))
    connection.execute(update(products).where(products.c.fingerprint == fingerprint).values(**of_products))


def _ended(outcome: Outcome, now: datetime) -> dict[str, Any]:
    return {
        "finished": now,
        "error": outcome.error,
        "warnings": list(outcome.warnings),
        "stage_times": dict(outcome.stage_times),
        "memory_mb": outcome.memory_mb,
        "set_aside": [[*key, reason] for key, reason in outcome.set_aside.items()],
    }


def _inherited(connection: Connection, job: Job) -> list[Quality]:
    """Return what the calibrations of a job lack in quality: nothing is better than what it was made with."""
    rules = {each.fingerprint: name for name, each in job.calibrations.items()}
    flagged = select(quality.c.fingerprint, quality.c.name).where(
        quality.c.fingerprint.in_(rules), quality.c.flag != FLAGS[0], quality.c.name.not_in(OF_DARK_FIBERS)
    )
    poor = {rules[row.fingerprint] for row in connection.execute(flagged) if not row.name.startswith(INHERITED)}
    return [Quality(f"{INHERITED}{rule}", 1.0, 0.0, FLAGS[1]) for rule in sorted(poor)]


def _sharing(connection: Connection, job: Job) -> list[str]:
    """Return the current products of the same rule that a raw frame of this job is in."""
    raw = product_inputs.c
    keys = {frame.key for frame in job.frames}
    query = (
        select(jobs.c.fingerprint, raw.input, raw.part)
        .join(product_inputs, raw.fingerprint == jobs.c.fingerprint)
        .where(jobs.c.rule == job.rule, jobs.c.product_state == ProductState.CURRENT)
        .where(raw.role == "raw", raw.input.in_({content for content, _ in keys}))
    )
    return sorted({row.fingerprint for row in connection.execute(query) if (row.input, row.part) in keys})


def _event(connection: Connection, now: datetime, kind: str, job: Job, message: str) -> None:
    subject = f"{job.rule} of {job.frames[0].path}"
    connection.execute(insert(events).values(time=now, kind=kind, subject=subject, message=message))
