"""Marking cosmic rays on a fiber frame: which method, along which tramlines.

Both methods look at the fibers' band only. They mark pixels in the MASK (bit 4) and replace nothing.
"""

from dataclasses import replace

import numpy as np

from kspecdr.arrays import Bools
from kspecdr.errors import BadFrame, MissingCalibration
from kspecdr.options import ImageOptions
from kspecdr.preproc.cosmic import find_hits
from kspecdr.preproc.lacosmic import find_hits_lacosmic
from kspecdr.products import Image, MaskBit, TramlineMap
from kspecdr.tlm.light import variance_without_light
from kspecdr.tlm.placement import Placed, place
from kspecdr.tlm.trace import trace_fibers


def reject_cosmics(
    image: Image, options: ImageOptions, tramlines: TramlineMap | None = None, *, placed: Placed | None = None
) -> Image:
    """Return the image with cosmic rays marked by the method of the options.

    tramlines : map of the fibers; without it the image's own light is traced
    placed : the map on this image, where it has been measured already

    Raises MissingCalibration where no map is given and the image does not show its fibers.
    """
    if options.cosmic_ray_method == "NONE":
        return image
    here = placed.tramlines if placed else place(image, tramlines).tramlines if tramlines else _own_traces(image)
    bad = image.mask != 0
    dark_variance = variance_without_light(image.flux, image.variance)
    if options.cosmic_ray_method == "PROFILE":
        hit = find_hits(image.flux, dark_variance, bad, here.center, here.width, here.wings)
    else:
        hit = find_hits_lacosmic(
            image.flux,
            dark_variance,
            bad,
            here.center,
            here.width,
            here.wings,
            sigclip=options.sigclip,
            sigfrac=options.sigfrac,
            objlim=options.objlim,
        )
    return marked(image, hit)


def marked(image: Image, hit: Bools) -> Image:
    """Return the image with the COSMIC bit raised where `hit`."""
    return replace(image, mask=np.where(hit, image.mask | np.uint8(MaskBit.COSMIC), image.mask))


def _own_traces(image: Image) -> TramlineMap:
    try:
        traces = trace_fibers(image.flux, image.variance, image.mask != 0, len(image.fibers))
    except BadFrame as error:
        raise MissingCalibration(
            f"cosmic rays are told by the fibers' profiles and no tramline map is given; give tlmap_filename ({error})"
        ) from error
    return TramlineMap(
        traces.center, traces.width, traces.center * np.nan, traces.status, image.setup, image.fibers, traces.wings
    )
