"""What people say of frames: left as requests for the daemon, done at once where none runs."""

import os
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from daemon.catalog import Catalog
from daemon.commands.reading import home_of, is_alone, one_file, read_catalog
from daemon.commands.shown import say
from daemon.executor import remove_remains
from daemon.records import FrameInfo
from daemon.rulebook import RULES
from daemon.session import Session, is_locked, locked
from daemon.store import lineage
from daemon.store.queries import Product
from kspecdr.errors import BadOption

PATIENCE = 5.0  # s that a daemon has to answer; its turns are shorter than one
GLANCE = 0.1  # s between looks for its answer
NAMED = 12  # products that are named one by one


@dataclass(frozen=True, slots=True)
class Dependents:
    """The current products that depend on a frame or a product, in the order of the rules."""

    more: tuple[Product, ...] = ()  # made of other frames as well: they can be made again
    alone: tuple[Product, ...] = ()  # made of this frame alone


@contextmanager
def open_catalog(out: Path | None, path: Path | None) -> Iterator[tuple[Session, Catalog]]:
    """Open the catalog of an output directory for a command that may change it; errors as of `read_catalog`."""
    with read_catalog(out, path) as (session, reader):
        folder = reader.out
    if is_alone(session) and not os.access(folder, os.W_OK, effective_ids=True):
        raise BadOption(f"{folder}: this user may not write there; run the command as the user of the daemon")
    with closing(Catalog.open(session.config.catalog.url or str(folder), folder, create=False)) as catalog:
        yield session, catalog


def decide(out: Path | None, path: Path | None, kind: str, name: str, value: Mapping[str, object]) -> int:
    """Leave a request of a kind that `people.leave` knows; return the exit code.

    name : of a frame, for mark-bad also of a product; empty where the request concerns no single one
    """
    now = datetime.now(UTC)
    home = home_of(name) if kind == "mark-bad" else None
    with open_catalog(out or home, path) as (session, catalog):
        product = catalog.find_product(name) if name and kind == "mark-bad" else ""
        found = one_file(catalog, session, name) if name and not product else []
        subject = found[0].path if found else product
        if found and value.get("frame_class") == "MFARC" and not (value.get("lamp") or found[0].lamp):
            value = {**value, "lamp": session.config.instrument.default_lamp}
        touched = _dependents(catalog, found, product) if kind == "mark-bad" else Dependents()
        number = catalog.request(kind, subject, value, now)
        try:
            with locked(Path(session.config.paths.out), f"kspecdr {kind}"):
                catalog.apply_requests(now)
                for print_, night in catalog.pruned():
                    remove_remains(catalog.out, night, print_)
        except BadOption:
            _wait_for_daemon(catalog, number)
        applied, answer = catalog.answer(number)
        holder = is_locked(Path(session.config.paths.out))
    say(answer or f"{' '.join(filter(None, (kind, subject)))}: left for the daemon, which is busy")
    if kind == "mark-bad" and (applied or not answer):
        _tell_dependents(touched, holder, undone=not value["bad"])
    return int(bool(answer) and not applied)


def _dependents(catalog: Catalog, frames: Collection[FrameInfo], product: str) -> Dependents:
    """Return what a frame, or a product, is part of and all that took that."""
    with catalog.connect() as connection:
        own = lineage.of_product(connection, product) if product else lineage.of_frames(connection, frames)
        prints = lineage.made_with(connection, own) | (own if frames else set())
    paths, order = {frame.path for frame in frames}, [rule.name for rule in RULES]
    made = sorted(
        catalog.main_products(prints).values(), key=lambda each: (order.index(each.rule), each.obs_time, each.path)
    )
    alone = [each for each in made if each.fingerprint in own and paths.issuperset(each.raw)]
    return Dependents(tuple(each for each in made if each not in alone), tuple(alone))


def _tell_dependents(touched: Dependents, holder: str, *, undone: bool) -> None:
    """Say what is made again, and by whom."""
    when = f"by {holder}" if holder else "by the next `kspecdr run` or `kspecdr reduce`: no daemon runs now"
    if undone:
        say(f"what it belongs to is made again, or taken up as it was, {when}")
        return
    for product in touched.alone:
        say(f"{product.path.name} was made of nothing else and counts no more")
    if not touched.more:
        say("nothing else depended on it")
        return
    counts = Counter(each.rule for each in touched.more)
    say(f"depended on it: {', '.join(f'{number} {rule}' for rule, number in counts.items())}")
    for product in touched.more[:NAMED]:
        say(f"  {product.rule:<6} {product.path.name}")
    if len(touched.more) > NAMED:
        say(f"  and {len(touched.more) - NAMED} more")
    say(f"made again without it {when}")


def _wait_for_daemon(catalog: Catalog, number: int) -> None:
    """Give the daemon the time of a few turns to do what was asked."""
    end = time.monotonic() + PATIENCE
    while not catalog.answer(number)[1] and time.monotonic() < end:
        time.sleep(GLANCE)
