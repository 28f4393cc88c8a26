import random
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.catalog import Catalog
from daemon.planning.replan import Replanner
from daemon.records import FrameState, Outcome, Setup, Written
from daemon.rulebook import Rulebook, Timing
from daemon.rules import plan
from daemon.store.rows import MAIN_KIND

BOOK = Rulebook(timing=Timing(quiet_s=5.0, like_wait_s=20.0, provisional_after_s=100.0))


def some_frame(frame_of, rng, number):
    kind = rng.choice(("BIAS", "DARK", "LFLAT", "MFFFF", "MFARC", *("MFOBJECT",) * 4, "MFSKY"))
    setup = frame_of("x", kind, 0).setup
    return frame_of(
        rng.choice((f"{kind}_{number}.fits", f"a_{number}.fits")),
        kind,
        rng.choice((0, 5, 10, 200, 600, 3000)),
        exposure_s=0.0 if kind == "BIAS" else 10.0,
        setup=rng.choice((setup, setup, Setup({**setup, "grating": 300}))),
        content=str(rng.choice((number, number, max(number - 1, 0)))),  # now and then a copy
    )


def disturb(catalog, frame_of, rng, number, now):
    """Do one of the things that happen to a catalog."""
    known = catalog.frames()
    what = rng.randrange(8)
    if what < 5 or not known:
        catalog.add_frames([replace(some_frame(frame_of, rng, number), landed=now)])
    elif what == 5:
        catalog.set_absent(0, [rng.choice(known).path])
    elif what == 6:
        frame = rng.choice(known)
        catalog.request("mark-bad", frame.path, {"bad": frame.state is not FrameState.BAD}, now)
        catalog.apply_requests(now)
    else:
        products = catalog.latest("red") + catalog.latest("tlm")
        if products:
            path = str(rng.choice(products).path.relative_to(catalog.out))
            catalog.request("mark-bad", path, {}, now)
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


def live_through(catalog, frame_of, rng, *, batch):
    """Let thirty things happen; compare the plan of what has changed with one of everything after each."""
    planner = Replanner(catalog, BOOK, batch=batch)
    now = frame_of("x", "BIAS", 5000).landed
    for number in range(30):
        now += timedelta(seconds=rng.choice((0, 1, 10, 60, 200)))
        if rng.random() < 0.6:
            disturb(catalog, frame_of, rng, number, now)
        part = planner.plan(now)
        agree(part, plan(catalog.neighbourhood(), BOOK, now, batch=batch))
        catalog.apply(part.standings, part.marks)
        for job in part.jobs[: rng.randint(0, 3)]:
            work(catalog, job, rng, now)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rng=st.randoms(use_true_random=True), batch=st.booleans())
def test_a_plan_of_what_has_changed_agrees_with_a_plan_of_everything(tmp_path_factory, frame_of, rng, batch):
    catalog = Catalog.open(str(tmp_path_factory.mktemp("out")))
    live_through(catalog, frame_of, rng, batch=batch)
    catalog.close()


# In the first an object has a copy of another class, in the second a copy of a bad arc takes its place.
@pytest.mark.parametrize("seed", [4465829, 105])
def test_copies_do_not_part_the_plans(catalog, frame_of, seed):
    live_through(catalog, frame_of, random.Random(seed), batch=False)  # noqa: S311 - a history, not a secret
