"""What plans look at, and up to where they have looked; part of the catalog."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import select

from daemon.records import Neighbourhood
from daemon.store.excerpts import Excerpts
from daemon.store.reader import Reader
from daemon.store.schema import revisions


class PlanReader(Reader):
    """Asks the catalog for the parts that plans are made of."""

    @contextmanager
    def excerpts(self) -> Iterator[Excerpts]:
        """Hold what a plan asks, all of one moment."""
        with self.connect() as connection:
            yield Excerpts(connection)

    def neighbourhood(self) -> Neighbourhood:
        """Return everything that exists."""
        with self.excerpts() as ask:
            return ask.whole()

    @property
    def revision(self) -> int:
        """The number of the last change; as long as it stays, a plan stays valid."""
        with self.connect() as connection:
            return int(connection.execute(select(revisions.c.value)).scalar_one())
