"""What people say of frames: left as requests for the daemon, done at once where none runs."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from daemon.commands.reading import one_file, read_catalog
from daemon.commands.shown import say
from daemon.executor import remove_remains
from daemon.session import locked
from kspecdr.errors import BadOption


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
        catalog.request(kind, subject, value, now)
        try:
            with locked(Path(session.config.paths.out), f"kspecdr {kind}"):
                answers = catalog.apply_requests(now)
                for print_, night in catalog.pruned():
                    remove_remains(catalog.out, night, print_)
        except BadOption:
            answers = [f"{kind} {subject}: left for the daemon, which applies it at once".replace("  ", " ")]
    for answer in answers:
        say(answer)
    return 0
