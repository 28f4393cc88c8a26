import random
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from daemon.catalog import Catalog
from daemon.planning.replan import Replanner
from daemon.records import FrameState, Outcome, Setup, Written
from daemon.rulebook import MATCHES, Rulebook, Timing
from daemon.rules import plan
from daemon.store.rows import MAIN_KIND

TIMING = Timing(quiet_s=5.0, like_wait_s=20.0, provisional_after_s=100.0)
PATIENT = Timing(quiet_s=50.0, like_wait_s=100.0, provisional_after_s=1000.0)
BOOK = Rulebook(timing=TIMING)
DAY_MIN = 1440.0
SHORT = {"bias": 2.0, "dark": 3.0, "lflat": 2.0, "tlm": 0.5, "arc": 0.5, "fflat": 0.5}  # days
SHORT_SIGHTED = replace(
    BOOK, remake="tonight", matches={name: replace(match, within_days=SHORT[name]) for name, match in MATCHES.items()}
)


@contextmanager
def unsafe_catalog(folder):
    """Open a catalog that does not wait for the disk, which a plan does not ask."""
    opened = Catalog.open(str(folder))
    event.listen(opened._engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    opened._engine.dispose()
    yield opened
    opened.close()


@pytest.fixture
def catalog(tmp_path):
    with unsafe_catalog(tmp_path) as opened:
        yield opened


def some_frame(frame_of, rng, number, nights):
    kind = rng.choice(("BIAS", "DARK", "LFLAT", "MFFFF", "MFARC", *("MFOBJECT",) * 4, "MFSKY"))
    setup = frame_of("x", kind, 0).setup
    night = rng.choice(nights)
    return frame_of(
        rng.choice((f"{kind}_{number}.fits", f"a_{number}.fits")),
        kind,
        night * DAY_MIN + rng.choice((0, 5, 10, 200, 600)),
        exposure_s=0.0 if kind == "BIAS" else rng.choice((10.0, 10.0, 30.0)),
        setup=rng.choice((setup, setup, Setup({**setup, "grating": 300}))),
        content=str(rng.choice((number, number, max(number - 1, 0)))),  # now and then a copy
        night=f"2026-{1 + (26 + night) // 31:02d}-{1 + (26 + night) % 31:02d}",
    )


def disturb(catalog, frame_of, rng, number, now, nights):
    """Do one of the things that happen to a catalog."""
    known = catalog.frames()
    what = rng.randrange(9)
    if what < 5 or not known:
        catalog.add_frames([replace(some_frame(frame_of, rng, number, nights), landed=now)])
    elif what == 5:
        catalog.set_absent(0, [rng.choice(known).path])
    elif what == 6:
        frame = rng.choice(known)
        catalog.request("mark-bad", frame.path, {"bad": frame.state is not FrameState.BAD}, now)
        catalog.apply_requests(now)
    elif what == 7:
        frame = rng.choice(known)
        if rng.random() < 0.5:  # other content under the same name
            catalog.add_frames([replace(frame, content_hash=f"{number:064d}", landed=now, state=FrameState.WAITING)])
        else:
            catalog.request("classify", frame.path, {"frame_class": rng.choice(("BIAS", "MFARC", "MFOBJECT"))}, now)
            catalog.apply_requests(now)
    else:
        products = [product for kind in ("red", "tlm", "bias", "dark") for product in catalog.latest(kind)]
        if products:
            path = str(rng.choice(products).path.relative_to(catalog.out))
            catalog.request("mark-bad", path, {"bad": rng.random() < 0.7}, now)
        catalog.request("retry", "", {}, now)
        catalog.apply_requests(now)


def work(catalog, job, rng, now):
    if catalog.claim(job, "me", now) and rng.random() < 0.9:
        kind = MAIN_KIND[job.rule]
        failed = rng.random() < 0.1
        outcome = Outcome(job.fingerprint, (Written(kind, f"{kind}.fits"),), error="spoiled" if failed else "")
        catalog.finish(job, outcome, now)


def agree(part, whole):
    """A partial plan says what a whole one says, of what it speaks of; of the rest nothing has changed."""
    assert part.jobs == whole.jobs
    assert (part.next_wake, part.settling) == (whole.next_wake, whole.settling)
    assert part.marks == whole.marks
    said = {(each.frame.root, each.frame.path): each for each in part.standings}
    for each in whole.standings:
        found = said.get((each.frame.root, each.frame.path))
        if found is not None:
            assert (found.state, found.reason) == (each.state, each.reason)
        else:
            assert (each.frame.state, each.frame.reason) == (each.state, each.reason)


def caught_up(catalog, planner, now):
    """Plan until the last plan has left nothing for later."""
    while (part := planner.plan(now)).behind:
        catalog.apply(part.standings, part.marks)
    return part


def live_through(catalog, frame_of, rng, *, batch, book=BOOK, nights=(0, 0, 0, 2), at_once=300, steps=30):
    """Let things happen; compare the plan of what has changed with one of everything after each."""
    planner = Replanner(catalog, book, batch=batch, at_once=at_once)
    now = frame_of("x", "BIAS", (max(nights) + 1) * DAY_MIN).landed
    for number in range(steps):
        now += timedelta(seconds=rng.choice((0, 1, 10, 60, 200)))
        if rng.random() < 0.6:
            disturb(catalog, frame_of, rng, number, now, nights)
        if rng.random() < 0.15:  # a new start, perhaps with other times
            if rng.random() < 0.5:
                book, batch = replace(book, timing=rng.choice((TIMING, PATIENT))), rng.random() < 0.5
            planner = Replanner(catalog, book, batch=batch, at_once=at_once)
        part = caught_up(catalog, planner, now)
        agree(part, plan(catalog.neighbourhood(), book, now, batch=batch))
        catalog.apply(part.standings, part.marks)
        for job in part.jobs[: rng.randint(0, 3)]:
            work(catalog, job, rng, now)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rng=st.randoms(use_true_random=True), batch=st.booleans())
def test_a_plan_of_what_has_changed_agrees_with_a_plan_of_everything(tmp_path_factory, frame_of, rng, batch):
    with unsafe_catalog(tmp_path_factory.mktemp("out")) as catalog:
        live_through(catalog, frame_of, rng, batch=batch)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rng=st.randoms(use_true_random=True), batch=st.booleans(), at_once=st.sampled_from((1, 3, 300)))
def test_a_plan_of_a_window_agrees_with_a_plan_of_the_archive(tmp_path_factory, frame_of, rng, batch, at_once):
    nights = (0, 1, 1, 2, 3, 5, 9, 20)
    with unsafe_catalog(tmp_path_factory.mktemp("out")) as catalog:
        live_through(catalog, frame_of, rng, batch=batch, book=SHORT_SIGHTED, nights=nights, at_once=at_once, steps=50)


# In the first an object has a copy of another class, in the second a copy of a bad arc takes its place.
@pytest.mark.parametrize("seed", [4465829, 105])
def test_copies_do_not_part_the_plans(catalog, frame_of, seed):
    live_through(catalog, frame_of, random.Random(seed), batch=False)  # noqa: S311 - a history, not a secret


def settled(catalog, planner, now):
    """Plan until nothing is left for later, and record what that says."""
    part = caught_up(catalog, planner, now)
    catalog.apply(part.standings, part.marks)
    return part


def finish_all(catalog, planner, now, rules):
    """Do the jobs of some rules until there are none."""
    while jobs := [job for job in settled(catalog, planner, now).jobs if job.rule in rules]:
        for job in jobs:
            assert catalog.claim(job, "me", now)
            kind = MAIN_KIND[job.rule]
            catalog.finish(job, Outcome(job.fingerprint, (Written(kind, f"{kind}.fits"),)), now)


def test_an_upgrade_that_waits_is_found_again_by_the_next_start(catalog, frame_of, night_of):
    planner = Replanner(catalog, BOOK, batch=False)
    frames = night_of()
    catalog.add_frames(frames)
    now = frames[-1].landed + timedelta(hours=1)
    finish_all(catalog, planner, now, MAIN_KIND)
    now += timedelta(days=3)
    nearer = [frame_of(f"arc_{minute}.fits", "MFARC", minute, lamp="HgAr", landed=now) for minute in (15, 180)]
    catalog.add_frames(nearer)
    now += timedelta(minutes=2)
    finish_all(catalog, planner, now, {"arc"})
    for _ in range(3):  # it is recorded now and then that all was compared
        now += timedelta(minutes=2)
        left = settled(catalog, planner, now).jobs
    assert {job.rule for job in left} == {"fflat"}
    assert settled(catalog, Replanner(catalog, BOOK, batch=False), now).jobs == left


@pytest.mark.parametrize("changes", [{"timing": PATIENT}, {"options": {"object": {"extract": {"width": 9}}}}])
def test_what_cannot_concern_an_archive_leaves_it_alone(catalog, night_of, changes):
    book = replace(BOOK, remake="tonight")
    planner = Replanner(catalog, book, batch=False)
    frames = night_of()
    catalog.add_frames(frames)
    now = frames[-1].landed + timedelta(hours=1)
    finish_all(catalog, planner, now, MAIN_KIND)
    now += timedelta(days=3)
    for _ in range(3):  # it is recorded now and then that all was compared
        now += timedelta(minutes=2)
        settled(catalog, planner, now)
    compared = {}
    for name, other in {"same": book, "changed": replace(book, **changes), "other": replace(book, matches={})}.items():
        again = Replanner(catalog, other, batch=False)
        settled(catalog, again, now)
        compared[name] = again.n_group > 0
    assert compared == {"same": False, "changed": False, "other": True}


def test_the_first_frame_of_a_night_finds_all_that_it_needs_in_memory(catalog, frame_of, night_of):
    planner = Replanner(catalog, BOOK, batch=False)
    frames = night_of()
    catalog.add_frames(frames)
    now = frames[-1].landed + timedelta(minutes=10)
    finish_all(catalog, planner, now, MAIN_KIND)
    settled(catalog, planner, now)
    planner.forget()
    now += timedelta(hours=20)
    assert planner.is_new_night(now)
    settled(catalog, planner, now)
    assert not planner.is_new_night(now)
    catalog.add_frames([frame_of("object_9.fits", "MFOBJECT", 1300, landed=now, night="2026-01-28")])
    planner.n_row = 0
    assert [job.frames[0].path for job in planner.plan(now + timedelta(minutes=1)).jobs] == ["object_9.fits"]
    assert planner.n_row <= 2  # itself, as it has changed and as it is looked at
