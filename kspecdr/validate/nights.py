"""A simulated night taken through the reduction in memory, the truth of each frame beside its image.

Raw files are written to a temporary directory and read by the instrument's own reader, so that cards and
orientation are part of what is tested; from there on the steps' in-memory parts are chained as the daemon
chains them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from kspecdr.arrays import Floats, Ints
from kspecdr.extract.make_ex import extract
from kspecdr.extract.reduce_arc import ArcExposure, SolvedArc, solve_arcs
from kspecdr.inst.isoplane import convert
from kspecdr.io.fiber_table import load_fibers
from kspecdr.options import ExtractOptions, ImageOptions
from kspecdr.preproc.make_im import Calibrations, preprocess
from kspecdr.preproc.preproc import combine_images, normalise_response
from kspecdr.preproc.reject import reject_cosmics
from kspecdr.products import Fibers, Frame, Image, Provenance, Source, Spectra, TramlineMap
from kspecdr.simulate.exposure import Exposure, Kind, Truth
from kspecdr.simulate.fibers import collect_light
from kspecdr.simulate.instrument import Instrument
from kspecdr.simulate.lightfield import write_frame
from kspecdr.simulate.night import Night, simulate_night
from kspecdr.simulate.truthfile import write_fiber_table
from kspecdr.tlm.make_tlm import trace

CLASSES: Mapping[Kind, str] = {
    "bias": "BIAS",
    "dark": "DARK",
    "lflat": "LFLAT",
    "flat": "MFFFF",
    "arc": "MFARC",
    "object": "MFOBJECT",
    "sky": "MFSKY",
    "standard": "MFFLX",
}
COSMICS = ImageOptions(cosmic_ray_method="PROFILE")
BEST = ExtractOptions(extr_operation="OPTEX", scatsub=True)  # as the daemon extracts
NOTHING: Floats = np.zeros((0, 0))


@dataclass(frozen=True)
class Taken:
    """One exposure as the detector gave it."""

    name: str
    frame: Frame
    truth: Truth


@dataclass(frozen=True)
class Shot:
    """One exposure as an image, cosmic rays marked where it shows fibers."""

    name: str
    image: Image
    truth: Truth


@dataclass(frozen=True)
class ReducedNight:
    """What a night's frames became, and what they truly are."""

    source: str
    instrument: Instrument
    calibrations: Mapping[float, Calibrations]  # by the exposure time of the dark, s
    tramlines: TramlineMap
    flats: tuple[Shot, ...]
    arcs: tuple[Shot, ...]
    sky: tuple[Shot, ...]  # objects, in this order
    standards: tuple[Shot, ...]
    objects: tuple[Shot, ...]

    @property
    def lit(self) -> tuple[Shot, ...]:
        """All exposures with the light of arcs, sky or targets."""
        return (*self.arcs, *self.sky, *self.standards, *self.objects)

    @property
    def has_lflat(self) -> bool:
        """Whether the pixels' response is divided out of the images."""
        return any(each.lflat is not None for each in self.calibrations.values())

    @property
    def true_center(self) -> Floats:
        """Rows of the fibers in the flats, (n_fiber, n_column)."""
        return np.asarray(np.mean([flat.truth.tramlines for flat in self.flats], axis=0))

    @property
    def alive(self) -> Ints:
        """Fibers that bring light, (n,) from 0."""
        return np.flatnonzero(self.flats[0].truth.throughput.any(axis=1))

    def light(self, truth: Truth) -> Floats:
        """Return the light of each fiber in one of the night's own exposures (n_fiber, n_column), electron.

        Where a long-slit flat is divided out, the pixels' response is not in it.
        """
        return collect_light(self.instrument, truth.exposure).flux if self.has_lflat else truth.flux

    def spectra(self, shot: Shot, options: ExtractOptions = BEST) -> Spectra:
        """Return a shot's fibers extracted along the night's map."""
        return extract(shot.image, self.tramlines, options)

    def flats_marked(self) -> tuple[Shot, ...]:
        """Return the flats with cosmic rays looked for."""
        return tuple(replace(flat, image=reject_cosmics(flat.image, COSMICS, self.tramlines)) for flat in self.flats)

    def solved(self, shots: tuple[Shot, ...]) -> SolvedArc:
        """Return the wavelength solution of some arcs, fitted together."""
        return solve_arcs([ArcExposure(shot.name, self.spectra(shot), shot.truth.exposure.lamp) for shot in shots])

    def shoot(self, taken: Taken) -> Shot:
        """Return a further exposure of the night as an image."""
        return _shot(taken, self.calibrations, self.tramlines)

    def shoot_without_cosmics(self, taken: Taken) -> Shot:
        """Return a further exposure as an image in which no cosmic rays are looked for."""
        return _shot(taken, self.calibrations, None)


def exposures_of(night: Night, seed: int) -> Iterator[Taken]:
    """Take a night's exposures one by one; the truth keeps what the figures need, in single precision."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        write_fiber_table(directory / "fibers.csv", night.instrument)
        fibers: Fibers = load_fibers(directory / "fibers.csv", None)
        for file in simulate_night(night, seed):
            path = directory / "raw.fits"
            write_frame(path, file.cards, file.counts, file.broken)
            asked = file.truths[0].exposure
            frames = convert(path, CLASSES[asked.kind], fibers, lamp=asked.lamp, target=asked.target)
            for number, (frame, truth) in enumerate(zip(frames, file.truths, strict=True), start=1):
                yield Taken(f"{file.name} {number}", frame, _compact(truth))


def retaken(night: Night, exposure: Exposure, instrument: Instrument, seed: int, *, n: int = 1) -> Iterator[Taken]:
    """Take `n` exposures with another state of the instrument, lamps and traces as they are asked for."""
    still = replace(night, instrument=instrument, exposures=(exposure,) * n, lamp_jitter=0.0, flexure=0.0)
    return exposures_of(still, seed)


def reduce_night(source: str, night: Night, seed: int) -> ReducedNight:
    """Reduce a night's frames up to images and the tramline map."""
    taken: dict[str, list[Taken]] = {kind: [] for kind in CLASSES}
    for each in exposures_of(night, seed):
        taken[each.truth.exposure.kind].append(each)
    calibrations = _calibrations(taken)
    flats = tuple(_shot(each, calibrations, None) for each in taken["flat"])
    tramlines = trace(_master(taken["flat"], _nearest(calibrations, taken["flat"][0]), adjust_levels=len(flats) > 1))
    shots = {
        kind: tuple(_shot(each, calibrations, tramlines) for each in taken[kind])
        for kind in ("arc", "sky", "standard", "object")
    }
    return ReducedNight(
        source,
        night.instrument,
        calibrations,
        tramlines,
        flats,
        shots["arc"],
        shots["sky"],
        shots["standard"],
        shots["object"],
    )


def _calibrations(taken: Mapping[str, list[Taken]]) -> dict[float, Calibrations]:
    """Return the detector's calibrations for each exposure time that has a dark."""
    bias = _master(taken["bias"], Calibrations())
    itself = Provenance((Source("bias", "bias.fits", "in memory"),))  # by which a dark is known to be made with it
    only_bias = Calibrations(replace(bias, provenance=bias.provenance | itself))
    times = sorted({each.frame.setup.exposure for each in taken["dark"]})
    darks = {
        seconds: _master([each for each in taken["dark"] if each.frame.setup.exposure == seconds], only_bias)
        for seconds in times
    }
    lflat = None
    if taken["lflat"]:
        own = Calibrations(only_bias.bias, darks[times[0]])
        lflat = normalise_response(_master(taken["lflat"], own, adjust_levels=True))
    return {seconds: Calibrations(only_bias.bias, dark, lflat) for seconds, dark in darks.items()}


def _master(taken: Sequence[Taken], calibrations: Calibrations, *, adjust_levels: bool = False) -> Image:
    images = [preprocess(each.frame, calibrations, ImageOptions()) for each in taken]
    return combine_images(images, calibrations=calibrations, adjust_levels=adjust_levels)


def _shot(taken: Taken, calibrations: Mapping[float, Calibrations], tramlines: TramlineMap | None) -> Shot:
    image = preprocess(taken.frame, _nearest(calibrations, taken), COSMICS)
    if tramlines is not None:
        image = reject_cosmics(image, COSMICS, tramlines)
    return Shot(taken.name, image, taken.truth)


def _nearest(calibrations: Mapping[float, Calibrations], taken: Taken) -> Calibrations:
    """Return the calibrations with the dark of the nearest exposure time."""
    return calibrations[min(calibrations, key=lambda seconds: abs(seconds - taken.frame.setup.exposure))]


def _compact(truth: Truth) -> Truth:
    return replace(
        truth,
        electrons=truth.electrons.astype(np.float32) if truth.exposure.kind in ("bias", "lflat") else NOTHING,
        variance=truth.variance.astype(np.float32),
        bias=truth.bias.astype(np.float32) if truth.exposure.kind == "bias" else NOTHING,
    )
