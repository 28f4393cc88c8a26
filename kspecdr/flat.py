"""Kernel of reduce_fflat: the response of fibers and pixels from a fiber flat, on native pixels.

A fiber's light is the lamp's spectrum, one curve of wavelength common to all fibers, times the fiber's
throughput, a smooth curve along the columns, times the structure of its pixels (etaloning). Lamp and
throughputs are solved together (kspecdr.throughput), and nothing is rebinned (Kelson 2003, PASP 115, 688).

Structure is kept as far as it is strong against the noise of its pixel, elsewhere what remains is the smooth
throughput (the linear estimate of least error; Wiener 1949).
"""

from dataclasses import dataclass

import numpy as np

from kspecdr.arrays import Bools, Floats
from kspecdr.errors import BadFrame
from kspecdr.options import FlatOptions
from kspecdr.throughput import Separated, Terms, separate, strength_of_structure

LEAST_SIGNAL = 10.0  # signal to noise of a sample that shows light
STRUCTURE_SIGNAL = 10.0  # signal to noise above which a pixel tells of its structure
LEAST_RESPONSE = 0.1  # of a pixel against its neighbours: with less it has no data
LEAST_LIT = 0.1  # of a fiber's samples show light, else it has none


@dataclass(frozen=True)
class Response:
    """What to divide native spectra by; near 1 for the typical fiber."""

    response: Floats  # (n_fiber, n_column); NaN for a fiber without light
    variance: Floats  # (n_fiber, n_column)
    lamp: Floats  # (n_fiber, n_column) electron, the lamp's light in a typical fiber


def fiber_response(
    flux: Floats, variance: Floats, good: Bools, wave: Floats, options: FlatOptions = FlatOptions()
) -> Response:
    """Separate a fiber flat into lamp and response.

    Parameters
    ----------
    flux, variance, good, wave : (n_fiber, n_column)
        Extracted flat, which samples count, and the wavelengths of its pixels (Angstrom; a fiber whose
        wavelengths are not known has no response).

    Raises
    ------
    BadFrame
        If no fiber has light.
    """
    bright = good & (flux > LEAST_SIGNAL * np.sqrt(np.maximum(variance, 0)))
    lit = (bright.sum(axis=1) > LEAST_LIT * np.maximum(good.sum(axis=1), 1)) & np.isfinite(wave).all(axis=1)
    if not lit.any():
        raise BadFrame("no fiber of the flat has light; check the lamp")
    response, noise, lamp = (np.full(flux.shape, np.nan) for _ in range(3))
    of_lit = flux[lit], variance[lit], good[lit]
    parts = _separated(*of_lit, wave[lit], options)
    response[lit], noise[lit] = _with_structure(*of_lit, parts, options)
    lamp[lit] = parts.spectrum
    return Response(response, noise, lamp)


def _separated(flux: Floats, variance: Floats, good: Bools, wave: Floats, options: FlatOptions) -> Separated:
    """Return lamp and throughput, the lamp that of all fibers or of each fiber's nearest alone."""
    terms = Terms(n_term=options.bssnpars, clip=options.bssnsigm)
    everywhere = separate(flux, variance, good, wave, terms)
    if not options.laf_flag:
        return everywhere
    spectrum, shape, uncertain = np.empty_like(flux), np.empty_like(flux), np.empty_like(flux)
    for k in range(len(flux)):
        near = np.sort(np.argsort(np.abs(np.arange(len(flux)) - k), kind="stable")[: options.laf_par])
        local = separate(flux[near], variance[near], good[near], wave[near], terms)
        level = np.median(everywhere.shape[near]) / np.median(local.shape)  # of these among all
        at = int(np.searchsorted(near, k))
        spectrum[k], shape[k], uncertain[k] = local.spectrum[at] / level, local.shape[at] * level, local.uncertain[at]
    return Separated(spectrum, shape, uncertain)


def _with_structure(
    flux: Floats, variance: Floats, good: Bools, parts: Separated, options: FlatOptions
) -> tuple[Floats, Floats]:
    """Return response and variance, the smooth throughput times what is known of the pixels' structure."""
    model = parts.spectrum * parts.shape
    off, error2 = flux / model - 1.0, np.maximum(variance, 1e-12) / model**2
    expected = strength_of_structure(off, error2, good)
    strength = np.maximum(expected, (off / options.bssnsigm) ** 2 - error2)  # a pixel may be an exception
    told = good & (error2 < STRUCTURE_SIGNAL**-2) & (not options.bssmooth)
    kept = np.where(told, strength / (strength + error2), 0.0)
    left = np.where(told, kept * error2, expected) + (1.0 - kept) * parts.uncertain
    own = 1.0 + kept * np.where(told, off, 0.0)
    own = np.where(own > LEAST_RESPONSE, own, np.nan)
    return parts.shape * own, parts.shape**2 * left
