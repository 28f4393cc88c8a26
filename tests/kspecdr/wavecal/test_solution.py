import numpy as np
import pytest

from kspecdr.wavecal.dispersion import DEGREE, SMOOTH, Dispersion
from kspecdr.wavecal.solution import Measurements, fit_dispersion, held_out, residuals, used_lines

N_COLUMN = 1340
NOTHING = np.zeros(DEGREE + 1)


def start(n_fiber, *, center=6200.0, dispersion=4.0):
    shape = np.zeros(DEGREE + 1)
    shape[:2] = center, dispersion * 0.5 * (N_COLUMN - 1)
    return Dispersion(N_COLUMN, shape, np.zeros((n_fiber, 1 + SMOOTH)), np.zeros(0))


def measured(waves, wavelengths, rng, *, error=0.01, fibers=None):
    """Columns of lines in fibers of known wavelengths (n_fiber, n_column), with noise."""
    fibers = np.arange(len(waves)) if fibers is None else fibers
    columns = np.arange(N_COLUMN, dtype=float)
    place = np.array([np.interp(wavelengths, waves[k], columns) for k in fibers])
    line = np.broadcast_to(np.arange(len(wavelengths)), place.shape)
    return Measurements(
        np.repeat(fibers, len(wavelengths)),
        line.ravel(),
        (place + rng.normal(size=place.shape) * error).ravel(),
        np.full(place.size, error),
        np.tile(wavelengths, len(fibers)),
        np.zeros(len(wavelengths)),
    )


@pytest.fixture
def slit(lamps, rng):
    s = np.linspace(-1, 1, 14)
    return lamps.slit(lamps.grating(N_COLUMN, 6200.0, 150), 2 * s**2 + rng.normal(size=14) * 0.4, 0.2 * s)


def test_offsets_stretch_and_dispersion_are_recovered_between_and_beyond_the_lines(slit, rng):
    lines = np.sort(rng.uniform(4400, 8300, 25))
    model = fit_dispersion(measured(slit, lines, rng), start(14), base=NOTHING)
    deviation = model.wavelengths() - slit
    assert np.sqrt(np.mean(deviation[:, 200:1200] ** 2)) < 0.005 * 4
    within = np.abs(deviation) / model.errors()
    assert np.quantile(within, 0.95) < 3
    assert model.errors()[:, 0].min() > 2 * model.errors()[:, 670].max()


def test_dark_fiber_lies_on_the_smooth_curve_of_the_others(lamps, rng):
    s = np.linspace(-1, 1, 14)
    waves = lamps.slit(lamps.grating(N_COLUMN, 6200.0, 150), 5 * s**2 - s, 0.2 * s)
    lines = np.sort(rng.uniform(4000, 8700, 30))
    lit = np.delete(np.arange(14), 6)
    model = fit_dispersion(measured(waves, lines, rng, fibers=lit), start(14), base=NOTHING)
    assert np.abs(model.wavelengths()[6] - waves[6]).max() < 0.1 * 4


def test_false_line_and_cosmic_ray_do_not_pull(slit, rng):
    lines = np.sort(rng.uniform(4000, 8700, 30))
    data = measured(slit, lines, rng)
    data.column[data.line == 12] += 0.8  # one line of the table is wrong, in every fiber
    data.column[7] += 3  # one hit in one fiber
    model = fit_dispersion(data, start(14), base=NOTHING)
    assert np.sqrt(np.mean((model.wavelengths() - slit)[:, 60:1280] ** 2)) < 0.01 * 4
    agree = used_lines(data, model)
    assert not agree[7]
    assert agree[(data.line != 12) & (np.arange(len(agree)) != 7)].mean() > 0.99
    assert abs(np.median(residuals(data, model)[data.line == 12]) - 0.8) < 0.1


def test_shared_error_of_lines_is_not_averaged_away_by_many_fibers(lamps, rng):
    waves = lamps.slit(lamps.grating(N_COLUMN, 6200.0, 150), np.zeros(60), np.zeros(60))
    lines = np.sort(rng.uniform(4000, 8700, 20))
    data = measured(waves, lines, rng, error=0.005)
    data = Measurements(
        data.fiber,
        data.line,
        data.column + 0.1 * rng.normal(size=20)[data.line],
        data.error,
        data.wavelength,
        data.blend,
    )
    model = fit_dispersion(data, start(60), base=NOTHING)
    assert 0.05 < model.line_scatter < 0.2
    assert np.quantile(np.abs(model.wavelengths() - waves) / model.errors(), 0.9) < 3


def test_known_grating_equation_holds_the_solution_beyond_the_lines(lamps, rng):
    waves = lamps.grating(N_COLUMN, 5000.0, 600)[None]
    lines = np.linspace(waves[0, 500], waves[0, 900], 9)
    terms = np.polynomial.legendre.legfit(np.linspace(-1, 1, N_COLUMN), waves[0], DEGREE)
    base = np.where(np.arange(DEGREE + 1) > 2, terms, 0)
    data = measured(waves, lines, rng, error=0.002)
    first = start(1, center=5000.0, dispersion=0.97)
    free, held = (fit_dispersion(data, first, base=terms) for terms in (NOTHING, base))
    assert held.errors().max() < 0.5 * free.errors().max()
    for model in (free, held):
        assert (np.abs(model.wavelengths() - waves) < 3 * model.errors() + 0.01).all()


def test_held_out_residuals_see_the_error_of_the_line_itself(slit, rng):
    lines = np.sort(rng.uniform(4000, 8700, 30))
    data = measured(slit, lines, rng)
    data.column[data.line == 12] += 0.3
    model = fit_dispersion(data, start(14), base=NOTHING)
    left, expected = held_out(data, model, base=NOTHING)
    assert abs(np.median(left[data.line == 12]) - 0.3) < 0.05
    assert np.median(np.abs(left)) < 0.03
    others = data.line != 12
    assert 0.5 < np.sqrt(np.mean((left[others] / expected[others]) ** 2)) < 1.5
