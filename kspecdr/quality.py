"""The quality checklist: numbers of each product, with the limit beyond which a person should look.

A flag is "ok", "warn" (usable, look at it) or "fail" (do not trust it). Limits are of the kind that an
observer would set at the telescope; they judge, they never change a product.
"""

from dataclasses import dataclass

import numpy as np

from kspecdr.arrays import Bools, Floats
from kspecdr.extract.background import darkest_level
from kspecdr.products import Image, MaskBit, Note, Spectra, TramlineMap, flagged
from kspecdr.robust import robust_sigma
from kspecdr.tlm.light import gather
from kspecdr.tlm.placement import ALARM
from kspecdr.wavecal.arc_solution import Good

LEAST_SIGNAL = 1.0  # signal to noise of the brightest fiber: less is a frame without light
FLAT_SIGNAL = 50.0  # signal to noise of a flat's typical sample, from which wings and traces come out true
MOST_SATURATED = 0.001  # of samples
MOST_STRANGE = 0.1  # of the light of the fiber that it troubles most; a ghost on the traces
MOST_DARK = 0.2  # of the columns; there traces and widths are extrapolated
STEP, LEAST_RUN = 20, 10.0  # columns taken together, and sigma of the light of a fiber that is seen in them
MOST_PEDESTAL = 0.1  # of the noise of a dark pixel, left under the spectra
DARK_PIXELS = 0.1  # of the pixels, the darkest, tell their noise
THIN = 4  # every such row and column tells it
SLABS = 40  # of rows, each with a level


@dataclass(frozen=True)
class Figure:
    """One number of the checklist."""

    name: str
    value: float
    limit: float | None = None  # beyond which the flag is no longer ok
    flag: str = "ok"


def at_most(name: str, value: float, limit: float, flag: str = "warn") -> Figure:
    """Return a figure that should not exceed `limit`; NaN exceeds every limit."""
    return Figure(name, float(value), limit, "ok" if abs(value) <= limit else flag)


def at_least(name: str, value: float, limit: float, flag: str = "warn") -> Figure:
    """Return a figure that should not fall below `limit`; NaN does."""
    return Figure(name, float(value), limit, "ok" if value >= limit else flag)


def of_master(image: Image) -> list[Figure]:
    """Return level (electron), noise against the variance carried, and the masked fraction of a master."""
    good = image.mask == 0
    sample = image.flux[good] if good.any() else image.flux.ravel()
    columns = np.diff(image.flux[:, :: max(image.flux.shape[1] // 200, 1)].astype(np.float64), axis=0)
    scatter = robust_sigma(columns) / np.sqrt(2)
    expected = np.sqrt(np.median(image.variance))
    return [
        Figure("level_e", float(np.median(sample))),
        at_most("noise_over_expected", scatter / expected if expected > 0 else np.nan, 1.5),
        at_most("bad_pixel_fraction", np.mean((image.mask & ~np.uint8(MaskBit.NO_DATA)) != 0), 0.02),
    ]


def of_tramlines(tlm: TramlineMap, flat: Image) -> list[Figure]:
    """Return how many fibers were traced, how many only interpolated, the profile width, and the flat's light."""
    summed = _summed(flat, tlm)
    interpolated = int(np.count_nonzero(tlm.status == "interpolated"))
    lit = int(np.count_nonzero(~np.isin(tlm.fibers.type, ["D", "N"])))
    return [
        Figure("fibers_traced", len(tlm.fibers) - interpolated),
        at_most("fibers_interpolated", interpolated, len(tlm.fibers) - lit),
        at_most("identity_in_doubt", float(bool(tlm.doubt)), 0),
        Figure("profile_sigma_px", tlm.median_width),
        at_least("flat_signal_to_noise", _typical_signal(summed), FLAT_SIGNAL),
        at_most("saturated_fraction", float(summed.full.mean()) if summed.full.size else 0.0, MOST_SATURATED),
        at_most("dark_columns_fraction", _dark_fraction(summed), MOST_DARK),
    ]


@dataclass(frozen=True)
class _Summed:
    """A flat summed over the rows of each fiber that was traced, (n_fiber, n_column) each."""

    flux: Floats
    variance: Floats
    full: Bools  # whether any pixel is saturated


def _summed(flat: Image, tlm: TramlineMap) -> _Summed:
    half = round(2 * tlm.median_width)
    first = np.floor(tlm.center[tlm.status == "traced"] + 0.5).astype(int) - half
    flux, variance = (
        gather(np.nan_to_num(plane), first, 2 * half + 1).sum(axis=1) for plane in (flat.flux, flat.variance)
    )
    full = np.asarray(gather(flagged(flat.mask, MaskBit.SATURATED), first, 2 * half + 1).any(axis=1))
    return _Summed(flux, variance, full)


def _typical_signal(flat: _Summed) -> float:
    """Return the signal to noise of the typical sample; 0 without any."""
    known = flat.variance > 0
    return float(np.median(flat.flux[known] / np.sqrt(flat.variance[known]))) if known.any() else 0.0


def _dark_fraction(flat: _Summed) -> float:
    """Return the fraction of the columns in which most fibers show no light; 1 without any fiber."""
    if not flat.flux.size:
        return 1.0
    runs = np.arange(0, flat.flux.shape[1], STEP)
    light, noise = (np.add.reduceat(plane, runs, axis=1) for plane in (flat.flux, flat.variance))
    lit = light > LEAST_RUN * np.sqrt(np.clip(noise, 1e-30, None))
    return float(np.mean(lit.mean(axis=0) < 0.5))


def of_arc(spectra: Spectra) -> list[Figure]:
    """Return the number of lines used, the rms of their residuals (px) and that of lines left out."""
    figures = [Figure(name.lower(), float(value)) for name, value in spectra.notes.items() if _is_number(value)]
    expected, fwhm = (float(spectra.notes.get(name, 0.0)) for name in (Note.HELD_OUT_EXPECTED, Note.FWHM))
    good = Good.of(fwhm, expected)
    limits = {Note.RMS: good.rms, Note.HELD_OUT: good.held_out_rms, Note.LOST: good.lost, Note.DARK: 0.0}
    limit = {note.lower(): value for note, value in limits.items()}
    return [at_most(f.name, f.value, limit[f.name]) if f.name in limit else f for f in figures]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def of_spectra(spectra: Spectra) -> list[Figure]:
    """Return shift of the tramlines, signal to noise, and the fraction saturated."""
    good = (spectra.mask == 0) & (spectra.variance > 0) & np.isfinite(spectra.flux)
    ratio = np.where(good, spectra.flux / np.sqrt(np.where(good, spectra.variance, 1)), np.nan)
    per_fiber = [float(np.median(row[np.isfinite(row)])) if np.isfinite(row).any() else 0.0 for row in ratio]
    return [
        at_most("tramline_shift_px", spectra.tramline_shift, ALARM),
        Figure("signal_to_noise", float(np.median(per_fiber))),
        at_least("signal_to_noise_best", float(np.max(per_fiber)), LEAST_SIGNAL, "fail"),
        at_most("saturated_fraction", float(np.mean(flagged(spectra.mask, MaskBit.SATURATED))), MOST_SATURATED),
        at_most("identity_in_doubt", float(Note.DOUBT in spectra.notes), 0),
        at_most("strange_light", float(spectra.notes.get(Note.STRANGE, 0.0)), MOST_STRANGE),
    ]


def of_exposure(image: Image, *, scattered_kept: bool) -> list[Figure]:
    """Return the pixels hit, and the pedestal where no scattered light was taken off.

    scattered_kept : whether the spectra were extracted with what lies between the fibers
    """
    figures = [at_most("cosmic_pixels", float(np.count_nonzero(flagged(image.mask, MaskBit.COSMIC))), 20000)]
    if scattered_kept:
        noise = float(np.sqrt(np.quantile(image.variance[::THIN, ::THIN], DARK_PIXELS)))
        level = darkest_level(image.flux, image.mask, SLABS)
        figures.append(at_most("pedestal_e", level, MOST_PEDESTAL * noise))
    return figures
