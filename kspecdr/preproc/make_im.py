"""make_im: from a converted frame to an image in electrons with variance and mask."""

import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.errors import BadFrame, BadOption, named
from kspecdr.io.fits import read_frame, read_image, read_plane, read_tramlines, write_image
from kspecdr.io.names import product_path
from kspecdr.legacy import documented
from kspecdr.options import ImageOptions, recorded
from kspecdr.preproc import detector
from kspecdr.preproc.overscan import find_overscan
from kspecdr.preproc.reject import reject_cosmics
from kspecdr.products import CONVERTER_LIMIT, LAMP_CLASSES, Frame, Image, MaskBit, Setup, flagged

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Calibrations:
    """The detector calibrations of a frame; what is None is not applied.

    What follows from them for frames of one exposure time is kept, as long as they are the very same.
    """

    bias: Image | None = None
    dark: Image | None = None
    lflat: Image | None = None
    bad_pixels: Bools | None = None  # (n_row, n_column)

    @property
    def applied(self) -> tuple[tuple[str, Image], ...]:
        """Those that are applied, by their roles."""
        each = (("bias", self.bias), ("dark", self.dark), ("lflat", self.lflat))
        return tuple((role, image) for role, image in each if image is not None)

    def dark_scale(self, exposure: float) -> np.float32:
        """Return what the dark is multiplied by for a frame of some exposure time, s: the ratio of the two."""
        return np.float32(exposure / self.dark.setup.exposure) if self.dark else np.float32(0)

    def at(self, exposure: float) -> "Subtracted":
        """Return what is the same for all frames of one exposure time, s."""
        return _subtracted(self, exposure)

    def variance(self, exposure: float) -> Floats | np.float32:
        """Return the variance that subtracting bias B and dark D from a frame of some exposure time adds to it.

        D = d - B itself, so that a frame less B less s D is the frame less s d less (1 - s) B: where the dark
        was made with this very bias, the noise of B cancels to (1 - s)**2 of its variance.
        """
        bias = self.bias.variance if self.bias else np.float32(0)
        if self.dark is None:
            return bias
        scale = self.dark_scale(exposure)
        own_bias = {source for source in self.dark.provenance.sources if source.role == "bias"}
        if self.bias and own_bias & set(self.bias.provenance.sources):
            own = np.maximum(self.dark.variance - bias, 0)
            return np.asarray((1 - scale) ** 2 * bias + scale**2 * own)
        return np.asarray(bias + scale**2 * self.dark.variance)


@dataclass(frozen=True)
class Subtracted:
    """What calibrations take from a frame of some exposure time, and what that does to it."""

    dark: Floats | None  # electron, scaled
    variance: Floats | np.float32  # that bias and dark add, electron**2
    mask: Ints | None  # pixels that the calibrations themselves do not know


@lru_cache(maxsize=2)  # frames of one exposure time follow each other
def _subtracted(by: Calibrations, exposure: float) -> Subtracted:
    unknown = MaskBit.BAD_PIXEL | MaskBit.NO_DATA
    masks = [image.mask & np.uint8(unknown) for _, image in by.applied]
    return Subtracted(
        by.dark_scale(exposure) * by.dark.flux if by.dark else None,
        by.variance(exposure),
        np.bitwise_or.reduce(masks) if masks else None,
    )


def preprocess(frame: Frame, calibrations: Calibrations, options: ImageOptions) -> Image:
    """Turn counts into electrons; subtract bias and dark, divide by the long-slit flat, mask.

    The dark is scaled by exposure time. The variance carries the noise of the calibrations.
    """
    setup = replace(frame.setup, saturation=saturation_of(frame))
    _check_shapes(frame, calibrations)
    by = calibrations.at(setup.exposure)
    flux = detector.to_electrons(frame.counts, setup.gain)
    level = setup.saturation if options.mark_saturated else None
    mask = detector.initial_mask(frame.counts, level, calibrations.bad_pixels)
    if calibrations.bias is not None:
        flux -= calibrations.bias.flux
        flux, mask = _without_overscan(flux, mask, setup)
    variance = _variance(flux, setup, pedestal_removed=calibrations.bias is not None)
    provenance = frame.provenance
    for role, image in calibrations.applied:
        provenance |= image.provenance.seen_from(role)
    if by.mask is not None:
        mask |= by.mask
    if by.dark is not None:
        flux -= by.dark
    variance += by.variance
    if calibrations.lflat is not None:
        flux, variance = detector.divide(flux, variance, calibrations.lflat.flux, calibrations.lflat.variance)
    return Image(flux, variance, mask, setup, frame.fibers, provenance.with_options(recorded("image", options)))


def _without_overscan(flux: Floats, mask: Ints, setup: Setup) -> tuple[Floats, Ints]:
    """Subtract from a frame less its bias what the overscan rows show, and mark these as without data.

    The rows stay where they are: whether a frame shows which end they are at depends on its light, and the rows of
    a bias, a flat and an object must mean the same.
    """
    if not setup.overscan_rows:
        return flux, mask
    lit = setup.frame_class in LAMP_CLASSES
    found = find_overscan(flux, setup.overscan_rows, setup.read_noise, setup.gain, all_fibers_lit=lit)
    mask = mask.copy()
    mask[: found.low] |= np.uint8(MaskBit.NO_DATA)
    mask[len(mask) - found.high :] |= np.uint8(MaskBit.NO_DATA)
    return flux - np.float32(found.level), mask


def saturation_of(frame: Frame) -> float:
    """Return the level (ADU) at which a frame is saturated: the mode's, or what its fibers show to be less."""
    setup = frame.setup
    if setup.saturation < CONVERTER_LIMIT or not setup.frame_class.startswith("MF"):
        return setup.saturation
    return detector.full_well(frame.counts, setup.read_noise / setup.gain) or setup.saturation


def full_well_warning(image: Image, frame: Frame) -> str:
    """Say that an image's full well was recognised by its own pixels; empty where it was known or not met."""
    if image.setup.saturation == frame.setup.saturation:
        return ""
    return (
        f"pixels are full at {image.setup.saturation:.0f} ADU, below the {frame.setup.saturation:.0f} ADU known of "
        f"{image.setup.readout!r}: marked as saturated; state the level as saturation of this mode"
    )


def _variance(flux: Floats, setup: Setup, *, pedestal_removed: bool) -> Floats:
    if setup.frame_class == "BIAS":
        floor = detector.readout_variance(setup.read_noise, setup.gain)
        return np.full(flux.shape, floor, np.float32)
    light = flux if pedestal_removed else flux - np.float32(detector.pedestal(flux))
    return detector.light_variance(light, setup.read_noise, setup.gain)


def _check_shapes(frame: Frame, calibrations: Calibrations) -> None:
    shape = frame.counts.shape
    for role, image in calibrations.applied:
        if image.flux.shape != shape:
            raise BadFrame(f"the {role} has shape {image.flux.shape}, expected {shape} as the frame")
        if role != "lflat" and image.setup.readout != frame.setup.readout:
            raise BadFrame(f"the {role} was read in {image.setup.readout!r}, the frame in {frame.setup.readout!r}")
    if calibrations.dark is not None and not calibrations.dark.setup.exposure > 0:
        raise BadFrame("the dark has exposure 0 s, expected more to scale it by")
    if calibrations.bad_pixels is not None and calibrations.bad_pixels.shape != shape:
        raise BadFrame(f"the bad-pixel mask has shape {calibrations.bad_pixels.shape}, expected {shape}")


def load_calibrations(
    bias: str | Path | None, dark: str | Path | None, lflat: str | Path | None, bad_pixels: list[str | Path]
) -> Calibrations:
    """Read the calibrations whose paths are given; bad-pixel masks are united.

    Raises BadOption where a file is not of the class that its role asks for.
    """
    bad = [read_plane(path) != 0 for path in bad_pixels]
    return Calibrations(
        _of_class(bias, "bias"),
        _of_class(dark, "dark"),
        _of_class(lflat, "lflat"),
        np.logical_or.reduce(bad) if bad else None,
    )


def _of_class(path: str | Path | None, role: str) -> Image | None:
    if not path:
        return None
    image = read_image(path, role)
    if image.setup.frame_class != role.upper():
        raise BadOption(
            f"{role}_filename {Path(path).name} is of class {image.setup.frame_class}, expected {role.upper()}"
        )
    return image


@documented(ImageOptions)
def make_im(
    raw_filename: str | Path,
    im_filename: str | Path | None = None,
    use_bias: bool = False,
    bias_filename: str | Path | None = None,
    use_dark: bool = False,
    dark_filename: str | Path | None = None,
    use_lflat: bool = False,
    lflat_filename: str | Path | None = None,
    bad_pixel_mask: str | Path | None = None,
    bad_pixel_mask2: str | Path | None = None,
    tlmap_filename: str | Path | None = None,
    verbose: bool = True,
    *,
    options: ImageOptions = ImageOptions(),
) -> str:
    """Preprocess a converted frame; return the path of its *_im.fits.

    Parameters
    ----------
    raw_filename : *_converted.fits
    im_filename : where the image goes; `X_converted.fits` -> `X_im.fits` by default
    use_bias, bias_filename, ... : master calibrations to apply; use without a file is an error
    bad_pixel_mask, bad_pixel_mask2 : FITS images, not 0 where a pixel is bad
    tlmap_filename : tramline map for the cosmic-ray methods; without it the frame's own light is traced
    options : mark_saturated, cosmic_ray_method (NONE, LACOSMIC, PROFILE), sigclip, sigfrac, objlim

    Raises
    ------
    BadOption, BadFrame
        Naming the file, the value and the expectation.
    """
    wanted = {}
    for role, use, path in (
        ("bias", use_bias, bias_filename),
        ("dark", use_dark, dark_filename),
        ("lflat", use_lflat, lflat_filename),
    ):
        if use and not path:
            raise BadOption(f"use_{role}=True needs {role}_filename")
        if path and not use:
            log.warning("%s_filename is given without use_%s=True: it is not applied", role, role)
        wanted[role] = path if use else None
    frame = read_frame(raw_filename)
    masks = [path for path in (bad_pixel_mask, bad_pixel_mask2) if path]
    calibrations = load_calibrations(**wanted, bad_pixels=masks)
    tramlines = read_tramlines(tlmap_filename) if tlmap_filename else None
    with named(raw_filename):
        image = preprocess(frame, calibrations, options)
        if warning := full_well_warning(image, frame):
            log.warning("%s: %s", Path(raw_filename).name, warning)
        image = reject_cosmics(image, options, tramlines)
    path = write_image(im_filename or product_path(raw_filename, "im"), image)
    log.log(logging.INFO if verbose else logging.DEBUG, "%s: %s", Path(path).name, summary(image))
    return path


def summary(image: Image) -> str:
    """Say in a few words what was masked."""
    counts = {
        bit.name.lower().replace("_", " "): int(np.count_nonzero(flagged(image.mask, bit)))
        for bit in MaskBit
        if bit.name
    }
    said = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
    return f"{image.setup.frame_class} {image.setup.exposure:g} s, pixels masked: {said or 'none'}"
