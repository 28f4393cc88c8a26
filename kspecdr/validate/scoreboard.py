"""The scoreboard: every figure of a grid of nights, measured in parallel processes."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from kspecdr.errors import BadOption, NoSolution
from kspecdr.simulate import PRESETS
from kspecdr.simulate.presets import SMALL
from kspecdr.validate import (
    cosmics,
    detector,
    extraction,
    pictures,
    real,
    rebinning,
    response,
    traces,
    wavelengths,
)
from kspecdr.validate.figures import Measured, as_json, by_source, table
from kspecdr.validate.nights import ReducedNight, reduce_night

NIGHTS = ("plain", "ghost", "grating300", "grating600", "dead_fibers", "descending_overscan")
SMALL_NIGHTS = ("small",)
OTHERS = ("detector", "arcs1d", "llamas")  # what is measured beside the nights


@dataclass(frozen=True)
class Campaign:
    """What is to be measured."""

    nights: tuple[str, ...] = NIGHTS
    small: bool = False  # small frames, for a quick look
    real: Path | None = None  # folder of real frames: arcs1d, llamas
    plots: Path | None = None  # where pictures go, if anywhere
    seed: int = 1
    workers: int = 2


def measure_night(name: str, seed: int, plots: Path | None = None) -> list[Measured]:
    """Measure every figure of one simulated night."""
    return measure_reduced(reduce_night(name, PRESETS[name], seed), seed, plots)


def measure_reduced(night: ReducedNight, seed: int, plots: Path | None = None) -> list[Measured]:
    """Measure every figure of a night that is reduced, and draw its pictures where asked."""
    figures = [*traces.measure(night), *wavelengths.measure(night), *extraction.measure(night, seed)]
    figures += cosmics.measure(night, seed)
    try:
        arc = night.solved(night.arcs).spectra
    except NoSolution:
        arc = None
    if arc is not None:
        figures += [*rebinning.measure(night, arc, seed), *response.measure(night, arc, seed)]
    if plots is not None:
        pictures.draw(plots, night, arc, seed)
    return figures


def measure_detector(seed: int, *, small: bool) -> list[Measured]:
    """Measure the figures of the detector, on full frames or small ones."""
    instrument = PRESETS["plain"].instrument
    if small:
        instrument = replace(instrument, detector=replace(instrument.detector, n_row=SMALL.detector.n_row))
        instrument = replace(instrument, slit=SMALL.slit)
    return list(detector.measure(instrument, seed))


def measure_all(campaign: Campaign, progress: Callable[[str], None] = lambda _: None) -> list[Measured]:
    """Measure everything of a campaign; the order of the figures does not depend on who is ready first."""
    jobs = _jobs(campaign)
    done: dict[str, list[Measured]] = {}
    with ProcessPoolExecutor(campaign.workers, mp_context=get_context("spawn")) as pool:
        waiting: dict[Future[list[Measured]], str] = {pool.submit(job): name for name, job in jobs.items()}
        for future in as_completed(waiting):
            done[waiting[future]] = future.result()
            progress(f"{len(done)} of {len(jobs)}: {waiting[future]}")
    return [measured for name in jobs for measured in done[name]]


def _jobs(campaign: Campaign) -> dict[str, Callable[[], list[Measured]]]:
    unknown = [name for name in campaign.nights if name not in PRESETS]
    if unknown:
        raise BadOption(f"night {unknown[0]!r} is not known; expected some of {', '.join(PRESETS)}")
    nights = SMALL_NIGHTS if campaign.small else campaign.nights
    jobs: dict[str, Callable[[], list[Measured]]] = {
        "detector": partial(measure_detector, campaign.seed, small=campaign.small)
    }
    jobs |= {name: partial(measure_night, name, campaign.seed, campaign.plots) for name in nights}
    if campaign.real is not None and not campaign.small:
        jobs["arcs1d"] = partial(_listed, real.measure_arcs, campaign.real / "arcs1d")
        jobs["llamas"] = partial(_listed, real.measure_fibers, campaign.real / "llamas")
    return jobs


def _listed(measure: Callable[[Path], Iterator[Measured]], folder: Path) -> list[Measured]:
    return list(measure(folder))


def report(measured: Sequence[Measured]) -> str:
    """Return the tables as text."""
    short = sum(m.verdict == "short" for m in measured)
    asked = sum(m.verdict != "-" for m in measured)
    return f"{table(measured)}\n\n{by_source(measured)}\n\n{asked - short} of {asked} goals met\n"


def run(campaign: Campaign, json_path: Path | None = None, *, strict: bool = False) -> int:
    """Measure everything and conclude, with a line of progress on a terminal."""
    shows = sys.stderr.isatty()

    def progress(said: str) -> None:
        if shows:
            sys.stderr.write(f"\r\x1b[K{said}")
            sys.stderr.flush()

    measured = measure_all(campaign, progress)
    progress("")
    return conclude(measured, json_path, strict=strict)


def conclude(measured: Sequence[Measured], json_path: Path | None = None, *, strict: bool = False) -> int:
    """Print the tables and write JSON where asked; return 1 in strict mode where a goal is missed."""
    sys.stdout.write(report(measured))
    if json_path is not None:
        json_path.write_text(as_json(measured), encoding="utf-8")
    return int(strict and any(m.verdict == "short" for m in measured))
