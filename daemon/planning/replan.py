"""Plans that cost what has changed, not what exists.

Frames that no other frame depends on (objects) are looked at again only when their own rows change, when
a time passes that they wait for, or when a calibration resolves differently than before. Calibrations are
few and are always compared. A plan over everything gives the same answer, which the tests hold.
"""

from dataclasses import replace
from datetime import datetime

from daemon.catalog import Catalog
from daemon.planning.groups import night_of
from daemon.records import Plan
from daemon.rulebook import Rulebook
from daemon.rules import plan


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
        self._night = ""

    def plan(self, now: datetime) -> Plan:
        """Return a plan: all jobs and waits; standings and marks at least of what may have changed."""
        keys = self._catalog.touched()
        night = night_of(now, self._book.timezone)
        if night != self._night:  # what a changed recipe makes again is told by the night
            self._night, self._last = night, None
        last = self._last
        if last is not None:
            if last.next_wake is not None and now >= last.next_wake:
                keys |= last.unsettled
            part = plan(self._catalog.part(keys, self._book), self._book, now, batch=self._batch)
            if part.calibrations == last.calibrations:
                self._last = self._joined(last, part, keys)
                return self._last
        self._last = plan(self._catalog.neighbourhood(), self._book, now, batch=self._batch)
        return self._last

    def forget(self) -> None:
        """Compare everything the next time: what the last plan said was not recorded."""
        self._last = None

    def _joined(self, last: Plan, part: Plan, keys: set[tuple[str, int]]) -> Plan:
        """Add to a part what the plan before it has said of the frames that were not looked at."""
        ends = self._book.dead_ends()
        kept = [job for job in last.jobs if job.rule in ends and job.frames[0].key not in keys]
        wakes = {wake for wake in last.wakes if wake.rule in ends and wake.key not in keys}
        return replace(
            part,
            jobs=tuple(sorted((*part.jobs, *kept), key=lambda job: (job.priority, job.fingerprint))),
            unsettled=part.unsettled | (last.unsettled - keys),
            wakes=part.wakes | wakes,
        )
