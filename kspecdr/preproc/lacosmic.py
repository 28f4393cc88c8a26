"""The documented alternative to the spatial test: L.A.Cosmic (van Dokkum 2001, PASP 113, 1420).

The one door to astroscrappy. It sees the fibers' band only, with the light of the fibers by their profiles
as background and the noise of that model as variance, so that it does not take arc lines for hits.
"""

import astroscrappy
import numpy as np

from kspecdr.arrays import Bools, Floats
from kspecdr.preproc.cosmic import model_light
from kspecdr.tlm.profile import GAUSSIAN

MARGIN = 12  # rows past the outer fibers


def find_hits_lacosmic(
    flux: Floats,
    dark_variance: Floats,
    bad: Bools,
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
    dark_variance : (n_row, n_column)
        Variance that the pixels would have without light, electron**2.
    bad : (n_row, n_column) bool
        Pixels that are known to be bad or saturated; never called hits.
    center, width : (n_fiber, n_column)
        Rows and core widths of the fibers on this very frame.
    wings : (N_WING,) or (0,)
        See `kspecdr.tlm.profile`.
    sigclip, sigfrac, objlim : float
        Laplacian to noise limit, its fraction for neighbours, least contrast against the fine structure.

    Returns
    -------
    hit : (n_row, n_column) bool
    """
    low = max(0, int(np.floor(np.min(center))) - MARGIN)
    band = slice(low, min(len(flux), int(np.ceil(np.max(center))) + MARGIN + 1))
    model = model_light(flux, bad, center, width, wings)[band].astype(np.float32)
    unusable = np.ascontiguousarray(bad[band] | ~np.isfinite(flux[band]))
    light = np.where(unusable, model, flux[band]).astype(np.float32)
    variance = (dark_variance[band] + model).astype(np.float32)
    variance = np.where(np.isfinite(variance) & (variance > 0), variance, np.float32(np.nanmedian(variance)))
    found, _ = astroscrappy.detect_cosmics(
        light,
        inmask=unusable,
        inbkg=model,
        invar=variance,
        sigclip=sigclip,
        sigfrac=sigfrac,
        objlim=objlim,
        satlevel=np.inf,
    )
    hit = np.zeros(flux.shape, dtype=bool)
    hit[band] = found & ~unusable
    return hit
