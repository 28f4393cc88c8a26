"""Light about the fibers that is of none of them: what a fit of their profiles leaves behind.

A ghost or a reflection that crosses the traces looks neither like a fiber nor like smooth scattered light, and
fibers out of focus do not look like those of the map. Both stay in the residuals of a row, column after column,
where noise averages out.
"""

from dataclasses import replace

import numpy as np

from kspecdr.arrays import Floats
from kspecdr.tlm.windows import Seen, Windows

THIN = 4  # every such column tells
STRETCHES = 6  # of columns; a ghost need not lie along a trace
NOISE = 3.0  # sigma of a row's mean residual that is not yet light
LEAST_LIGHT = 20.0  # sigma of the light of a fiber in a stretch, with which strange light is compared


def strange_light(seen: Seen, windows: Windows, light: Floats) -> float:
    """Return the light that no profile explains as a share of a fiber's own, in the fiber that it troubles most.

    seen, windows : as `kspecdr.extract.optimal.extract_optimal` takes them
    light : (n_fiber, n_column) electrons that were fitted; NaN where none could be
    """
    few = np.s_[..., ::THIN]
    known = np.isfinite(light[few])
    fitted = np.where(known, light[few], 0.0)
    thin = replace(windows, own=windows.own[few], others={m: share[few] for m, share in windows.others.items()})
    model = thin.model(fitted)
    good = seen.good[few] & known[:, None]
    rest = np.where(good, seen.flux[few] - model, 0)
    noise = np.where(good, seen.dark_variance[few] + np.maximum(model, 0), 0)
    edge = np.linspace(0, fitted.shape[1], STRETCHES + 1).round().astype(int)[:-1]
    number = np.maximum(np.add.reduceat(good, edge, axis=2, dtype=np.float32), 1)
    off, error = np.add.reduceat(rest, edge, axis=2) / number, np.add.reduceat(noise, edge, axis=2) / number**2
    excess = np.sqrt(np.clip(off**2 - NOISE**2 * error, 0, None)).sum(axis=1)
    own = np.add.reduceat(fitted, edge, axis=1) / np.maximum(np.add.reduceat(known, edge, axis=1, dtype=np.float32), 1)
    sure = own > LEAST_LIGHT * np.sqrt(error.sum(axis=1))
    share = np.where(sure, excess / np.where(sure, own, 1.0), 0.0)
    return float(np.max(np.mean(share, axis=1), initial=0.0))
