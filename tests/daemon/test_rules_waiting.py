"""What waits, what is done without, and what is provisional until it comes."""

from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.records import FrameState, Setup
from daemon.rulebook import Group, Rulebook, Timing
from daemon.rules import explain


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
    assert {made.provisional for made in night.products("object")} == {("1 of 3 bias frames",)}
    night.land(*late)
    night.settle()
    assert {made.provisional for made in night.products("object")} == {()}
    assert len(night.products("object")) == 2


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
    last = next(made for made in night.products("object") if made.provisional)  # only the object beside the failed arc
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


def test_a_missing_like_never_blocks_and_is_taken_when_it_comes(world, frame_of, night_of):
    night = world()
    night.land(*night_of())
    night.settle()
    assert all("lflat" not in made.calibrations for made in night.products("object"))
    night.land(frame_of("lflat_0.fits", "LFLAT", 30))
    night.settle()
    assert all("lflat" in made.calibrations for made in night.products("object"))


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
    assert reason == "needs a fiber flat (no usable one has come)"


def test_a_calibration_marked_bad_is_named_as_the_reason(world, night_of):
    night = world(batch=True)
    night.land(*(replace(each, state=FrameState.BAD) if each.path == "flat_0.fits" else each for each in night_of()))
    night.settle()
    waits = next(frame for frame in night.neighbourhood().frames if frame.path == "object_0.fits")
    told = explain(night.neighbourhood(), night.book, night.now, waits, batch=True)
    assert (told.state, told.reason) == (FrameState.WAITING, "needs a fiber flat (flat_0.fits: marked bad)")
    assert ("tlm", "flat_0.fits", "marked bad") in {(each.rule, each.name, each.criterion) for each in told.candidates}


def test_a_copy_that_counts_speaks_for_one_marked_bad(world, night_of):
    night = world(batch=True)
    frames = night_of()
    flat = next(each for each in frames if each.path == "flat_0.fits")
    night.land(*frames, replace(flat, path="copy.fits", state=FrameState.BAD))
    told = explain(night.neighbourhood(), night.book, night.now, frames[-1], batch=True)
    assert "marked bad" not in {each.criterion for each in told.candidates}


def test_reasons_do_not_nest(world, night_of):
    night = world(batch=True, fails=lambda job: "bias_0.fits: bad" if job.rule == "bias" else None)
    night.land(*night_of())
    night.settle()
    state, reason = night.states()["object_0.fits"]
    assert state is FrameState.WAITING
    assert "needs a bias (bias_0.fits: failed: bias_0.fits: bad)" in reason
    assert "needs a fiber flat (flat_0.fits: needs a bias itself)" in reason
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
    made = next(each for each in night.products("object") if new.key in each.keys)
    assert made.provisional == ("arc arc_0.fits is 3.0 days away",)


@pytest.mark.parametrize("least", [1, 3])
def test_the_least_number_is_data(world, night_of, least):
    rules = tuple(
        replace(rule, group=Group(rule.group.by, least=least)) if rule.name == "bias" else rule
        for rule in Rulebook().rules
    )
    night = world(batch=True, book=Rulebook(rules=rules))
    night.land(night_of()[0])
    night.settle()
    assert bool(night.products("bias")[0].provisional) == (least == 3)
