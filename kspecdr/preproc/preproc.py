"""Master calibrations: reduce_bias, reduce_dark, reduce_lflat, reduce_fflat, reduce_arc, combine_image.

Each step takes converted files, preprocesses them with the calibrations given, and combines them by
clipping with the known variance. The in-memory parts are `combine_images` and `normalise_response`.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter

from kspecdr.arrays import Floats
from kspecdr.errors import BadFrame, BadOption, named
from kspecdr.io.fits import read_frame, read_image, write_image
from kspecdr.io.names import PathLike
from kspecdr.legacy import documented
from kspecdr.options import ImageOptions
from kspecdr.preproc.combine import Combination, combine, level_factors, level_offsets
from kspecdr.preproc.make_im import Calibrations, load_calibrations, preprocess
from kspecdr.products import Image, MaskBit, Provenance, Setup

log = logging.getLogger(__name__)

HOW = {  # how exposures of a class are combined: what they may differ by, and whether light brings noise
    "BIAS": Combination(poisson=False),
    "DARK": Combination(),
    "LFLAT": Combination(tolerance=0.03),
    "MFFFF": Combination(tolerance=0.03),  # two flats in a row differ by a little more than their noise
}
UNCALIBRATED = Calibrations()
SMOOTH_OVER = 31  # px of the surface that is divided out of a long-slit flat


def combine_images(
    images: Sequence[Image],
    how: Combination | None = None,
    *,
    calibrations: Calibrations = UNCALIBRATED,
    adjust_levels: bool = False,
) -> Image:
    """Combine preprocessed exposures of one class, shape and readout mode into one image.

    calibrations : those of the exposures; their noise is common to all and does not average down
    adjust_levels : bring bias and dark to their mean level by an offset, lit frames by a factor
    """
    first = images[0]
    for image in images[1:]:
        _check_alike(first, image)
    flux = np.stack([image.flux for image in images])
    common = _common_variance(flux, first.setup, calibrations)
    variance = np.stack([image.variance for image in images]) - common
    if adjust_levels and first.setup.frame_class in ("BIAS", "DARK"):
        flux = flux + level_offsets(flux).astype(np.float32)[:, None, None]
    elif adjust_levels:
        factors = level_factors(flux).astype(np.float32)[:, None, None]
        flux, variance = flux * factors, variance * factors**2
    how = how or HOW.get(first.setup.frame_class, Combination(tolerance=0.03))
    mean, spread, mask = combine(flux, variance, np.stack([image.mask for image in images]), how)
    provenance = Provenance()
    for image in images:
        provenance |= image.provenance
    latest = max(images, key=lambda image: image.setup.start)
    setup = replace(first.setup, start=latest.setup.start)
    return Image(mean, spread + common, mask, setup, first.fibers, provenance)


def _check_alike(first: Image, other: Image) -> None:
    for what, one, two in (
        ("class", first.setup.frame_class, other.setup.frame_class),
        ("shape", first.flux.shape, other.flux.shape),
        ("readout mode", first.setup.readout, other.setup.readout),
    ):
        if one != two:
            raise BadFrame(f"exposures of {what} {one} and {two} cannot be combined")


def _common_variance(flux: Floats, setup: Setup, calibrations: Calibrations) -> Floats | np.float32:
    """Return the variance that the calibrations bring to all exposures (n_frame, n_row, n_column) alike."""
    added = calibrations.at(setup.exposure).variance
    if calibrations.lflat is None:
        return added
    response = calibrations.lflat
    return np.asarray((added + np.mean(flux, axis=0) ** 2 * response.variance) / response.flux**2)


def normalise_response(lflat: Image) -> Image:
    """Divide a long-slit flat by its smooth surface; what remains is the pixels' response, near 1.

    Pixels without light have response 1 and are not marked: a flat that does not light them says
    nothing of them.
    """
    good = (lflat.mask == 0) & (lflat.flux > 0)
    weight = uniform_filter(good.astype(np.float64), SMOOTH_OVER)
    smooth = uniform_filter(np.where(good, lflat.flux, 0.0).astype(np.float64), SMOOTH_OVER) / np.maximum(weight, 1e-9)
    lit = good & (smooth > 10 * np.sqrt(lflat.variance))
    safe = np.where(lit, smooth, 1.0)
    response = np.where(lit, lflat.flux / safe, 1.0).astype(np.float32)
    variance = np.where(lit, lflat.variance / safe**2, 0.0).astype(np.float32)
    mask = lflat.mask | np.where(response < 0.2, np.uint8(MaskBit.BAD_PIXEL), np.uint8(0))
    return replace(lflat, flux=np.where(response < 0.2, np.float32(1), response), variance=variance, mask=mask)


def _prepared(paths: Sequence[PathLike], calibrations: Calibrations, frame_class: str) -> list[Image]:
    _check_list("raw_files", paths)
    images = []
    for path in paths:
        with named(path):
            frame = read_frame(path)
            if frame.setup.frame_class != frame_class:
                raise BadFrame(f"it is of class {frame.setup.frame_class}, expected {frame_class}")
            images.append(preprocess(frame, calibrations, ImageOptions()))
    return images


def _check_list(name: str, paths: Sequence[PathLike]) -> None:
    if isinstance(paths, str | Path) or not paths:
        raise BadOption(f"{name} is {paths!r}, expected a list of at least one file")


def _write_master(path: PathLike, image: Image, n: int) -> str:
    log.info("%s: %s of %d exposures", Path(path).name, image.setup.frame_class, n)
    return write_image(path, image)


def _reduced(
    frame_class: str, raw_files: Sequence[PathLike], calibration_files: Sequence[PathLike | None], **how: Any
) -> Image:
    """Preprocess frames of a class with calibrations (bias, dark, long-slit flat) and combine them."""
    bias, dark, lflat = (*calibration_files, None, None, None)[:3]
    calibrations = load_calibrations(bias, dark, lflat, [])
    return combine_images(_prepared(raw_files, calibrations, frame_class), calibrations=calibrations, **how)


@documented()
def combine_image(
    input_files: Sequence[PathLike],
    output_file: PathLike,
    method: str = "SIGMA_CLIP",
    adjust_levels: bool = False,
    sigma: float = 5.0,
) -> str:
    """Combine *_im.fits files into one; method MEDIAN, MEAN or SIGMA_CLIP. Return `output_file`.

    sigma : limit of the clip, in units of the known noise
    """
    _check_list("input_files", input_files)
    images = [read_image(path) for path in input_files]
    base = HOW.get(images[0].setup.frame_class, Combination(tolerance=0.03))
    how = replace(base, method=method, sigma=sigma)
    return _write_master(output_file, combine_images(images, how, adjust_levels=adjust_levels), len(images))


@documented()
def reduce_bias(raw_files: Sequence[PathLike], output_file: PathLike) -> str:
    """Make a master bias (electrons) of converted bias frames; return `output_file`."""
    return _write_master(output_file, _reduced("BIAS", raw_files, ()), len(raw_files))


@documented()
def reduce_dark(
    raw_files: Sequence[PathLike], output_file: PathLike, bias_filename: PathLike | None = None
) -> str | list[str]:
    """Make a master dark of each exposure time among converted dark frames.

    Returns `output_file`, or for several exposure times a list: `mdark.fits` -> `mdark_300s.fits`, ...
    """
    groups = defaultdict(list)
    calibrations = load_calibrations(bias_filename, None, None, [])
    for image in _prepared(raw_files, calibrations, "DARK"):
        groups[image.setup.exposure].append(image)
    output = Path(output_file)
    if len(groups) == 1:
        images = next(iter(groups.values()))
        return _write_master(output, combine_images(images, calibrations=calibrations), len(images))
    masters = {exposure: combine_images(group, calibrations=calibrations) for exposure, group in groups.items()}
    return [
        _write_master(output.with_name(f"{output.stem}_{exposure:g}s.fits"), master, len(groups[exposure]))
        for exposure, master in sorted(masters.items())
    ]


@documented()
def reduce_lflat(
    raw_files: Sequence[PathLike],
    output_file: PathLike,
    bias_filename: PathLike | None = None,
    dark_filename: PathLike | None = None,
) -> str:
    """Make the pixels' response, near 1, of converted long-slit flats; return `output_file`."""
    combined = _reduced("LFLAT", raw_files, (bias_filename, dark_filename), adjust_levels=True)
    return _write_master(output_file, normalise_response(combined), len(raw_files))


@documented()
def reduce_fflat(
    raw_files: Sequence[PathLike],
    output_file: PathLike,
    bias_filename: PathLike | None = None,
    dark_filename: PathLike | None = None,
    lflat_filename: PathLike | None = None,
) -> str:
    """Make one image of converted fiber flats; return `output_file`."""
    used = (bias_filename, dark_filename, lflat_filename)
    return _write_master(output_file, _reduced("MFFFF", raw_files, used, adjust_levels=True), len(raw_files))


@documented()
def reduce_arc(
    raw_files: Sequence[PathLike],
    output_file: PathLike,
    bias_filename: PathLike | None = None,
    dark_filename: PathLike | None = None,
    lflat_filename: PathLike | None = None,
) -> str:
    """Make one image of converted arcs of one lamp and exposure time; return `output_file`.

    Different lamps or exposure times are never averaged: reduce_arcs of kspecdr.extract.reduce_arc fits
    them together instead.
    """
    calibrations = load_calibrations(bias_filename, dark_filename, lflat_filename, [])
    images = _prepared(raw_files, calibrations, "MFARC")
    kinds = sorted({(image.setup.lamp, image.setup.exposure) for image in images})
    if len(kinds) > 1:
        said = ", ".join(f"{lamp or 'unnamed lamp'} {exposure:g} s" for lamp, exposure in kinds)
        raise BadOption(f"arcs of different lamps or exposure times are not averaged ({said}); use reduce_arcs")
    return _write_master(output_file, combine_images(images, calibrations=calibrations), len(images))
