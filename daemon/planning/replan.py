"""Plans that cost what has changed, not what exists.

Frames that no other frame depends on (objects) are looked at again only when their own rows change, when
a time passes that they wait for, or when a calibration resolves differently than before. Calibrations are
few and are always compared. A plan over everything gives the same answer, which the tests hold.
"""

from dataclasses import replace
from datetime import datetime

from daemon.catalog import Catalog
from daemon.planning.groups import night_of
from daemon.planning.resolve import Resolver
from daemon.records import Neighbourhood, Plan
from daemon.rulebook import Rulebook
from daemon.rules import Planner


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
        self._resolver: Resolver | None = None  # of the last plan that has looked at calibrations
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
            else:
                alone = self._catalog.ends_only(keys, self._book)
                if alone is not None:
                    part = self._compared(alone, now, self._resolver).plan()
                    self._last = self._joined(last, part, keys, calibrations=False)
                    return self._last
            keys |= self._catalog.copied()
            planner = self._compared(self._catalog.part(keys, self._book), now)
            part = planner.plan()
            if part.calibrations == last.calibrations:
                self._resolver = planner.resolver
                self._last = self._joined(last, part, keys, calibrations=True)
                return self._last
        planner = self._compared(self._catalog.neighbourhood(), now)
        self._last, self._resolver = planner.plan(), planner.resolver
        return self._last

    def _compared(self, found: Neighbourhood, now: datetime, settled: Resolver | None = None) -> Planner:
        return Planner(found, self._book, now, batch=self._batch, settled=settled)

    def forget(self) -> None:
        """Compare everything the next time: what the last plan said was not recorded."""
        self._last = None

    def _joined(self, last: Plan, part: Plan, keys: set[tuple[str, int]], *, calibrations: bool) -> Plan:
        """Add to a part what the plan before it has said of what was not looked at."""
        ends = self._book.dead_ends()

        def looked_at(rule: str, key: tuple[str, int]) -> bool:
            return key in keys if rule in ends else calibrations

        kept = [job for job in last.jobs if not looked_at(job.rule, job.frames[0].key)]
        wakes = {wake for wake in last.wakes if not looked_at(wake.rule, wake.key)}
        return replace(
            part,
            jobs=tuple(sorted((*part.jobs, *kept), key=lambda job: (job.priority, job.fingerprint))),
            unsettled=part.unsettled | (last.unsettled - keys),
            wakes=part.wakes | wakes,
            calibrations=last.calibrations,
        )
