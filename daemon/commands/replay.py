"""A night written again, as LightField writes it: each frame grows under its final name.

Nothing that is there is ever written over: the target is a directory of raw frames.
"""

import itertools
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from daemon.watching.listing import frame_files, sidecars_of
from kspecdr.errors import BadOption, KspecError
from kspecdr.inst.isoplane import describe_header
from kspecdr.io.raw_header import image_shape, read_header

CHUNKS = 8  # that a growing file is written in
WRITING = 0.5  # s of real time that LightField takes to write a frame


@dataclass(frozen=True, slots=True)
class Landing:
    """A file of the night and when it was written."""

    path: Path
    name: Path  # below the source directory
    at: datetime


def landings(source: Path) -> list[Landing]:
    """Return the frames below a directory in the order in which they were written.

    A frame is written when its last exposure ends; what has no readable header comes last, by name.
    """
    names = sorted(name for name, _ in frame_files(source, source, ()))
    if not names:
        raise BadOption(f"{source} holds no frames; give a directory with .fits files")
    known = {name: _written_at(source / name) for name in names}
    last = max((at for at in known.values() if at), default=datetime(2000, 1, 1, tzinfo=UTC))
    found = [Landing(source / name, Path(name), at or last) for name, at in known.items()]
    return sorted(found, key=lambda each: (each.at, known[each.name.as_posix()] is None))


def replay(
    frames: Iterable[Landing],
    target: Path,
    *,
    speed: float,
    sleep: Callable[[float], object],
    shuffle: int | None = None,
) -> Iterator[Path]:
    """Write frames into `target`; yield each path when it is complete.

    Parameters
    ----------
    frames : from `landings`
    target : the directory; it and its folders are made
    speed : times as fast as the night was; 0: without any pause
    sleep : waits so many seconds
    shuffle : seed of another order; the pauses stay

    Raises
    ------
    BadOption
        A frame of that name is there already.
    """
    if speed < 0:
        raise BadOption(f"speed = {speed:g}, expected 0 (no pause) or more")
    listed = list(frames)
    times = [each.at for each in listed]
    pauses = [timedelta(0), *(later - at for at, later in itertools.pairwise(times))]
    if shuffle is not None:
        random.Random(shuffle).shuffle(listed)  # noqa: S311 - an order, not a secret
    for frame in listed:
        if (target / frame.name).exists():
            raise BadOption(f"{target / frame.name} exists; replay into a directory without these frames")
    for frame, pause in zip(listed, pauses, strict=True):
        if speed:
            sleep(pause.total_seconds() / speed)
        yield _grow(frame, target, WRITING / speed if speed else 0.0, sleep)


def _grow(frame: Landing, target: Path, seconds: float, sleep: Callable[[float], object]) -> Path:
    """Write a file in chunks under its final name, its sidecar first."""
    path = target / frame.name
    path.parent.mkdir(parents=True, exist_ok=True)
    for sidecar in sidecars_of(frame.path):
        if sidecar.is_file():
            shutil.copyfile(sidecar, path.with_name(sidecar.name))
    chunk = -(-frame.path.stat().st_size // CHUNKS) or 1
    with frame.path.open("rb") as source, path.open("xb") as growing:
        while data := source.read(chunk):
            growing.write(data)
            growing.flush()
            if seconds:
                sleep(seconds / CHUNKS)
    return path


def _written_at(path: Path) -> datetime | None:
    """Return when the last exposure of a file ended, None where its header does not tell."""
    try:
        header = read_header(path)
        known = describe_header(header, "MFOBJECT")
        return known.start + image_shape(header)[0] * timedelta(seconds=known.exposure)
    except KspecError:
        return None
