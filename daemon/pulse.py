"""The daemon's sign of life in the output directory: a small file, written anew with its turns.

Whoever reads it knows that the loop turns and that the output directory can be written: it is the canary.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PULSE = ".pulse.json"
EVERY = 2.0  # s between writings when nothing changes
STALE = 30.0  # s after which the daemon is not taken to be alive any more; a long first look takes so long


@dataclass(frozen=True, slots=True)
class Pulse:
    """How the daemon is."""

    time: datetime  # of the end of its last turn, UTC
    process: int
    line: str = ""  # what it does, in words
    lost: tuple[str, ...] = ()  # watched directories that are not there
    paused: str = ""  # why no job begins
    incoming: int = 0  # files that are seen and not described yet
    idle: bool = True

    def trouble(self, now: datetime) -> str:
        """Say what is wrong, in one sentence; empty where nothing is."""
        age = (now - self.time).total_seconds()
        if age > STALE:
            return f"the daemon has not finished a turn for {age:.0f} s, or cannot write to the output directory"
        if self.lost:
            return f"{', '.join(self.lost)} is not there; mount it, or check the share"
        return f"no job begins: {self.paused}" if self.paused else ""


def write_pulse(out: Path, pulse: Pulse) -> str:
    """Write the file; return why that failed, an empty text where it did not."""
    fresh = out / f"{PULSE}.{pulse.process}"
    table = {**asdict(pulse), "time": pulse.time.isoformat()}
    try:
        fresh.write_text(json.dumps(table), encoding="utf-8")
        fresh.replace(out / PULSE)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        return f"{out} cannot be written ({error.strerror})"
    return ""


def read_pulse(out: Path) -> Pulse | None:
    """Return the last sign of life; None where there is none that can be read."""
    try:
        table: dict[str, Any] = json.loads((out / PULSE).read_text(encoding="utf-8"))
        time = datetime.fromisoformat(table["time"]).astimezone(UTC)
        return Pulse(**{**table, "time": time, "lost": tuple(table["lost"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove_pulse(out: Path) -> None:
    """Leave no sign of life: the daemon has ended."""
    with suppress(OSError):
        (out / PULSE).unlink()
