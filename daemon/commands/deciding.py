"""What people say of frames: left as requests for the daemon, done at once where none runs."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from daemon.commands.reading import one_file, read_catalog
from daemon.session import locked
from kspecdr.errors import BadOption


def decide(out: Path | None, path: Path | None, kind: str, name: str, value: Mapping[str, object]) -> int:
    """Leave a request of a kind that `people.leave` knows; return the exit code.

    name : of a frame; empty where the request concerns no single one
    """
    now = datetime.now(UTC)
    with read_catalog(out, path) as (session, catalog):
        frame = one_file(catalog, session, name)[0] if name else None
        subject = frame.path if frame else ""
        if frame and value.get("frame_class") == "MFARC" and not (value.get("lamp") or frame.lamp):
            value = {**value, "lamp": session.config.instrument.default_lamp}
        catalog.request(kind, subject, value, now)
        try:
            with locked(Path(session.config.paths.out), f"kspecdr {kind}"):
                answers = catalog.apply_requests(now)
        except BadOption:
            answers = [f"{kind} {subject}: left for the daemon, which applies it at once".replace("  ", " ")]
    sys.stdout.write("".join(f"{answer}\n" for answer in answers))
    return 0
