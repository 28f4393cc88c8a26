"""Sum each fiber over a fixed width about its trace, corrected for the light beside it.

Pixels count with the part of them that lies in the aperture. The profile of the map says which share of
the fiber's light the good pixels of the aperture hold, so that neither the aperture nor a bad pixel loses
light, and which share of its neighbours' light falls into it.

TRAM, the sum along the tramline, is this very sum: SUM and TRAM differ in name alone.
"""

from dataclasses import dataclass

import numpy as np

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.products import MaskBit, flagged
from kspecdr.tlm.profile import GAUSSIAN, Profile, shares_on

LEAST_SEEN = 0.5  # of the aperture's light that good pixels must hold


@dataclass(frozen=True)
class Extracted:
    """Spectra of the fibers, all (n_fiber, n_column)."""

    flux: Floats  # electron; NaN where too little was seen
    variance: Floats  # electron**2; NaN where flux is
    mask: Ints  # uint8 bits of MaskBit, why flux is NaN


def extract_boxcar(
    flux: Floats,
    variance: Floats,
    mask: Ints,
    center: Floats,
    core_width: Floats,
    wings: Floats = GAUSSIAN,
    *,
    width: float = 5.0,
) -> Extracted:
    """Sum each fiber over `width` pixels about its center.

    Parameters
    ----------
    flux, variance : (n_row, n_column)
        Electron, electron**2.
    mask : (n_row, n_column)
        Bits of MaskBit; any bit makes a pixel bad.
    center, core_width : (n_fiber, n_column)
        Rows and core widths of the fibers.
    wings : (n, N_WING) or (0,)
        See `kspecdr.tlm.profile`.
    width : float
        Of the aperture, px; pixel k spans k - 0.5 to k + 0.5.

    Raises
    ------
    ValueError
        If `width` is not positive.
    """
    if not width > 0:
        raise ValueError(f"the aperture is {width} px wide, expected more than 0")
    profile = Profile.of(wings)
    first = np.floor(center - width / 2 + 0.5).astype(int)
    rows = first[:, None] + np.arange(int(np.ceil(width)) + 1)[:, None]
    part = _part(rows, center, width)
    light, noise, bits = _pixels(flux, variance, mask, rows)
    good = (bits == 0) & np.isfinite(light) & np.isfinite(noise)
    part_good = np.where(good, part, 0.0)
    share = shares_on(first, rows.shape[1], center, core_width, profile)
    held = np.sum(part_good * share, axis=1)
    total = np.sum(np.where(good, part * light, 0.0), axis=1)
    noise_total = np.sum(np.where(good, part**2 * noise, 0.0), axis=1)
    hit = flagged(bits, MaskBit.COSMIC)
    covered = np.sum(part, axis=1, where=hit) > np.sum(part_good, axis=1)  # the rest was hit as well, most likely
    seen = (held > LEAST_SEEN * np.sum(part * share, axis=1)) & ~covered
    held = np.where(seen, held, 1.0)
    spectra = _without_neighbors(total / held, part_good / held[:, None], first, center, core_width, profile, seen)
    lost = np.bitwise_or.reduce(np.where(part > 0, bits, 0), axis=1)
    lost = np.where(lost == 0, np.uint8(MaskBit.NO_DATA), lost)
    return Extracted(
        np.where(seen, spectra, np.nan),
        np.where(seen, noise_total / held**2, np.nan),
        np.where(seen, 0, lost).astype(np.uint8),
    )


def _part(rows: Ints, center: Floats, width: float) -> Floats:
    """Part of each pixel that lies in the aperture, 0 to 1."""
    top = np.minimum(rows + 0.5, (center + width / 2)[:, None])
    bottom = np.maximum(rows - 0.5, (center - width / 2)[:, None])
    return np.asarray(np.clip(top - bottom, 0, 1))


def _pixels(flux: Floats, variance: Floats, mask: Ints, rows: Ints) -> tuple[Floats, Floats, Ints]:
    """Return the images at `rows`; past the frame there is no data."""
    inside, column = np.clip(rows, 0, len(flux) - 1), np.arange(flux.shape[1])
    bits = np.where(rows == inside, mask[inside, column], np.uint8(MaskBit.NO_DATA))
    return flux[inside, column].astype(float), variance[inside, column].astype(float), bits


def _without_neighbors(
    spectra: Floats, part: Floats, first: Ints, center: Floats, core_width: Floats, profile: Profile, seen: Bools
) -> Floats:
    """Take off what the wings of the two neighbours bring into each aperture."""
    result = spectra
    clean = np.where(seen, spectra, 0.0)
    for side in (1, -1):
        here, there = (slice(None, -side), slice(side, None)) if side > 0 else (slice(1, None), slice(None, -1))
        share = shares_on(first[here], part.shape[1], center[there], core_width[there], profile)
        brought = np.sum(part[here] * share, axis=1)
        result = result.copy()
        result[here] -= brought * clean[there]
    return result
