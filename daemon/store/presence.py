"""Which daemons are at work on a shared catalog; part of the catalog.

Each holds an advisory lock of PostgreSQL under its name, on a connection of its own. The lock ends with the
connection, thus with the daemon, whatever has ended it; no clock is compared. A daemon whose connection broke
while it lives takes its lock again, so another counts as dead only when its lock was free for a while.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, TextClause, text

SPACE = 0x6B737065  # of our locks among the advisory locks of the database
DEAD_AFTER = timedelta(seconds=10)
LOOK_EVERY = timedelta(seconds=2)

_TAKE = text("SELECT pg_try_advisory_lock(:space, :name)")
_HELD = text(
    "SELECT objid::bigint, pid = pg_backend_pid() FROM pg_locks "
    "WHERE locktype = 'advisory' AND granted AND classid = :space "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class Presence:
    """The lock of one daemon, and what it sees of the others'.

    Parameters
    ----------
    engine : Engine
        Of a PostgreSQL database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._connection: Connection | None = None
        self._missing: dict[str, datetime] = {}  # owner -> since when its lock is free
        self._looked: datetime | None = None

    def others(self) -> int:
        """Return how many other daemons there are."""
        return sum(not mine for mine in self._held().values())

    def join(self, owner: str) -> None:
        """Take the lock of `owner`, or see that it is held."""
        if not any(self._held().values()):
            # Where a session of ours that broke still holds it, it is taken when the server has noticed.
            self._ask(_TAKE, {"space": SPACE, "name": _number(owner)})
            self._missing.clear()  # who was cut off as well has time to take its lock again

    def is_due(self, now: datetime) -> bool:
        """Tell whether it is time to look for dead daemons."""
        return self._looked is None or not timedelta() <= now - self._looked < LOOK_EVERY

    def dead(self, owners: Iterable[str], now: datetime) -> list[str]:
        """Return those of `owners` that are known to be dead; keep the lock of our own meanwhile."""
        self._looked = now
        held = self._held()
        free = {owner for owner in owners if _number(owner) not in held}
        self._missing = {owner: self._missing.get(owner, now) for owner in free}
        return sorted(owner for owner, since in self._missing.items() if now - since >= DEAD_AFTER)

    def leave(self) -> None:
        """Give the lock back."""
        if self._connection is not None:
            self._connection.invalidate()  # the lock ends with the session, which must not go back to the pool
            self._connection.close()
            self._connection = None

    def _held(self) -> dict[int, bool]:
        """Return the locks of daemons, and whether each is ours."""
        return {name - (name >> 31 << 32): mine for name, mine in self._ask(_HELD, {"space": SPACE})}

    def _ask(self, question: TextClause, values: dict[str, int]) -> list[tuple[int, bool]]:
        """Ask over our connection, over a new one where it broke."""
        try:
            return self._answer(question, values)
        except OSError:
            self.leave()
            return self._answer(question, values)

    def _answer(self, question: TextClause, values: dict[str, int]) -> list[tuple[int, bool]]:
        if self._connection is None:
            self._connection = self._engine.connect()
        return [(int(row[0]), bool(row[-1])) for row in self._connection.execute(question, values)]


def _number(owner: str) -> int:
    """Return the number of a name: PostgreSQL's locks have 32 bits, with a sign."""
    return int.from_bytes(hashlib.sha256(owner.encode()).digest()[:4], "big", signed=True)
