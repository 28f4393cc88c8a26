import json
import multiprocessing
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import daemon
from daemon.catalog import Catalog
from daemon.planning.fingerprint import directory_name
from daemon.records import (
    Calibration,
    FrameState,
    Job,
    Mark,
    Outcome,
    ProductState,
    Quality,
    Waiting,
    Written,
)
from daemon.store import migrate
from daemon.store.schema import metadata
from kspecdr.errors import BadOption


def make_job(frames, print_="f" * 64, **changes):
    return Job(
        changes.pop("rule", "object"),
        print_,
        tuple(frames),
        changes.pop("calibrations", {}),
        {},
        frames[0].night,
        **changes,
    )


def made(catalog, job, **changes):
    """Claim a job and finish it with one product."""
    assert catalog.claim(job, "me", job.frames[0].landed)
    kind = {"object": "red"}.get(job.rule, job.rule)
    outcome = Outcome(job.fingerprint, (Written(kind, f"x_{kind}.fits"),), **changes)
    catalog.finish(job, outcome, job.frames[0].landed + timedelta(seconds=2))


def test_the_migrations_lead_to_the_tables_of_the_program(catalog):
    with catalog._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert migrate.current_version(connection) == migrate.HEAD
    folder = f"{daemon.__path__[0]}/store/migrations"
    assert ScriptDirectory(folder).get_current_head() == migrate.HEAD


def test_the_database_survives_the_loss_of_power_and_keeps_its_references(catalog):
    with catalog._engine.connect() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys")
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
    assert found == ["wal", 2, 1]


def test_a_catalog_of_a_newer_program_is_refused(tmp_path):
    Catalog.open(str(tmp_path)).close()
    with sqlite3.connect(tmp_path / "catalog.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(BadOption, match=r"catalog is of version 9999, newer than"):
        Catalog.open(str(tmp_path))


def test_a_catalog_that_is_not_there_is_not_made_by_a_reader(tmp_path):
    with pytest.raises(BadOption, match="no catalog there"):
        Catalog.open(str(tmp_path / "nowhere"), create=False)
    assert not (tmp_path / "nowhere").exists()


def test_frames_come_back_as_they_went_in(catalog, frame_of):
    cube = [frame_of("night/cübe '1'.fits", "MFARC", n, part=n, lamp="HgAr", content="c") for n in (1, 2)]
    catalog.add_frames(cube)
    assert catalog.frames() == cube
    assert catalog.find_frames("cübe '1'.fits") == cube
    assert catalog.known_files() == {cube[0].path: (1, 1, FrameState.WAITING)}


def test_the_same_description_again_changes_nothing(catalog, frame_of):
    frame = frame_of("object_0.fits", "MFOBJECT", 0)
    assert catalog.add_frames([frame]) == [frame]
    catalog.apply([Waiting(frame, "", state=FrameState.REDUCED)], {})
    assert catalog.add_frames([replace(frame, landed=frame.landed + timedelta(hours=1))]) == []
    assert catalog.frames()[0].state is FrameState.REDUCED


def test_a_touched_file_keeps_its_state_and_a_changed_one_begins_anew(catalog, frame_of):
    frame = frame_of("object_0.fits", "MFOBJECT", 0)
    catalog.add_frames([frame])
    catalog.apply([Waiting(frame, "", state=FrameState.REDUCED)], {})
    catalog.add_frames([replace(frame, mtime_ns=2)])
    assert catalog.frames()[0].state is FrameState.REDUCED
    assert catalog.known_files()[frame.path][1] == 2
    catalog.add_frames([replace(frame, content_hash="new")])
    assert catalog.frames()[0].state is FrameState.WAITING


def test_a_vanished_frame_is_absent_until_it_is_back(catalog, frame_of):
    frame = frame_of("object_0.fits", "MFOBJECT", 0)
    catalog.add_frames([frame])
    catalog.set_absent(0, [frame.path])
    assert catalog.frames()[0].state is FrameState.ABSENT
    catalog.add_frames([frame])
    assert catalog.frames() == [frame]


def test_a_file_that_has_other_frames_now_keeps_only_those(catalog, frame_of):
    def part(number, content):
        return frame_of("cube.fits", "MFARC", number, part=number, content=content)

    catalog.add_frames([part(0, "growing")])
    catalog.add_frames([part(n, "three") for n in (1, 2, 3)])
    catalog.add_frames([part(n, "two") for n in (1, 2)])
    states = {frame.part: frame.state for frame in catalog.frames()}
    assert states == {
        0: FrameState.ABSENT,
        1: FrameState.WAITING,
        2: FrameState.WAITING,
        3: FrameState.ABSENT,
    }
    assert catalog.known_files()["cube.fits"][2] is FrameState.WAITING
    assert catalog.frame_counts() == {FrameState.ABSENT: 2, FrameState.WAITING: 2}


def test_a_standing_is_not_applied_to_another_content_of_the_same_name(catalog, frame_of):
    frame = frame_of("object_0.fits", "MFOBJECT", 0)
    catalog.add_frames([replace(frame, content_hash="new")])
    catalog.apply([Waiting(frame, "", state=FrameState.REDUCED)], {})
    assert catalog.frames()[0].state is FrameState.WAITING


def test_latest_tells_what_programs_ask_for(catalog, frame_of):
    frames = [frame_of(f"object_{n}.fits", "MFOBJECT", n, target=f"T{n}") for n in range(3)]
    catalog.add_frames(frames)
    for n, frame in enumerate(reversed(frames)):
        quality = (Quality("rms", 0.1 * n, 0.15, "warn" if n == 2 else "ok"), Quality("bad", float("nan")))
        made(catalog, make_job([frame], str(n) * 64, provisional=("few",) if n else ()), quality=quality)
    found = catalog.latest("red", "MFOBJECT")
    assert [product.raw for product in found] == [(f"object_{n}.fits",) for n in range(3)]
    assert [product.raw for product in catalog.latest("red", n=1)] == [("object_2.fits",)]
    assert catalog.latest("red", "MFARC") == catalog.latest("tlm") == []
    first = found[0]
    assert first.path == catalog.out / directory_name("2026-01-27", "2" * 64) / "x_red.fits"
    assert (first.target, first.obs_time, first.flag) == ("T0", frames[0].obs_time, "warn")
    assert (first.provisional, first.reason, found[-1].provisional) == (True, "few", False)
    assert {each.name: (each.value, each.limit) for each in found[2].quality if each.name == "rms"} == {
        "rms": (0.0, 0.15)
    }


@pytest.mark.parametrize(
    ("of_the_map", "expected"),
    [
        (Quality("identity_in_doubt", 1.0, 0.0, "fail"), "warn"),
        (Quality("fibers_interpolated", 1.0, 0.0, "warn"), "ok"),  # the dark fiber is named, the others are as good
        (Quality("flag_of_bias", 1.0, 0.0, "warn"), "ok"),  # an object has its own bias
    ],
)
def test_nothing_is_better_than_what_it_was_made_with(catalog, frame_of, of_the_map, expected):
    flat, target = frame_of("flat_0.fits", "MFFFF", 0), frame_of("object_0.fits", "MFOBJECT", 1)
    made(catalog, make_job([flat], "a" * 64, rule="tlm"), quality=(of_the_map,))
    job = make_job([target], "b" * 64, calibrations={"tlm": Calibration("tlm", "a" * 64, {})})
    made(catalog, job, quality=(Quality("signal_to_noise", 80.0),))
    (found,) = catalog.latest("red", "MFOBJECT")
    assert found.flag == expected


def test_products_of_single_frames_and_of_the_group(catalog, frame_of):
    frames = [frame_of(f"arc_{n}.fits", "MFARC", n, lamp=lamp) for n, lamp in enumerate(("HgAr", "Ne"))]
    job = make_job(frames, rule="arc")
    assert catalog.claim(job, "me", frames[0].landed)
    written = (
        *(Written("ex", f"arc_{n}_ex.fits", frames[n].key) for n in range(2)),
        Written("red", "r.fits"),
    )
    catalog.finish(job, Outcome(job.fingerprint, written), frames[1].landed)
    assert [(p.raw, p.lamp) for p in catalog.latest("ex")] == [
        (("arc_0.fits",), "HgAr"),
        (("arc_1.fits",), "Ne"),
    ]
    (red,) = catalog.latest("red")
    assert (red.raw, red.lamp, red.obs_time) == (
        ("arc_0.fits", "arc_1.fits"),
        "HgAr+Ne",
        frames[1].obs_time,
    )


def test_a_better_product_takes_the_place_of_the_old_one(catalog, frame_of):
    biases = [frame_of(f"bias_{n}.fits", "BIAS", n) for n in range(3)]
    made(catalog, make_job(biases[:2], "a" * 64, rule="bias"))
    made(catalog, make_job([frame_of("bias_far.fits", "BIAS", 500)], "b" * 64, rule="bias"))
    made(catalog, make_job(biases, "c" * 64, rule="bias"))
    assert [product.fingerprint[0] for product in catalog.latest("bias")] == ["c", "b"]
    assert catalog.job("a" * 64)["product_state"] == ProductState.SUPERSEDED
    catalog.apply([], {"a" * 64: Mark(ProductState.CURRENT, ("again",))})
    assert next((p.fingerprint[0], p.reason) for p in catalog.latest("bias")) == ("a", "again")


def test_the_neighbourhood_follows_every_change_whoever_made_it(catalog, tmp_path, frame_of):
    reader = Catalog.open(str(tmp_path / "out"), create=False)
    frame = frame_of("object_0.fits", "MFOBJECT", 0)
    assert reader.neighbourhood().frames == ()
    catalog.add_frames([frame])
    bias = Calibration("bias", "b" * 64, {"bias": "x"})
    job = make_job([frame], calibrations={"bias": bias})
    assert catalog.claim(job, "me", frame.landed)
    assert reader.neighbourhood().active == {job.fingerprint: False}
    catalog.set_running(job.fingerprint, frame.landed)
    assert reader.neighbourhood().active == {job.fingerprint: True}
    written = (Written("red", "x_red.fits"), Written("ex", "x_ex.fits", frame.key))
    aside = {frame.key: "saturated"}
    catalog.finish(job, Outcome(job.fingerprint, written, set_aside=aside), frame.landed)
    found = reader.neighbourhood()
    assert (found.frames, found.active, found.failed) == ((frame,), {}, {})
    product = found.made[job.fingerprint]
    assert product.calibrations == {"bias": "b" * 64}
    assert (product.keys, product.set_aside) == (frozenset({frame.key}), aside)
    assert product.paths == {"red": f"{directory_name(frame.night, job.fingerprint)}/x_red.fits"}
    reader.close()


def test_a_claimed_done_or_failed_job_is_not_claimed_again(catalog, frame_of):
    frames = [frame_of(f"object_{n}.fits", "MFOBJECT", n) for n in range(3)]
    jobs = [make_job([frame], str(n) * 64) for n, frame in enumerate(frames)]
    now = frames[0].landed
    assert all(catalog.claim(job, "me", now) for job in jobs)
    assert not any(catalog.claim(job, "other", now) for job in jobs)
    catalog.finish(jobs[0], Outcome("0" * 64, (Written("red", "x.fits"),)), now)
    catalog.finish(jobs[1], Outcome("1" * 64, error="no light"), now)
    catalog.finish(jobs[2], Outcome("2" * 64, error="disk"), now, retry=True)
    assert [catalog.claim(job, "me", now) for job in jobs] == [False, False, True]
    assert catalog.attempts("2" * 64) == 2
    assert catalog.neighbourhood().failed == {"1" * 64: "no light"}


def test_claims_of_the_dead_are_given_back_and_cost_no_attempt(catalog, frame_of):
    job = make_job([frame_of("object_0.fits", "MFOBJECT", 0)])
    now = job.frames[0].landed
    assert catalog.claim(job, "dead", now)
    assert catalog.release("me") == [job.fingerprint]
    assert catalog.attempts(job.fingerprint) == 0
    assert catalog.claim(job, "me", now)
    assert catalog.release("me") == []


def claim_all(url, name, jobs, queue):
    catalog = Catalog.open(url)
    queue.put((name, [job.fingerprint for job in jobs if catalog.claim(job, name, job.frames[0].landed)]))
    catalog.close()


def test_processes_that_claim_the_same_jobs_share_them_without_overlap(catalog, tmp_path, frame_of):
    frame = frame_of("object_0.fits", "MFOBJECT", 0)
    jobs = [make_job([frame], f"{n:064d}") for n in range(150)]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    catalog.close()
    processes = [
        context.Process(target=claim_all, args=(str(tmp_path / "out"), f"p{n}", jobs, queue)) for n in range(3)
    ]
    for process in processes:
        process.start()
    claimed = dict(queue.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    everything = [print_ for some in claimed.values() for print_ in some]
    assert sorted(everything) == [job.fingerprint for job in jobs]


def test_a_decision_holds_when_the_file_is_described_again(catalog, frame_of):
    frame = frame_of("what.fits", "UNCLASSIFIED", 0, state=FrameState.UNCLASSIFIED, reason="no rule")
    catalog.add_frames([frame])
    now = frame.landed
    catalog.request("classify", "what.fits", {"frame_class": "MFARC", "lamp": "Ne"}, now)
    catalog.request("classify", "nothing.fits", {"frame_class": "MFARC"}, now)
    assert catalog.apply_requests(now) == [
        "what.fits: classified as MFARC",
        "nothing.fits: nothing of that name in the catalog",
    ]
    catalog.add_frames([replace(frame, content_hash="new")])
    (found,) = catalog.frames()
    assert (found.frame_class, found.lamp, found.state) == ("MFARC", "Ne", FrameState.WAITING)
    lines = (catalog.out / "decisions.jsonl").read_text().splitlines()
    assert [json.loads(line)["subject"] for line in lines] == ["what.fits", "nothing.fits"]


def test_a_frame_marked_bad_stays_bad_until_it_is_taken_back(catalog, frame_of):
    frame = frame_of("bias_0.fits", "BIAS", 0)
    catalog.add_frames([frame])
    catalog.request("mark-bad", frame.path, {}, frame.landed)
    catalog.apply_requests(frame.landed)
    catalog.add_frames([replace(frame, mtime_ns=5)])
    assert catalog.frames()[0].state is FrameState.BAD
    catalog.request("mark-bad", frame.path, {"bad": False}, frame.landed)
    catalog.apply_requests(frame.landed)
    assert catalog.frames()[0].state is FrameState.WAITING


def test_requests_that_make_no_sense_are_refused_at_once(catalog, frame_of):
    now = frame_of("x", "BIAS", 0).landed
    with pytest.raises(BadOption, match="class 'SPECTRUM' is not known; expected one of BIAS"):
        catalog.request("classify", "x.fits", {"frame_class": "SPECTRUM"}, now)
    with pytest.raises(BadOption, match="request 'delete' is not known"):
        catalog.request("delete", "x.fits", {}, now)
    assert not (catalog.out / "decisions.jsonl").exists()


def test_the_summary_counts_and_times(catalog, frame_of):
    frame = frame_of("object_0.fits", "MFOBJECT", 0)
    catalog.add_frames([frame, frame_of("bias_0.fits", "BIAS", 0)])
    made(catalog, make_job([frame], provisional=("few",)), stage_times={"extract": 0.25})
    summary = catalog.summary()
    assert summary.frames == {"waiting": 2}
    assert (summary.jobs, summary.products, summary.provisional) == ({"done": 1}, {"red": 1}, 1)
    assert summary.latencies == {"object": (2.0, 2.0)}
    assert summary.stages == {"extract": (0.25, 0.25)}
    assert [(each.kind, each.subject) for each in catalog.events()] == [("made", "object of object_0.fits")]


def test_the_shell_views_show_what_people_look_for(catalog, tmp_path, frame_of):
    frame = frame_of("object_0.fits", "MFOBJECT", 0, reason="needs an arc")
    catalog.add_frames([frame])
    made(catalog, make_job([frame]))
    with sqlite3.connect(tmp_path / "out" / "catalog.db") as database:
        assert database.execute("SELECT path, reason FROM waiting").fetchall() == [("object_0.fits", "needs an arc")]
        assert database.execute("SELECT kind FROM latest_products").fetchall() == [("red",)]
    database.close()


def test_opening_an_existing_catalog_does_not_load_the_migrations(tmp_path):
    Catalog.open(str(tmp_path)).close()
    code = "import sys; from daemon.catalog import Catalog; Catalog.open(sys.argv[1]); print(*sys.modules)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own code
    assert "sqlalchemy" in done.stdout.split()
    assert "alembic" not in done.stdout.split()
