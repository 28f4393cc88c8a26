"""What keeps a catalog small, safe and checkable: pruning, copies, and how a product was made; part of the catalog."""

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, delete, insert, literal_column, select, update

from daemon.records import FrameInfo, FrameState, ProductState
from daemon.store.rows import frame_of, last_part, slices
from daemon.store.schema import events, frames, jobs, product_inputs, products, quality
from kspecdr.errors import BadOption

PRUNED = "pruned"  # the state of a job whose products were removed: it may be made again


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a product was made from, as far as the catalog knows it."""

    fingerprint: str
    rule: str
    recipe: str  # hash of rule, version and options
    night: str
    frames: tuple[FrameInfo, ...]  # by observing time
    calibrations: tuple[tuple[str, str], ...]  # rule and fingerprint
    paths: tuple[tuple[str, str, bool], ...]  # kind, path relative to the output directory, whether others take it
    exposure_s: float


def prunable(connection: Connection, before: datetime) -> list[tuple[str, str]]:
    """Return fingerprint and night of superseded products that were made before a time and that nothing uses."""
    superseded = literal_column("jobs.product_state") == literal_column("'superseded'")  # as the index says it
    old = select(jobs.c.fingerprint, jobs.c.night).where(superseded, jobs.c.finished < before, jobs.c.state == "done")
    found = [(row.fingerprint, row.night) for row in connection.execute(old)]
    used = _in_use(connection, [print_ for print_, _ in found])
    return [each for each in found if each[0] not in used]


def prune(connection: Connection, revision: int, before: datetime) -> int:
    """Forget superseded products that nothing uses; return how many jobs' products. The files go after the commit."""
    prints = [print_ for print_, _ in prunable(connection, before)]
    forget_products(connection, revision, prints)
    return len(prints)


def forget_products(connection: Connection, revision: int, prints: Collection[str]) -> None:
    """Forget what some jobs have made; they are as they were before, and made again where that is wanted."""
    gone = {"state": PRUNED, "product_state": "", "attempts": 0, "revision": revision}
    for some in slices(prints):
        for table in (products, quality):
            connection.execute(delete(table).where(table.c.fingerprint.in_(some)))
        connection.execute(update(jobs).where(jobs.c.fingerprint.in_(some), jobs.c.state == "done").values(**gone))


def lose(connection: Connection, revision: int, prints: Collection[str], now: datetime) -> list[str]:
    """Forget products whose files are gone; return the paths of the main ones."""
    lost: list[str] = []
    for some in slices(prints):
        query = select(products.c.path).where(products.c.fingerprint.in_(some), products.c.main)
        lost += connection.execute(query).scalars().all()
    forget_products(connection, revision, prints)
    if lost:
        said = [{"time": now, "kind": "lost", "subject": path, "message": "its file is gone"} for path in lost]
        connection.execute(insert(events), said)
    return lost


def pruned(connection: Connection) -> list[tuple[str, str]]:
    """Return fingerprint and night of the jobs whose products were pruned."""
    query = select(jobs.c.fingerprint, jobs.c.night).where(jobs.c.state == PRUNED)
    return [(row.fingerprint, row.night) for row in connection.execute(query)]


def _in_use(connection: Connection, prints: Collection[str]) -> set[str]:
    """Return which of some products a current product or a job that is begun was made from, also by way of others."""
    made_from: dict[str, set[str]] = {}  # by what was made: what of it was met here
    level = met = set(prints)
    while level:
        above = set()
        for some in slices(level):
            users = select(product_inputs.c.fingerprint, product_inputs.c.input).where(
                product_inputs.c.input.in_(some), product_inputs.c.role != "raw"
            )
            for row in connection.execute(users):
                made_from.setdefault(row.fingerprint, set()).add(row.input)
                above.add(row.fingerprint)
        level = above - met
        met = met | above
    level = _wanted(connection, made_from)
    used: set[str] = set()
    while level:
        level = {each for print_ in level for each in made_from.get(print_, ())} - used
        used |= level
    return used


def _wanted(connection: Connection, prints: Collection[str]) -> set[str]:
    """Return which of some jobs have products that are current, or are begun."""
    wanted = jobs.c.state.in_(("open", "queued", "running")) | (jobs.c.product_state == ProductState.CURRENT)
    found = (
        connection.execute(select(jobs.c.fingerprint).where(wanted, jobs.c.fingerprint.in_(some))).scalars()
        for some in slices(prints)
    )
    return {print_ for each in found for print_ in each}


def find_product(connection: Connection, name: str) -> str:
    """Return the path of the product that a path means, or of the current one of a file name; empty where none is.

    Raises
    ------
    BadOption
        The name means several.
    """
    exact = connection.execute(select(products.c.path).where(products.c.path == name)).scalar()
    if exact:
        return str(exact)
    ends = products.c.path.endswith(f"/{name}", autoescape=True)
    called = products.c.file == last_part(name)
    query = select(products.c.path).where(called, ends, products.c.state == ProductState.CURRENT)
    found = sorted(connection.execute(query).scalars())
    if len(found) > 1:
        raise BadOption(f"{name} is ambiguous: {', '.join(found[:5])}; give the path of one")
    return found[0] if found else ""


def recipe_of(connection: Connection, print_: str) -> Recipe | None:
    """Return what a product was made from, None where it is not known or not done."""
    row = connection.execute(select(jobs).where(jobs.c.fingerprint == print_, jobs.c.state == "done")).first()
    if row is None:
        return None
    raw, calibrations = [], []
    for each in connection.execute(select(product_inputs).where(product_inputs.c.fingerprint == print_)):
        if each.role == "raw":
            raw.append((each.input, each.part, each.path))
        else:
            calibrations.append((each.role, each.input))
    written = connection.execute(select(products).where(products.c.fingerprint == print_).order_by(products.c.path))
    return Recipe(
        print_,
        row.rule,
        row.recipe,
        row.night,
        tuple(sorted((_raw_frame(connection, *each) for each in raw), key=_order)),
        tuple(calibrations),
        tuple((each.kind, each.path, bool(each.main or not each.content_hash)) for each in written),
        row.exposure_s,
    )


def _raw_frame(connection: Connection, content: str, part: int, path: str) -> FrameInfo:
    query = select(frames).where(frames.c.content_hash == content, frames.c.part == part)
    rows = [frame_of(row) for row in connection.execute(query).mappings()]
    there = [frame for frame in rows if frame.state is not FrameState.ABSENT]
    if not there:
        raise BadOption(f"{path}: the raw frame is not there any more as it was; put it back to make the product again")
    return min(there, key=lambda frame: (frame.path != path, frame.root, frame.path))


def _order(frame: FrameInfo) -> tuple[float, str, int]:
    return (frame.obs_time.timestamp() if frame.obs_time else 0.0), frame.content_hash, frame.part


def copy_database(engine: Engine, target: Path) -> None:
    """Copy a SQLite database while it is in use; the copy appears whole or not at all."""
    if engine.dialect.name != "sqlite":
        raise BadOption(
            f"the catalog is a {engine.dialect.name} database, which its own tool copies while it is in use: pg_dump"
        )
    fresh = target.with_name(f".{target.name}.partial")
    fresh.unlink(missing_ok=True)
    source = engine.raw_connection()
    try:
        copy = sqlite3.connect(fresh)
        try:
            source.driver_connection.backup(copy)  # type: ignore[union-attr]  # the dialect was asked for above
        finally:
            copy.close()
    finally:
        source.close()
    fresh.replace(target)
