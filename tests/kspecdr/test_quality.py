from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from kspecdr import quality
from kspecdr.products import Fibers, Image, MaskBit, Note, Setup, Spectra, TramlineMap

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


def test_light_that_is_of_no_fiber_warns(rng):
    troubled = replace(spectra(rng, 500.0), notes={Note.STRANGE: 0.4})
    assert flags(quality.of_spectra(troubled))["strange_light"] == "warn"


def test_a_master_noisier_than_its_variance_warns(rng):
    flux = rng.normal(2500, 40, (200, 300))
    master = Image(flux, np.full(flux.shape, 16.0**2), np.zeros(flux.shape, np.uint8), SETUP, Fibers.of(3))
    figures = {figure.name: figure for figure in quality.of_master(master)}
    assert figures["noise_over_expected"].value == pytest.approx(40 / 16, rel=0.03)
    assert figures["noise_over_expected"].flag == "warn"


@pytest.fixture
def map_of_three():
    center = np.ones((3, 50)) * np.array([[10.0], [22.0], [34.0]])
    status = np.array(["traced", "interpolated", "traced"])
    return TramlineMap(center, center * 0 + 1.4, center, status, SETUP, Fibers.of(3))


def flat_of(light, mask=0):
    """Return a flat in which every pixel has `light` electrons."""
    flux = np.full((45, 50), float(light))
    return Image(flux, flux + 16.0**2, np.full(flux.shape, mask, np.uint8), SETUP, Fibers.of(3))


def test_dead_fibers_warn_unless_the_table_knows_them(map_of_three):
    assert flags(quality.of_tramlines(map_of_three, flat_of(5000)))["fibers_interpolated"] == "warn"
    known = replace(map_of_three, fibers=Fibers.of(3).retyped({2: "D"}))
    assert flags(quality.of_tramlines(known, flat_of(5000)))["fibers_interpolated"] == "ok"


def test_a_map_is_judged_by_the_light_of_its_flat(map_of_three):
    def told(flat):
        return flags(quality.of_tramlines(map_of_three, flat))

    assert (told(flat_of(5000))["flat_signal_to_noise"], told(flat_of(5000))["saturated_fraction"]) == ("ok", "ok")
    assert told(flat_of(100))["flat_signal_to_noise"] == "warn"  # 700 e on 56 e of noise
    assert told(flat_of(5000, MaskBit.SATURATED))["saturated_fraction"] == "warn"


def test_a_flat_without_light_in_many_columns_warns(map_of_three):
    flat = flat_of(5000)
    lit = replace(flat, flux=np.where(np.arange(50) < 20, flat.flux, 0.0))
    assert flags(quality.of_tramlines(map_of_three, flat))["dark_columns_fraction"] == "ok"
    assert flags(quality.of_tramlines(map_of_three, lit))["dark_columns_fraction"] == "warn"


def test_doubt_about_the_map_reaches_the_spectra(rng):
    doubtful = replace(spectra(rng, 500.0), notes={Note.DOUBT: "the slit fits as well one fiber further"})
    assert flags(quality.of_spectra(doubtful))["identity_in_doubt"] == "warn"
    assert flags(quality.of_spectra(spectra(rng, 500.0)))["identity_in_doubt"] == "ok"


@pytest.mark.parametrize(
    ("pedestal", "kept", "expected"), [(-5.0, True, "warn"), (-0.5, True, "ok"), (-5.0, False, None)]
)
def test_a_pedestal_that_stays_under_the_spectra_warns(rng, pedestal, kept, expected):
    flux = rng.normal(pedestal, 16, (300, 400))
    flux[100:140] += 500
    image = Image(flux, np.full(flux.shape, 16.0**2), np.zeros(flux.shape, np.uint8), SETUP, Fibers.of(3))
    figures = quality.of_exposure(image, scattered_kept=kept)
    assert flags(figures).get("pedestal_e") == expected
