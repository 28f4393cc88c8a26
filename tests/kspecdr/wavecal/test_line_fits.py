import numpy as np

from kspecdr.wavecal.line_fits import fit_lines

COLUMNS = np.arange(900.0)
SIGMA = 1.4


def crowded(lamps, rng, n_fiber=20):
    """Lines of 2000 electrons with a neighbour of half their light 3 px off, on a background of 30."""
    place = np.arange(30.0, 880, 25) + rng.uniform(-0.5, 0.5, (n_fiber, 34))
    shape = lamps.bell(COLUMNS, place[..., None], SIGMA) + 0.5 * lamps.bell(COLUMNS, place[..., None] + 3, SIGMA)
    light = 2000 * shape.sum(axis=1) + 30
    variance = light + 100
    return place, light + rng.normal(size=light.shape) * np.sqrt(variance), 1 / variance


def fitted(flux, weight, place, *, sigma=SIGMA, free_width=False, neighbour=3.0):
    offsets = np.full((*place.shape, 2), np.nan)
    offsets[..., 0] = neighbour
    widths = np.full(place.shape, sigma)
    return fit_lines(flux, weight, place, offsets, widths, half_width=6, free_width=free_width)


def test_places_are_unbiased_with_errors_as_stated(lamps, rng):
    place, flux, weight = crowded(lamps, rng)
    fits = fitted(flux, weight, place + rng.normal(size=place.shape) * 0.4)
    pull = (fits.column - place) / fits.error
    assert np.isfinite(fits.column).all()
    assert abs(pull.mean()) < 0.15
    assert 0.9 < pull.std() < 1.1
    assert abs(np.median(fits.misfit) - 1) < 0.15
    assert abs(np.median(fits.amplitude) / 2000 - 1) < 0.01


def test_free_width_is_recovered(lamps, rng):
    place, flux, weight = crowded(lamps, rng)
    fits = fitted(flux, weight, place, sigma=1.7, free_width=True)
    assert abs(np.nanmedian(fits.sigma) / SIGMA - 1) < 0.02


def test_ignored_neighbour_would_bias_the_place(lamps, rng):
    place, flux, weight = crowded(lamps, rng)
    fits = fitted(flux, weight, place, neighbour=np.nan)
    assert abs(np.nanmedian(fits.column - place)) > 0.2


def test_bad_samples_have_no_say(lamps, rng):
    place, flux, weight = crowded(lamps, rng, n_fiber=1)
    hit = np.rint(place[0]).astype(int) + 1
    flux[0, hit] += 1e5
    weight[0, hit] = 0
    fits = fitted(flux, weight, place)
    assert np.abs(fits.column - place).max() < 0.3


def test_line_that_is_not_there_is_not_found(rng):
    flux = rng.normal(size=(1, 900))
    fits = fitted(flux, np.ones((1, 900)), np.arange(30.0, 880, 25)[None])
    assert not (fits.significance > 6).any()


def test_line_far_from_its_place_is_not_taken(lamps):
    flux = 2000 * lamps.bell(COLUMNS, 104.0, SIGMA)[None]
    fits = fitted(flux, np.ones((1, 900)), np.array([[100.0]]), neighbour=np.nan)
    assert np.isnan(fits.column).all()
