from datetime import UTC, datetime

import numpy as np
import pytest

from kspecdr.errors import BadFrame
from kspecdr.products import Fibers, Image, MaskBit, Setup
from kspecdr.tlm.make_tlm import missing_warning, trace

SETUP = Setup("MFFFF", 1.0, datetime(2026, 1, 27, tzinfo=UTC), 1.0, 16.0, 65535.0, "mode", 6200.0, 3.68, 150.0)
FULL = 60_000.0


FIBERS = Fibers.of(14)


def flat_image(flux, variance, fibers=FIBERS):
    full = flux >= FULL
    mask = np.where(full, np.uint8(MaskBit.SATURATED), np.uint8(0))
    return Image(np.minimum(flux, FULL), variance, mask, SETUP, fibers)


def fibers_at(row):
    plain = Fibers.of(len(row))
    return Fibers(plain.type, plain.name, {"row": np.asarray(row)})


@pytest.fixture
def traced(slit, rng):
    """Return a function that traces a flat of fibers of which some are dark; the truth of the rows beside."""

    def flat(dark, *, fibers=None, with_rows=False):
        truth = slit(relative={0: 0.015, 13: 0.02, **dict.fromkeys(dark, 0.0)})
        flux, variance, _ = truth.observe(rng)
        rows = truth.center()[:, 200]
        table = fibers_at(rows - 1.3) if with_rows else Fibers.of(fibers or 14)
        return trace(flat_image(flux, variance, table)), rows

    return flat


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


@pytest.mark.parametrize("dark", [[6], [6, 7], [3, 9]])
def test_a_flat_with_fibers_missing_names_them_and_renumbers_nobody(traced, dark):
    tlm, rows = traced(dark)
    lit = np.setdiff1d(np.arange(14), dark)
    assert np.abs(tlm.center[lit, 200] - rows[lit]).max() < 0.3
    where = ", ".join(f"row {tlm.center[k, 200]:.0f}, fiber {k + 1}" for k in dark)
    it = "it" if len(dark) == 1 else "them"
    said = f"{14 - len(dark)} of 14 fibers found (no light at {where}); mark {it} N in the fiber table or check {it}"
    assert missing_warning(tlm) == said
    assert tlm.doubt == ""


@pytest.mark.parametrize("dark", [[0], [13], [0, 13], [0, 6, 7]])
def test_missing_end_fibers_are_named_by_the_rows_of_the_table(traced, dark):
    tlm, rows = traced(dark, with_rows=True)
    assert np.flatnonzero(tlm.status == "interpolated").tolist() == dark
    assert np.abs(tlm.center[:, 200] - rows).max() < 0.5
    assert missing_warning(tlm).startswith(f"{14 - len(dark)} of 14 fibers found (no light at row ")


def test_a_missing_end_fiber_without_rows_is_in_doubt(traced):
    tlm, _ = traced([0])
    assert "13 places" in tlm.doubt
    assert "check the number of fibers" in tlm.doubt


@pytest.mark.parametrize("given", [12, 13])
def test_a_flat_with_more_fibers_than_were_said_is_told(traced, given):
    tlm, _ = traced([], fibers=given)
    assert f"the slit has places for 14 fibers, {given} were expected" in tlm.doubt


def test_a_flat_with_more_bright_fibers_than_were_said_is_refused(traced):
    with pytest.raises(BadFrame, match=r"places for 14 fibers, 11 were expected: light at rows \d+, \d+, \d+ would"):
        traced([], fibers=11)


def test_no_fiber_is_missing_where_the_table_says_that_it_is_dead(slit, rng):
    flux, variance, _ = slit(relative={5: 0.0}).observe(rng)
    tlm = trace(flat_image(flux, variance, Fibers.of(14).retyped({6: "D"})))
    assert missing_warning(tlm) == ""
    assert tlm.doubt == ""
