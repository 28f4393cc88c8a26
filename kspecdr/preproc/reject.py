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
from kspecdr.tlm.placement import Placed, place, placed_at
from kspecdr.tlm.trace import trace_fibers
from kspecdr.tlm.windows import Seen


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
    placed = placed or (place(image, tramlines) if tramlines else placed_at(_own_traces(image)))
    if options.cosmic_ray_method == "PROFILE":
        seen = Seen.of(image.flux, image.variance, image.mask, placed.windows)
        return marked(image, placed.windows.on_frame(find_hits(seen, placed.windows), image.flux.shape))
    return marked(image, find_hits_lacosmic(image.flux, image.variance, image.mask, placed.windows, options))


def marked(image: Image, hit: Bools) -> Image:
    """Return the image with the COSMIC bit raised where `hit`."""
    mask = image.mask.copy()
    mask[hit] |= np.uint8(MaskBit.COSMIC)
    return replace(image, mask=mask)


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
