"""What a job says of itself in its own directory: its outcome, in one small file beside the products.

The directory appears whole or not at all and bears the job's fingerprint, so whoever wants that fingerprint (after
the catalog was lost, or after an end between the renaming and the commit) finishes the job by what stands there,
instead of doing it again.
"""

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from daemon.records import Job, Outcome, Quality, Written

RECORD = "outcome.json"
FORMAT = 1  # of the record; another one is not understood
_AT_ONCE = 1 << 20  # bytes read at a time

Key = tuple[str, int]  # content and part of a frame


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


class _Record(BaseModel):
    format: int
    fingerprint: str
    rule: str
    recipe: str
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
        keep=list(job.keep),
        products=[_file(directory, each) for each in outcome.products],
        quality=[_figure(each) for each in outcome.quality],
        warnings=list(outcome.warnings),
        set_aside=[(*key, why) for key, why in outcome.set_aside.items()],
        stage_times=dict(outcome.stage_times),
        memory_mb=outcome.memory_mb,
    )
    (directory / RECORD).write_text(json.dumps(record.model_dump(), indent=1), encoding="ascii")


def adopted(directory: Path, job: Job) -> Outcome | None:
    """Return what became of a job that stands done in a directory.

    None: there is no record, it is damaged or of another job, a file is not what it says, or a kind that is wanted
    now was not kept then.
    """
    try:
        record = _Record.model_validate(json.loads((directory / RECORD).read_bytes()))
        if (record.format, record.fingerprint) != (FORMAT, job.fingerprint) or not _keeps(record.keep, job.keep):
            return None
        if not all(_is_whole(directory, each) for each in record.products):
            return None
    except (OSError, ValueError, ValidationError):
        return None
    return Outcome(
        job.fingerprint,
        tuple(Written(each.kind, each.path, each.frame) for each in record.products),
        tuple(Quality(q.name, math.nan if q.value is None else q.value, q.limit, q.flag) for q in record.quality),
        tuple(record.warnings),
        _set_aside(record),
        record.stage_times,
        memory_mb=record.memory_mb,
        adopted=True,
    )


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
    path = directory / file.path
    inside = path.name == file.path and not path.is_symlink()
    return inside and path.stat().st_size == file.size and _measured(path) == (file.size, file.crc32)


def _measured(path: Path) -> tuple[int, int]:
    """Return the size of a file and the CRC-32 of its bytes."""
    size, crc32 = 0, 0
    buffer = bytearray(_AT_ONCE)
    with path.open("rb", buffering=0) as stream:
        while n_byte := stream.readinto(buffer):
            crc32 = zlib.crc32(memoryview(buffer)[:n_byte], crc32)
            size += n_byte
    return size, crc32
