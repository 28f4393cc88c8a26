"""What plans look at: frames and products as of the last change, kept in memory; part of the catalog."""

from collections.abc import Set as AbstractSet
from pathlib import Path

from sqlalchemy import Engine, select

from daemon.records import Neighbourhood
from daemon.rulebook import Rulebook
from daemon.store.mirror import Mirror
from daemon.store.reader import Reader
from daemon.store.schema import revisions


class PlanReader(Reader):
    """Asks the catalog for what exists, reading again only what has changed."""

    def __init__(self, engine: Engine, out: Path) -> None:
        super().__init__(engine, out)
        self._mirror = Mirror()

    def touched(self) -> set[tuple[str, int]]:
        """Read what has changed; return the keys of the frames concerned since this was last asked."""
        with self.connect() as connection:
            self._mirror.refresh(connection)
        return self._mirror.take_touched()

    def neighbourhood(self) -> Neighbourhood:
        """Return everything that exists."""
        with self.connect() as connection:
            self._mirror.refresh(connection)
        return self._mirror.whole()

    def ends_only(self, keys: AbstractSet[tuple[str, int]], book: Rulebook) -> Neighbourhood | None:
        """Return the frames of `keys` alone as of the last `touched`; None where others may depend on them."""
        return self._mirror.ends_only(keys, book)

    def copied(self) -> AbstractSet[tuple[str, int]]:
        """Return the frames that have copies, which a plan of a part always looks at."""
        return self._mirror.copied

    def part(self, keys: AbstractSet[tuple[str, int]], book: Rulebook) -> Neighbourhood:
        """Return all calibrations as of the last `touched`, and of the other frames those of `keys`."""
        return self._mirror.part(keys, book)

    @property
    def revision(self) -> int:
        """The number of the last change; as long as it stays, a plan stays valid."""
        with self.connect() as connection:
            return int(connection.execute(select(revisions.c.value)).scalar_one())
