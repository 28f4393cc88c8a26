"""Records as rows of the catalog's tables, and back; part of the catalog."""

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, and_

from daemon.planning.fingerprint import directory_name
from daemon.records import FrameInfo, FrameState, Job, Outcome, ProductState, Setting, Setup, Written
from daemon.rulebook import RULES
from daemon.store.schema import frames

FLAGS = ("ok", "warn", "fail")  # from best to worst
INHERITED = "flag_of_"  # begins the figure that says how a calibration was flagged
OF_DARK_FIBERS = ("fibers_interpolated", "arc_dark")  # figures that say nothing of the fibers with light
MAIN_KIND = {rule.name: rule.makes for rule in RULES}
_AT_ONCE = 500  # values in one query: SQLite takes some thousand variables
_FRAME_FIELDS = (
    "root",
    "path",
    "part",
    "content_hash",
    "size",
    "mtime_ns",
    "frame_class",
    "lamp",
    "target",
    "exposure_s",
    "readout_s",
    "obs_time",
    "night",
    "fibers",
    "fibers_hash",
    "reason",
    "landed",
)


def frame_values(frame: FrameInfo) -> dict[str, Any]:
    """Return the columns of a frame."""
    values = {name: getattr(frame, name) for name in _FRAME_FIELDS}
    place = {"folder": folder_of(frame.path), "file": last_part(frame.path)}
    return {**values, **place, "setup": dict(frame.setup), "state": frame.state}


def slices(values: Iterable[str]) -> Iterator[list[str]]:
    """Yield values, each once and sorted, as many together as one query can take."""
    listed = sorted(set(values))
    return (listed[first : first + _AT_ONCE] for first in range(0, len(listed), _AT_ONCE))


def last_part(path: str) -> str:
    """Return the name of a file without its folders."""
    return path.rpartition("/")[2]


def folder_of(path: str) -> str:
    """Return the folder of a file; empty: none."""
    return path.rpartition("/")[0]


def of_path(path: str) -> ColumnElement[bool]:
    """Return the condition of frames whose file has a path below any root; by the index of names."""
    return and_(frames.c.file == last_part(path), frames.c.path == path)


def frame_of(row: RowMapping) -> FrameInfo:
    """Return the frame that a row describes."""
    values = {name: row[name] for name in _FRAME_FIELDS}
    setup = _shared_setup(tuple(row["setup"].items()))
    return FrameInfo(**values, setup=setup, state=FrameState(row["state"]))


@lru_cache(maxsize=1024)
def _shared_setup(items: tuple[tuple[str, Setting], ...]) -> Setup:
    """Return one object for the frames of a setting: they are compared a million times."""
    return Setup(dict(items))


def job_values(job: Job) -> dict[str, Any]:
    """Return the columns of a job that is claimed for the first time."""
    return {
        "fingerprint": job.fingerprint,
        "rule": job.rule,
        "recipe": job.recipe,
        "night": job.night,
        "attempts": 1,
        "product_state": "",
        "provisional": list(job.provisional),
        "set_aside": [],
        "warnings": [],
        "exposure_s": max(frame.exposure_s for frame in job.frames),
        "stage_times": {},
        "memory_mb": 0.0,
        "landed": max(frame.landed for frame in job.frames),
    }


def input_values(job: Job) -> list[dict[str, Any]]:
    """Return a row for each raw frame and calibration of a job."""
    raw = [{"role": "raw", "input": frame.content_hash, "part": frame.part, "path": frame.path} for frame in job.frames]
    made = [{"role": name, "input": each.fingerprint, "part": 0, "path": ""} for name, each in job.calibrations.items()]
    return [{"fingerprint": job.fingerprint, **row} for row in (*raw, *made)]


def product_values(job: Job, outcome: Outcome, written: Written) -> dict[str, Any]:
    """Return the row of a file that a job has written."""
    own = [frame for frame in job.frames if frame.key == written.frame]
    belonging = own or list(job.frames)
    times = [frame.obs_time for frame in belonging if frame.obs_time is not None]
    last = belonging[-1]
    key = own[0].key if own else ("", 0)
    path = f"{directory_name(job.night, job.fingerprint)}/{written.path}"
    return {
        "fingerprint": job.fingerprint,
        "kind": written.kind,
        "path": path,
        "file": last_part(path),
        "rule": job.rule,
        "main": written.kind == MAIN_KIND.get(job.rule),
        "content_hash": key[0],
        "part": key[1],
        "frame_class": last.frame_class,
        "lamp": "+".join(dict.fromkeys(frame.lamp for frame in belonging if frame.lamp)),
        "target": last.target,
        "raw": [frame.path for frame in belonging],
        "night": job.night,
        "first_obs": min(times),
        "obs_time": max(times),
        "setup": dict(last.setup),
        "state": ProductState.CURRENT,
        "provisional": bool(job.provisional),
        "reason": ", ".join(job.provisional),
        "flag": max((each.flag for each in outcome.quality), key=FLAGS.index, default="ok"),
    }


def quality_values(job: Job, outcome: Outcome) -> Iterator[dict[str, Any]]:
    """Yield a row for each number of the quality checklist; what is not finite is stored as null."""
    for each in outcome.quality:
        yield {
            "fingerprint": job.fingerprint,
            "name": each.name,
            "value": each.value if math.isfinite(each.value) else None,
            "limit": each.limit,
            "flag": each.flag,
        }
