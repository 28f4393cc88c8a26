import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "kspecdr.service"
EXPOSURE_MOST = 2.0
ANALYZE = shutil.which("systemd-analyze")

needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed (package systemd)")


def settings():
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Za-z]+=", line))


@needs_systemd
def test_the_unit_is_understood(tmp_path):
    """The command lies in a place that exists only where it is installed: here it is this interpreter."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/kspecdr/bin/kspecdr", sys.executable))
    found = subprocess.run(  # noqa: S603 - a fixed command
        [ANALYZE, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@needs_systemd
def test_the_exposure_is_small():
    found = subprocess.run(  # noqa: S603 - a fixed command
        [ANALYZE, "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    exposure = re.search(r"exposure level for \S+: ([\d.]+)", found.stdout)
    assert exposure
    assert float(exposure[1]) <= EXPOSURE_MOST


def test_a_stop_leaves_the_workers_to_the_daemon_and_gives_it_more_than_its_grace():
    from daemon.service import GRACE  # noqa: PLC0415 - the other tests need no daemon

    unit = settings()
    assert unit["KillMode"] == "mixed"
    assert float(unit["TimeoutStopSec"].removesuffix("s")) > 2 * GRACE
