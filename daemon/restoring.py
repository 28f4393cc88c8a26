"""A lost catalog gets back what cannot be made again: the products of raw frames that are not there any more.

All else is looked at as if it were new, and adopted where it stands.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from daemon.adoption import Finished, finished
from daemon.catalog import Catalog
from daemon.records import FrameInfo, FrameState

LOG = logging.getLogger("kspecdr.daemon")


def restore_vanished(catalog: Catalog, roots: Sequence[str]) -> int:
    """Record in an empty catalog the products of vanished frames, and what these were made from; return how many.

    roots : the watched directories by their numbers
    """
    if not catalog.is_empty():
        return 0
    done = {each.job.fingerprint: each for each in finished(catalog.out)}
    vanished = [each for each in done.values() if any(not _is_there(frame, roots) for frame in each.job.frames)]
    wanted = {each.job.fingerprint for top in vanished for each in _with_inputs(top, done)}
    told = [_as_it_is(each, roots) for print_, each in done.items() if print_ in wanted]
    if told:
        catalog.restore(told)
        LOG.info("%d products restored of raw frames that are not there, or taken by such", len(told))
    return len(told)


def _with_inputs(top: Finished, done: Mapping[str, Finished]) -> Iterator[Finished]:
    """Yield a product and all that it was made from."""
    yield top
    for calibration in top.job.calibrations.values():
        if calibration.fingerprint in done:
            yield from _with_inputs(done[calibration.fingerprint], done)


def _is_there(frame: FrameInfo, roots: Sequence[str]) -> bool:
    return frame.root < len(roots) and Path(roots[frame.root], frame.path).exists()


def _as_it_is(each: Finished, roots: Sequence[str]) -> Finished:
    frames = tuple(
        frame
        if _is_there(frame, roots)
        else replace(frame, state=FrameState.ABSENT, reason="the raw file has vanished")
        for frame in each.job.frames
    )
    return each._replace(job=replace(each.job, frames=frames))
