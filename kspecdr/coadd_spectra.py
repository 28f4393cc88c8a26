"""The step coadd_spectra: several exposures of one field to one."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kspecdr.coadd import coadd
from kspecdr.errors import BadFrame, BadOption, named
from kspecdr.io.fits import read_spectra, source_of, write_spectra
from kspecdr.io.names import PathLike
from kspecdr.products import MaskBit, Provenance, Spectra

log = logging.getLogger(__name__)

SAME_WAVE = 1e-3  # of a sample, by which grids may differ


def coadded(exposures: Sequence[Spectra]) -> Spectra:
    """Return the mean of reduced exposures of the same fibers, in the scale of the mean exposure.

    Exposure time is the mean of theirs; the start and all else is the first one's.

    Raises BadFrame where they are not of the same fibers, on one grid, in one unit, or share no light.
    """
    first = exposures[0]
    for n, each in enumerate(exposures, start=1):
        _check_alike(each, first, n)
    flux, variance, mask = (np.stack([getattr(e, name) for e in exposures]) for name in ("flux", "variance", "mask"))
    covariance = np.stack([np.zeros_like(e.flux) if e.covariance is None else e.covariance for e in exposures])
    good = (mask == 0) & np.isfinite(flux) & (variance > 0)
    mean = coadd(flux, variance, covariance, good)
    skies = [e.sky / scale for e, scale in zip(exposures, mean.scale, strict=True) if e.sky is not None]
    time = float(np.mean([e.setup.exposure for e in exposures]))
    why = np.bitwise_or.reduce(mask, axis=0) | np.uint8(MaskBit.NO_DATA)  # of samples that no exposure has
    return replace(
        first,
        flux=mean.flux,
        variance=mean.variance,
        covariance=mean.covariance,
        mask=np.where(np.isfinite(mean.flux), 0, why).astype(np.uint8),
        sky=np.mean(skies, axis=0) if len(skies) == len(exposures) else None,
        without_sky=None,
        setup=replace(first.setup, exposure=time),
    )


def _check_alike(each: Spectra, first: Spectra, n: int) -> None:
    """Raise BadFrame where exposure number `n` cannot be averaged with the first, sample by sample."""
    step = abs(float(first.wave[0, 1] - first.wave[0, 0]))
    if not each.scrunched or each.flux.shape != first.flux.shape:
        raise BadFrame(f"exposure {n} is not on the grid of the first; reduce all with the same arc")
    if np.abs(each.wave - first.wave).max() > SAME_WAVE * step:
        raise BadFrame(f"exposure {n} is on another wavelength grid than the first; reduce all with the same arc")
    if each.unit != first.unit:
        raise BadFrame(f"exposure {n} is in {each.unit!r}, the first in {first.unit!r}; reduce all alike")
    for k, (name, expected) in enumerate(zip(each.fibers.name.tolist(), first.fibers.name.tolist(), strict=True), 1):
        if name != expected:
            raise BadFrame(
                f"exposure {n} has {name!r} on fiber {k}, the first {expected!r}; give exposures of one field"
            )


def coadd_spectra(red_filenames: Sequence[PathLike], output_filename: PathLike) -> str:
    """Combine the *_red.fits of several exposures of one field by inverse variance; return `output_filename`.

    The exposures' scales, by transparency and time, are fitted and taken out. All must have been reduced with
    the same arc, so that they are on one wavelength grid.

    Raises
    ------
    BadOption, BadFrame
        Naming the value and the expectation.
    """
    if len(red_filenames) < 2:
        raise BadOption(f"coadd_spectra was given {len(red_filenames)} files, expected 2 or more")
    exposures = [read_spectra(path, "red") for path in red_filenames]
    with named(*red_filenames):
        mean = coadded(exposures)
    sources = Provenance(tuple(source_of(path, "red") for path in red_filenames))
    path = write_spectra(output_filename, replace(mean, provenance=sources))
    log.info("%s: %d exposures combined", Path(path).name, len(exposures))
    return path
