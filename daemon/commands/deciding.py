"""What people say of frames: left as requests for the daemon, done at once where none runs."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from daemon.catalog import Catalog
from daemon.commands.reading import one_file, read_catalog
from daemon.commands.shown import say
from daemon.executor import remove_remains
from daemon.session import locked
from kspecdr.errors import BadOption

PATIENCE = 5.0  # s that a daemon has to answer; its turns are shorter than one
GLANCE = 0.1  # s between looks for its answer


def decide(out: Path | None, path: Path | None, kind: str, name: str, value: Mapping[str, object]) -> int:
    """Leave a request of a kind that `people.leave` knows; return the exit code.

    name : of a frame, for mark-bad also of a product; empty where the request concerns no single one
    """
    now = datetime.now(UTC)
    with read_catalog(out, path) as (session, catalog):
        product = catalog.find_product(name) if name and kind == "mark-bad" else ""
        frame = one_file(catalog, session, name)[0] if name and not product else None
        subject = frame.path if frame else product
        if frame and value.get("frame_class") == "MFARC" and not (value.get("lamp") or frame.lamp):
            value = {**value, "lamp": session.config.instrument.default_lamp}
        number = catalog.request(kind, subject, value, now)
        try:
            with locked(Path(session.config.paths.out), f"kspecdr {kind}"):
                catalog.apply_requests(now)
                for print_, night in catalog.pruned():
                    remove_remains(catalog.out, night, print_)
        except BadOption:
            _wait_for_daemon(catalog, number)
        applied, answer = catalog.answer(number)
    say(answer or f"{' '.join(filter(None, (kind, subject)))}: left for the daemon, which is at work on something else")
    return int(bool(answer) and not applied)


def _wait_for_daemon(catalog: Catalog, number: int) -> None:
    """Give the daemon the time of a few turns to do what was asked."""
    end = time.monotonic() + PATIENCE
    while not catalog.answer(number)[1] and time.monotonic() < end:
        time.sleep(GLANCE)
