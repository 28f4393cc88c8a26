"""A night: exposures in order, files as LightField names and writes them, the truth beside them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from kspecdr.arrays import Ints
from kspecdr.simulate.exposure import Exposure, Truth
from kspecdr.simulate.fibers import lamp_level
from kspecdr.simulate.frame import simulate_frame
from kspecdr.simulate.instrument import Instrument
from kspecdr.simulate.lightfield import BROKEN_CHAIN, Value, lightfield_cards, orient, write_frame
from kspecdr.simulate.naming import Style, base_name, file_name
from kspecdr.simulate.truthfile import write_fiber_table, write_night_record, write_standard, write_truth

FIBER_TABLE = "fibers.csv"
STANDARD_TABLE = "standard.csv"
OVERHEAD_S = 4.0  # between two exposures, beside the readout


@dataclass(frozen=True)
class Night:
    """What is observed in a night, with what."""

    instrument: Instrument = field(default_factory=Instrument)
    exposures: tuple[Exposure, ...] = ()
    start: datetime = datetime(2026, 1, 27, 9, 0, 0, tzinfo=UTC)
    naming: Style = "plain"
    lamp_jitter: float = 0.15  # full range of a flat lamp's level from one frame to the next
    flexure: float = 0.01  # px, rms of the traces from one frame to the next


@dataclass(frozen=True)
class SimulatedFrame:
    """A file of the night before it is written."""

    name: str
    cards: dict[str, Value]
    broken: tuple[str, ...]  # card images that no reader can parse
    counts: Ints  # (n, n_row, n_column) ADU, uint16, in the orientation of the file
    truths: tuple[Truth, ...]  # one for each of the n frames


def simulate_night(night: Night, seed: int) -> Iterator[SimulatedFrame]:
    """Simulate the files of a night one after the other.

    The same night and seed give the same bytes; a file does not depend on those before it.
    """
    start = night.start
    seen: Counter[str] = Counter()
    for number, asked in enumerate(night.exposures):
        rng = np.random.default_rng([seed, number])
        exposure = _as_it_happens(night, asked, rng)
        base = base_name(exposure, night.instrument, night.naming)
        seen[base] += 1
        yield _simulate_file(night, exposure, start, file_name(base, seen[base], start, night.naming), rng)
        readout = night.instrument.detector.readout.readout_s
        start += timedelta(seconds=exposure.n_frames * (exposure.exposure_s + readout) + OVERHEAD_S)


def _as_it_happens(night: Night, exposure: Exposure, rng: np.random.Generator) -> Exposure:
    """Return the exposure with the night's small accidents: a flat lamp that jitters, traces that flex."""
    shift = exposure.trace_shift + rng.normal(0.0, night.flexure)
    if exposure.kind != "flat":
        return replace(exposure, trace_shift=shift)
    level = lamp_level(exposure) * (1.0 + night.lamp_jitter * rng.uniform(-0.5, 0.5))
    return replace(exposure, trace_shift=shift, level=level)


def _simulate_file(
    night: Night, exposure: Exposure, start: datetime, name: str, rng: np.random.Generator
) -> SimulatedFrame:
    camera = night.instrument.camera
    frames = [simulate_frame(night.instrument, exposure, rng) for _ in range(exposure.n_frames)]
    return SimulatedFrame(
        name,
        lightfield_cards(night.instrument, exposure.exposure_s, start),
        BROKEN_CHAIN if camera.broken_continue else (),
        orient(np.stack([counts for counts, _ in frames]), camera),
        tuple(truth for _, truth in frames),
    )


def write_night(
    directory: str | PathLike[str],
    night: Night,
    truth_dir: str | PathLike[str] | None = None,
    *,
    seed: int = 1,
) -> list[Path]:
    """Write a night's raw files, and a fiber table `fibers.csv` beside them.

    Parameters
    ----------
    directory
        Where the raw files go; made if it does not exist. Files of the same names are replaced.
    night
        What is observed.
    truth_dir
        Where the truth goes, if anywhere: `night.json`, a `.npz` for each frame, and the standard star's
        table.
    seed
        Of all noise.

    Returns
    -------
    list of pathlib.Path
        The raw files in the order of their observation.
    """
    raw = Path(directory)
    raw.mkdir(parents=True, exist_ok=True)
    write_fiber_table(raw / FIBER_TABLE, night.instrument)
    truth = None if truth_dir is None else Path(truth_dir)
    if truth is not None:
        truth.mkdir(parents=True, exist_ok=True)
        write_standard(truth / STANDARD_TABLE)
    record = []
    for frame in simulate_night(night, seed):
        write_frame(raw / frame.name, frame.cards, frame.counts, frame.broken)
        entry: dict[str, Any] = {"file": frame.name, **asdict(frame.truths[0].exposure)}
        record.append(entry | {"truth": write_truth(truth, frame.name, frame.truths) if truth else []})
    if truth is not None:
        write_night_record(truth, night.instrument, seed, record)
    return [raw / entry["file"] for entry in record]
