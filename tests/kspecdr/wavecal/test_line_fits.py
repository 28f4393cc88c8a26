import numpy as np

from kspecdr.wavecal.line_fits import LineFits, LineWindows, fit_lines

COLUMNS = np.arange(900.0)
SIGMA = 1.4


def crowded(lamps, rng, n_fiber=20):
    """Lines of 2000 electrons with a neighbour of half their light 3 px off, on a background of 30."""
    place = np.arange(30.0, 880, 25) + rng.uniform(-0.5, 0.5, (n_fiber, 34))
    shape = lamps.bell(COLUMNS, place[..., None], SIGMA) + 0.5 * lamps.bell(COLUMNS, place[..., None] + 3, SIGMA)
    light = 2000 * shape.sum(axis=1) + 30
    variance = light + 100
    return place, light + rng.normal(size=light.shape) * np.sqrt(variance), 1 / variance


def fitted(flux, weight, place, *, sigma=SIGMA, free_width=False, neighbours=(3.0,)):
    """Fit lines at places (n_fiber, n_line) with neighbours at given distances; figures of the same shape."""
    offsets = np.full((place.size, 5), np.nan)
    offsets[:, : len(neighbours)] = neighbours
    center, widths = place.ravel(), np.full(place.size, sigma)
    row = np.repeat(np.arange(len(place)), place.shape[1])
    windows = LineWindows.cut(flux, weight, row, center, 6)
    fits = fit_lines(windows, center, offsets, widths, free_width=free_width)
    return LineFits(*(figure.reshape(place.shape) for figure in vars(fits).values()))


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
    fits = fitted(flux, weight, place, neighbours=())
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
    fits = fitted(flux, np.ones((1, 900)), np.array([[100.0]]), neighbours=())
    assert np.isnan(fits.column).all()


def test_lines_alone_and_in_crowds_are_each_given_their_own_place(lamps, rng):
    crowds = np.array([k % 6 for k in range(30)])  # neighbours of each line
    center = np.arange(15.0, 900, 30)[:30]
    place = center + rng.uniform(-0.4, 0.4, 30)
    offsets = np.where(np.arange(5) < crowds[:, None], [3.0, -3.5, 5.0, -6.0, 7.5], np.nan)
    light = 2000 * lamps.bell(COLUMNS, place[:, None], SIGMA).sum(axis=0)
    for k, offset in np.argwhere(np.isfinite(offsets)):
        light = light + 900 * lamps.bell(COLUMNS, place[k] + offsets[k, offset], SIGMA)
    windows = LineWindows.cut(light[None], np.ones((1, 900)), np.zeros(30, dtype=int), center, 6)
    fits = fit_lines(windows, center, offsets, np.full(30, SIGMA), free_width=False)
    assert np.abs(fits.column - place).max() < 1e-4
    assert np.abs(fits.amplitude - 2000).max() < 1


def test_line_of_no_place_is_nan_and_spoils_no_other(lamps):
    flux = 2000 * lamps.bell(COLUMNS, 100.3, SIGMA)[None]
    fits = fitted(flux, np.ones((1, 900)), np.array([[np.nan, 100.0, -50.0, 2000.0]]), neighbours=())
    assert np.isnan(fits.column[0, [0, 2, 3]]).all()
    assert abs(fits.column[0, 1] - 100.3) < 1e-4
