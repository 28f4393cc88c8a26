"""Emission lines of a lamp spectrum: continuum, noise, peaks and their width."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, median_filter

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.maxima import half_widths, local_maxima, prominences

FWHM_PER_SIGMA = 2.3548


@dataclass(frozen=True)
class Peaks:
    """The lines seen in one spectrum, by column."""

    column: Floats  # (n,) px, to some tenths
    height: Floats  # (n,) above the continuum, units of the flux
    noise: Floats  # (n,) of the height, units of the flux
    fwhm: float  # px, of unblended lines

    def __len__(self) -> int:
        return len(self.column)

    def strongest(self, n: int) -> "Peaks":
        """Return the `n` highest peaks, by column."""
        keep = np.sort(np.argsort(-self.height, kind="stable")[:n])
        return Peaks(self.column[keep], self.height[keep], self.noise[keep], self.fwhm)


def bridged(flux: Floats, bad: Bools) -> Floats:
    """Return `flux` (n_fiber, n_column) with bad samples interpolated along the columns; 0 where all are bad."""
    filled = np.where(bad, 0.0, flux)
    columns = np.arange(flux.shape[1])
    for k in np.flatnonzero(bad.any(axis=1) & ~bad.all(axis=1)):
        filled[k] = np.interp(columns, columns[~bad[k]], flux[k, ~bad[k]])
    return filled


def continuum(flux: Floats, *, block: int = 32) -> Floats:
    """Estimate the light under the lines.

    The lower quartile of blocks of columns, smoothed by a running median of three blocks and interpolated:
    lamp lines are positive and leave a quarter of most blocks free.

    Parameters
    ----------
    flux
        (n_fiber, n_column), finite.
    block
        Length of a block, px; several widths of a line.

    Returns
    -------
    (n_fiber, n_column) in the units of `flux`.
    """
    n_fiber, n_column = flux.shape
    n_block = max(n_column // block, 1)
    length = n_column // n_block
    blocks = flux[:, : n_block * length].reshape(n_fiber, n_block, length)
    quartile = median_filter(np.quantile(blocks, 0.25, axis=2), size=(1, 3), mode="nearest")
    middle = (np.arange(n_block) + 0.5) * length - 0.5
    return np.array([np.interp(np.arange(n_column), middle, row) for row in quartile])


def background_noise(flux: Floats) -> Floats:
    """Return the (n_fiber,) noise of one sample, from samples that show no line.

    Parameters
    ----------
    flux
        (n_fiber, n_column) above the continuum.

    Notes
    -----
    The scatter of differences of samples two apart where both lie within four times a first estimate of it; at
    least 1e-4 of the brightest sample, for spectra whose background was cleaned away.
    """
    step = flux[:, 2:] - flux[:, :-2]
    first = np.quantile(np.abs(step), 0.25, axis=1, keepdims=True) / (0.3186 * np.sqrt(2))  # of a Gaussian
    quiet = (np.abs(flux[:, 2:]) < 4 * first) & (np.abs(flux[:, :-2]) < 4 * first)
    noise = np.sqrt((step**2 * quiet).sum(axis=1) / np.maximum(2 * quiet.sum(axis=1), 1))
    floor = 1e-4 * np.max(np.abs(flux), axis=1)
    return np.where(noise > floor, noise, np.where(floor > 0, floor, 1.0))


def find_lines(flux: Floats, noise: Floats, bad: Bools, *, threshold: float = 6.0) -> Peaks:
    """Find the emission lines of one spectrum.

    Parameters
    ----------
    flux
        (n_column,) above the continuum, bad samples bridged.
    noise
        (n_column,) standard deviation of a sample.
    bad
        (n_column,) samples that cannot be trusted; peaks on them are dropped.
    threshold
        Least height in units of the noise.
    """
    smooth = gaussian_filter1d(flux, 1.0, mode="nearest")
    level = np.maximum(threshold * noise, 1e-3 * np.max(smooth))
    peaks = local_maxima(smooth)
    peaks = peaks[smooth[peaks] >= level[peaks]]
    prominence = prominences(smooth, peaks)
    # a bump on the wing of a line a hundred times as bright is a ghost or a halo, not a line
    peaks = peaks[(prominence >= 0.5 * level[peaks]) & (prominence > 0.01 * _brightest_near(smooth, peaks))]
    peaks = peaks[(peaks > 0) & (peaks < len(flux) - 1)]
    peaks = peaks[~(bad[peaks - 1] | bad[peaks] | bad[peaks + 1])]
    if len(peaks) == 0:
        return Peaks(np.zeros(0), np.zeros(0), np.zeros(0), np.nan)
    left, top, right = (np.log(np.maximum(smooth[peaks + k], 1e-3 * smooth[peaks])) for k in (-1, 0, 1))
    # vertex of the parabola through the logarithms, exact for a Gaussian
    offset = 0.5 * (left - right) / np.minimum(left - 2 * top + right, -1e-6)
    return Peaks(peaks + np.clip(offset, -0.5, 0.5), smooth[peaks], noise[peaks], _line_width(flux, smooth, peaks))


def _brightest_near(smooth: Floats, peaks: Ints, reach: int = 15) -> Floats:
    padded = np.pad(smooth, reach, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    brightest: Floats = windows[peaks].max(axis=1)
    return brightest


def _line_width(flux: Floats, smooth: Floats, peaks: Ints) -> float:
    """Return the FWHM of unblended lines, px: the lower quartile of the brighter half of the peaks."""
    bright = peaks[smooth[peaks] >= np.median(smooth[peaks])]
    summit = np.array([k - 1 + int(np.argmax(flux[k - 1 : k + 2])) for k in bright])
    summit = summit[(summit > 0) & (summit < len(flux) - 1)]
    summit = summit[(flux[summit] > flux[summit - 1]) & (flux[summit] >= flux[summit + 1])]
    if len(summit) == 0:
        return float(np.quantile(half_widths(smooth, bright), 0.25))
    return float(np.quantile(half_widths(flux, summit), 0.25))
