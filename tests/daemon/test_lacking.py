import pytest

from daemon.lacking import by_setting, to_take, waits
from daemon.planning.needed import Lack
from daemon.records import Setup

RED = Setup(grating=150, center_nm=750, readout="slow", binning="1x1")
BLUE = Setup(grating=150, center_nm=500, readout="fast", binning="1x1")


def test_where_most_wait_comes_first_and_only_what_differs_is_told():
    lacks = [
        Lack(BLUE, "arc", "MFARC", 1, 0, 1),
        Lack(RED, "tlm", "MFFFF", 1, 0, 2),
        Lack(RED, "arc", "MFARC", 1, 0, 3),
    ]
    red, blue = by_setting(lacks)
    assert (red.name, red.rest, red.waiting) == ("grating 150 lines/mm, center 750 nm", "readout slow", 3)
    assert (blue.name, blue.rest, blue.waiting) == ("grating 150 lines/mm, center 500 nm", "readout fast", 1)
    assert [lack.rule for lack in red.lacks] == ["tlm", "arc"]


def test_one_setting_is_told_whole_and_one_without_grating_by_what_it_has():
    (only,) = by_setting([Lack(RED, "arc", "MFARC", 1, 0, 0)])
    assert only.rest == "binning 1x1, readout slow"
    (bare,) = by_setting([Lack(Setup(readout="slow"), "bias", "BIAS", 3, 0, 0)])
    assert (bare.name, bare.rest) == ("readout slow", "")


def test_darks_are_asked_for_with_the_exposures_of_the_spectra_of_their_setting(frame_of):
    frames = [
        frame_of("a.fits", "MFOBJECT", 0, setup=RED, exposure_s=300.0),
        frame_of("b.fits", "MFOBJECT", 6, setup=RED, exposure_s=300.0),
        frame_of("s.fits", "MFFLX", 12, setup=RED, exposure_s=10.0),
        frame_of("c.fits", "MFOBJECT", 13, setup=BLUE, exposure_s=60.0),
        frame_of("f.fits", "MFFFF", 14, setup=RED, exposure_s=1.0),
    ]
    dark = Lack(RED, "dark", "DARK", 2, 0, 3)
    (missing,) = by_setting([dark], frames)
    assert to_take(dark, missing.exposures) == "2 darks each of 10 and 300 s"
    assert to_take(dark, (300.0,)) == "2 darks of 300 s"


@pytest.mark.parametrize(
    ("frame_class", "number", "words"), [("BIAS", 3, "3 biases"), ("MFARC", 1, "1 arc"), ("MFFFF", 2, "2 fiber flats")]
)
def test_frames_are_called_as_one_takes_them(frame_class, number, words):
    assert to_take(Lack(RED, "x", frame_class, number, 0, 0), (300.0,)) == words


def test_how_many_wait_is_said_where_any_do():
    assert [waits(Lack(RED, "arc", "MFARC", 1, 0, n)) for n in (0, 1, 2)] == ["", "1 spectrum waits", "2 spectra wait"]
