"""Where a tramline map lies on a frame: the map, moved by what the frame's own light says."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from kspecdr.errors import BadFrame
from kspecdr.products import Image, MaskBit, TramlineMap
from kspecdr.tlm.shift import Shift, measure_shift
from kspecdr.tlm.windows import Windows

ALARM = 3.0  # px: a larger shift puts the identity of the fibers in doubt
EXPECTED_LIGHT = {"faint": 0.2, "interpolated": 0.0}  # by status in the flat; 1 else
LARGEST = 8.0  # px: beyond this the map is not of this frame
UNUSABLE = np.uint8(MaskBit.BAD_PIXEL | MaskBit.SATURATED | MaskBit.COSMIC)


@dataclass(frozen=True)
class Placed:
    """A tramline map on a frame."""

    tramlines: TramlineMap  # with its centers moved
    shift: Shift

    @cached_property
    def windows(self) -> Windows:
        """The profiles of the fibers on this very image, evaluated when first asked for."""
        return Windows.of(self.tramlines.center, self.tramlines.width, self.tramlines.wings)

    @property
    def alarm(self) -> str:
        """One sentence where the shift is larger than it should be or not known, else empty."""
        if not np.isfinite(self.shift.error):
            return "no light of the fibers is seen; the tramline map was not moved"
        if abs(self.shift.offset) <= ALARM:
            return ""
        offset = self.shift.offset
        return f"the traces lie {offset:+.2f} px from the map, expected within {ALARM:g} px; take a new flat"


def place(image: Image, tramlines: TramlineMap, shift: float | None = None) -> Placed:
    """Return the map moved to where the image's light is.

    shift : rows to move it by; None measures shift and stretch on the image, 0.0 leaves it where it is

    Raises BadFrame where map and image are of different shapes, or the traces lie too far away.
    """
    if len(image.fibers) != len(tramlines.fibers):
        raise BadFrame(f"the tramline map has {len(tramlines.fibers)} fibers, the image has {len(image.fibers)}")
    n_column = image.flux.shape[1]
    if tramlines.center.shape[1] != n_column:
        raise BadFrame(f"the tramline map has {tramlines.center.shape[1]} columns, the image has {n_column}")
    if shift is None:
        bad = (image.mask & UNUSABLE) != 0
        lit = np.array([EXPECTED_LIGHT.get(status, 1.0) for status in tramlines.status.tolist()])
        found = measure_shift(
            image.flux, image.variance, bad, tramlines.center, tramlines.width, tramlines.wings, lit=lit
        )
    else:
        return placed_at(tramlines, float(shift))
    if abs(found.offset) > LARGEST:
        raise BadFrame(
            f"the traces lie {found.offset:+.1f} px from the tramline map, expected within {LARGEST:g} px; "
            "the fibers moved or the flat is of another setting: take a new flat"
        )
    return _moved(tramlines, found)


def placed_at(tramlines: TramlineMap, shift: float = 0.0) -> Placed:
    """Return the map moved by `shift` rows, whatever a frame shows."""
    return _moved(tramlines, Shift(shift, 0.0, float(np.mean(tramlines.center)), 0.0, 0))


def _moved(tramlines: TramlineMap, by: Shift) -> Placed:
    return Placed(replace(tramlines, center=by.applied(tramlines.center)), by)
