from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.records import FrameState, ProductState, Setup
from daemon.rulebook import Group, Match, Rulebook, Timing
from daemon.rules import explain


def products(world, rule):
    return [made for made in world.made.values() if made.rule == rule and made.state is ProductState.CURRENT]


def test_a_complete_night_is_reduced_to_the_end(world, night_of, done):
    night = world()
    night.land(*night_of())
    night.settle()
    assert {state for state, _ in night.states().values()} == done
    assert [job.rule for job in night.ran].count("object") == 2
    assert all(not made.provisional for made in night.made.values())


def test_nothing_is_made_twice(world, night_of):
    night = world()
    night.land(*night_of())
    night.settle()
    before = len(night.ran)
    night.settle()
    assert len(night.ran) == before == len({job.fingerprint for job in night.ran})


def test_the_object_uses_the_tlm_of_its_arc(world, frame_of, night_of):
    night = world(batch=True)
    late_flat = frame_of("flat_1.fits", "MFFFF", 80)
    night.land(*night_of(), late_flat, frame_of("object_2.fits", "MFOBJECT", 81))
    night.settle()
    arc = products(night, "arc")[0]
    for made in products(night, "object"):
        assert made.calibrations["arc"] == arc.fingerprint
        assert made.calibrations["tlm"] == arc.calibrations["tlm"]


def test_a_group_below_its_least_number_makes_all_that_follows_provisional(world, night_of):
    night = world(batch=True)
    night.land(*(frame for frame in night_of() if frame.path not in ("bias_1.fits", "bias_2.fits")))
    night.settle()
    reasons = {made.provisional for made in night.made.values()}
    assert reasons == {("1 of 3 bias frames",)}
    assert night.states()["object_0.fits"] == (FrameState.REDUCED, "provisional: 1 of 3 bias frames")


def test_further_frames_end_the_provisional_state(world, night_of):
    night = world()
    frames = night_of()
    late = [replace(frame, landed=frame.landed + timedelta(hours=1)) for frame in frames[1:3]]
    night.land(frames[0], *frames[3:])
    night.settle()
    assert {made.provisional for made in products(night, "object")} == {("1 of 3 bias frames",)}
    night.land(*late)
    night.settle()
    assert {made.provisional for made in products(night, "object")} == {()}
    assert len(products(night, "object")) == 2


def test_a_group_waits_until_it_is_quiet(world, frame_of):
    night = world()
    night.land(*(frame_of(f"bias_{n}.fits", "BIAS", n * 0.1, exposure_s=0.0) for n in range(3)))
    found = night.plan()
    assert not found.jobs
    assert found.settling
    assert found.next_wake == night.now + timedelta(seconds=10)
    night.now = found.next_wake
    assert [len(job.frames) for job in night.plan().jobs] == [3]


def test_the_next_exposure_of_a_series_is_waited_for(world, frame_of):
    night = world()
    night.land(frame_of("dark_0.fits", "DARK", 0, exposure_s=300.0))
    night.land(frame_of("bias_0.fits", "BIAS", 0, exposure_s=0.0))
    night.settle()
    dark = next(job for job in night.ran if job.rule == "dark")
    assert night.now >= dark.frames[0].landed + timedelta(seconds=600)


def test_a_backlog_waits_for_the_quiet_time_only(world, frame_of):
    night = world()
    night.land(
        *(
            frame_of(name, kind, 0, exposure_s=exposure, landed=night.now + timedelta(days=1))
            for name, kind, exposure in [("dark_0.fits", "DARK", 300.0), ("bias_0.fits", "BIAS", 0.0)]
        )
    )
    start = night.now
    night.settle()
    assert night.now <= start + timedelta(seconds=10)


def test_an_object_without_arc_waits_and_says_why_each_candidate_was_rejected(world, frame_of, night_of):
    night = world(batch=True)
    frames = [frame for frame in night_of() if frame.frame_class not in ("MFARC", "MFFFF")]
    other = Setup({**frames[0].setup, "grating": 300})
    night.land(
        *frames,
        frame_of("flat_x.fits", "MFFFF", 20, setup=other),
        frame_of("arc_x.fits", "MFARC", 22, setup=other),
    )
    night.settle()
    state, reason = night.states()["object_0.fits"]
    assert state is FrameState.WAITING
    assert "flat_x.fits: grating 300 lines/mm, needed 150 lines/mm" in reason
    told = explain(night.neighbourhood(), night.book, night.now, frames[-1], batch=True)
    assert set(told.needs) == {"arc", "tlm"}
    assert "arc_x.fits: grating 300 lines/mm" not in reason  # one could do without it, not without tramlines
    rejected = {(each.rule, each.name): each.criterion for each in told.candidates if not each.chosen}
    assert rejected["arc", "arc_x.fits"] == "grating 300 lines/mm, needed 150 lines/mm"
    assert {each.name for each in told.candidates if each.chosen} == {"bias_0.fits", "dark_0.fits"}


def test_a_failed_calibration_is_not_tried_again_and_the_next_serves_provisionally(world, frame_of, night_of):
    def fails(job):
        names = {frame.path for frame in job.frames}
        return "no lines" if job.rule == "arc" and "arc_1.fits" in names else None

    night = world(batch=True, fails=fails)
    night.land(
        *night_of(),
        frame_of("arc_1.fits", "MFARC", 12 + 240),
        frame_of("object_2.fits", "MFOBJECT", 12 + 241, exposure_s=50.0),
    )
    night.settle()
    assert [job.rule for job in night.ran].count("arc") == 2
    last = next(made for made in products(night, "object") if made.provisional)  # only the object beside the failed arc
    assert last.provisional == ("arc arc_1.fits failed",)
    assert night.states()["object_2.fits"][0] is FrameState.REDUCED
    assert night.states()["arc_1.fits"] == (FrameState.SET_ASIDE, "no lines")


def test_a_failed_arc_that_nothing_replaces_is_a_failure(world, night_of):
    night = world(batch=True, fails=lambda job: "no lines" if job.rule == "arc" else None)
    night.land(*night_of())
    night.settle()
    assert night.states()["arc_0.fits"] == (FrameState.FAILED, "no lines")
    state, reason = night.states()["object_0.fits"]
    assert state is FrameState.REDUCED
    assert "arc arc_0.fits failed, wavelengths predicted, no arc" in reason


def test_a_better_arc_upgrades_after_all_new_frames(world, frame_of, night_of):
    night = world()
    night.land(*night_of())
    night.settle()
    first = {made.fingerprint for made in products(night, "object")}
    night.land(
        frame_of("arc_1.fits", "MFARC", 13 + 125),
        frame_of("object_2.fits", "MFOBJECT", 13 + 125.5, exposure_s=50.0),
        frame_of("object_3.fits", "MFOBJECT", 13 + 70, exposure_s=50.0),
    )
    count = len(night.ran)
    night.settle()
    later = [job.frames[0].path for job in night.ran[count:] if job.rule == "object"]
    assert set(later[:2]) == {"object_2.fits", "object_3.fits"}
    assert {made.fingerprint for made in products(night, "object")} >= first


def test_a_lamp_that_comes_late_improves_the_arc_of_its_epoch(world, frame_of, night_of):
    night = world()
    night.land(*night_of())
    night.settle()
    night.land(frame_of("arc_1.fits", "MFARC", 100, lamp="Ne"))
    night.settle()
    arc = products(night, "arc")
    assert [len(made.keys) for made in arc] == [2]
    assert {made.calibrations["arc"] for made in products(night, "object")} == {arc[0].fingerprint}


def test_upgrades_go_newest_first(world, frame_of, night_of):
    night = world(batch=True)
    night.land(*night_of())
    night.settle()
    count = len(night.ran)
    night.land(frame_of("arc_1.fits", "MFARC", 15))
    night.settle()
    upgraded = [job.frames[0].path for job in night.ran[count:] if job.rule == "object"]
    assert upgraded == ["object_1.fits", "object_0.fits"]


def test_a_missing_like_never_blocks_and_is_taken_when_it_comes(world, frame_of, night_of):
    night = world()
    night.land(*night_of())
    night.settle()
    assert all("lflat" not in made.calibrations for made in products(night, "object"))
    night.land(frame_of("lflat_0.fits", "LFLAT", 30))
    night.settle()
    assert all("lflat" in made.calibrations for made in products(night, "object"))


def test_a_dark_of_the_same_exposure_comes_first_then_longer_ones(world, frame_of, night_of):
    night = world(batch=True)
    night.land(
        *night_of(),
        *(frame_of(f"dark_{s}s.fits", "DARK", 20 + s / 60, exposure_s=float(s)) for s in (10, 100, 300)),
        frame_of("object_60.fits", "MFOBJECT", 30, exposure_s=60.0),
        frame_of("object_900.fits", "MFOBJECT", 32, exposure_s=900.0),
    )
    night.settle()
    used = {job.frames[0].path: job.calibrations["dark"].exposure_s for job in night.ran if job.rule == "object"}
    assert used == {
        "object_0.fits": 50.0,
        "object_1.fits": 50.0,
        "object_60.fits": 100.0,
        "object_900.fits": 300.0,
    }


def test_darks_of_other_exposures_do_not_serve_where_scaling_is_off(world, night_of):
    matches = {**Rulebook().matches, "dark": Match(("readout", "shape", "binning"), 30.0, "equal")}
    night = world(batch=True, book=Rulebook(matches=matches))
    night.land(*(replace(f, exposure_s=60.0) if f.path == "object_0.fits" else f for f in night_of()))
    night.settle()
    assert night.states()["object_0.fits"] == (FrameState.REDUCED, "provisional: without a dark")
    told = explain(night.neighbourhood(), night.book, night.now, night.frames["object_0.fits", 0], batch=True)
    rejected = {each.name: each.criterion for each in told.candidates if not each.chosen}
    assert rejected["dark_0.fits"] == "exposure 50 s, needed 60 s"
    assert night.states()["object_1.fits"] == (FrameState.REDUCED, "")


@pytest.mark.parametrize(
    ("late", "reason"),
    [
        ("DARK", "provisional: without a dark"),
        ("MFARC", "provisional: wavelengths predicted, no arc"),
    ],
)
def test_what_is_long_missing_is_done_without_until_it_comes(world, night_of, late, reason):
    night = world()
    frames = night_of()
    held = [frame for frame in frames if frame.frame_class == late]
    night.land(*(frame for frame in frames if frame.frame_class != late))
    for job in night.plan().jobs:
        night.finish(job)
    state, waits = night.states()["object_0.fits"]
    assert state is FrameState.WAITING
    assert "needs a" in waits
    night.settle()
    assert night.now - frames[-2].landed >= timedelta(seconds=night.book.timing.provisional_after_s)
    assert night.states()["object_0.fits"] == (FrameState.REDUCED, reason)
    night.land(*(replace(frame, landed=night.now) for frame in held))
    night.settle()
    assert night.states()["object_0.fits"] == (FrameState.REDUCED, "")
    undisturbed = world()
    undisturbed.land(*frames)
    undisturbed.settle()
    assert night.current() == undisturbed.current()


def test_without_tramlines_nothing_is_forgone(world, night_of):
    night = world(batch=True)
    night.land(*(frame for frame in night_of() if frame.frame_class != "MFFFF"))
    night.settle()
    state, reason = night.states()["object_0.fits"]
    assert state is FrameState.WAITING
    assert reason == "needs a tlm (none has come)"


@pytest.mark.parametrize(("remake", "again"), [("nothing", []), ("tonight", [2]), ("all", [1, 2])])
def test_a_changed_recipe_makes_again_what_the_policy_says(world, night_of, remake, again):
    night = world(book=Rulebook(timing=Timing(5.0, 5.0, 5.0), remake=remake, timezone="Asia/Seoul"))
    frames = night_of()
    before = [replace(frame, night="2026-01-26") for frame in night_of(shift=-1440.0)]
    night.land(*before, *(replace(f, content_hash=f"tonight {f.path}", path=f"n/{f.path}") for f in frames))
    night.settle()
    done = len(night.ran)
    night.book = replace(night.book, options={"bias": {"clip": 4.0}})
    night.settle()
    assert not night.plan().jobs
    remade = {job.frames[0].night for job in night.ran[done:]}
    assert remade == {f"2026-01-2{5 + n}" for n in again}
    assert {state for state, _ in night.states().values()} <= {FrameState.REDUCED, FrameState.USED}


def test_reasons_do_not_nest(world, night_of):
    night = world(batch=True, fails=lambda job: "bias_0.fits: bad" if job.rule == "bias" else None)
    night.land(*night_of())
    night.settle()
    state, reason = night.states()["object_0.fits"]
    assert state is FrameState.WAITING
    assert "needs a bias (bias_0.fits: failed: bias_0.fits: bad)" in reason
    assert "needs a tlm (flat_0.fits: needs a bias itself)" in reason
    assert reason.count("(") == 2


def test_what_is_on_its_way_is_waited_for_then_the_old_one_serves(world, frame_of, night_of):
    book = Rulebook(timing=Timing(quiet_s=1000.0, like_wait_s=30.0))
    night = world(book=book)
    night.land(*night_of())
    night.settle()
    night.land(frame_of("arc_1.fits", "MFARC", 300), frame_of("object_2.fits", "MFOBJECT", 301))
    assert "arc of arc_1.fits" in {each.frame.path: each.reason for each in night.plan().waiting}["object_2.fits"]
    night.now += timedelta(seconds=30)
    found = night.plan()
    assert [job.frames[0].path for job in found.jobs] == ["object_2.fits"]
    assert found.jobs[0].provisional == ("until an arc of arc_1.fits",)
    night.settle()
    last = [job for job in night.ran if job.frames[0].path == "object_2.fits"]
    assert len(last) == 2
    assert not last[-1].provisional


def test_a_calibration_beyond_its_limit_serves_provisionally_after_a_while(world, frame_of, night_of):
    night = world()
    night.land(*night_of())
    night.settle()
    new = frame_of("object_9.fits", "MFOBJECT", 3 * 1440.0, night="2026-01-30", exposure_s=50.0)
    night.land(new)
    found = night.plan()
    assert not found.jobs
    assert not found.settling
    assert found.next_wake == new.landed + timedelta(seconds=900)
    night.settle()
    made = next(each for each in products(night, "object") if new.key in each.keys)
    assert made.provisional == ("arc arc_0.fits is 3.0 days away",)


def test_a_duplicate_counts_once(world, frame_of, night_of):
    night = world(batch=True)
    night.land(*night_of(), frame_of("a_copy.fits", "BIAS", 0.0, content="bias_0.fits", exposure_s=0.0))
    night.settle()
    assert [len(job.frames) for job in night.ran if job.rule == "bias"] == [3]
    assert night.states()["a_copy.fits"] == (FrameState.USED, "")
    assert night.states()["bias_0.fits"] == (FrameState.DUPLICATE, "the same content as a_copy.fits")


def test_marking_a_product_bad_remakes_what_depended_on_it_and_no_more(world, frame_of, night_of):
    night = world(batch=True)
    night.land(*night_of(), frame_of("arc_1.fits", "MFARC", 300), frame_of("object_2.fits", "MFOBJECT", 301))
    night.settle()
    late = next(
        made
        for made in products(night, "arc")
        if len(made.keys) == 1
        and "arc" not in made.calibrations
        and frame_of("arc_1.fits", "MFARC", 300).key in made.keys
    )
    count = len(night.ran)
    night.made[late.fingerprint] = replace(late, state=ProductState.BAD)
    night.settle()
    assert [job.frames[0].path for job in night.ran[count:]] == ["object_2.fits"]
    assert all(late.fingerprint not in made.calibrations.values() for made in products(night, "object"))


def test_a_vanished_frame_keeps_its_products_and_joins_no_new_job(world, frame_of, night_of):
    night = world(batch=True)
    night.land(*night_of())
    night.settle()
    before = night.current()
    night.land(replace(night.frames["bias_0.fits", 0], state=FrameState.ABSENT))
    count = len(night.ran)
    night.settle()
    assert night.current() == before
    assert len(night.ran) == count
    night.land(frame_of("bias_9.fits", "BIAS", 0.5, exposure_s=0.0))
    night.settle()
    assert [sorted(f.path for f in job.frames) for job in night.ran[count:] if job.rule == "bias"] == [
        ["bias_1.fits", "bias_2.fits", "bias_9.fits"]
    ]


def test_another_option_makes_its_rule_and_all_that_follows_again(world, night_of):
    night = world(batch=True)
    night.land(*night_of())
    night.settle()
    count = len(night.ran)
    night.book = replace(night.book, options={"arc": {"extr_operation": "TRAM"}})
    night.settle()
    assert sorted(job.rule for job in night.ran[count:]) == ["arc", "fflat", "object", "object"]


def test_frames_that_no_rule_can_take_say_so(world, frame_of):
    night = world()
    night.land(
        replace(frame_of("undated.fits", "MFOBJECT", 0), obs_time=None),
        frame_of("other.fits", "SOMETHING", 0),
        frame_of("focus.fits", "IGNORE", 0, reason="the name says focus"),
    )
    assert night.states() == {
        "undated.fits": (FrameState.INVALID, "its header tells no observing time"),
        "other.fits": (FrameState.UNCLASSIFIED, "no rule makes a product of class SOMETHING"),
        "focus.fits": (FrameState.IGNORED, "the name says focus"),
    }


def test_a_gap_starts_another_group(world, frame_of):
    night = world(batch=True)
    night.land(*(frame_of(f"arc_{n}.fits", "MFARC", minute) for n, minute in enumerate((0, 100, 219, 400))))
    night.land(frame_of("bias_0.fits", "BIAS", 0, exposure_s=0.0), frame_of("flat_0.fits", "MFFFF", 1))
    night.settle()
    assert sorted(len(job.frames) for job in night.ran if job.rule == "arc") == [1, 3]


def messy_night(frame_of, rng):
    """A night of two settings with gaps, few biases, several epochs and duplicates."""
    settings_ = [frame_of("x", "BIAS", 0).setup]
    settings_.append(Setup({**settings_[0], "grating": 300}))
    frames = [
        frame_of(f"bias_{n}.fits", "BIAS", rng.choice((0, 1, 2, 600)), exposure_s=0.0) for n in range(rng.randint(1, 5))
    ]
    for kind, name, most in (
        ("DARK", "dark", 3),
        ("LFLAT", "lflat", 1),
        ("MFFFF", "flat", 4),
        ("MFARC", "arc", 4),
        ("MFOBJECT", "object", 4),
        ("MFSKY", "sky", 1),
    ):
        frames += [
            frame_of(
                f"{name}_{n}.fits",
                kind,
                rng.choice((5, 8, 20, 45, 200, 210, 590, 3000)),
                exposure_s=rng.choice((10.0, 50.0)),
                setup=rng.choice((settings_[0], settings_[0], settings_[1])),
            )
            for n in range(rng.randint(0, most))
        ]
    copied = rng.choice(frames)
    return [*frames, replace(copied, path=rng.choice(("a_copy.fits", "z_copy.fits")))]


def run_in_some_order(night, frames, rng):
    """Land frames in any order, doing a random part of the work between."""
    order = list(frames)
    rng.shuffle(order)
    for frame in order:
        night.now += timedelta(seconds=rng.choice((0, 1, 15, 60, 2000)))
        night.land(replace(frame, landed=night.now))
        for _ in range(rng.randint(0, 3)):
            jobs = night.plan().jobs
            if jobs:
                night.finish(rng.choice(jobs))
    night.settle()
    return night


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rng=st.randoms(use_true_random=True), n_spoiled=st.integers(0, 3), batch=st.booleans())
def test_the_end_does_not_depend_on_the_order_of_arrival(world, frame_of, rng, n_spoiled, batch):
    frames = messy_night(frame_of, rng)
    spoiled = {frame.key for frame in rng.sample(frames, min(n_spoiled, len(frames)))}

    def fails(job):
        return "spoiled" if spoiled & {frame.key for frame in job.frames} else None

    one = run_in_some_order(world(fails=fails), frames, rng)
    other = run_in_some_order(world(fails=fails, batch=batch), frames, rng)
    assert one.current() == other.current()
    assert one.states() == other.states()


@pytest.mark.parametrize("least", [1, 3])
def test_the_least_number_is_data(world, night_of, least):
    rules = tuple(
        replace(rule, group=Group(rule.group.by, least=least)) if rule.name == "bias" else rule
        for rule in Rulebook().rules
    )
    night = world(batch=True, book=Rulebook(rules=rules))
    night.land(night_of()[0])
    night.settle()
    assert bool(products(night, "bias")[0].provisional) == (least == 3)
