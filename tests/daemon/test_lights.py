import inspect
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon import remedies
from daemon.lights import TITLES, figure_words, light_of, product_light
from daemon.records import FrameState, ProductState, Quality, Setup
from daemon.store.queries import Product
from kspecdr import quality
from kspecdr.products import Note

GOOD = Product(
    path=Path("/out/x_red.fits"),
    kind="red",
    frame_class="MFOBJECT",
    lamp="",
    target="M31",
    raw=("x.fits",),
    night="2026-01-27",
    obs_time=datetime(2026, 1, 27, 18, 0, tzinfo=UTC),
    provisional=False,
    reason="",
    fingerprint="f" * 64,
    quality=(Quality("saturated_fraction", 0.02, 0.001), Quality("signal_to_noise", 314.2)),
    setup=Setup(),
    rule="object",
    state=ProductState.CURRENT,
    flag="ok",
)


def test_a_good_product_is_green_with_its_main_figure():
    light = product_light(GOOD)
    assert (light.color, light.word, light.figure) == ("green", "good", "S/N 314")


def test_a_provisional_product_is_never_green():
    light = product_light(replace(GOOD, provisional=True))
    assert (light.color, light.word) == ("yellow", "provisional")


def test_a_standard_star_is_told_by_the_one_fiber_that_it_lights():
    figures = (Quality("signal_to_noise", 0.1), Quality("signal_to_noise_best", 214.0, 1.0))
    light = product_light(replace(GOOD, frame_class="MFFLX", quality=figures))
    assert (light.color, light.figure) == ("green", "S/N of the best fiber 214")
    assert product_light(replace(GOOD, quality=figures)).figure == "S/N 0.1"


@pytest.mark.parametrize(("flag", "color", "word"), [("warn", "yellow", "look"), ("fail", "red", "bad")])
def test_the_worst_figure_decides_and_is_shown_with_its_limit(flag, color, word):
    figures = (Quality("signal_to_noise", 9.0), Quality("arc_rms", 0.1234, 0.1, flag))
    light = product_light(replace(GOOD, quality=figures, flag=flag))
    assert (light.color, light.word, light.figure) == (color, word, "arc residual 0.123 px (limit 0.1)")


def test_every_light_says_what_to_do(frame_of):
    for state in FrameState:
        assert light_of(frame_of("x.fits", "MFFFF", 0, state=state), []).remedy
    waits = frame_of("x.fits", "MFOBJECT", 0, reason="needs an arc (none has come)")
    assert light_of(waits, []).remedy.startswith("take what it needs")
    assert light_of(replace(waits, reason="waits for a worker"), []).remedy == "nothing: it goes on by itself"
    assert product_light(GOOD).remedy == "nothing"
    assert "it is made again by itself" in product_light(replace(GOOD, provisional=True)).remedy
    tilted = (Quality("tramline_shift_px", 4.0, 3.0, "warn"),)
    assert product_light(replace(GOOD, flag="warn", quality=tilted)).remedy.startswith("take a fiber flat and an arc")
    inherited = (Quality("flag_of_arc", 1.0, 0.0, "warn"),)
    assert product_light(replace(GOOD, flag="warn", quality=inherited)).remedy.startswith("look at the arc")


def test_every_figure_that_may_be_out_of_limits_has_a_title_and_a_remedy():
    limited = set(re.findall(r'at_(?:most|least)\("(\w+)"', inspect.getsource(quality)))
    limited |= {note.lower() for note in (Note.RMS, Note.HELD_OUT, Note.LOST, Note.DARK)}
    assert len(limited) > 12
    assert limited <= remedies.OF_FIGURES.keys()
    assert limited <= TITLES.keys()


def test_a_frame_takes_the_worst_of_its_products(frame_of):
    frame = frame_of("x.fits", "MFFFF", 0, state=FrameState.USED)
    bad = replace(GOOD, flag="fail", quality=(Quality("identity_in_doubt", 1.0, 0.0, "fail"),))
    assert light_of(frame, [GOOD, bad]).color == "red"
    assert light_of(frame, []).color == "grey"


def test_a_frame_that_failed_is_red_and_one_on_its_way_blue(frame_of):
    frame = frame_of("x.fits", "MFFFF", 0)
    assert light_of(replace(frame, state=FrameState.FAILED), [GOOD]).color == "red"
    assert light_of(replace(frame, state=FrameState.RUNNING), []).word == "running"


def test_figures_are_said_in_words():
    assert figure_words(Quality("saturated_fraction", 0.0123, 0.001, "warn")) == "saturated 1.23 % (limit 0.1)"
    assert figure_words(Quality("new_figure", float("nan"))) == "new figure not measured"
    assert figure_words(Quality("tramline_shift_px", 4e-5)) == "traces moved 0.00 px"
