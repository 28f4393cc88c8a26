"""Where a tramline map lies on a frame: the map, moved by what the frame's own light says."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from kspecdr.errors import BadFrame
from kspecdr.products import LAMP_CLASSES, Image, TramlineMap
from kspecdr.tlm.identity import Expected
from kspecdr.tlm.shift import Shift, measure_shift
from kspecdr.tlm.windows import Windows

ALARM = 3.0  # px: a larger shift puts the identity of the fibers in doubt
EXPECTED_LIGHT = {"faint": 0.2, "interpolated": 0.0}  # by status in the flat; 1 else
LARGEST = 8.0  # px: beyond this the map is not of this frame


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
        shift = self.shift
        if not np.isfinite(shift.error):
            return "no light of the fibers is seen; the tramline map was not moved"
        if np.isfinite(shift.rival):
            return (
                f"the traces lie {shift.offset:+.2f} px from the map, which too little light tells from "
                f"{shift.rival:+.2f} px, where it would be that of other fibers; compare with an arc"
            )
        if abs(shift.offset) <= ALARM:
            return ""
        return f"the traces lie {shift.offset:+.2f} px from the map, expected within {ALARM:g} px; take a new flat"


def place(image: Image, tramlines: TramlineMap, shift: float | None = None) -> Placed:
    """Return the map moved to where the image's light is.

    shift : rows to move it by; None measures shift and stretch on the image, 0.0 leaves it where it is

    Raises BadFrame where map and image are of different shapes, the traces lie too far away, or a large shift is
    not told from one by whole fibers.
    """
    if len(image.fibers) != len(tramlines.fibers):
        raise BadFrame(f"the tramline map has {len(tramlines.fibers)} fibers, the image has {len(image.fibers)}")
    n_column = image.flux.shape[1]
    if tramlines.center.shape[1] != n_column:
        raise BadFrame(f"the tramline map has {tramlines.center.shape[1]} columns, the image has {n_column}")
    if shift is not None:
        return placed_at(tramlines, float(shift))
    light = np.array([EXPECTED_LIGHT.get(status, 1.0) for status in tramlines.status.tolist()])
    found = measure_shift(
        image.flux,
        image.variance,
        image.mask,
        tramlines.center,
        tramlines.width,
        tramlines.wings,
        expected=Expected(light, lamp=image.setup.frame_class in LAMP_CLASSES),
    )
    _refuse_far(found)
    return _moved(tramlines, found)


def _refuse_far(found: Shift) -> None:
    """Raise BadFrame where the traces are too far from the map to be of its fibers beyond doubt."""
    if abs(found.offset) > LARGEST:
        raise BadFrame(
            f"the traces lie {found.offset:+.1f} px from the tramline map, expected within {LARGEST:g} px; "
            "the fibers moved or the flat is of another setting: take a new flat"
        )
    if abs(found.offset) > ALARM and np.isfinite(found.rival):
        raise BadFrame(
            f"the traces lie {found.offset:+.1f} or {found.rival:+.1f} px from the tramline map, expected within "
            f"{ALARM:g} px, and too few fibers have light to tell which is whose: take a new flat"
        )


def placed_at(tramlines: TramlineMap, shift: float = 0.0) -> Placed:
    """Return the map moved by `shift` rows, whatever a frame shows."""
    return _moved(tramlines, Shift(shift, 0.0, float(np.mean(tramlines.center)), 0.0, 0))


def _moved(tramlines: TramlineMap, by: Shift) -> Placed:
    return Placed(replace(tramlines, center=by.applied(tramlines.center)), by)
