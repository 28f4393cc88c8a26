from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from kspecdr.errors import BadFrame
from kspecdr.products import Fibers, Image, Setup, TramlineMap
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


def image(rng, shift, light=2000.0):
    row = np.arange(N_ROW)[:, None]
    profile = np.exp(-0.5 * ((row - CENTERS - shift) / 1.4) ** 2).sum(axis=1) / (1.4 * np.sqrt(2 * np.pi))
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


def test_a_given_shift_is_used_as_given(rng):
    placed = place(image(rng, 1.0), MAP, 0.0)
    np.testing.assert_array_equal(placed.tramlines.center, MAP.center)


def test_a_frame_without_light_is_told(rng):
    assert place(image(rng, 0.0, light=0.0), MAP).alarm.startswith("no light of the fibers is seen")


def test_a_map_of_another_width_is_refused(rng):
    narrow = replace(MAP, **{name: getattr(MAP, name)[:, :100] for name in ("center", "width", "wave")})
    with pytest.raises(BadFrame, match="the tramline map has 100 columns, the image has 300"):
        place(image(rng, 0.0), narrow)
