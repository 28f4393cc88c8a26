"""What a night without a dark, an arc or the light of a flat ends as, from raw frames to products."""

import shutil

import numpy as np
import pytest
from astropy.io import fits

from daemon.commands.batch import take_in
from daemon.config import load
from daemon.records import FrameState
from daemon.service import opened
from kspecdr.io.fits import read_spectra
from kspecdr.simulate import PRESETS, write_night


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A small simulated night; the files of its frames."""
    return write_night(tmp_path_factory.mktemp("night"), PRESETS["small"])


@pytest.fixture
def reduced(tmp_path):
    """Reduce files as a batch; return (states, reasons, products) when nothing is left."""
    (tmp_path / "raw").mkdir()

    def reduce(paths, spoil=lambda _: None):
        for path in paths:
            shutil.copy(path, tmp_path / "raw")
        spoil(tmp_path / "raw")
        config = load(
            None,
            {
                "paths": {"watch": [str(tmp_path / "raw")], "out": str(tmp_path / "out")},
                "instrument": {"fibers": 6},
                "workers": {"count": 0},
            },
        )
        with opened(config, batch=True, command="test") as service:
            take_in(service)
            for _ in range(200):
                if service.step().tick.idle:
                    break
            frames = {frame.path: (frame.state, frame.reason) for frame in service.catalog.frames()}
            return frames, service.catalog.latest("red", "MFOBJECT", 0)

    return reduce


def test_without_a_dark_and_an_arc_objects_are_reduced_and_say_so(night, reduced):
    frames, products = reduced([path for path in night if not path.name.startswith(("dark", "arc"))])
    assert len(products) == 2
    for product in products:
        assert product.provisional
        assert "without a dark" in product.reason
        assert "wavelengths predicted, no arc" in product.reason
        spectra = read_spectra(product.path)
        assert spectra.scrunched
        assert not spectra.calibrated
        assert np.ptp(np.diff(spectra.wave[0])) < 1e-6
        assert np.isfinite(spectra.flux).mean() > 0.5
    assert frames["object_00001.fits"][0] is FrameState.REDUCED


def test_a_dark_flat_is_set_aside_and_an_empty_object_told(night, reduced):
    def spoil(raw):
        flat = next(raw.glob("flat*"))
        dark = flat.with_name("flat_00099.fits")
        shutil.copy(flat, dark)
        with fits.open(raw / "bias_00001.fits") as bias, fits.open(dark, mode="update") as unlit:
            unlit[0].data = bias[0].data.copy()
        shutil.copy(raw / "object_00001.fits", raw / "object_00009.fits")
        with fits.open(raw / "object_00009.fits", mode="update") as empty:
            empty[0].data = np.full(empty[0].data.shape, np.nan, np.float32)

    frames, products = reduced(night, spoil)
    assert frames["flat_00099.fits"] == (FrameState.SET_ASIDE, "no light in it, unlike the other flats of its group")
    assert frames["object_00009.fits"][0] is FrameState.FAILED
    assert "object_00009.fits: none of " in frames["object_00009.fits"][1]
    assert len(products) == 2
