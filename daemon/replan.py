"""Plans that cost what has changed, not what exists.

Frames that no other frame depends on (objects) are looked at again only when their own rows change, when
something of theirs is still to be done, or when a calibration resolves differently than before. Calibrations
are few and are always compared. A plan over everything gives the same answer, which the tests hold.
"""

from datetime import datetime

from daemon.catalog import Catalog
from daemon.rulebook import Rulebook
from daemon.rules import Plan, plan


class Replanner:
    """Compares again what a change can have touched.

    Parameters
    ----------
    catalog, book : Catalog, Rulebook
        What exists and what is wanted.
    batch : bool
        Nothing more will come.
    """

    def __init__(self, catalog: Catalog, book: Rulebook, *, batch: bool) -> None:
        self._catalog = catalog
        self._book = book
        self._batch = batch
        self._last: Plan | None = None

    def plan(self, now: datetime) -> Plan:
        """Return a plan: all jobs and waits; standings and marks at least of what may have changed."""
        touched = self._catalog.touched()
        if self._last is None:
            return self._whole(now)
        part = self._catalog.part(touched | self._last.unsettled, self._book)
        found = plan(part, self._book, now, batch=self._batch)
        if found.calibrations != self._last.calibrations:
            return self._whole(now)
        self._last = found
        return found

    def _whole(self, now: datetime) -> Plan:
        self._last = plan(self._catalog.neighbourhood(), self._book, now, batch=self._batch)
        return self._last
