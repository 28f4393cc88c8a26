"""What each turn of the daemon has done, as lines of the log."""

import logging

from daemon.records import Job, Outcome
from daemon.scheduler import Tick

LOG = logging.getLogger("kspecdr.daemon")
ADOPTED = "adopted %d products that stood there whole"


class TurnLog:
    """Tells one line an event; of what is adopted, which may be an archive, the number."""

    def __init__(self) -> None:
        self.paused = ""  # why no job begins, as it was told last
        self.n_adopted = 0  # products since the start
        self._n_told = 0

    def tell(self, tick: Tick) -> None:
        """Log what has happened."""
        self._tell_adopted(tick)
        for job, outcome in tick.finished:
            if not outcome.adopted:
                _tell_job(job, outcome)
        for answer in tick.answers:
            LOG.info(answer)
        if tick.paused != self.paused:
            self.paused = tick.paused
            LOG.warning("no job begins: %s", tick.paused) if tick.paused else LOG.info("jobs begin again")

    def _tell_adopted(self, tick: Tick) -> None:
        """Say how many products were adopted, once something else is done or nothing is left."""
        adopted = [outcome.adopted for _, outcome in tick.finished]
        self.n_adopted += sum(adopted)
        if self.n_adopted > self._n_told and (tick.idle or not all(adopted)):
            LOG.info(ADOPTED, self.n_adopted - self._n_told)
            self._n_told = self.n_adopted


def _tell_job(job: Job, outcome: Outcome) -> None:
    name = job.frames[0].name + (f" and {len(job.frames) - 1} more" if len(job.frames) > 1 else "")
    if outcome.error:
        LOG.error("%s of %s failed: %s", job.rule, name, outcome.error)
        return
    provisional = f", provisional: {'; '.join(job.provisional)}" if job.provisional else ""
    seconds = outcome.stage_times.get("worker", 0.0)
    LOG.info("%s of %s made in %.2f s%s", job.rule, name, seconds, provisional)
    for warning in outcome.warnings:
        LOG.warning("%s of %s: %s", job.rule, name, warning)
