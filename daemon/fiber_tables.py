"""The fiber tables that settings name, and what tells one content of a table from another."""

import hashlib
from pathlib import Path

from daemon.config import Config


def table_hash(table: str) -> str:
    """Return the hash of what a fiber table says now; OSError where it cannot be read."""
    with Path(table).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tables_of(config: Config) -> tuple[tuple[str, str], ...]:
    """Return the fiber tables that settings name, and the hash of what each says now; empty where it cannot be read."""
    named = (config.instrument.fibers, *(each.table for each in config.instrument.fibre_tables))
    return tuple(sorted({(each, _content(each)) for each in named if isinstance(each, str)}))


def _content(table: str) -> str:
    try:
        return table_hash(table)
    except OSError:
        return ""
