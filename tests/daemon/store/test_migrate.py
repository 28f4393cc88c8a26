"""A catalog of every former version, with a night in it, becomes what this version would have written."""

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

import daemon
from daemon.catalog import Catalog
from daemon.planning.replan import Replanner
from daemon.records import Outcome, Quality, Written
from daemon.rulebook import Rulebook
from daemon.store.engines import DATABASE
from daemon.store.migrate import HEAD
from daemon.store.rows import MAIN_KIND

BOOK = Rulebook()
VERSIONS = [f"{n:04d}" for n in range(1, int(HEAD))]


def reduce_all(catalog, now):
    planner = Replanner(catalog, BOOK, batch=False)
    while True:
        found = planner.plan(now)
        catalog.apply(found.standings, found.marks)
        if not found.jobs and not found.behind:
            return
        for job in found.jobs:
            assert catalog.claim(job, "me", now)
            kind = MAIN_KIND[job.rule]
            quality = (Quality("frames", float(len(job.frames)), 1.0),)
            catalog.finish(job, Outcome(job.fingerprint, (Written(kind, f"x_{kind}.fits"),), quality), now)


@pytest.fixture
def written(tmp_path, night_of, frame_of):
    """A catalog that this version has written: a night, a frame in deep folders, requests, a superseded product."""
    catalog = Catalog.open(str(tmp_path / "now"))
    frames = night_of()
    deep = frame_of("2026/a night's/object 9.fits", "MFOBJECT", 20)
    catalog.add_frames([*frames, deep])
    now = deep.landed + timedelta(hours=1)
    reduce_all(catalog, now)
    catalog.add_frames([frame_of("bias_9.fits", "BIAS", 0.35, exposure_s=0.0, landed=now)])
    catalog.request("mark-bad", "object_1.fits", {}, now)
    catalog.apply_requests(now)
    reduce_all(catalog, now + timedelta(hours=1))
    assert catalog.summary().products["bias"] == 1
    yield catalog
    catalog.close()


def tables_of(path):
    """Return the rows of each table, by name; each row by its columns."""
    with closing(sqlite3.connect(path)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: rows_of(database, name) for name in names if name not in ("alembic_version", "planned")}


def rows_of(database, table):
    cursor = database.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - names from the schema
    columns = [column[0] for column in cursor.description]
    return sorted((dict(zip(columns, row, strict=True)) for row in cursor), key=lambda row: repr(sorted(row.items())))


def copied(source, target, version):
    """Make the tables of a former version and put into them what they can hold of the rows of this one."""
    target.mkdir()
    engine = create_engine(f"sqlite:///{target / DATABASE}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", f"{daemon.__path__[0]}/store/migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, version)
    engine.dispose()
    with closing(sqlite3.connect(target / DATABASE)) as database, database:
        for table, rows in tables_of(source).items():
            database.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the schema
            held = [column for _, column, *_ in database.execute(f"PRAGMA table_info({table})")]
            marks = ", ".join("?" for _ in held)
            values = [[row[column] for column in held] for row in rows]
            names = ", ".join(f'"{column}"' for column in held)
            database.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)  # noqa: S608 - names from the schema


@pytest.mark.parametrize("version", VERSIONS)
def test_a_former_catalog_becomes_what_this_version_would_have_written(written, tmp_path, version):
    copied(written.out / DATABASE, tmp_path / "then", version)
    catalog = Catalog.open(str(tmp_path / "then"))
    assert tables_of(catalog.out / DATABASE) == tables_of(written.out / DATABASE)
    assert catalog.neighbourhood() == written.neighbourhood()
    assert [frame.path for frame in catalog.find_frames("object 9.fits")] == ["2026/a night's/object 9.fits"]
    assert sorted(catalog.folders(0)) == ["", "2026/a night's"]
    catalog.close()


def test_a_former_catalog_makes_nothing_again(written, tmp_path):
    copied(written.out / DATABASE, tmp_path / "then", VERSIONS[0])
    catalog = Catalog.open(str(tmp_path / "then"))
    now = max(frame.landed for frame in catalog.frames()) + timedelta(hours=3)
    planner = Replanner(catalog, BOOK, batch=False)
    found = planner.plan(now)
    while found.behind:
        found = planner.plan(now)
    assert (found.jobs, found.marks) == ((), {})
    catalog.close()
