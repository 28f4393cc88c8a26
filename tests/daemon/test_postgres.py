"""The catalog on a real PostgreSQL, which the tests start in a directory of their own."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from daemon import service
from daemon.catalog import Catalog
from daemon.commands.doctor import examine
from daemon.config import load
from daemon.executor import SerialExecutor, perform
from daemon.records import FrameState, Job, Outcome, Setup
from daemon.rulebook import Limits, Rulebook
from daemon.scheduler import Places, Scheduler
from daemon.store import claims
from daemon.store.engines import CatalogUnavailable
from daemon.store.presence import DEAD_AFTER
from daemon.store.schema import jobs
from kspecdr.errors import BadOption
from kspecdr.simulate import PRESETS, write_night

pytest.importorskip("psycopg", reason="psycopg is not installed: pip install -e '.[postgres]'")

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
TAME = "a\\x00b \\udcff \N{GREEK SMALL LETTER ALPHA}"  # as a hostile text is stored
USER = "postgres"  # a server refuses to run as root


class Server:
    """A PostgreSQL server on a socket in a directory of its own."""

    def __init__(self, place):
        self.place = place
        self.tools = SERVERS[-1].parent
        self.user = USER if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(place, self.user, self.user)
        self.run("initdb", "-D", place / "data", "-A", "trust", "-U", "kspecdr", "--no-sync", "-E", "UTF8")
        self.start()

    def run(self, tool, *arguments):
        command = [str(self.tools / tool), *map(str, arguments)]
        subprocess.run(  # noqa: S603 - the server's own tools
            command, check=True, user=self.user, cwd="/", stdout=subprocess.DEVNULL, timeout=60
        )

    def start(self):
        options = f"-c listen_addresses='' -c unix_socket_directories={self.place} -c fsync=off"
        self.run("pg_ctl", "-D", self.place / "data", "-w", "-l", self.place / "log", "-o", options, "start")

    def stop(self):
        self.run("pg_ctl", "-D", self.place / "data", "-m", "immediate", "-w", "stop")

    def database(self, name):
        self.run("createdb", "-h", self.place, "-U", "kspecdr", name)
        return f"postgresql+psycopg://kspecdr@/{name}?host={self.place}"


@pytest.fixture(scope="module")
def server():
    if not SERVERS:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="kspecdr-") as place:  # a short path, as a socket's must be
        started = Server(Path(place))
        yield started
        started.stop()


@pytest.fixture
def url(server, request):
    return server.database(f"t{abs(hash(request.node.nodeid))}")


@pytest.fixture
def opened(url, tmp_path):
    """Open the one catalog as often as wanted."""
    made = []

    def make():
        made.append(Catalog.open(url, tmp_path / "out"))
        return made[-1]

    (tmp_path / "out").mkdir()
    yield make
    for each in made:
        each.close()


@pytest.fixture
def scheduler_of(recipe, tmp_path):
    def make(catalog, owner, run=recipe):
        return Scheduler(
            catalog, Rulebook(), SerialExecutor(), run,
            places=Places((tmp_path,), tmp_path / "out"), limits=Limits(workers=0), owner=owner, batch=True,
        )  # fmt: skip

    return make


@pytest.fixture
def night(night_of):
    frames = night_of()
    return frames, max(frame.landed for frame in frames)


def content(catalog):
    found = catalog.neighbourhood()
    current = {
        (each.rule, each.keys, each.fingerprint, each.provisional, tuple(sorted(each.paths.items())))
        for each in found.made.values()
    }
    return current, {frame.path: (frame.state, frame.reason) for frame in found.frames}


def test_a_night_becomes_the_same_on_either_database(opened, catalog, scheduler_of, night):
    frames, now = night
    for each in (catalog, opened()):
        each.add_frames(frames)
        scheduler = scheduler_of(each, "only")
        scheduler.recover()
        while not scheduler.tick(now).idle:
            pass
    there = opened()
    assert content(there) == content(catalog)
    assert there.frame_counts() == {FrameState.REDUCED: 2, FrameState.USED: 7}
    assert [p.path.name for p in there.latest()] == [p.path.name for p in catalog.latest()]
    assert [p.quality for p in there.latest()] == [p.quality for p in catalog.latest()]


def test_either_database_takes_the_same_texts(opened, catalog, frame_of):
    """What PostgreSQL refuses, and what no UTF-8 has, is stored as its escapes."""
    hostile = "a\0b \udcff \N{GREEK SMALL LETTER ALPHA}"
    frame = frame_of(f"{hostile}.fits", "BIAS", 0, content="x", target=hostile, lamp=hostile)
    frame = replace(frame, setup=Setup({**frame.setup, "readout": hostile}), reason=hostile)
    job = Job("bias", "ab" * 32, (frame,), {}, {}, frame.night, provisional=(hostile,))
    for each in (catalog, opened()):
        each.add_frames([frame])
        each.record("told", hostile, hostile, frame.landed)
        each.request("classify", frame.path, {"frame_class": "BIAS", "target": hostile}, frame.landed)
        assert each.apply_requests(frame.landed) == [f"{hostile}: classified as BIAS".replace(hostile, f"{TAME}.fits")]
        assert each.claim(job, "owner", frame.landed)
        each.finish(job, Outcome(job.fingerprint, error=hostile, warnings=(hostile,)), frame.landed)
    there = opened()
    assert there.frames() == catalog.frames()
    assert [frame.target for frame in there.frames()] == [TAME]
    assert there.job(job.fingerprint) == catalog.job(job.fingerprint)
    assert there.events() == catalog.events()


def test_who_goes_by_other_settings_than_the_last_says_so_and_waits(url, tmp_path):
    """One of two daemons is told to follow a changed configuration; the other begins nothing until it does."""
    night = write_night(tmp_path / "night", PRESETS["small"])
    (tmp_path / "raw").mkdir()

    def config(**plan):
        paths = {"watch": [str(tmp_path / "raw")], "out": str(tmp_path / "out")}
        fixed = {"instrument": {"fibers": 6}, "workers": {"count": 0}, "catalog": {"url": url}}
        return load(None, {"paths": paths, "plan": {"quiet": 0.2, **plan}, **fixed})

    def begin():
        return service.opened(config(), batch=False, command="test")

    with begin() as one, begin() as other:
        one.follow(config(like_wait=0.5))
        said = other.step().tick.paused
        assert "another daemon has taken this catalog to other settings (plan.like_wait: 30.0 becomes 0.5)" in said
        assert "SIGHUP" in said
        assert not one.step().tick.paused
        for path in night:
            shutil.copy(path, tmp_path / "raw")
        one.run(until_idle=1.0)
        assert not other.step().tick.started
        other.follow(config(like_wait=0.5))
        assert not other.step().tick.paused
        assert other.catalog.frame_counts() == {FrameState.REDUCED: 2, FrameState.USED: len(night) - 2}


def test_two_daemons_on_one_catalog_make_each_product_once(opened, scheduler_of, recipe, night_of, tmp_path):
    frames = [frame for shift in (0, 400, 800) for frame in renamed(night_of(shift), shift)]
    now = max(frame.landed for frame in frames)
    opened().add_frames(frames)
    ran, both = [], threading.Barrier(2)

    def run(job):
        name = threading.current_thread().name
        if name not in {each for each, _ in ran}:
            both.wait(timeout=60)  # each has a job while the other has one
        ran.append((name, job.fingerprint))
        return recipe(job)

    def work(name):
        scheduler = scheduler_of(opened(), name, run)
        scheduler.recover()
        while not scheduler.tick(now).idle:
            pass

    daemons = [threading.Thread(target=work, args=(name,), name=name) for name in ("one", "two")]
    for each in daemons:
        each.start()
    for each in daemons:
        each.join(timeout=60)
    prints = [print_ for _, print_ in ran]
    assert len(set(prints)) == len(prints)
    assert opened().frame_counts() == {FrameState.REDUCED: 6, FrameState.USED: 21}
    assert not list((tmp_path / "out").glob("*/.*"))


def renamed(frames, shift):
    return [
        replace(each, path=f"{shift}/{each.path}", content_hash=f"{shift:03}{each.content_hash}") for each in frames
    ]


def test_who_asks_for_changes_misses_nothing_that_many_write(opened, frame_of):
    watching = opened()
    seen, since = set(), 0

    def look():
        nonlocal since
        with watching.excerpts() as ask:
            seen.update(ask.changed(since).keys)
            since = ask.revision

    def write(name):
        catalog = opened()
        for n in range(40):
            catalog.add_frames([frame_of(f"{name}_{n}.fits", "BIAS", n)])

    writers = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for each in writers:
        each.start()
    while any(each.is_alive() for each in writers):
        look()
    look()
    assert seen == {frame.key for frame in watching.frames()}
    assert len(seen) == 120


def test_claims_of_a_dead_daemon_are_given_back_those_of_a_living_one_are_not(opened, scheduler_of, night):
    frames, now = night
    dead, living, third = opened(), opened(), opened()
    third.add_frames(frames)
    planned = scheduler_of(third, "third")._planner.plan(now).jobs
    dead.release("dead")
    living.release("living")
    assert third.release("third") == []
    assert dead.claim(planned[0], "dead", now)
    assert living.claim(replace(planned[0], fingerprint="0" * 64), "living", now)
    assert not third.claim(planned[0], "third", now)
    assert third.release_dead("third", now) == []
    dead.close()
    later = now + DEAD_AFTER
    assert third.release_dead("third", later) == []  # its connection may only be broken
    assert third.release_dead("third", later + DEAD_AFTER) == [planned[0].fingerprint]
    assert third.attempts(planned[0].fingerprint) == 0
    assert third.claim(planned[0], "third", later)
    assert third.job("0" * 64)["owner"] == "living"


def test_who_has_lost_a_job_to_another_changes_nothing_of_it(opened, scheduler_of, recipe, night, tmp_path):
    frames, now = night
    late, other = opened(), opened()
    other.add_frames(frames)
    job = replace(scheduler_of(other, "other")._planner.plan(now).jobs[0], out=str(tmp_path / "out"))
    assert late.claim(job, "late", now)
    with other._write() as (connection, revision):
        claims.release(connection, revision, jobs.c.owner == "late")
    assert other.claim(job, "other", now)
    late.finish(job, Outcome(job.fingerprint, error="late"), now)
    assert other.job(job.fingerprint)["state"] == "queued"
    other.finish(job, perform(recipe, job), now)
    made = sorted((tmp_path / "out").rglob("*.fits"))
    with late.unmade(job.fingerprint) as unmade:
        assert not unmade
    late.unclaim(job.fingerprint)
    assert other.job(job.fingerprint)["state"] == "done"
    assert made
    assert sorted(other.paths([job.fingerprint])) == [(str(p.relative_to(tmp_path / "out")), True) for p in made]


def test_a_server_that_goes_and_comes_back_is_a_pause(opened, server, scheduler_of, night):
    frames, now = night
    catalog = opened()
    catalog.add_frames(frames)
    scheduler = scheduler_of(catalog, "only")
    scheduler.recover()
    scheduler.tick(now)
    server.stop()
    try:
        with pytest.raises(CatalogUnavailable, match="the catalog cannot be used now"):
            scheduler.tick(now)
    finally:
        server.start()
    idle = False
    while not idle:
        with suppress(CatalogUnavailable):  # of each connection that was open
            idle = scheduler.tick(now).idle
    assert catalog.frame_counts() == {FrameState.REDUCED: 2, FrameState.USED: 7}
    catalog.release_dead("only", now + DEAD_AFTER)
    with opened().entering() as others:
        assert others == 1


def test_two_commands_share_an_archive_and_make_what_one_makes(url, tmp_path):
    night = write_night(tmp_path / "night", PRESETS["small"])[0].parent
    config = tmp_path / "shared.toml"
    config.write_text(f'[catalog]\nurl = "{url}"\n[workers]\ncount = 1\n')
    reduce = [sys.executable, "-m", "daemon.cli", "reduce", night, "--fibers", "6", "--out"]
    alone = subprocess.run([*reduce, tmp_path / "alone"], check=False)  # noqa: S603 - our own command
    both = [subprocess.Popen([*reduce, tmp_path / "both", "--config", config]) for _ in range(2)]  # noqa: S603 - as above
    assert [alone.returncode, *(each.wait(timeout=120) for each in both)] == [0, 0, 0]
    with closing(Catalog.open(str(tmp_path / "alone"))) as one, closing(Catalog.open(url, tmp_path / "both")) as other:
        assert content(other) == content(one)
        assert Counter(event.kind for event in other.events()) == {"made": len(one.neighbourhood().made)}
    products = {
        name: {
            str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).glob("*/*/*.fits")
        }
        for name in ("alone", "both")
    }
    assert products["both"] == products["alone"]


def test_a_daemon_with_other_settings_or_directories_is_refused_beside_another(url, tmp_path):
    for name in ("raw", "more"):
        (tmp_path / name).mkdir()
    table = {"paths": {"watch": [str(tmp_path / "raw")], "out": str(tmp_path / "out")}, "catalog": {"url": url}}
    table["workers"] = {"count": 0}
    with service.opened(load(overrides=table), batch=True, command="one"):
        with service.opened(load(overrides=table), batch=True, command="two"):
            pass
        other = table | {"paths": table["paths"] | {"watch": [str(tmp_path / "more")]}}
        with (
            pytest.raises(BadOption, match=r"does not watch .*more"),
            service.opened(load(overrides=other), batch=True, command="two"),
        ):
            pass
        other = table | {"reduce": {"extract": {"extr_operation": "SUM"}}}
        with (
            pytest.raises(BadOption, match="with other settings"),
            service.opened(load(overrides=other), batch=True, command="two"),
        ):
            pass


def test_decisions_reach_a_catalog_on_a_server(opened, scheduler_of, night):
    frames, now = night
    catalog = opened()
    catalog.add_frames(frames)
    scheduler = scheduler_of(catalog, "only")
    while not scheduler.tick(now).idle:
        pass
    catalog.request("classify", "object_0.fits", {"frame_class": "IGNORE"}, now)
    catalog.request("mark-bad", "object_1.fits", {}, now)
    catalog.request("prune", "", {"before": now.isoformat()}, now)
    assert len(scheduler.tick(now).answers) == 3
    assert catalog.find_frames("object_1.fits")[0].state is FrameState.BAD
    assert catalog.summary().frames["bad"] == 1
    assert catalog.last_landed() == max(frame.landed for frame in frames)


def test_a_server_is_copied_with_its_own_tools(opened, tmp_path):
    with pytest.raises(BadOption, match="pg_dump"):
        opened().backup(tmp_path / "copy.db")


def test_another_database_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(BadOption, match="expected sqlite or postgresql"):
        Catalog.open("mysql://host/name", tmp_path)


def test_the_doctor_tries_the_server(server, url, opened, tmp_path):
    def told(where):
        (finding,) = [each for each in examine(config_on(where)) if each.name == "catalog"]
        return finding.flag, finding.message

    def config_on(where):
        paths = {"watch": [str(tmp_path)], "out": str(tmp_path / "out")}
        return load(None, {"paths": paths, "catalog": {"url": where}, "web": {"port": 0}})

    flag, said = told(url)
    assert (flag, said.startswith("PostgreSQL 1"), said.endswith("as kspecdr, may make tables")) == ("ok", True, True)
    server.run("createuser", "-h", server.place, "-U", "kspecdr", "guest")
    flag, said = told(url.replace("kspecdr@", "guest@"))
    assert (flag, "as guest: no permission to make tables; as its owner: GRANT CREATE" in said) == ("fail", True)
    flag, said = told(url.replace("kspecdr@", "nobody@"))
    assert (flag, 'role "nobody" does not exist' in said) == ("fail", True)
    flag, said = told("postgresql+psycopg://kspecdr@127.0.0.1:9/db")
    assert (flag, said.endswith("; start the server, or mend catalog.url")) == ("fail", True)
    opened()
    assert told(url)[1].endswith("as kspecdr, the catalog is there")
