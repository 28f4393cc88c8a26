"""What is made again, and what is not: better calibrations, other settings, decisions of people."""

from dataclasses import replace

import pytest

from daemon.records import FrameState, ProductState
from daemon.rulebook import Rulebook, Timing


def test_a_better_arc_upgrades_after_all_new_frames(world, frame_of, night_of):
    night = world()
    night.land(*night_of())
    night.settle()
    first = {made.fingerprint for made in night.products("object")}
    night.land(
        frame_of("arc_1.fits", "MFARC", 13 + 125),
        frame_of("object_2.fits", "MFOBJECT", 13 + 125.5, exposure_s=50.0),
        frame_of("object_3.fits", "MFOBJECT", 13 + 70, exposure_s=50.0),
    )
    count = len(night.ran)
    night.settle()
    later = [job.frames[0].path for job in night.ran[count:] if job.rule == "object"]
    assert set(later[:2]) == {"object_2.fits", "object_3.fits"}
    assert {made.fingerprint for made in night.products("object")} >= first


def test_a_lamp_that_comes_late_improves_the_arc_of_its_epoch(world, frame_of, night_of):
    night = world()
    night.land(*night_of())
    night.settle()
    night.land(frame_of("arc_1.fits", "MFARC", 100, lamp="Ne"))
    night.settle()
    arc = night.products("arc")
    assert [len(made.keys) for made in arc] == [2]
    assert {made.calibrations["arc"] for made in night.products("object")} == {arc[0].fingerprint}


def test_upgrades_go_newest_first(world, frame_of, night_of):
    night = world(batch=True)
    night.land(*night_of())
    night.settle()
    count = len(night.ran)
    night.land(frame_of("arc_1.fits", "MFARC", 15))
    night.settle()
    upgraded = [job.frames[0].path for job in night.ran[count:] if job.rule == "object"]
    assert upgraded == ["object_1.fits", "object_0.fits"]


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


def test_marking_a_product_bad_remakes_what_depended_on_it_and_no_more(world, frame_of, night_of):
    night = world(batch=True)
    night.land(*night_of(), frame_of("arc_1.fits", "MFARC", 300), frame_of("object_2.fits", "MFOBJECT", 301))
    night.settle()
    late = next(
        made
        for made in night.products("arc")
        if len(made.keys) == 1
        and "arc" not in made.calibrations
        and frame_of("arc_1.fits", "MFARC", 300).key in made.keys
    )
    count = len(night.ran)
    night.made[late.fingerprint] = replace(late, state=ProductState.BAD)
    night.settle()
    assert [job.frames[0].path for job in night.ran[count:]] == ["object_2.fits"]
    assert all(late.fingerprint not in made.calibrations.values() for made in night.products("object"))


def test_another_option_makes_its_rule_and_all_that_follows_again(world, night_of):
    night = world(batch=True)
    night.land(*night_of())
    night.settle()
    count = len(night.ran)
    night.book = replace(night.book, options={"arc": {"extr_operation": "TRAM"}})
    night.settle()
    assert sorted(job.rule for job in night.ran[count:]) == ["arc", "fflat", "object", "object"]


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
