"""A daemon into whose directory anything falls: it lives, says of each file where it stands, and stays small."""

import resource
import warnings

import pytest

from daemon.config import load
from daemon.records import FrameState
from daemon.service import opened

MEMORY = 400_000  # KiB by which it may grow
ENDS = {  # nothing is being done, or is to be done without anything new
    *(FrameState.INCOMPLETE, FrameState.INVALID, FrameState.DUPLICATE, FrameState.IGNORED, FrameState.SET_ASIDE),
    *(FrameState.WAITING, FrameState.USED, FrameState.FAILED),
}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", [30, pytest.param(1000, marks=pytest.mark.soak)])
def test_whatever_lands_the_daemon_lives_and_says_where_it_stands(mutant, originals, tmp_path, number):
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    settings = {"paths": {"watch": [str(raw)], "out": str(out)}, "instrument": {"fibers": 2}, "workers": {"count": 0}}
    settings |= {"watch": {"settle": 0.2}, "plan": {"quiet": 3.0, "provisional_after": 1.0}, "keep": ["bias"]}
    (raw / "bias_whole.fits").write_bytes(originals[".fits"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with warnings.catch_warnings(), opened(load(None, settings), batch=False, command="test") as service:
        warnings.simplefilter("ignore")  # astropy warns of odd cards
        for seed in range(number):
            suffix, data = mutant(seed)
            (raw / f"{('bias', 'flat', 'object')[seed % 3]}_{seed}{suffix}").write_bytes(data)
            if seed % 10 == 0:
                service.step()
        service.run(until_idle=2.0)
        frames = service.catalog.frames()
    told = {frame.path for frame in frames}
    assert told == {path.name for path in raw.iterdir()}
    assert {frame.state for frame in frames} <= ENDS
    assert all(frame.reason for frame in frames if frame.state is not FrameState.USED)
    assert all(frame.reason.isprintable() and len(frame.reason) < 2000 for frame in frames)
    assert {frame.state for frame in frames if frame.path == "bias_whole.fits"} <= {FrameState.USED}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY
