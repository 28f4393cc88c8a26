"""Figures of the extraction: flux and noise of each fiber in every operation, what leaks to neighbors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.options import ExtractOptions
from kspecdr.robust import MAD_TO_SIGMA
from kspecdr.simulate.night import Night
from kspecdr.validate.figures import NO_GOAL, Measured, at_most, within
from kspecdr.validate.nights import ReducedNight, Shot, retaken

OPERATIONS = {  # TRAM is SUM by another name
    **{name: ExtractOptions(extr_operation=name, scatsub=True) for name in ("SUM", "GAUSS", "OPTEX")},
    "OPTEX, scattered light left in": ExtractOptions(extr_operation="OPTEX"),
}
FAINT = 0.1  # throughput below which a fiber is called faint


@dataclass(frozen=True)
class Compared:
    """Extracted spectra beside the light that they should hold; all (n_shot, n_fiber, n_column)."""

    flux: Floats
    variance: Floats
    truth: Floats
    good: Bools
    shared: Floats  # the part of the variance that comes of the calibrations and is the same noise in all shots

    @property
    def pull(self) -> Floats:
        """Deviations in sigma, of good samples, (n,)."""
        deviation = self.flux[self.good] - self.truth[self.good]
        return np.asarray(deviation / np.sqrt(self.variance[self.good]))

    def bias(self) -> tuple[Floats, Floats]:
        """Return flux over truth, minus 1, of each fiber and its error by the noise; (n_fiber,) each.

        Noise that the shots share does not average out over them.
        """
        total = np.sum(self.truth, axis=(0, 2), where=self.good)
        total = np.where(total > 0, total, np.nan)
        off = np.sum(np.where(self.good, self.flux - self.truth, 0.0), axis=(0, 2))
        own = np.sum(np.where(self.good, self.variance - self.shared, 0.0), axis=0)
        together = np.sum(np.where(self.good, np.sqrt(self.shared), 0.0), axis=0) ** 2
        return off / total, np.sqrt(np.sum(own + together, axis=1)) / np.abs(total)


def compare(night: ReducedNight, shots: Sequence[Shot], options: ExtractOptions) -> Compared:
    """Extract some shots and put the truth beside."""
    spectra = [night.spectra(shot, options) for shot in shots]
    truth = np.stack([night.light(shot.truth) for shot in shots])
    flux, variance, mask = (
        np.stack([getattr(each, name) for each in spectra]) for name in ("flux", "variance", "mask")
    )
    good = (mask == 0) & np.isfinite(flux) & (variance > 0)
    good &= np.isin(np.arange(flux.shape[1]), night.alive)[:, None]
    shared = np.stack([_shared_part(night, shot) for shot in shots]) * variance
    return Compared(flux, variance, truth, good, shared)


def _shared_part(night: ReducedNight, shot: Shot) -> Floats:
    """Return the part of a spectrum's variance that bias, dark and long-slit flat bring, (n_fiber, n_column)."""
    setup = shot.image.setup
    calibrations = night.calibrations[min(night.calibrations, key=lambda seconds: abs(seconds - setup.exposure))]
    noise = np.broadcast_to(calibrations.variance(setup.exposure), shot.image.flux.shape)
    if calibrations.lflat is not None:
        response = calibrations.lflat
        light = np.maximum(shot.image.flux, 0)
        noise = (noise + light**2 * response.variance) / response.flux**2
    box = ExtractOptions()
    alone = night.spectra(replace(shot, image=replace(shot.image, variance=noise)), box).variance
    part = alone / night.spectra(shot, box).variance
    return np.clip(np.nan_to_num(part), 0.0, 1.0)


def measure(night: ReducedNight, seed: int) -> Iterator[Measured]:
    """Measure every operation on the objects and flats of a night."""
    through = np.median(night.flats[0].truth.throughput, axis=1)
    faint = np.flatnonzero((through > 0) & (through < FAINT))
    sky = np.flatnonzero(night.tramlines.fibers.type == "S")
    lone = _lone_fiber(night, seed)
    for operation, options in OPERATIONS.items():
        least = 0.005 if operation == "SUM" else 0.003
        objects = compare(night, night.objects, options)
        flats = compare(night, night.flats, options)
        for what, compared, fibers in (
            ("objects", objects, night.alive),
            ("sky fibers of objects", objects, np.intersect1d(sky, night.alive)),
            ("faint fibers of objects", objects, faint),
            ("flats", flats, night.alive),
        ):
            if fibers.size:
                yield _bias(night, operation, what, compared, fibers, least, asked=options.scatsub)
        pull = objects.pull
        core = float(MAD_TO_SIGMA * np.median(np.abs(pull - np.median(pull))))
        yield Measured(
            operation, "width of the pull, objects", night.source, core, within(1.0, 0.03),
            f"mean {np.mean(pull):+.3f}, rms {np.std(pull):.3f}",
        )  # fmt: skip
        yield Measured(
            operation, "samples lost, objects, %", night.source,
            100.0 * float(1.0 - np.mean(objects.good[:, night.alive])),
        )  # fmt: skip
        leak = _cross_talk(night, lone, options)
        yield Measured(operation, "cross-talk, %", night.source, 100.0 * leak, at_most(0.1))


def _bias(
    night: ReducedNight,
    operation: str,
    what: str,
    compared: Compared,
    fibers: Ints,
    least: float,
    *,
    asked: bool,
) -> Measured:
    """Return the worst bias of a fiber over what is allowed: `least`, or three sigma of its mean if more.

    Nothing is asked where scattered light is left in: the figure shows what its subtraction is for.
    """
    bias, error = (each[fibers] for each in compared.bias())
    allowed = np.abs(bias) / np.maximum(least, 3.0 * error)
    k = int(np.argmax(allowed))
    note = f"fiber {fibers[k] + 1}: {bias[k]:+.4f} +- {error[k]:.4f}; median {np.median(bias):+.4f}"
    figure = f"bias of flux over allowed ({least:g} or 3 sigma), {what}"
    return Measured(operation, figure, night.source, float(allowed[k]), at_most(1.0) if asked else NO_GOAL, note)


def _lone_fiber(night: ReducedNight, seed: int) -> tuple[int, Shot]:
    """Light one fiber alone, where the flats had it; return its number from 0 and the exposure."""
    slit = night.instrument.slit
    through = np.median(night.flats[0].truth.throughput, axis=1)
    middle = np.abs(np.arange(slit.n_fiber) - slit.n_fiber / 2)
    k = int(np.lexsort((middle, through < 0.3))[0])
    alone = replace(slit, dead=tuple(n for n in range(1, slit.n_fiber + 1) if n != k + 1))
    instrument = replace(night.instrument, slit=alone)
    exposure = replace(night.flats[0].truth.exposure, kind="flat")
    taken = next(iter(retaken(Night(instrument), exposure, instrument, seed + 1)))
    return k, night.shoot_without_cosmics(taken)


def _cross_talk(night: ReducedNight, lone: tuple[int, Shot], options: ExtractOptions) -> float:
    """Return the light that a fiber leaves in its neighbours' spectra, as a part of its own."""
    k, shot = lone
    shift = float(np.mean(shot.truth.tramlines - night.true_center))
    total = np.nansum(night.spectra(shot, replace(options, tlm_shift=shift)).flux, axis=1)
    near = [n for n in (k - 1, k + 1) if 0 <= n < len(total)]
    return float(max(abs(total[n]) for n in near) / total[k])
