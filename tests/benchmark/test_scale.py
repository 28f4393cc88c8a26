"""What planning costs beside an archive of a thousand, a hundred thousand and a million frames, all reduced.

`pytest -m benchmark tests/benchmark/test_scale.py -s` prints a table. Catalogs are filled by their tables, as the
daemon would have left them; times are of the processor's clock, with the ratio to the smallest archive.
"""

import gc
import resource
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import insert, update

from daemon.catalog import Catalog
from daemon.planning.fingerprint import fingerprint, recipe_hash
from daemon.planning.gathering import night_surroundings, surroundings
from daemon.planning.groups import group_of_all, night_of
from daemon.planning.needed import needed
from daemon.planning.replan import Replanner
from daemon.records import FrameInfo, FrameState, Outcome, Setup, Written
from daemon.rulebook import Rulebook
from daemon.rules import explain
from daemon.store.rows import MAIN_KIND, frame_values
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
PER_NIGHT = sum(number for _, number, _, _ in SERIES)
NUMBERS = (1_000, 100_000, 1_000_000)
NEW = 12  # frames of each kind that land
AT_ONCE = 20_000  # rows inserted in one statement


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


def a_night(begin, label):
    """All frames of a night, as they are when it is reduced."""
    for kind, number, minute, exposure_s in SERIES:
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
        for some in [[each] for each in own] if rule.group is None else [own]:
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
        product = {
            "fingerprint": print_,
            "kind": MAIN_KIND[rule.name],
            "path": f"{group.night}/{print_}/x.fits",
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


def fill(catalog, number):
    """Write an archive of so many frames, in nights before this one, all reduced and compared."""
    recipes = {rule.name: recipe_hash(rule, {}) for rule in BOOK.rules}
    tables = {table: [] for table in (frames, jobs, product_inputs, products)}
    with catalog.connect() as connection, connection.begin():
        for k in range(number // PER_NIGHT):
            of_night = list(a_night(EVENING - timedelta(days=k + 1), f"n{k}"))
            tables[frames] += [{**frame_values(each), "decided": {}, "revision": 1} for each in of_night]
            for job, roles, product in rows_of_night(of_night, recipes):
                tables[jobs].append(job)
                tables[product_inputs] += roles
                tables[products].append(product)
            if len(tables[frames]) >= AT_ONCE or k == number // PER_NIGHT - 1:
                for table, rows in tables.items():
                    connection.execute(insert(table), rows)
                    rows.clear()
        connection.execute(update(revisions).values(value=1))


@dataclass
class Figures:
    """What was measured on one archive."""

    number: int
    filled: float  # s wall
    first: float  # s CPU: a new planner's first plan, until it is not behind
    new_object: float
    new_arc: float
    new_bias: float
    finished: float
    rows: int  # read for a new object
    memory: float  # MB, of the planner: what the process has grown by
    asked: dict  # ms of what people ask


def measured(catalog, number):
    start = time.perf_counter()
    fill(catalog, number)
    filled = time.perf_counter() - start
    with catalog.excerpts() as ask:
        revision = ask.revision
    before = resident()
    planner = Replanner(catalog, BOOK, batch=False)
    catalog.set_planned(revision, planner.digest)
    now = EVENING
    first = seconds(lambda: caught_up(catalog, planner, now))
    times = {name: [] for name in ("object", "arc", "bias", "finished")}
    for n in range(NEW):
        for kind, name, exposure_s in (("MFARC", "arc", 10.0), ("BIAS", "bias", 0.0), ("MFOBJECT", "object", 150.0)):
            now += timedelta(seconds=200)
            landed = replace(frame(f"new/{kind}_{n}.fits", kind, now, exposure_s), landed=now)
            catalog.add_frames([landed])
            planner.n_row = 0
            times[name].append(seconds(lambda now=now: planned(catalog, planner, now)))
            rows = planner.n_row
            caught_up(catalog, planner, now)
        now += timedelta(seconds=60)
        while jobs := caught_up(catalog, planner, now).jobs:
            assert catalog.claim(jobs[0], "benchmark", now)
            caught_up(catalog, planner, now)
            kind = MAIN_KIND[jobs[0].rule]
            catalog.finish(jobs[0], Outcome(jobs[0].fingerprint, (Written(kind, f"{kind}.fits"),)), now)
            took = seconds(lambda now=now: planned(catalog, planner, now))
            times["finished"] += [took] if jobs[0].rule == "object" else []
    asked = {
        "why": lambda: explained(catalog, f"new/MFOBJECT_{NEW - 1}.fits", now),
        "needed": lambda: lacking(catalog, now),
        "latest": lambda: catalog.latest("red", n=10),
        "status": lambda: (catalog.summary(), catalog.frame_counts()),
    }
    return Figures(
        number,
        filled,
        first,
        *(float(np.median(times[name])) for name in ("object", "arc", "bias", "finished")),
        rows,
        resident() - before,
        {name: 1000 * seconds(ask) for name, ask in asked.items()},
    )


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


def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.benchmark
@pytest.mark.timeout(3000)
def test_what_an_archive_costs(tmp_path):
    found = []
    for number in NUMBERS:
        catalog = Catalog.open(str(tmp_path / str(number)))
        found.append(measured(catalog, number))
        catalog.close()
    few = found[0]
    lines = []
    for each in found:
        costs = {
            "new object": (each.new_object, few.new_object),
            "new arc": (each.new_arc, few.new_arc),
            "new bias": (each.new_bias, few.new_bias),
            "finished": (each.finished, few.finished),
        }
        said = ", ".join(f"{name} {1000 * own:.1f} ms ({own / least:.1f})" for name, (own, least) in costs.items())
        asked = ", ".join(f"{name} {value:.0f} ms" for name, value in each.asked.items())
        lines.append(
            f"{each.number:>8} frames: filled in {each.filled:.0f} s, first plan {each.first:.2f} s, {said}, "
            f"rows read {each.rows}, +{each.memory:.0f} MB; {asked}"
        )
    print("\n" + "\n".join(lines))  # noqa: T201 - the table is what this is for
