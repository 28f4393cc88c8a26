"""The documented alternative to the spatial test: L.A.Cosmic (van Dokkum 2001, PASP 113, 1420).

The one door to astroscrappy. It sees the fibers' band only, with the light of the fibers by their profiles
as background and the noise of that model as variance, so that it does not take arc lines for hits.
"""

import astroscrappy
import numpy as np

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.options import ImageOptions
from kspecdr.preproc.robust_light import robust_light
from kspecdr.tlm.light import variance_without_light
from kspecdr.tlm.windows import Seen, Windows

MARGIN = 12  # rows past the outer fibers


def find_hits_lacosmic(
    flux: Floats,
    variance: Floats,
    mask: Ints,
    windows: Windows,
    options: ImageOptions = ImageOptions(),
) -> Bools:
    """Find hits in the fibers' band by the sharpness of their edges.

    Parameters
    ----------
    flux : (n_row, n_column)
        Electron.
    variance : (n_row, n_column)
        Electron**2, with the photon noise of the datum.
    mask : (n_row, n_column)
        Bits of MaskBit; pixels that are known to be bad or saturated are never called hits.
    windows : Windows
        The profiles on this very frame.
    options : ImageOptions
        sigclip, sigfrac, objlim: Laplacian to noise limit, its fraction for neighbours, least contrast against the
        fine structure.

    Returns
    -------
    hit : (n_row, n_column) bool
    """
    low = max(0, int(np.floor(np.min(windows.center))) - MARGIN)
    band = slice(low, min(len(flux), int(np.ceil(np.max(windows.center))) + MARGIN + 1))
    fibers = robust_light(Seen.of(flux, variance, mask, windows), windows)
    model = windows.light_image(fibers, len(flux))[band]
    unusable = (mask[band] != 0) | ~np.isfinite(flux[band])
    light = np.where(unusable, model, flux[band]).astype(np.float32)
    noise = (variance_without_light(flux[band], variance[band], ~unusable) + model).astype(np.float32)
    found, _ = astroscrappy.detect_cosmics(
        light,
        inmask=unusable,
        inbkg=model,
        invar=noise,
        sigclip=options.sigclip,
        sigfrac=options.sigfrac,
        objlim=options.objlim,
        satlevel=np.inf,
    )
    hit = np.zeros(flux.shape, dtype=bool)
    hit[band] = found & ~unusable
    return hit
