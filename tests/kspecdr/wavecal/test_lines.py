import numpy as np

from kspecdr.wavecal.lines import background_noise, bridged, continuum, find_lines

COLUMNS = np.arange(600.0)


def peaks_of(flux, *, noise=1.0):
    bad = ~np.isfinite(flux)
    filled = bridged(flux[None], bad[None])
    light = filled - continuum(filled)
    return find_lines(light[0], np.full(len(flux), noise), bad)


def test_lines_are_found_at_their_places_over_a_sloping_continuum(lamps, rng):
    truth = np.array([50.3, 120.7, 260.45, 410.0, 555.8])
    light = 3000 * lamps.bell(COLUMNS, truth[:, None], 1.5).sum(axis=0)
    peaks = peaks_of(light + 200 + 0.5 * COLUMNS + rng.normal(size=600))
    assert len(peaks) == len(truth)
    assert np.abs(peaks.column - truth).max() < 0.1
    assert np.abs(peaks.fwhm - np.sqrt(1.5**2 + 1 / 12) * 2.3548) < 0.2


def test_bump_on_the_wing_of_a_bright_line_is_no_line(lamps):
    light = 1e6 * lamps.bell(COLUMNS, 300.0, 1.5) + 300 * lamps.bell(COLUMNS, 310.0, 1.5)
    assert np.round(peaks_of(light).column).tolist() == [300]


def test_line_on_a_bad_column_is_dropped(lamps):
    light = 3000 * lamps.bell(COLUMNS, np.array([[100.0], [300.0]]), 1.5).sum(axis=0)
    light[300] = np.nan
    assert np.round(peaks_of(light).column).tolist() == [100]


def test_strongest_keeps_the_order_of_columns(lamps):
    light = (np.array([[9e3], [1e3], [5e3]]) * lamps.bell(COLUMNS, np.array([[500.0], [300.0], [100.0]]), 1.5)).sum(
        axis=0
    )
    assert np.round(peaks_of(light).strongest(2).column).tolist() == [100, 500]


def test_noise_is_that_of_the_background_whatever_the_lines(lamps, rng):
    light = 1e5 * lamps.bell(COLUMNS, np.arange(20.0, 600, 60)[:, None], 1.5).sum(axis=0)
    noise = background_noise((light + 7 * rng.normal(size=600))[None])
    assert abs(noise[0] - 7) < 1.5


def test_fiber_without_a_good_sample_is_dark():
    assert np.array_equal(bridged(np.full((1, 9), np.nan), np.ones((1, 9), dtype=bool)), np.zeros((1, 9)))
