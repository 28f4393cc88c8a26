"""Recipes: which calls of kspecdr make the product of a job. Runs in a worker.

Each recipe is a straight list of steps on products in memory; no file that it writes is read back.
Calibrations are immutable files, so a worker keeps those that it has read.
"""

import resource
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from errno import EAGAIN
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from daemon.config import readout_modes
from daemon.outage import judge
from daemon.records import FrameInfo, Job, Outcome, Quality, Written
from daemon.sections import Mode
from kspecdr import quality
from kspecdr.errors import BadFrame
from kspecdr.extract.make_ex import extract
from kspecdr.extract.reduce_arc import ArcExposure, solve_arcs
from kspecdr.inst.isoplane import convert, warnings_of
from kspecdr.inst.readout import Readout
from kspecdr.io.fiber_table import load_fibers
from kspecdr.io.fits import (
    read_image,
    read_spectra,
    read_tramlines,
    write_frame,
    write_image,
    write_spectra,
    write_tramlines,
)
from kspecdr.io.names import stem
from kspecdr.options import (
    ArcOptions,
    ExtractOptions,
    FlatOptions,
    ImageOptions,
    ObjectOptions,
    TramlineOptions,
    options_from,
)
from kspecdr.preproc.make_im import Calibrations, full_well_warning, preprocess
from kspecdr.preproc.preproc import combine_images, normalise_response
from kspecdr.preproc.reject import reject_cosmics
from kspecdr.products import Fibers, Frame, Image, Provenance, Spectra
from kspecdr.reduce_fflat import respond
from kspecdr.reduce_object import SpectralCalibrations, calibrate
from kspecdr.tlm.make_tlm import missing_warning, trace
from kspecdr.tlm.placement import place

T = TypeVar("T")

READERS: Mapping[str, Callable[..., Any]] = {
    "bias": read_image,
    "dark": read_image,
    "lflat": read_image,
    "tlm": read_tramlines,
    "red": read_spectra,
    "fflat": read_spectra,
}


LIT_SIGMA = 10.0  # by which the rows of fibers stand out in a flat that was lit
LONGEST_STEM = 200  # bytes of a name that the products' take over: a file's may have 255 with what is added to it
REVISITING = ("fflat",)  # rules whose frames another rule has converted already


def run(job: Job) -> Outcome:
    """Make the product of a job; what goes wrong is told in the outcome, never raised.

    An error that kspecdr raises on purpose lies in the frames and is not tried again; an OSError lies
    in the machine and is.
    """
    bench = Bench(job)
    error, retry, blocked = "", False, False
    try:
        with bench.writer:
            RECIPES[job.rule](bench)
        bench.finish()
    except MemoryError:
        raise  # it ends the worker, as it must
    except Exception as failure:  # noqa: BLE001 - the worker must live; the sentence names the defect
        error, retry, blocked = judge(job, failure)
    return Outcome(
        job.fingerprint,
        tuple(bench.written),
        tuple(Quality(f.name, f.value, f.limit, f.flag) for f in bench.figures),
        tuple(dict.fromkeys(bench.warnings)),
        bench.set_aside,
        bench.times,
        error,
        retry,
        blocked,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
    )


@dataclass
class Bench:
    """One job at work: its inputs, and what has come of it so far."""

    job: Job
    written: list[Written] = field(default_factory=list)
    figures: list[quality.Figure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    set_aside: dict[tuple[str, int], str] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    writer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    writing: list[Future[str]] = field(default_factory=list)
    raw: dict[str, list[Frame]] = field(default_factory=dict)  # by content hash

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time that a stage takes to `times`."""
        start = time.perf_counter()
        yield
        self.times[name] = self.times.get(name, 0.0) + time.perf_counter() - start

    def options(self, kind: type[Any], step: str) -> Any:
        """Return the options record of a step, as configured."""
        values: Any = self.job.options.get(step, {})
        return options_from(kind, values, owner=f"reduce.{step}")

    def calibration(self, rule: str) -> Any:
        """Return the product of a rule, None where a like is missing."""
        where = self._calibration(rule)
        return None if where is None else _kept(*where)

    def _calibration(self, rule: str) -> tuple[str, str, str] | None:
        """Return the path, the kind and the rule of a calibration, None where a like is missing."""
        calibration = self.job.calibrations.get(rule)
        if calibration is None:
            return None
        kind = next(kind for kind in calibration.paths if kind in READERS)
        return str(self.job.calibration_path(rule, kind)), kind, rule

    @property
    def instrument(self) -> Any:
        """What the configuration says of the instrument."""
        return self.job.options.get("instrument", {})

    @property
    def modes(self) -> Mapping[str, Readout]:
        """The readout modes, the configured ones included."""
        return readout_modes({name: Mode(**mode) for name, mode in self.instrument.get("readout", {}).items()})

    def exposures(self, info: FrameInfo) -> list[Frame]:
        """Return the exposures of a raw file; a cube is read once for all its frames."""
        if info.content_hash not in self.raw:
            found = convert(
                self.job.raw_path(info),
                info.frame_class,
                fibers_of(info),
                modes=self.modes,
                date_obs=self.instrument.get("date_obs", "start"),
                lamp=info.lamp,
                target=info.target,
            )
            if found[0].provenance.sources[0].sha256 != info.content_hash and not _is_as_described(self.job, info):
                raise OSError(EAGAIN, "the file has changed since it was recorded", info.path)
            self.raw = {info.content_hash: found}  # the frames of a file follow each other
        return self.raw[info.content_hash]

    def convert(self, info: FrameInfo) -> Frame:
        """Read a raw frame and write it converted."""
        with self.stage("convert"):
            frame = self.exposures(info)[max(info.part - 1, 0)]
            self.warnings += warnings_of(frame.header, self.modes, brightest=float(frame.counts.max()))
        if self.job.rule not in REVISITING:
            self.write("converted", info, write_frame, frame)
        return frame

    def detector(self) -> Calibrations:
        """Return the detector calibrations of the job."""
        return _kept_detector(*(self._calibration(rule) for rule in ("bias", "dark", "lflat")))

    def image(self, info: FrameInfo) -> Image:
        """Return a frame in electrons, cosmic rays not yet looked for."""
        frame = self.convert(info)
        with self.stage("image"):
            image = preprocess(frame, self.detector(), self.options(ImageOptions, "image"))
        if warning := full_well_warning(image, frame):
            self.warnings.append(f"{info.name}: {warning}")
        if not np.isfinite(image.flux).any():
            raise BadFrame(f"{info.name}: none of {image.flux.size} pixels has a value, expected a picture")
        return image

    def of_whole(self, make: Callable[[FrameInfo], T]) -> dict[FrameInfo, T]:
        """Return what is made of each frame of a group; damaged ones are set aside where others are left."""
        made: dict[FrameInfo, T] = {}
        faults: dict[FrameInfo, BadFrame] = {}
        for info in self.job.frames:
            try:
                made[info] = make(info)
            except BadFrame as fault:
                if not _is_damaged(self.job.raw_path(info), fault):
                    raise
                faults[info] = fault
        if not made:
            raise next(iter(faults.values()))
        self.set_aside |= {info.key: str(fault) for info, fault in faults.items()}
        self.warnings += [f"set aside: {fault}" for fault in faults.values()]
        return made

    def images(self) -> list[Image]:
        """Return the frames of a group in electrons, damaged ones set aside."""
        return list(self.of_whole(self.image).values())

    def lit_images(self) -> list[Image]:
        """Return the frames of a group of flats in electrons, those without any light set aside."""
        images = self.of_whole(self.image)
        lit = {info: _has_light(image) for info, image in images.items()}
        if any(lit.values()):  # else the step that looks for fibers says what is wrong
            dark = (info for info in images if not lit[info])
            self.set_aside |= {info.key: "no light in it, unlike the other flats of its group" for info in dark}
        return [image for info, image in images.items() if info.key not in self.set_aside]

    def stem(self, info: FrameInfo) -> str:
        """Return the name of an exposure, told apart from others of the same name in other folders."""
        name = frame_stem(info)
        alike = sum(frame_stem(each) == name for each in self.job.frames)
        short = name.encode("utf-8", "surrogateescape")[:LONGEST_STEM].decode("utf-8", "ignore")
        return f"{short}_{info.content_hash[:8]}" if alike > 1 or short != name else name

    def finish(self) -> None:
        """Raise what went wrong while products were written."""
        for each in self.writing:
            each.result()

    def write(self, kind: str, info: FrameInfo | None, writer: Callable[..., str], product: Any) -> None:
        """Write a product of one frame, or of the whole group where `info` is None.

        The disk is waited for in another thread, while the next step computes.
        """
        if self.job.keep and kind not in self.job.keep:
            return
        name = f"{self.stem(info or self.job.frames[0])}_{kind}.fits"
        directory = Path(self.job.directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.writing.append(self.writer.submit(writer, directory / name, product))
        self.written.append(Written(kind, name, info.key if info else None))


def _is_as_described(job: Job, info: FrameInfo) -> bool:
    """Tell whether a file is the one that was described: one compressed in its place bears the hash that it had."""
    status = job.raw_path(info).stat()
    return (status.st_size, status.st_mtime_ns) == (info.size, info.mtime_ns)


def _is_damaged(path: Path, fault: BadFrame) -> bool:
    """Tell whether a fault lies in what a file holds, not in a disk that cannot be read or is gone."""
    cause: BaseException | None = fault
    while cause is not None:
        if isinstance(cause, OSError):
            return False
        cause = cause.__cause__
    return path.is_file()


def _has_light(image: Image) -> bool:
    """Tell whether some rows are brighter than others beyond the noise, as fibers make them."""
    known = np.isfinite(image.flux)
    count = np.maximum(known.sum(axis=1), 1)
    profile = np.where(known, image.flux, 0.0).sum(axis=1) / count
    noise = np.sqrt(np.where(known, image.variance, 0.0).sum(axis=1)) / count
    faint, bright = np.percentile(profile, (10, 99))
    return bool(bright - faint > LIT_SIGMA * np.median(noise))


def frame_stem(info: FrameInfo) -> str:
    """Return the name of an exposure without suffix; the frames of a cube are numbered."""
    return stem(info.path) + (f"_f{info.part:03d}" if info.part else "")


@lru_cache(maxsize=16)
def _kept(path: str, kind: str, rule: str) -> Any:
    return READERS[kind](path) if kind == "tlm" else READERS[kind](path, rule)


@lru_cache(maxsize=4)
def _kept_detector(*which: tuple[str, str, str] | None) -> Calibrations:
    return Calibrations(*(None if where is None else _kept(*where) for where in which))


@lru_cache(maxsize=64)
def _fibers(fibers: str, fibers_hash: str) -> Fibers:  # noqa: ARG001 - a changed table is another table
    return load_fibers(n_fibers=int(fibers)) if fibers.isdigit() else load_fibers(fibers)


def fibers_of(info: FrameInfo) -> Fibers:
    """Return the fiber table that belongs to a frame."""
    return _fibers(info.fibers, info.fibers_hash)


def bias(bench: Bench) -> None:
    """Combine bias frames."""
    _master(bench, "bias", bench.images())


def dark(bench: Bench) -> None:
    """Combine dark frames of one exposure time."""
    _master(bench, "dark", bench.images())


def lflat(bench: Bench) -> None:
    """Combine long-slit flats to the response of the pixels."""
    images = bench.images()
    with bench.stage("combine"):
        combined = combine_images(images, calibrations=bench.detector(), adjust_levels=True)
        response = normalise_response(combined)
    bench.figures += quality.of_master(response)
    bench.write("lflat", None, write_image, response)


def _master(bench: Bench, kind: str, images: list[Image]) -> None:
    with bench.stage("combine"):
        master = combine_images(images, calibrations=bench.detector())
    bench.figures += quality.of_master(master)
    bench.write(kind, None, write_image, master)


def tlm(bench: Bench) -> None:
    """Combine fiber flats and trace the fibers."""
    images = bench.lit_images()
    with bench.stage("combine"):
        flat = combine_images(images, calibrations=bench.detector(), adjust_levels=len(images) > 1)
    bench.write("im", None, write_image, flat)
    with bench.stage("trace"):
        tramlines = trace(flat, bench.options(TramlineOptions, "tlm"))
    bench.warnings += filter(None, (missing_warning(tramlines), tramlines.doubt))
    bench.figures += quality.of_tramlines(tramlines, flat)
    bench.write("tlm", None, write_tramlines, tramlines)


def _extracted(bench: Bench, info: FrameInfo) -> tuple[Image, Spectra]:
    image, tramlines = bench.image(info), bench.calibration("tlm")
    if tramlines.doubt:
        bench.warnings.append(f"{info.name}: {tramlines.doubt}")
    options = bench.options(ExtractOptions, "extract")
    with bench.stage("place"):
        placed = place(image, tramlines, options.tlm_shift)
    if placed.alarm:
        bench.warnings.append(f"{info.name}: {placed.alarm}")
    with bench.stage("cosmics"):
        image = reject_cosmics(image, bench.options(ImageOptions, "image"), placed=placed)
    bench.write("im", info, write_image, image)
    with bench.stage("extract"):
        spectra = extract(image, tramlines, options, placed=placed)
    bench.write("ex", info, write_spectra, spectra)
    return image, spectra


def arc(bench: Bench) -> None:
    """Extract the arcs of a group and solve them together."""
    spectra = bench.of_whole(lambda info: _extracted(bench, info)[1])
    exposures = [ArcExposure(info.name, each, info.lamp) for info, each in spectra.items()]
    with bench.stage("wavelengths"):
        solved = solve_arcs(exposures, bench.options(ArcOptions, "arc"))
    taken = list(spectra)
    bench.set_aside |= {taken[k].key: why for k, why in solved.set_aside.items()}
    bench.warnings += solved.warnings
    bench.figures += quality.of_arc(solved.spectra)
    bench.write("red", None, write_spectra, solved.spectra)


def fflat(bench: Bench) -> None:
    """Extract fiber flats along the arc's tramlines and measure the response of fibers and pixels."""
    images = bench.lit_images()
    with bench.stage("combine"):
        flat = combine_images(images, calibrations=bench.detector(), adjust_levels=len(images) > 1)
    with bench.stage("extract"):
        spectra = extract(flat, bench.calibration("tlm"), bench.options(ExtractOptions, "extract"))
    with bench.stage("flat"):
        response = respond(spectra, bench.calibration("arc"), bench.options(FlatOptions, "flat"))
    bench.figures += quality.of_spectra(spectra)
    bench.write("fflat", None, write_spectra, response)


def science(bench: Bench) -> None:
    """Reduce an object, sky or standard-star frame to spectra on one wavelength grid.

    Without an arc the grid is the one that the tramline map predicts from the grating, and the product says
    that no arc has measured it (WAVECAL = F).
    """
    (info,) = bench.job.frames
    image, spectra = _extracted(bench, info)
    arc = bench.calibration("arc")
    predicted = replace(spectra, calibrated=True, provenance=Provenance())
    by = SpectralCalibrations(predicted if arc is None else arc, bench.calibration("fflat"))
    with bench.stage("wavelengths"):
        reduced = calibrate(spectra, by, bench.options(ObjectOptions, "object"))
    if arc is None:
        reduced = replace(reduced, calibrated=False)
        bench.warnings.append(f"{info.name}: wavelengths are predicted from the grating, no arc has measured them")
    bench.figures += quality.of_spectra(spectra)
    kept = not bench.options(ExtractOptions, "extract").scatsub
    bench.figures += quality.of_exposure(image, scattered_kept=kept)
    bench.write("red", None, write_spectra, reduced)


RECIPES: Mapping[str, Callable[[Bench], None]] = {
    "bias": bias,
    "dark": dark,
    "lflat": lflat,
    "tlm": tlm,
    "arc": arc,
    "fflat": fflat,
    "object": science,
}
