"""Which fibers a picture shows, and that it says what it shows."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from daemon.preview import _examples, _legible, _signal_to_noise, _unit, spectrum_png
from kspecdr.io.fits import read_spectra
from kspecdr.products import Fibers


@pytest.fixture(scope="session")
def spectra(exit_code, tmp_path_factory):
    """The spectra of an object of a small simulated night."""
    place = tmp_path_factory.mktemp("night")
    assert exit_code("simulate", place / "raw", "--night", "small") == 0
    assert exit_code("reduce", place / "raw", "--out", place / "out", "--fibers", 6, "--workers", 0) == 0
    return read_spectra(next(place.glob("out/*/object_00001_red.fits")), "red")


@pytest.fixture
def made(spectra):
    """Spectra of six fibers with a constant signal and noise each, and types."""

    def make(signal, noise, types="PPPPPP"):
        shape = spectra.flux.shape
        flux = np.broadcast_to(np.array(signal, dtype=float)[:, None], shape)
        variance = np.broadcast_to(np.square(np.array(noise, dtype=float))[:, None], shape)
        fibers = Fibers(np.array(list(types)), np.array([f"f{k}" for k in range(6)]))
        return replace(spectra, flux=flux, variance=variance, mask=np.zeros(shape, np.uint8), fibers=fibers)

    return make


def chosen(spectra):
    return _examples(np.where(_legible(spectra), _signal_to_noise(spectra), -np.inf))


def test_the_best_signal_to_noise_is_chosen_and_not_the_brightest(made):
    loud = made([100, 900, 200, 50, 60, 5], [10, 300, 10, 10, 10, 10])
    assert chosen(loud)[0] == 2


def test_dead_fibers_and_those_that_the_flat_has_scaled_up_are_left_out(made):
    spoiled = made([100, 90, 300, 80, 2, 900], [10, 10, 10, 10, 10, 200], "PPDPPP")
    assert _legible(spoiled).tolist() == [True, True, False, True, True, False]
    assert chosen(spoiled) == [0, 3]


def test_a_noisy_fiber_with_light_is_shown(made):
    bright = made([5000, 90, 90, 80, 70, 70], [100, 10, 10, 10, 10, 10])
    assert _legible(bright).all()
    assert chosen(bright)[0] == 0


def test_of_a_standard_star_one_fiber_is_drawn(made):
    assert chosen(made([1, 0, 400, 2, 0, 1], [10] * 6)) == [2]


def test_where_nothing_is_known_nothing_is_chosen_and_drawn_all_the_same(made):
    empty = made([np.nan] * 6, [np.nan] * 6)
    assert chosen(empty) == []
    assert Image.open(BytesIO(spectrum_png(empty, "x"))).size == (900, 520)


@pytest.mark.parametrize(("unit", "words"), [("electron", "electron per sample"), ("", "relative"), ("Jy", "Jy")])
def test_the_unit_is_told(spectra, unit, words):
    assert _unit(replace(spectra, unit=unit)) == words


def test_the_picture_shows_what_differs(spectra):
    def pixels(some):
        return np.asarray(Image.open(BytesIO(spectrum_png(some, "x"))).convert("RGB"), dtype=int)

    whole = pixels(spectra)
    assert np.array_equal(whole, pixels(spectra))
    assert np.count_nonzero(np.abs(whole - pixels(replace(spectra, flux=spectra.flux[::-1]))).sum(axis=2)) > 1000
