import os
import shutil
import signal
import subprocess
import sys
import time

from kspecdr.simulate import PRESETS, write_night


def test_a_signal_ends_the_daemon_and_the_next_one_goes_on(tmp_path):
    night = write_night(tmp_path / "night", PRESETS["small"])
    (tmp_path / "raw").mkdir()
    for path in night:
        shutil.copy(path, tmp_path / "raw")
    command = [sys.executable, "-m", "daemon.cli", "run", "--watch", "raw", "--out", "out", "--fibers", "6"]
    (tmp_path / "config.toml").write_text("[plan]\nquiet = 0.2\n[workers]\ncount = 1\n")
    run = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": os.getcwd()}}  # noqa: PTH109 - as a shell would
    daemon = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **run)  # noqa: S603 - our own command
    while not (tmp_path / "out" / "catalog.db").exists():
        time.sleep(0.05)
    time.sleep(1.0)
    daemon.send_signal(signal.SIGTERM)
    _, log = daemon.communicate(timeout=60)
    assert daemon.returncode == 0, log
    assert log.rstrip().endswith("INFO ended")
    assert not list((tmp_path / "out").rglob("*.partial"))
    command += ["--until-idle", "0.5"]
    rest = subprocess.run(command, capture_output=True, text=True, check=False, **run)  # noqa: S603 - as above
    assert rest.returncode == 0, rest.stderr
    assert len(list((tmp_path / "out").glob("*/object_0000?_red.fits"))) == 2
