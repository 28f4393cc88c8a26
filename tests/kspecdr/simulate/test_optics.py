from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kspecdr.simulate import optics
from kspecdr.simulate.instrument import Instrument, Spectrograph


def test_dispersion_is_that_of_the_instrument():
    step = np.diff(optics.wavelengths(Instrument()), axis=1)
    assert step[:, 0].mean() == pytest.approx(4.02, abs=0.04)  # blue end, measured on K-SPEC
    assert step[:, -1].mean() == pytest.approx(3.84, abs=0.04)  # red end


def test_datasheet_dispersion_is_six_percent_off():
    true = np.diff(optics.wavelengths(Instrument()), axis=1).mean()
    assert 23.0 * 1200.0 / 150.0 * 0.02 / true == pytest.approx(0.94, abs=0.01)


@given(
    lines_per_mm=st.sampled_from([150, 300, 600]),
    center=st.floats(4500.0, 8000.0),
    ascending=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_line_columns_is_the_inverse_of_wavelengths(lines_per_mm, center, ascending, seed):
    spectrograph = Spectrograph(lines_per_mm=lines_per_mm, nominal_center=center, ascending=ascending)
    instrument = Instrument(spectrograph, seed=seed)
    wavelength = optics.wavelengths(instrument)
    column = optics.line_columns(instrument, wavelength[3])
    np.testing.assert_allclose(column[3], np.arange(1340), atol=1e-8)
    assert (np.sign(np.diff(wavelength)) == (1 if ascending else -1)).all()


def test_tramlines_tilt_and_keep_their_distance():
    rows = optics.tramlines(Instrument())
    assert rows[:, -1].mean() - rows[:, 0].mean() == pytest.approx(-3.6, abs=0.01)
    spacing = np.diff(rows, axis=0)
    assert 11.7 < spacing.min() < spacing.max() < 12.4
    assert rows[0, 670] == pytest.approx(569.0, abs=0.5)
    np.testing.assert_allclose(optics.tramlines(Instrument(), 0.9), rows + 0.9)


@given(center=st.floats(-0.5, 0.5), sigma=st.floats(1.2, 3.0), wings=st.floats(0.0, 0.1))
def test_profile_holds_all_of_the_light(center, sigma, wings):
    row = np.arange(-40, 41)
    profile = optics.pixel_profile(row - center, np.array(sigma), wings, 4.0)
    assert profile.sum() == pytest.approx(1.0, abs=1e-9)
    assert np.average(row, weights=profile) == pytest.approx(center, abs=1e-9)


def test_instruments_of_another_seed_differ():
    instrument = Instrument()
    assert (optics.slit_shape(instrument)[0] != optics.slit_shape(replace(instrument, seed=2))[0]).all()
