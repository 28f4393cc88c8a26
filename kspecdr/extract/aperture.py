"""What lies in the aperture of a fiber."""

import numpy as np

from kspecdr.arrays import Bools, Floats


def any_in_aperture(plane: Bools, center: Floats, half_width: float) -> Bools:
    """Return where any pixel whose middle lies within `half_width` of a fiber's center is True.

    plane : (n_row, n_column); center : (n_fiber, n_column) row; returns (n_fiber, n_column)
    """
    found = np.zeros(center.shape, dtype=bool)
    if not plane.any():
        return found
    column = np.arange(plane.shape[1])
    reach = int(np.ceil(half_width))
    nearest = np.round(center).astype(int)
    for step in range(-reach, reach + 1):
        row = nearest + step
        inside = (np.abs(row - center) <= half_width) & (row >= 0) & (row < len(plane))
        found |= inside & plane[np.clip(row, 0, len(plane) - 1), column]
    return found
