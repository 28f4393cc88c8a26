"""The documented alternative to the spatial test: L.A.Cosmic (van Dokkum 2001, PASP 113, 1420).

The one door to astroscrappy. It sees the fibers' band only, with the light of the fibers by their profiles
as background and the noise of that model as variance, so that it does not take arc lines for hits.
"""

import astroscrappy
import numpy as np

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.preproc.robust_light import robust_light
from kspecdr.tlm.light import variance_without_light
from kspecdr.tlm.profile import GAUSSIAN
from kspecdr.tlm.windows import Seen, Windows, light_image

MARGIN = 12  # rows past the outer fibers


def find_hits_lacosmic(
    flux: Floats,
    variance: Floats,
    mask: Ints,
    center: Floats,
    width: Floats,
    wings: Floats = GAUSSIAN,
    *,
    sigclip: float = 6.0,
    sigfrac: float = 0.3,
    objlim: float = 5.0,
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
    center, width : (n_fiber, n_column)
        Rows and core widths of the fibers on this very frame.
    wings : (n, N_WING) or (0,)
        See `kspecdr.tlm.profile`.
    sigclip, sigfrac, objlim : float
        Laplacian to noise limit, its fraction for neighbours, least contrast against the fine structure.

    Returns
    -------
    hit : (n_row, n_column) bool
    """
    low = max(0, int(np.floor(np.min(center))) - MARGIN)
    band = slice(low, min(len(flux), int(np.ceil(np.max(center))) + MARGIN + 1))
    windows = Windows.of(center, width, wings)
    fibers = robust_light(Seen.of(flux, variance, mask, windows), windows)
    model = light_image(fibers, center - low, width, wings, band.stop - low)
    unusable = (mask[band] != 0) | ~np.isfinite(flux[band])
    light = np.where(unusable, model, flux[band]).astype(np.float32)
    noise = (variance_without_light(flux[band], variance[band], ~unusable) + model).astype(np.float32)
    found, _ = astroscrappy.detect_cosmics(
        light,
        inmask=unusable,
        inbkg=model,
        invar=noise,
        sigclip=sigclip,
        sigfrac=sigfrac,
        objlim=objlim,
        satlevel=np.inf,
    )
    hit = np.zeros(flux.shape, dtype=bool)
    hit[band] = found & ~unusable
    return hit
