"""Thousands of small frames with faults: everything is reduced, and neither memory nor descriptors grow."""

import os
import random
import signal
import time
from pathlib import Path
from statistics import median

import pytest

MOST_GROWTH_MB = 60.0  # of daemon and workers, from the second quarter to the last


@pytest.mark.parametrize("n_frame", [300, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_a_flood_of_frames_with_faults_leaves_memory_and_descriptors_flat(night, site, workers, n_frame):
    rng = random.Random(n_frame)  # noqa: S311 - repeatable moments, no secrets
    site.land(night)
    whole = night[-1].read_bytes()
    samples, landed = [], 0
    limits = {"workers": {"attempts": 50}}
    while landed < n_frame:
        with site.daemon(**limits) as process:
            assert site.ready()
            for _ in range(min(n_frame // 3, n_frame - landed)):
                land_one(site.raw / f"object_{landed + 10_000:05d}.fits", whole, landed, rng)
                landed += 1
                if landed % 50 == 0:
                    keep_up(site, landed)
                    samples.append(usage(process.pid, workers(process.pid)))
                if landed % 97 == 0 and (pids := workers(process.pid)):
                    kill(rng.choice(pids))
            process.send_signal(signal.SIGKILL)
    site.finish(**limits)
    site.content()
    assert site.sql("select count(*) from frames where state = 'reduced'") == [(n_frame + 2,)]
    quarter = max(len(samples) // 4, 1)
    for what in range(2):
        before, after = ([s[what] for s in part] for part in (samples[quarter : 2 * quarter], samples[-quarter:]))
        assert median(after) - median(before) < (MOST_GROWTH_MB, 12)[what]


def land_one(path, whole, number, rng):
    """Let a frame appear: at once, growing, or cut short at first; each with a content of its own."""
    content = whole[:60_000] + number.to_bytes(4, "big") + whole[60_004:]
    if rng.random() < 0.05:
        path.write_bytes(content[: rng.randrange(3000, len(content) - 3000)])
        time.sleep(0.05)
    path.write_bytes(content)


def keep_up(site, landed):
    """Wait until what has landed is not far ahead of what is reduced."""
    site.wait_for(f"select 1 from (select count(*) as n from jobs where state = 'done') where n > {landed - 150}")  # noqa: S608 - a number


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def usage(daemon, pids):
    """Return the resident memory (MB) of the largest process, and the number of descriptors of the daemon."""
    resident = []
    for pid in (daemon, *pids):
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
        resident.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
    return max(resident), len(os.listdir(f"/proc/{daemon}/fd"))  # noqa: PTH208 - names are enough
