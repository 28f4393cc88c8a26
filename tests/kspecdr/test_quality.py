from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from kspecdr import quality
from kspecdr.products import Fibers, Image, MaskBit, Setup, Spectra, TramlineMap

SETUP = Setup(
    "MFOBJECT", 60.0, datetime(2026, 1, 27, tzinfo=UTC), 4.0, 16.0, 65535.0, "2 MHz LowNoise Low", 6200.0, 3.68, 150.0
)


def spectra(rng, light):
    flux = light + rng.normal(0, 10, (3, 400))
    return Spectra(flux, np.full(flux.shape, 100.0), np.zeros(flux.shape, np.uint8), flux * 0, SETUP, Fibers.of(3))


def flags(figures):
    return {figure.name: figure.flag for figure in figures}


def test_a_frame_without_light_fails(rng):
    assert flags(quality.of_spectra(spectra(rng, 0.0)))["signal_to_noise_best"] == "fail"
    assert set(flags(quality.of_spectra(spectra(rng, 500.0))).values()) == {"ok"}


def test_moved_traces_and_saturation_warn(rng):
    moved = replace(spectra(rng, 500.0), tramline_shift=-4.0)
    full = replace(moved, mask=np.full((3, 400), MaskBit.SATURATED, np.uint8))
    assert flags(quality.of_spectra(full))["tramline_shift_px"] == "warn"
    assert flags(quality.of_spectra(full))["saturated_fraction"] == "warn"


def test_a_master_noisier_than_its_variance_warns(rng):
    flux = rng.normal(2500, 40, (200, 300))
    master = Image(flux, np.full(flux.shape, 16.0**2), np.zeros(flux.shape, np.uint8), SETUP, Fibers.of(3))
    figures = {figure.name: figure for figure in quality.of_master(master)}
    assert figures["noise_over_expected"].value == pytest.approx(40 / 16, rel=0.03)
    assert figures["noise_over_expected"].flag == "warn"


def test_dead_fibers_warn_unless_the_table_knows_them():
    center = np.ones((3, 5)) * np.array([[10.0], [22.0], [34.0]])
    status = np.array(["traced", "interpolated", "traced"])
    tlm = TramlineMap(center, center * 0 + 1.4, center, status, SETUP, Fibers.of(3))
    assert flags(quality.of_tramlines(tlm))["fibers_interpolated"] == "warn"
    known = replace(tlm, fibers=Fibers.of(3).retyped({2: "D"}))
    assert flags(quality.of_tramlines(known))["fibers_interpolated"] == "ok"
