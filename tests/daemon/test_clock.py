from datetime import UTC, datetime, timedelta

from daemon.clock import SteadyClock

NOON = datetime(2026, 1, 27, 12, tzinfo=UTC)


class Machine:
    """A wall clock that can be set, and seconds that pass."""

    def __init__(self):
        self.wall, self.seconds = NOON, 0.0

    def let_pass(self, seconds):
        self.wall += timedelta(seconds=seconds)
        self.seconds += seconds

    def clock(self, floor=None):
        return SteadyClock(floor, wall=lambda: self.wall, monotonic=lambda: self.seconds)


def test_it_follows_the_wall_clock_forward():
    machine = Machine()
    clock = machine.clock()
    machine.let_pass(5.0)
    assert clock.now() == NOON + timedelta(seconds=5)
    machine.wall += timedelta(hours=1)
    assert clock.now() == machine.wall


def test_it_goes_on_when_the_wall_clock_is_set_back():
    machine = Machine()
    clock = machine.clock()
    machine.wall -= timedelta(hours=1)
    machine.let_pass(7.0)
    assert clock.now() == NOON + timedelta(seconds=7)
    machine.let_pass(2.0)
    assert clock.now() == NOON + timedelta(seconds=9)


def test_it_begins_no_earlier_than_what_was_recorded():
    machine = Machine()
    later = NOON + timedelta(minutes=30)
    assert machine.clock(later).now() == later
    assert machine.clock(NOON - timedelta(days=1)).now() == NOON
