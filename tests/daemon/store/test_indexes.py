"""What is asked all the time reads by index: no question goes through a table that grows with the archive."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import event

from daemon.explaining import accounts
from daemon.intake import KnownFiles
from daemon.planning.gathering import night_surroundings, surroundings
from daemon.planning.replan import Replanner
from daemon.records import FrameState, Outcome, Written
from daemon.rulebook import Rulebook
from daemon.store.pages import PageReader
from daemon.store.rows import MAIN_KIND

BOOK = Rulebook()
GROWING = ("frames", "jobs", "products", "product_inputs", "quality", "events")
COUNTED = "GROUP BY"  # the counts of states go through an index that holds nothing else


class Plans:
    """Every statement that an engine runs, with what SQLite says how it finds the rows."""

    def __init__(self, engine):
        self.found = {}
        event.listen(engine, "before_cursor_execute", self.explain)

    def explain(self, _connection, cursor, statement, parameters, _context, executemany):
        if statement.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
            some = parameters[0] if executemany else parameters
            rows = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", some).fetchall()
            self.found[statement] = [row[3] for row in rows]

    def scans(self):
        """Return the statements that go through a whole table."""
        return {
            statement: line
            for statement, lines in self.found.items()
            for line in lines
            if re.match(rf"SCAN ({'|'.join(GROWING)})\b", line)
            and not (COUNTED in statement and "USING COVERING INDEX" in line)
            and not ("LIMIT" in statement and "WHERE" not in statement)  # the last by number
        }

    def sorted_jobs(self):
        """Return the statements on the last jobs that sort all before the last is told."""
        return {
            statement: lines
            for statement, lines in self.found.items()
            if "FROM jobs" in statement and "LIMIT" in statement and "USE TEMP B-TREE FOR ORDER BY" in lines
        }


@pytest.fixture
def plans(catalog):
    event.listen(catalog._engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    catalog._engine.dispose()
    return Plans(catalog._engine)


def planned(catalog, planner, now):
    while True:
        found = planner.plan(now)
        catalog.apply(found.standings, found.marks)
        if not found.behind:
            return found


def reduce_all(catalog, planner, now):
    while jobs := planned(catalog, planner, now).jobs:
        for job in jobs:
            assert catalog.claim(job, "me", now)
            catalog.set_running(job.fingerprint, now)
            kind = MAIN_KIND[job.rule]
            catalog.finish(job, Outcome(job.fingerprint, (Written(kind, f"{kind}.fits"),)), now)


@pytest.fixture
def reduced(catalog, plans, night_of, frame_of):  # noqa: ARG001 - it listens
    """A night that was reduced, and one with another arc that has to be; return the time."""
    planner = Replanner(catalog, BOOK, batch=False)
    frames = night_of()
    catalog.add_frames(frames)
    now = frames[-1].landed + timedelta(hours=1)
    reduce_all(catalog, planner, now)
    catalog.add_frames([frame_of("arc_1.fits", "MFARC", 14.5, lamp="HgAr", landed=now)])
    catalog.add_frames([frame_of("far_0.fits", "MFOBJECT", 60 * 24 * 90, landed=now)])  # seeks beyond the limits
    for _ in range(3):
        now += timedelta(minutes=2)
        reduce_all(catalog, planner, now)
    reduce_all(catalog, Replanner(catalog, BOOK, batch=False), now)
    return now


def test_no_plan_and_no_job_goes_through_a_whole_table(catalog, plans, reduced):
    assert catalog.summary().jobs == {"done": 11}
    assert len(plans.found) > 30
    catalog.set_absent(0, ["object_1.fits"])
    catalog.unclaim("0" * 64)
    catalog.attempts("0" * 64)
    catalog.paths(["0" * 64])
    catalog.release_dead("me", reduced)
    with catalog.unmade("0" * 64):
        pass
    assert catalog.busy() is False
    assert plans.scans() == {}
    assert plans.sorted_jobs() == {}


def test_no_start_goes_through_a_whole_table(catalog, plans, reduced):
    plans.found.clear()
    assert catalog.last_landed() == reduced - timedelta(minutes=6)
    catalog.release("me")
    catalog.open_jobs()
    catalog.pruned()
    catalog.prunable(reduced)
    catalog.recent_products()
    catalog.last_made(1000)
    known = KnownFiles(catalog)
    assert len(known.files(0, "")) == 11
    assert plans.scans() == {}
    assert plans.sorted_jobs() == {}


def test_no_request_goes_through_a_whole_table(catalog, plans, reduced):
    plans.found.clear()
    product = catalog.latest("red")[0].path.relative_to(catalog.out).as_posix()
    for kind, subject, value in (
        ("classify", "object_1.fits", {"frame_class": "MFSKY"}),
        ("mark-bad", "object_0.fits", {}),
        ("mark-bad", product, {"bad": True}),
        ("retry", "object_1.fits", {}),
        ("retry", "", {}),
        ("prune", "", {"before": reduced.isoformat()}),
    ):
        catalog.request(kind, subject, value, reduced)
    assert len(catalog.apply_requests(reduced)) == 6
    catalog.to_read()
    assert plans.scans() == {}


def test_no_question_of_people_goes_through_a_whole_table(catalog, plans, reduced):
    plans.found.clear()
    catalog.latest("red", n=10)
    catalog.summary()
    catalog.frame_counts()
    catalog.last_night()
    catalog.events(after=3)
    for state in FrameState:
        catalog.frames(state=state)
    found = catalog.find_frames("object_0.fits")
    assert catalog.find_frames("night/object_0.fits") == []
    assert catalog.find_product("bias.fits")
    catalog.similar_products("x_red.fits")
    with catalog.excerpts() as ask:
        exists = surroundings(ask, BOOK, reduced, [frame.key for frame in found], batch=False)
        night_surroundings(ask, BOOK, reduced, found[0].night)
    accounts(catalog, exists, BOOK, reduced, found, batch=False)
    catalog.times_of(["0" * 64])
    catalog.recipe("0" * 64)
    assert plans.scans() == {}
    assert plans.sorted_jobs() == {}


def test_no_page_goes_through_a_whole_table(catalog, reduced):
    reader = PageReader(str(catalog.out), catalog.out)
    plans = Plans(reader._engine)
    product = reader.latest("red", n=1)[0]
    night, since = product.night, reduced - timedelta(days=1)
    reader.newest_landed()
    reader.counts(night, since)
    reader.of_night(night, since, (FrameState.WAITING,), landed_before=reduced)
    reader.frame("object_0.fits")
    reader.product_and_making(product.path.relative_to(catalog.out).as_posix())
    reader.siblings(product.fingerprint)
    reader.poor(night)
    reader.failure(("0" * 64, 0))
    reader.last_done()
    reader.job_counts()
    reader.close()
    assert plans.scans() == {}
