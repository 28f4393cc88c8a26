"""Figures of what comes after the extraction: throughput, sky, flux."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kspecdr.arrays import Bools, Floats
from kspecdr.coadd_spectra import coadded
from kspecdr.flux import Standard, outside_telluric
from kspecdr.make_transfer import transfer_of
from kspecdr.products import Spectra
from kspecdr.reduce_fflat import respond
from kspecdr.reduce_object import SpectralCalibrations, calibrate, divide_response, sky_of
from kspecdr.robust import MAD_TO_SIGMA
from kspecdr.simulate import scene
from kspecdr.simulate.fibers import throughputs
from kspecdr.simulate.night import Night
from kspecdr.validate.figures import Measured, at_most, within
from kspecdr.validate.nights import ReducedNight, Shot, retaken

BLOCK = 67  # columns over which a response is averaged: several periods of the fringes
AGAIN = 7  # exposures of the standard star besides the night's own
LEAST_LAMP = 0.05  # of the lamp's brightest column
LEAST_LIGHT = 0.05  # of the instrument's best efficiency: below it no sensitivity is judged
STRONG_LINE = 7.0  # electron/s of a sky line that is judged
NEAR_LINE = 3.0  # px on either side of its center
FAR_FROM_LINES = 10.0  # px


@dataclass(frozen=True)
class Residual:
    """What the subtraction of the sky has left on program fibers that see nothing else; (n_fiber, n_column)."""

    left: Floats  # electron
    sigma: Floats  # electron, of the fiber alone
    claimed: Floats  # electron, the sky's noise included
    sky: Floats  # electron, true
    good: Bools
    near_line: Bools
    continuum: Bools
    sky_error: float  # of the continuum that was subtracted, relative, by the noise of the sky fibers


def measure(night: ReducedNight, arc: Spectra, seed: int) -> Iterator[Measured]:
    """Measure throughput, sky and flux with the night's flats."""
    response = respond(_together([night.spectra(flat) for flat in night.flats]), arc)
    yield from _throughput(night, response)
    if any(night.tramlines.fibers.type == "S"):
        yield from _sky(night, arc, response, seed)
    by = SpectralCalibrations(arc, response)
    for shot in night.standards:
        once = calibrate(night.spectra(shot), by)
        yield _flux(night, once, by, "relative sensitivity, rms, %")
        again = [calibrate(night.spectra(each), by) for each in _again(night, shot, seed)]
        yield _flux(night, coadded([once, *again]), by, f"relative sensitivity, {1 + AGAIN} exposures, rms, %")


def _together(flats: Sequence[Spectra]) -> Spectra:
    """Return the light of several flats as one."""
    flux, variance = (np.sum([getattr(flat, name) for flat in flats], axis=0) for name in ("flux", "variance"))
    return replace(flats[0], flux=flux, variance=variance, mask=np.bitwise_or.reduce([flat.mask for flat in flats]))


def _throughput(night: ReducedNight, response: Spectra) -> Iterator[Measured]:
    """Compare the fibers' response, averaged over blocks of columns, with their throughputs."""
    n_column = response.flux.shape[1]
    truth = throughputs(night.instrument, np.arange(n_column, dtype=float)[None, :])
    lamp = night.light(night.flats[0].truth)[night.alive] / truth[night.alive]
    bright = (lamp / lamp.max() > LEAST_LAMP).all(axis=0)
    ratio = np.where(bright, response.flux[night.alive] / truth[night.alive], np.nan)
    blocks = np.array_split(ratio, n_column // BLOCK, axis=1)
    smooth = np.stack([np.nanmean(b, axis=1) for b in blocks if np.isfinite(b).any()], axis=1)
    level = np.nanmedian(smooth, axis=1)
    off = level / np.median(level) - 1.0
    k = int(np.argmax(np.abs(off)))
    yield Measured(
        "throughput", "worst fiber's level, %", night.source, 100.0 * float(np.abs(off[k])), at_most(0.5),
        f"fiber {night.alive[k] + 1}",
    )  # fmt: skip
    color = smooth / level[:, None]
    color = color / np.median(color, axis=0)
    rms = 100.0 * np.std(color, axis=1)
    yield Measured(
        "throughput", "worst fiber's change along the columns, rms, %", night.source, float(rms.max()),
        at_most(0.5), f"fiber {night.alive[np.argmax(rms)] + 1}",
    )  # fmt: skip


def blank_fields(night: ReducedNight, seed: int) -> list[Shot]:
    """Expose on nothing but sky as often as on objects."""
    slit = night.instrument.slit
    instrument = replace(night.instrument, slit=replace(slit, sky=tuple(range(1, slit.n_fiber + 1)), known_dead=()))
    exposure = replace(night.objects[0].truth.exposure, n_frames=1)
    fields = retaken(Night(instrument), exposure, instrument, seed + 3, n=len(night.objects))
    fibers = night.tramlines.fibers
    return [night.shoot(replace(each, frame=replace(each.frame, fibers=fibers))) for each in fields]


def residual_of(night: ReducedNight, field: Shot, arc: Spectra, response: Spectra) -> Residual | None:
    """Subtract the sky of a blank field on native pixels; None where there is no sky to subtract."""
    native = divide_response(replace(night.spectra(field), wave=arc.wave, calibrated=True), response)
    sky = sky_of(native)
    if sky is None:
        return None
    lit = np.median(np.nan_to_num(response.flux), axis=1) > 0.1
    program = lit & (native.fibers.type == "P")
    seen = (native.mask == 0) & np.isfinite(native.flux) & np.isfinite(response.flux)
    good = seen & program[:, None]
    near = _distance_to_lines(field.truth.wavelength, STRONG_LINE) < NEAR_LINE
    far = _distance_to_lines(field.truth.wavelength, 0.0) > FAR_FROM_LINES
    light = field.truth.flux / response.flux
    told = seen & far & (lit & (native.fibers.type == "S"))[:, None]
    error = float(np.sqrt(native.variance[told].sum()) / light[told].sum())
    left, claimed = native.flux - sky.flux, np.sqrt(native.variance + sky.variance)
    return Residual(left, np.sqrt(native.variance), claimed, light, good, near & good, far & good, error)


def _distance_to_lines(wave: Floats, least: float) -> Floats:
    """Return the distance of each pixel to the nearest sky line of at least `least` electron/s, px."""
    lines = scene.SKY_LINES[scene.SKY_LINES[:, 1] >= least, 0]
    step = np.abs(np.gradient(wave, axis=1))
    return np.asarray(np.min([np.abs(wave - line) for line in lines], axis=0) / step)


def _sky(night: ReducedNight, arc: Spectra, response: Spectra, seed: int) -> Iterator[Measured]:
    """Look at what is left of continuum and lines on the program fibers, all blank fields together."""
    results = [residual_of(night, field, arc, response) for field in blank_fields(night, seed)]
    parts = [each for each in results if each is not None]
    if not parts:
        yield Measured("sky", "continuum left, mean of fibers, %", night.source, np.nan, at_most(1.0), "no sky fiber")
        return
    left, sky, noise = (
        np.sum([np.where(p.continuum, getattr(p, name) ** power, 0.0).sum(axis=1) for p in parts], axis=0)
        for name, power in (("left", 1), ("sky", 1), ("sigma", 2))
    )
    lit = sky > 0
    mean = left[lit].sum() / sky[lit].sum()
    common = float(np.sqrt(np.sum([p.sky_error**2 for p in parts]))) / len(parts)  # the same in every fiber
    error = float(np.hypot(np.sqrt(noise[lit].sum()) / sky[lit].sum(), common))
    yield Measured(
        "sky", "continuum left, mean of fibers, over allowed (1 % or 3 sigma)", night.source,
        float(abs(mean) / max(0.01, 3 * error)), at_most(1.0), f"{100 * mean:+.2f} +- {100 * error:.2f} %",
    )  # fmt: skip
    each, spread = left[lit] / sky[lit], np.hypot(np.sqrt(noise[lit]) / sky[lit], common)
    k = int(np.argmax(np.abs(each) / np.maximum(0.01, 3 * spread)))
    yield Measured(
        "sky", "continuum left, worst fiber, over allowed (1 % or 3 sigma)", night.source,
        float(np.abs(each[k]) / max(0.01, 3 * spread[k])), at_most(1.0),
        f"fiber {np.flatnonzero(lit)[k] + 1}: {100 * each[k]:+.2f} +- {100 * spread[k]:.2f} %",
    )  # fmt: skip
    pull = np.concatenate([(p.left / p.sigma)[p.near_line] for p in parts])
    n_sky = int(np.count_nonzero(night.tramlines.fibers.type == "S"))
    limit = np.sqrt(1.0 + 1.0 / n_sky)
    core = float(MAD_TO_SIGMA * np.median(np.abs(pull)))
    note = f"{core:.3f} of the noise with {n_sky} sky fibers, limit {limit:.3f}; rms {np.std(pull):.2f}"
    figure = "lines left over noise, over sqrt(1 + 1/N)"
    yield Measured("sky", figure, night.source, core / limit, at_most(1.04), note)
    claimed = np.concatenate([(p.left / p.claimed)[p.good] for p in parts])
    width = float(MAD_TO_SIGMA * np.median(np.abs(claimed)))
    yield Measured("sky", "width of the pull after subtraction", night.source, width, within(1.0, 0.03))


def _again(night: ReducedNight, shot: Shot, seed: int) -> Iterator[Shot]:
    """Expose on the standard star some more times."""
    exposure = replace(shot.truth.exposure, n_frames=1)
    for each in retaken(Night(night.instrument), exposure, night.instrument, seed + 4, n=AGAIN):
        yield night.shoot(replace(each, frame=replace(each.frame, fibers=night.tramlines.fibers)))


def _flux(night: ReducedNight, star: Spectra, by: SpectralCalibrations, figure: str) -> Measured:
    """Compare the sensitivity that the standard star gives with the simulated one, in shape."""
    table = np.arange(3200.0, 11001.0, 5.0)
    transfer = transfer_of(star, Standard(table, scene.standard_flux_density(table)), by.fflat)
    efficiency = scene.response(transfer.wave, night.instrument.spectrograph.blaze_nm)
    judged = (efficiency > LEAST_LIGHT * efficiency.max()) & outside_telluric(transfer.wave)
    true = efficiency * transfer.wave * _typical_fiber(night, by, transfer.wave)
    ratio = np.log(transfer.sensitivity / true)[judged]
    error = 100.0 * (ratio - np.median(ratio))
    at = transfer.wave[judged][np.argmax(np.abs(error))]
    note = f"worst {np.abs(error).max():.1f} % at {at:.0f} A"
    return Measured("flux", figure, night.source, float(np.sqrt(np.mean(error**2))), at_most(0.5), note)


def _typical_fiber(night: ReducedNight, by: SpectralCalibrations, wave: Floats) -> Floats:
    """Return the throughput of the fiber that the flat takes for 1: what the sensitivity holds besides the optics."""
    if by.fflat is None:
        return np.ones_like(wave)
    column = np.arange(by.fflat.flux.shape[1], dtype=float)
    through = throughputs(night.instrument, column[None, :])[night.alive] / by.fflat.flux[night.alive]
    middle = through / np.nanmedian(through, axis=1)[:, None]
    blocks = [np.nanmedian(block) for block in np.array_split(middle, column.size // BLOCK, axis=1)]
    smooth = np.polynomial.Polynomial.fit([b.mean() for b in np.array_split(column, len(blocks))], blocks, 2)(column)
    native = by.arc.wave[night.alive[0]]
    order = np.argsort(native)
    return np.interp(wave, native[order], smooth[order])
