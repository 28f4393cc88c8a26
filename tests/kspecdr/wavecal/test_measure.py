import numpy as np

from kspecdr.wavecal.identify import Guess, solve_fibers
from kspecdr.wavecal.measure import LineTable

SLIT = np.linspace(-1, 1, 8)


def table(**columns):
    n = len(columns["fiber"])
    whole = {name: np.zeros(n) for name in LineTable.__annotations__}
    whole |= {"label": np.full(n, "Kr"), "why": np.full(n, "used", dtype="<U12")}
    return LineTable(**{name: np.array(columns.get(name, column)) for name, column in whole.items()})


def test_a_blend_seen_in_two_frames_is_one_line_with_one_error_of_its_own():
    seen = table(
        frame=[0, 1, 1],
        fiber=[0, 0, 0],
        main=[6419.0, 6419.0, 6421.0],
        wavelength=[6419.8, 6419.9, 6421.0],  # the share of what it is blended with was estimated in each frame
        blend=[0.2, 0.3, 0.0],
    )
    data = seen.measurements()
    assert data.line.tolist() == [0, 0, 1]
    assert data.wavelength.tolist() == [6419.8, 6419.9, 6421.0]
    assert data.blend.tolist() == [0.3, 0.0]


def test_exposures_of_one_lamp_have_the_lines_of_one(lamps, rng):
    waves = lamps.slit(lamps.grating(1340, 6200.0, 150), 3 * SLIT**2, 0.3 * SLIT)
    frames = [lamps.frame(waves, "HgArNeKrCd", peak=peak, rng=rng) for peak in (1e5, 1.3e5)]
    alone, both = (solve_fibers(group, Guess(6200.0, 3.8)) for group in (frames[1:], frames))
    assert both.n_line < 1.1 * alone.n_line
    assert np.count_nonzero(both.lines.used) > 1.7 * np.count_nonzero(alone.lines.used)


def test_stretch_along_the_slit_that_is_not_there_is_not_found_in_faint_fibers(lamps, rng):
    waves = lamps.slit(lamps.grating(1340, 6200.0, 150), np.zeros(14), 0.1 * np.linspace(-1, 1, 14))
    throughput = np.where(np.isin(np.arange(14), [0, 13]), 0.02, 1.0)
    frame = lamps.frame(waves, "HgArNeKrCd", peak=3e4, rng=rng, throughput=throughput)
    solution = solve_fibers([frame], Guess(6200.0, 3.8))
    stretch = solution.dispersion.fibers[:, 1]
    assert np.abs(stretch - stretch.mean() - 0.1 * np.linspace(-1, 1, 14)).max() < 0.02
