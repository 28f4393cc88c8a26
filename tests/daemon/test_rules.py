"""What is made of which frames, and in which groups."""

from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.records import FrameState
from daemon.rulebook import Match, Rulebook
from daemon.rules import explain


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
    arc = night.products("arc")[0]
    for made in night.products("object"):
        assert made.calibrations["arc"] == arc.fingerprint
        assert made.calibrations["tlm"] == arc.calibrations["tlm"]


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
    ("name", "counts"), [("a_copy.fits", "a_copy.fits"), ("bias_0 - Copy.fits", "bias_0.fits")], ids=["alike", "longer"]
)
def test_a_duplicate_counts_once(world, frame_of, night_of, name, counts):
    night = world(batch=True)
    night.land(*night_of(), frame_of(name, "BIAS", 0.0, content="bias_0.fits", exposure_s=0.0))
    night.settle()
    assert [len(job.frames) for job in night.ran if job.rule == "bias"] == [3]
    (other,) = {name, "bias_0.fits"} - {counts}
    assert night.states()[counts] == (FrameState.USED, "")
    assert night.states()[other] == (FrameState.DUPLICATE, f"the same content as {counts}")


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
