"""What a job says of itself in its own directory: its outcome, in one small file beside the products.

The directory appears whole or not at all and bears the job's fingerprint, so whoever wants that fingerprint (after
the catalog was lost, or after an end between the renaming and the commit) finishes the job by what stands there,
instead of doing it again.
"""

import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel

from daemon.planning.fingerprint import directory_name
from daemon.records import Calibration, FrameInfo, Job, Outcome, Quality, Setting, Setup, Written

RECORD = "outcome.json"
FORMAT = 1  # of the record; another one is not understood
END = 1 << 16  # bytes at either end of a file that tell it from others; what lies between is summed by the file itself
FIRST_CARD = b"SIMPLE  ="
ALL_ONES = 0xFFFFFFFF

Key = tuple[str, int]  # content and part of a frame


class Finished(NamedTuple):
    """A job that stands done."""

    job: Job
    outcome: Outcome
    time: datetime  # when it was done


class _File(BaseModel):
    kind: str
    path: str
    frame: Key | None
    size: int
    crc32: int


class _Figure(BaseModel):
    name: str
    value: float | None  # JSON knows no number that is none
    limit: float | None
    flag: Literal["ok", "warn", "fail"]


class _Frame(BaseModel):
    path: str
    root: int
    part: int
    content_hash: str
    size: int
    mtime_ns: int
    landed: AwareDatetime
    obs_time: AwareDatetime | None
    night: str
    frame_class: str
    lamp: str
    target: str
    exposure_s: float
    readout_s: float
    setup: dict[str, Setting]
    fibers: str
    fibers_hash: str


class _Record(BaseModel):
    format: int
    fingerprint: str
    rule: str
    recipe: str
    night: str
    frames: list[_Frame]
    calibrations: dict[str, str]  # rule -> fingerprint
    provisional: list[str]
    keep: list[str]  # kinds that were to be written; none: all
    products: list[_File]
    quality: list[_Figure]
    warnings: list[str]
    set_aside: list[tuple[str, int, str]]
    stage_times: dict[str, float]
    memory_mb: float


def write_record(directory: Path, job: Job, outcome: Outcome) -> None:
    """Write what became of a job beside its products.

    It is not synced: one that the loss of power damages is not believed, and the job is done again.
    """
    record = _Record(
        format=FORMAT,
        fingerprint=job.fingerprint,
        rule=job.rule,
        recipe=job.recipe,
        night=job.night,
        frames=[_frame(each) for each in job.frames],
        calibrations={rule: each.fingerprint for rule, each in job.calibrations.items()},
        provisional=list(job.provisional),
        keep=list(job.keep),
        products=[_file(directory, each) for each in outcome.products],
        quality=[_figure(each) for each in outcome.quality],
        warnings=list(outcome.warnings),
        set_aside=[(*key, why) for key, why in outcome.set_aside.items()],
        stage_times=dict(outcome.stage_times),
        memory_mb=outcome.memory_mb,
    )
    (directory / RECORD).write_text(json.dumps(record.model_dump(mode="json"), indent=1), encoding="ascii")


def adopted(directory: Path, job: Job) -> Outcome | None:
    """Return what became of a job that stands done in a directory.

    None: there is no record, it is damaged or of another job, a file is not what it says, or a kind that is wanted
    now was not kept then.
    """
    try:
        record = _read(directory)
        if record.fingerprint != job.fingerprint or not _keeps(record.keep, job.keep):
            return None
        if not all(_is_whole(directory, each) for each in record.products):
            return None
    except (OSError, ValueError):
        return None
    return _outcome(record)


def finished(out: Path) -> Iterator[Finished]:
    """Yield the jobs that stand done below an output directory, the oldest first; files are told by their size."""
    records = sorted((path.stat().st_mtime_ns, path) for path in out.glob(f"[0-9]*-*-*/*/{RECORD}"))
    for written_ns, path in records:
        try:
            record = _read(path.parent)
            if out / directory_name(record.night, record.fingerprint) == path.parent and all(
                (path.parent / each.path).stat().st_size == each.size for each in record.products
            ):
                yield Finished(_job(record), _outcome(record), datetime.fromtimestamp(written_ns * 1e-9, UTC))
        except (OSError, ValueError):
            continue


def _read(directory: Path) -> _Record:
    """Return the record in a directory; ValueError where it cannot be understood."""
    record = _Record.model_validate(json.loads((directory / RECORD).read_bytes()))
    if record.format != FORMAT:
        raise ValueError(f"{directory}: a record of format {record.format}, expected {FORMAT}")
    if any(Path(each.path).name != each.path for each in record.products):
        raise ValueError(f"{directory}: the record names files elsewhere")
    return record


def _job(record: _Record) -> Job:
    frames = tuple(FrameInfo(**{**dict(each), "setup": Setup(each.setup)}) for each in record.frames)
    calibrations = {rule: Calibration(rule, print_, {}) for rule, print_ in record.calibrations.items()}
    provisional = tuple(record.provisional)
    recipe = record.recipe
    return Job(
        record.rule, record.fingerprint, frames, calibrations, {}, record.night, provisional=provisional, recipe=recipe
    )


def _outcome(record: _Record) -> Outcome:
    return Outcome(
        record.fingerprint,
        tuple(Written(each.kind, each.path, each.frame) for each in record.products),
        tuple(Quality(q.name, math.nan if q.value is None else q.value, q.limit, q.flag) for q in record.quality),
        tuple(record.warnings),
        _set_aside(record),
        record.stage_times,
        memory_mb=record.memory_mb,
        adopted=True,
    )


def _frame(frame: FrameInfo) -> _Frame:
    told = {name: getattr(frame, name) for name in _Frame.model_fields if name != "setup"}
    return _Frame(**told, setup=dict(frame.setup))


def _set_aside(record: _Record) -> Mapping[Key, str]:
    return {(content, part): why for content, part, why in record.set_aside}


def _figure(figure: Quality) -> _Figure:
    value = figure.value if math.isfinite(figure.value) else None
    return _Figure(name=figure.name, value=value, limit=figure.limit, flag=figure.flag)  # type: ignore[arg-type]  # checked when made


def _file(directory: Path, written: Written) -> _File:
    size, crc32 = _measured(directory / written.path)
    return _File(kind=written.kind, path=written.path, frame=written.frame, size=size, crc32=crc32)


def _keeps(kept: list[str], wanted: tuple[str, ...]) -> bool:
    """Tell whether all kinds were kept that are wanted."""
    return not kept or (bool(wanted) and set(wanted) <= set(kept))


def _is_whole(directory: Path, file: _File) -> bool:
    """Tell whether a file is the one that was written, every byte of it."""
    path = directory / file.path
    if path.is_symlink() or path.stat().st_size != file.size:
        return False
    return _measured(path) == (file.size, file.crc32) and (not _sums_itself(path) or _is_unharmed(path))


def _measured(path: Path) -> tuple[int, int]:
    """Return the size of a file and a CRC-32: of all its bytes, or, where it sums itself, of both its ends."""
    size = path.stat().st_size
    with path.open("rb", buffering=0) as stream:
        if size > 2 * END and _sums_itself(path):
            crc32 = zlib.crc32(stream.read(END))
            stream.seek(-END, os.SEEK_END)
            return size, zlib.crc32(stream.read(END), crc32)
        crc32 = 0
        while some := stream.read(END):
            crc32 = zlib.crc32(some, crc32)
    return size, crc32


def _sums_itself(path: Path) -> bool:
    """Tell whether a file is a FITS product, in whose headers stand the sums of all its units."""
    with path.open("rb", buffering=0) as stream:
        return path.suffix == ".fits" and stream.read(len(FIRST_CARD)) == FIRST_CARD


def _is_unharmed(path: Path) -> bool:
    """Tell whether a FITS product sums to all ones, as each of its units does (FITS 4.0, section 4.4.2.7)."""
    from kspecdr.io.blocks import ones_sum  # noqa: PLC0415 - the daemon itself does without, only workers read products

    return ones_sum(path.read_bytes()) == ALL_ONES
