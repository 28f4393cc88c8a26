from datetime import UTC, datetime

import numpy as np
import pytest

from kspecdr.errors import BadFrame
from kspecdr.products import Fibers, Image, MaskBit, Setup
from kspecdr.tlm.make_tlm import trace

SETUP = Setup("MFFFF", 1.0, datetime(2026, 1, 27, tzinfo=UTC), 1.0, 16.0, 65535.0, "mode", 6200.0, 3.68, 150.0)
FULL = 60_000.0


def flat_image(flux, variance):
    full = flux >= FULL
    mask = np.where(full, np.uint8(MaskBit.SATURATED), np.uint8(0))
    return Image(np.minimum(flux, FULL), variance, mask, SETUP, Fibers.of(14))


def test_a_flat_of_full_pixels_is_refused_for_saturation_and_not_for_missing_fibers(slit, rng):
    truth = slit(level=2e7)
    flux, variance, _ = truth.observe(rng)
    with pytest.raises(BadFrame, match=r"the flat is saturated: .* shorter time"):
        trace(flat_image(flux, variance))


def test_a_slit_half_dark_is_refused_for_its_missing_fibers(slit, rng):
    truth = slit(relative=dict.fromkeys(range(6, 14), 0.0))
    flux, variance, _ = truth.observe(rng)
    with pytest.raises(BadFrame, match=r"^6 of 14 fibers found"):
        trace(flat_image(flux, variance))
