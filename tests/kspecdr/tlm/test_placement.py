import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from kspecdr.errors import BadFrame
from kspecdr.io.raw_image import read_pixels
from kspecdr.products import Fibers, Image, Setup, TramlineMap
from kspecdr.tlm.make_tlm import trace
from kspecdr.tlm.placement import place

SETUP = Setup("MFOBJECT", 1.0, datetime(2026, 1, 27, tzinfo=UTC), 1.0, 5.0, 65535.0, "mode", 6200.0, 3.68, 150.0)
N_ROW, N_COLUMN, CENTERS = 120, 300, np.array([30.0, 42.0, 54.0, 66.0, 78.0, 90.0])
MAP = TramlineMap(
    np.repeat(CENTERS[:, None], N_COLUMN, axis=1),
    np.full((6, N_COLUMN), 1.4),
    np.ones((6, N_COLUMN)),
    np.full(6, "traced"),
    SETUP,
    Fibers.of(6),
)

REAL_FRAMES = {  # gain is near 1
    "bias": "20200110_133751_Camera00_blue_BIAS.fits",
    "dark": "20200110_134048_Camera00_blue_DARK_50s.fits",
    "flat": "20200110_134247_Camera00_blue_FLAT_50s.fits",
    "short": "20200110_134641_Camera00_blue_KrNeAr_0.2s_BASELINE.fits",
    "long": "20200110_134705_Camera00_blue_KrNeAr_4.0s_BASELINE.fits",
}


def image(rng, shift, light=2000.0, lit=slice(None)):
    row = np.arange(N_ROW)[:, None]
    profile = np.exp(-0.5 * ((row - CENTERS[lit] - shift) / 1.4) ** 2).sum(axis=1) / (1.4 * np.sqrt(2 * np.pi))
    flux = light * profile[:, None] + rng.normal(0, 5, (N_ROW, N_COLUMN))
    variance = np.maximum(light * profile[:, None], 0) + 25.0 + 0 * flux
    return Image(flux, variance, np.zeros(flux.shape, np.uint8), SETUP, Fibers.of(6))


@pytest.mark.parametrize("shift", [-1.4, 0.0, 0.37, 2.6])
def test_the_map_moves_to_where_the_light_is(rng, shift):
    placed = place(image(rng, shift), MAP)
    np.testing.assert_allclose(placed.tramlines.center, MAP.center + shift, atol=0.02)
    assert placed.alarm == ""


def test_a_large_shift_is_told_and_a_larger_one_refused(rng):
    assert "the traces lie +4." in place(image(rng, 4.5), MAP).alarm
    with pytest.raises(BadFrame, match=r"the traces lie \+9\.\d px from the tramline map, expected within 8 px"):
        place(image(rng, 9.5), MAP)


def test_a_star_that_may_be_in_another_fiber_is_told_and_refused_where_the_traces_moved_much(rng):
    alarm = place(image(rng, 10.0, lit=[3]), MAP).alarm
    assert re.match(r"the traces lie -2\.\d+ px from the map, which too little light tells from \+(9|10)\.", alarm)
    with pytest.raises(BadFrame, match=r"lie [+-]\d\.\d or [+-]\d\.\d px .* too few fibers have light to tell which"):
        place(image(rng, 5.0, lit=[3]), MAP)


def test_a_saturated_arc_of_a_real_instrument_lies_where_the_short_one_lies(real):
    raw = {name: read_pixels(real / "llamas" / file)[1][0].astype(np.float32) for name, file in REAL_FRAMES.items()}
    images = {}
    for name, exposure in (("flat", 1.0), ("short", 0.004), ("long", 0.08)):  # of the dark's time
        flux = raw[name] - raw["bias"] - exposure * (raw["dark"] - raw["bias"])
        mask = np.where(raw[name] >= 65535, np.uint8(2), np.uint8(0))
        setup = replace(SETUP, frame_class="MFARC")
        images[name] = Image(flux, np.maximum(flux, 0) + 25, mask, setup, Fibers.of(169))
    tramlines = trace(images["flat"])
    for name in ("short", "long"):
        placed = place(images[name], tramlines)
        assert abs(placed.shift.offset) < 0.05
        assert placed.alarm == ""


def test_a_given_shift_is_used_as_given(rng):
    placed = place(image(rng, 1.0), MAP, 0.0)
    np.testing.assert_array_equal(placed.tramlines.center, MAP.center)


def test_a_frame_without_light_is_told(rng):
    assert place(image(rng, 0.0, light=0.0), MAP).alarm.startswith("no light of the fibers is seen")


def test_a_map_of_another_width_is_refused(rng):
    narrow = replace(MAP, **{name: getattr(MAP, name)[:, :100] for name in ("center", "width", "wave")})
    with pytest.raises(BadFrame, match="the tramline map has 100 columns, the image has 300"):
        place(image(rng, 0.0), narrow)
