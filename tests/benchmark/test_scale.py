"""What an archive costs that is all reduced: counted in rows and groups by every run of the tests, timed on request.

`pytest -m benchmark tests/benchmark/test_scale.py -s` prints a table for a thousand, a hundred thousand and a million
frames. Catalogs are filled by their tables, as the daemon would have left them; times are of the processor's clock,
with the ratio to the smallest archive. It takes some minutes, and 12 GB in the directory of temporary files.
"""

import gc
import os
import shutil
import time
import tracemalloc
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event, insert, update

from daemon.catalog import Catalog
from daemon.config import load
from daemon.output import LAST
from daemon.planning.fingerprint import directory_name, fingerprint, recipe_hash
from daemon.planning.gathering import night_surroundings, surroundings
from daemon.planning.groups import group_of_all, night_of
from daemon.planning.needed import needed
from daemon.planning.replan import Replanner
from daemon.records import FrameInfo, FrameState, Outcome, Setup, Written
from daemon.rulebook import Rulebook
from daemon.rules import explain
from daemon.service import opened
from daemon.store.engines import DATABASE
from daemon.store.rows import MAIN_KIND, frame_values, last_part
from daemon.store.schema import frames, jobs, product_inputs, products, revisions

BOOK = Rulebook(remake="tonight")
SETUP = Setup(readout="2 MHz LowNoise Low", shape="1300x1340", binning="1x1", grating=150, center_nm=620)
EVENING = datetime(2026, 1, 27, 18, 0, tzinfo=UTC)
SERIES = (  # class, frames, minute of the first, exposure, product of rules
    ("BIAS", 10, 0, 0.0),
    ("DARK", 5, 10, 300.0),
    ("LFLAT", 3, 40, 2.0),
    ("MFFFF", 3, 45, 5.0),
    ("MFARC", 4, 50, 10.0),
    ("MFOBJECT", 175, 60, 150.0),
)
SHORT = (("BIAS", 3, 0, 0.0), ("DARK", 2, 10, 300.0), ("MFFFF", 1, 45, 5.0), ("MFARC", 2, 50, 10.0))
SHORT += (("MFOBJECT", 4, 60, 150.0),)  # a night's observing, in short
NUMBERS = (1_000, 100_000, 1_000_000)
PER_NIGHT = sum(number for _, number, _, _ in SERIES)
NEW = 6  # frames of each kind that land
NIGHTS_AT_ONCE = 100  # written in one transaction


def frame(name, frame_class, obs_time, exposure_s, **changes):
    evening = obs_time - timedelta(hours=12)
    return FrameInfo(
        path=name,
        content_hash=name,
        size=1,
        mtime_ns=1,
        landed=obs_time + timedelta(seconds=exposure_s + 2),
        frame_class=frame_class,
        exposure_s=exposure_s,
        readout_s=1.0,
        obs_time=obs_time,
        night=f"{evening:%Y-%m-%d}",
        setup=SETUP,
        **changes,
    )


def a_night(begin, label, series):
    """All frames of a night, as they are when it is reduced."""
    for kind, number, minute, exposure_s in series:
        state = FrameState.REDUCED if kind == "MFOBJECT" else FrameState.USED
        for n in range(number):
            obs_time = begin + timedelta(minutes=minute, seconds=n * (exposure_s + 4))
            yield frame(f"{label}/{kind.lower()}_{n}.fits", kind, obs_time, exposure_s, state=state)


def products_of_night(of_night, recipes):
    """The groups of a night with rule, fingerprint and calibrations, by the rules."""
    made = {}
    for rule in BOOK.rules:
        own = [each for each in of_night if each.frame_class in rule.classes]
        names = [name for name in (*rule.needs, *rule.likes) if name in made]
        for some in [[each] for each in own] if rule.group is None else [own] if own else []:
            group = group_of_all(rule, some)
            used = {name: made[name] for name in names}
            print_ = fingerprint(recipes[rule.name], rule, group.frames, used)
            made[rule.name] = print_
            yield rule, group, print_, used


def rows_of_night(of_night, recipes):
    """Rows of jobs, inputs and products."""
    for rule, group, print_, used in products_of_night(of_night, recipes):
        first, last = group.frames[0], group.frames[-1]
        job = {
            "fingerprint": print_,
            "rule": rule.name,
            "recipe": recipes[rule.name],
            "night": group.night,
            "state": "done",
            "attempts": 1,
            "owner": "",
            "product_state": "current",
            "provisional": [],
            "set_aside": [],
            "warnings": [],
            "exposure_s": group.exposure_s,
            "error": "",
            "stage_times": {"worker": 0.2},
            "memory_mb": 200.0,
            "landed": last.landed,
            "finished": last.landed + timedelta(seconds=1),
            "revision": 1,
        }
        inputs = [("raw", each.content_hash, each.path) for each in group.frames]
        inputs += [(name, each, "") for name, each in used.items()]
        roles = [
            {"fingerprint": print_, "role": role, "input": what, "part": 0, "path": path} for role, what, path in inputs
        ]
        path = f"{directory_name(group.night, print_)}/x.fits"
        product = {
            "fingerprint": print_,
            "kind": MAIN_KIND[rule.name],
            "path": path,
            "file": last_part(path),
            "rule": rule.name,
            "main": True,
            "content_hash": "",
            "part": 0,
            "frame_class": last.frame_class,
            "lamp": "",
            "target": "",
            "raw": [each.path for each in group.frames],
            "night": group.night,
            "first_obs": first.obs_time,
            "obs_time": last.obs_time,
            "setup": dict(SETUP),
            "state": "current",
            "provisional": False,
            "reason": "",
            "flag": "ok",
        }
        yield job, roles, product


def fill(catalog, nights, series=SERIES):
    """Write nights before this one, all reduced and compared; `nights` numbers them."""
    recipes = {rule.name: recipe_hash(rule, {}) for rule in BOOK.rules}
    for first in range(nights.start, nights.stop, NIGHTS_AT_ONCE):
        tables = {table: [] for table in (frames, jobs, product_inputs, products)}
        for k in range(first, min(first + NIGHTS_AT_ONCE, nights.stop)):
            of_night = list(a_night(EVENING - timedelta(days=k + 1), f"n{k}", series))
            tables[frames] += [{**frame_values(each), "decided": {}, "revision": 1} for each in of_night]
            for job, roles, product in rows_of_night(of_night, recipes):
                tables[jobs].append(job)
                tables[product_inputs] += roles
                tables[products].append(product)
        with catalog.connect() as connection, connection.begin():
            for table, rows in tables.items():
                if table is product_inputs:  # most of all rows, of texts and numbers only
                    names, marks = ", ".join(rows[0]), ", ".join("?" for _ in rows[0])
                    statement = f"INSERT INTO product_inputs ({names}) VALUES ({marks})"  # noqa: S608 - names from above
                    connection.exec_driver_sql(statement, [tuple(row.values()) for row in rows])
                else:
                    connection.execute(insert(table), rows)
            connection.execute(update(revisions).values(value=1))


@contextmanager
def catalog_to_fill(folder):
    """Open a catalog that does not wait for the disk."""
    catalog = Catalog.open(str(folder))
    event.listen(catalog._engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    event.listen(catalog._engine, "connect", lambda connection, _: connection.execute("PRAGMA cache_size = -200000"))
    catalog._engine.dispose()
    yield catalog
    catalog.close()


@dataclass
class Cost:
    """What a plan has cost, beside what people and the disk have."""

    cpu: float  # s
    n_row: int
    n_group: int


@dataclass
class Figures:
    """What was measured on one archive."""

    number: int
    filled: float  # s wall, since the smaller archive
    first: float  # s CPU: a new planner's first plans, until it is not behind
    costs: dict  # by what was planned: the costs of each time
    asked: dict  # ms of what people ask
    start: dict  # s CPU and MB of a daemon beside the archive's files


def landings(catalog, now, number):
    """Let frames land and be reduced in an archive that is up to date; return what each plan has cost."""
    planner = Replanner(catalog, BOOK, batch=False)
    with catalog.excerpts() as ask:
        catalog.set_planned(ask.revision, planner.digest)
    first = seconds(lambda: caught_up(catalog, planner, now))
    costs = {name: [] for name in ("new arc", "new bias", "new object", "finished")}
    kinds = (("MFARC", "new arc", 10.0), ("BIAS", "new bias", 0.0), ("MFOBJECT", "new object", 150.0))
    for n in range(number):
        for kind, name, exposure_s in kinds:
            now += timedelta(seconds=200)
            catalog.add_frames([replace(frame(f"new/{kind}_{n}.fits", kind, now, exposure_s), landed=now)])
            costs[name].append(cost(catalog, planner, now))
            caught_up(catalog, planner, now)
        now += timedelta(seconds=60)
        while found := caught_up(catalog, planner, now).jobs:
            job = found[0]
            assert catalog.claim(job, "benchmark", now)
            caught_up(catalog, planner, now)
            kind = MAIN_KIND[job.rule]
            catalog.finish(job, Outcome(job.fingerprint, (Written(kind, f"{kind}.fits"),)), now)
            took = cost(catalog, planner, now)
            costs["finished"] += [took] if job.rule == "object" else []
    return first, costs, now


def cost(catalog, planner, now):
    planner.n_row = planner.n_group = 0
    cpu = seconds(lambda: planned(catalog, planner, now))
    return Cost(cpu, planner.n_row, planner.n_group)


def questions(catalog, now):
    """Return ms of the processor for each thing that people ask."""
    path = f"new/MFOBJECT_{NEW - 1}.fits"
    asked = {
        "why": lambda: explained(catalog, path, now),
        "needed": lambda: lacking(catalog, now),
        "latest": lambda: catalog.latest("red", n=10),
        "status": lambda: (catalog.summary(), catalog.last_landed(), catalog.frames(state="failed")),
        "a name": lambda: catalog.find_frames(last_part(path)),
    }
    return {name: 1000 * min(seconds(ask) for _ in range(3)) for name, ask in asked.items()}


def begun(out, raw):
    """Begin a daemon beside the files of an archive; return s of the processor, and MB that Python holds."""
    config = load(None, {"paths": {"watch": [str(raw)], "out": str(out)}, "instrument": {"fibers": 14}})
    with catalog_to_fill(out) as catalog, catalog.excerpts() as ask:
        catalog.set_planned(ask.revision, Replanner(catalog, config.rulebook(), batch=False).digest)
    start = time.process_time()
    with opened(config, batch=False, command="benchmark") as service:
        service.step()
        found = {"ready": time.process_time() - start}
        found["first scan"] = seconds(lambda: scanned(service))
        found["scan"] = seconds(lambda: scanned(service))
        service.watcher._roots[0].look_at_all()
        found["scan of every file"] = seconds(lambda: scanned(service))
        assert service.n_waiting == 0
    tracemalloc.start()
    with opened(config, batch=False, command="benchmark") as service:
        service.step()
        scanned(service)
        found["MB"] = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    return found


def scanned(service):
    """Let the watcher look until it has looked everywhere."""
    service.watcher._roots[0].rescan_at = 0.0
    service.look()
    while service.watcher.next_wake() == 0.0:
        service.look()


def write_files(catalog, raw):
    """Write the files of a catalog, as large and as old as it says."""
    for folder in catalog.folders(0):
        Path(raw, folder).mkdir(parents=True)
        for path, (size, mtime_ns, _) in catalog.known_files(0, folder).items():
            with Path(raw, path).open("wb") as file:
                file.truncate(size)
            os.utime(Path(raw, path), ns=(mtime_ns, mtime_ns))
        os.utime(Path(raw, folder), (0, 0))


def measured(base, scratch, number, first):
    """Make an archive larger, and measure a copy of it."""
    start = time.perf_counter()
    with catalog_to_fill(base) as catalog:
        fill(catalog, range(first // PER_NIGHT, number // PER_NIGHT))
    filled = time.perf_counter() - start
    (scratch / "out").mkdir(parents=True)
    shutil.copy(base / DATABASE, scratch / "out" / DATABASE)
    with catalog_to_fill(scratch / "out") as catalog:
        write_files(catalog, scratch / "raw")
        for print_, night in catalog.last_made(LAST):  # which a start looks after
            (scratch / "out" / directory_name(night, print_)).mkdir(parents=True)
        start = begun(scratch / "out", scratch / "raw")
        planned_first, costs, now = landings(catalog, EVENING, NEW)
        figures = Figures(number, filled, planned_first, costs, questions(catalog, now), start)
    shutil.rmtree(scratch)
    return figures


def planned(catalog, planner, now):
    found = planner.plan(now)
    catalog.apply(found.standings, found.marks)
    return found


def caught_up(catalog, planner, now):
    while (found := planned(catalog, planner, now)).behind:
        pass
    return found


def explained(catalog, path, now):
    (found,) = catalog.find_frames(path)
    with catalog.excerpts() as ask:
        exists = surroundings(ask, BOOK, now, [found.key], batch=False)
    return explain(exists, BOOK, now, found)


def lacking(catalog, now):
    night = night_of(now, "UTC")
    with catalog.excerpts() as ask:
        exists = night_surroundings(ask, BOOK, now, night)
    return needed(exists, BOOK, now, night)


def seconds(work):
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start


def told(each, few):
    """Return a paragraph on one archive; ratios are to the smallest."""
    said = [f"{each.number} frames (filled in {each.filled:.0f} s): first plans {each.first:.2f} s"]
    for name, costs in each.costs.items():
        own, least = (float(np.median([cost.cpu for cost in one.costs[name]])) for one in (each, few))
        rows = np.median([cost.n_row for cost in costs])
        said.append(f"{name} {1000 * own:.1f} ms ({own / least:.1f}), {rows:.0f} rows")
    said.append(", ".join(f"{name} {value:.0f} ms" for name, value in each.asked.items()))
    said.append("start: " + ", ".join(f"{name} {value:.2f}" for name, value in each.start.items()))
    return "; ".join(said)


@pytest.mark.benchmark
@pytest.mark.timeout(3000)
def test_what_an_archive_costs(tmp_path):
    found = []
    for first, number in zip((0, *NUMBERS), NUMBERS, strict=False):
        found.append(measured(tmp_path / "base", tmp_path / "scratch", number, first))
        print("\n" + told(found[-1], found[0]))  # noqa: T201 - the table is what this is for
    shutil.rmtree(tmp_path / "base")


def test_what_is_read_and_resolved_does_not_grow_with_the_archive(tmp_path):
    found = {}
    for n_night in (50, 500):  # more than the nights that calibrations reach
        with catalog_to_fill(tmp_path / str(n_night)) as catalog:
            fill(catalog, range(n_night), SHORT)
            _, costs, _ = landings(catalog, EVENING, 2)
        found[n_night] = {name: [(cost.n_row, cost.n_group) for cost in some] for name, some in costs.items()}
    assert found[50] == found[500]
    assert all(rows > 0 for some in found[50].values() for rows, _ in some)
