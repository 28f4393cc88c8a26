"""One job at work: the frames and calibrations that it takes, and what has come of it so far.

Calibrations are immutable files, so a worker keeps those that it has read.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import EAGAIN
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from daemon.config import readout_modes
from daemon.records import FrameInfo, Job, Written
from daemon.sections import Mode
from kspecdr import quality
from kspecdr.errors import BadFrame
from kspecdr.inst.isoplane import convert, warnings_of
from kspecdr.inst.readout import Readout
from kspecdr.io.disk import sync
from kspecdr.io.fiber_table import load_fibers
from kspecdr.io.fits import frame_content, read_image, read_spectra, read_tramlines
from kspecdr.io.hdus import Content, lay_down
from kspecdr.io.names import stem
from kspecdr.options import ImageOptions, options_from
from kspecdr.preproc.make_im import Calibrations, full_well_warning, preprocess
from kspecdr.products import Fibers, Frame, Image

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
    writing: list[Future[Path]] = field(default_factory=list)
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
                _fibers(info.fibers, info.fibers_hash),
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
            self.write("converted", info, frame_content, frame)
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
        name = _frame_stem(info)
        alike = sum(_frame_stem(each) == name for each in self.job.frames)
        short = name.encode("utf-8", "surrogateescape")[:LONGEST_STEM].decode("utf-8", "ignore")
        return f"{short}_{info.content_hash[:8]}" if alike > 1 or short != name else name

    def write(self, kind: str, info: FrameInfo | None, content: Callable[[Any], Content], product: Any) -> None:
        """Write a product of one frame, or of the whole group where `info` is None.

        That is done in another thread, while the next step computes. The directory is nobody else's until the job
        is done, so that the disk is waited for once, by `finish`.
        """
        if self.job.keep and kind not in self.job.keep:
            return
        path = Path(self.job.directory, f"{self.stem(info or self.job.frames[0])}_{kind}.fits")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.writing.append(self.writer.submit(_lay_down, path, content, product))
        self.written.append(Written(kind, path.name, info.key if info else None))

    def finish(self) -> None:
        """Wait until the disk has all products; raise what went wrong while they were written."""
        for each in self.writing:
            sync(each.result())


def _lay_down(path: Path, content: Callable[[Any], Content], product: Any) -> Path:
    lay_down(path, content(product))
    return path


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


def _frame_stem(info: FrameInfo) -> str:
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
