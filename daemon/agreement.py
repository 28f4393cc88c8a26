"""Whether the daemons that share a catalog go by the same settings: those that the last one has recorded."""

from pathlib import Path

from daemon.config import Config
from daemon.reload import changes, matters
from daemon.session import RECORD, recall

CHANGES_TOLD = 5  # settings that a sentence names

Stamp = tuple[int, int, int]  # inode, size and mtime_ns of a record


def differences(before: Config, config: Config) -> str:
    """Name the settings that matter for products and that differ; empty where none does."""
    other = matters(changes(before, config))
    more = f" and {len(other) - CHANGES_TOLD} more" if len(other) > CHANGES_TOLD else ""
    return "; ".join(other[:CHANGES_TOLD]) + more


class Agreement:
    """Compares the settings of one daemon with those recorded, whenever a record is new.

    Two that want different products of one catalog would undo each other's work without end; who has not followed
    waits until it has.
    """

    def __init__(self) -> None:
        self._seen: tuple[Stamp, Config] | None = None
        self._said = ""

    def trouble(self, config: Config) -> str:
        """Say how the recorded settings differ from those of this daemon, and what to do; empty where they agree."""
        stamp = _stamp(Path(config.paths.out, RECORD))
        if stamp is None:
            return self._said
        if self._seen is None or self._seen[0] != stamp or self._seen[1] is not config:
            self._seen = stamp, config
            other = differences(config, recall(config).config)
            self._said = (
                f"another daemon has taken this catalog to other settings ({other}); "
                "give this one the same config.toml and SIGHUP, or start it anew"
                if other
                else ""
            )
        return self._said


def _stamp(record: Path) -> Stamp | None:
    try:
        status = record.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
