from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon.records import FrameState, ProductState, Quality, Setup
from daemon.store.queries import Product
from daemon.web.lights import figure_words, light_of, product_light

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


@pytest.mark.parametrize(("flag", "color", "word"), [("warn", "yellow", "look"), ("fail", "red", "bad")])
def test_the_worst_figure_decides_and_is_shown_with_its_limit(flag, color, word):
    quality = (Quality("signal_to_noise", 9.0), Quality("arc_rms", 0.1234, 0.1, flag))
    light = product_light(replace(GOOD, quality=quality, flag=flag))
    assert (light.color, light.word, light.figure) == (color, word, "arc residual 0.123 px (limit 0.1)")


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
