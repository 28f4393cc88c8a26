"""The variance that an image carries against the scatter about the truth, in every mode and with every calibration."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from kspecdr.inst.readout import MODES
from kspecdr.options import ImageOptions
from kspecdr.preproc.combine import Combination, combine
from kspecdr.preproc.make_im import Calibrations, preprocess
from kspecdr.preproc.preproc import combine_images
from kspecdr.products import Fibers, Frame, Image, Provenance, Setup, Source

SHAPE = (250, 320)
BIAS_FILE = Provenance((Source("bias", "mbias.fits", "0" * 64),))
RESPONSE_ERROR = 0.002


class Camera:
    """A detector with a bias structure, dark current and pixel response, read in one mode."""

    def __init__(self, mode):
        self.rng = np.random.default_rng(3)
        self.structure = 600 + self.rng.normal(0, 1, SHAPE)  # ADU
        self.response = self.rng.normal(1, 0.01, SHAPE)
        self.dark = self.rng.gamma(2.0, 0.05, SHAPE)  # electron / s
        start = datetime(2026, 1, 27, tzinfo=UTC)
        self.setup = Setup(
            "BIAS", 0.0, start, mode.gain, mode.read_noise, 65535.0, mode.name, 6200.0, 3.68, 150.0
        )  # fmt: skip

    def image(self, frame_class, exposure=0.0, light=0.0, calibrations=Calibrations()):  # noqa: B008 - frozen
        electrons = self.rng.poisson(light * self.response + self.dark * exposure)
        electrons = electrons + self.rng.normal(0, self.setup.read_noise, SHAPE)
        counts = np.clip(np.round(electrons / self.setup.gain + self.structure), 0, 65535).astype(np.uint16)
        setup = replace(self.setup, frame_class=frame_class, exposure=exposure)
        return preprocess(Frame(counts, setup, Fibers.of(2)), calibrations, ImageOptions())

    def calibrations(self):
        bias = replace(combine_images([self.image("BIAS") for _ in range(5)]), provenance=BIAS_FILE)
        of_bias = Calibrations(bias)
        darks = [self.image("DARK", 300.0, calibrations=of_bias) for _ in range(3)]
        dark = combine_images(darks, calibrations=of_bias)
        measured = self.response * (1 + self.rng.normal(0, RESPONSE_ERROR, SHAPE))
        error = np.full(SHAPE, RESPONSE_ERROR**2, np.float32)
        lflat = Image(measured.astype(np.float32), error, np.zeros(SHAPE, np.uint8), self.setup, Fibers.of(2))
        return of_bias, Calibrations(bias, dark), Calibrations(bias, dark, lflat)


@pytest.mark.parametrize("mode", MODES.values(), ids=lambda mode: mode.name)
def test_the_variance_is_exact_in_every_mode_and_with_every_calibration(mode):
    camera = Camera(mode)
    for calibrations in camera.calibrations():
        for light in (0.0, 2000.0):
            for exposure in (60.0, 300.0):
                image = camera.image("MFOBJECT", exposure, light, calibrations)
                truth = light * (camera.response if calibrations.lflat is None else 1.0)
                truth = truth + (camera.dark * exposure if calibrations.dark is None else 0.0)
                ratio = np.mean(image.variance, dtype=np.float64) / np.var(image.flux - truth)
                assert ratio == pytest.approx(1.0, abs=0.02)


def test_no_single_hit_in_five_frames_survives_whatever_its_charge():
    sigma = 16.03 / np.sqrt(5)
    for seed in range(25):
        rng = np.random.default_rng([7, seed])
        flux = rng.normal(2500, 16.03, (5, 32_000)).astype(np.float32)
        where = rng.choice(flux.shape[1], 400, replace=False)
        flux[rng.integers(0, 5, 400), where] += 10 ** rng.uniform(1.5, 4.8, 400)
        stack = flux.reshape(5, 160, 200)
        mean, _, _ = combine(
            stack,
            np.full(stack.shape, 16.03**2, np.float32),
            np.zeros(stack.shape, np.uint8),
            Combination(poisson=False),
        )
        error = mean.ravel() - 2500
        assert error[where].max() < 7 * sigma
        assert np.std(np.delete(error, where)) < 1.02 * sigma
