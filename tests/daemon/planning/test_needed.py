from daemon.planning.needed import needed
from daemon.records import Neighbourhood, Setup
from daemon.rulebook import Rulebook

NIGHT = "2026-01-27"


def lacking(world, frames):
    """What a night lacks: (readout, class, how many, how many spectra wait)."""
    now = world().now
    found = needed(Neighbourhood(tuple(frames)), Rulebook(), now, NIGHT)
    return {(lack.setup["readout"], lack.frame_class, lack.lacks, lack.waiting) for lack in found}


def test_a_complete_night_lacks_nothing(world, night_of):
    assert lacking(world, night_of()) == set()


def test_frames_that_are_there_are_not_asked_for_again_because_they_lack_something_themselves(world, night_of):
    without = [frame for frame in night_of() if frame.frame_class not in ("BIAS", "DARK")]
    readout = without[0].setup["readout"]
    assert lacking(world, without) == {(readout, "BIAS", 3, 2), (readout, "DARK", 2, 2)}


def test_what_an_arc_of_another_readout_lacks_is_asked_for_in_its_readout(world, night_of, frame_of):
    frames = [frame for frame in night_of() if frame.frame_class != "MFARC"]
    other = Setup({**frames[0].setup, "readout": "2 MHz LowNoise High"})
    arc = frame_of("arc_9.fits", "MFARC", 12, lamp="HgAr", setup=other)
    found = lacking(world, [*frames, arc])
    assert ("2 MHz LowNoise High", "BIAS", 3, 2) in found
    assert {name for _, name, *_ in found} == {"BIAS", "DARK"}


def test_each_frame_that_waits_counts_once(world, night_of):
    without = [frame for frame in night_of() if frame.frame_class in ("MFFFF", "MFARC", "MFOBJECT")]
    assert {waiting for *_, waiting in lacking(world, without)} == {2}


def test_an_arc_that_is_not_there_is_asked_for(world, night_of):
    without = [frame for frame in night_of() if frame.frame_class != "MFARC"]
    assert {(name, lacks) for _, name, lacks, _ in lacking(world, without)} == {("MFARC", 1)}
