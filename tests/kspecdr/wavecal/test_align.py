import numpy as np

from kspecdr.wavecal.align import align_fibers, resampled


def spectra(lamps, terms, *, n_column=1000):
    columns = np.arange(n_column, dtype=float)
    u = 2 * columns / (n_column - 1) - 1
    lines = np.array([40, 97, 180, 251, 333, 390, 478, 560, 655, 720, 801, 872, 950.0])
    rows = []
    for o, t, q in terms:
        # column x shows v = x - (o + t u + q u**2)
        place = np.interp(lines, columns - (o + t * u + q * u**2), columns)
        rows.append(1000 * lamps.bell(columns, place[:, None], 1.5).sum(axis=0))
    return np.array(rows)


def test_smile_stretch_and_random_offsets_are_measured(lamps, rng):
    s = np.linspace(-1, 1, 14)
    truth = np.stack([8 * s**2 + rng.normal(size=14) * 0.4, 1.5 * s, 0.5 * s**2], axis=1)
    truth -= truth.mean(axis=0)
    found = align_fibers(np.arcsinh(spectra(lamps, truth) / 5), np.ones(14, dtype=bool))
    assert np.abs(found[:, 0] - truth[:, 0]).max() < 0.15
    assert np.abs(found[:, 1] - truth[:, 1]).max() < 0.3


def test_dark_fiber_takes_the_values_between_its_neighbours(lamps):
    truth = np.stack([np.linspace(-3, 3, 7), np.zeros(7), np.zeros(7)], axis=1)
    light = spectra(lamps, truth)
    light[3] = 0
    usable = np.arange(7) != 3
    found = align_fibers(np.arcsinh(light / 5), usable)
    assert abs(found[3, 0] - 0.5 * (found[2, 0] + found[4, 0])) < 1e-9
    assert np.abs(found[:, 0] - truth[:, 0]).max() < 0.15


def test_resampled_spectra_lie_on_the_reference(lamps):
    terms = np.array([[2.5, 0.0, 0.0], [-2.5, 0.0, 0.0]])
    light = spectra(lamps, terms)
    straight = resampled(light, terms)
    assert np.abs(straight[0] - straight[1]).max() < 0.12 * light.max()


def test_single_fiber_is_its_own_reference(lamps):
    assert np.array_equal(align_fibers(spectra(lamps, [(4.0, 0, 0)]), np.array([True])), np.zeros((1, 3)))
