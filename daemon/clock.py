"""The time that the daemon plans by: UTC that never goes back.

Quiet times and waits are differences of landing times and now. A wall clock that is set back would make
them as long as the step; this clock goes on from where it was until the wall clock has caught up.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


def _wall() -> datetime:
    return datetime.now(UTC)


class SteadyClock:
    """A clock that begins no earlier than `floor`, the last time that was recorded.

    Parameters
    ----------
    floor : datetime, optional
        Time-zone aware; where the wall clock is behind it, it was set back while no daemon ran.
    wall, monotonic : callable
        The time as the machine knows it, and seconds that only grow.
    """

    def __init__(
        self,
        floor: datetime | None = None,
        *,
        wall: Callable[[], datetime] = _wall,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._time = wall() if floor is None else max(wall(), floor)
        self._at = monotonic()

    def now(self) -> datetime:
        """Return the time, UTC."""
        at = self._monotonic()
        self._time = max(self._wall(), self._time + timedelta(seconds=at - self._at))
        self._at = at
        return self._time
