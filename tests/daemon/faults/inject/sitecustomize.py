"""Faults that a daemon under test is started with: on PYTHONPATH, and told by the environment what to do.

KILL_AT      n: SIGKILL to this process in the moment before its n-th change of the file system or of the catalog
KILL_WORKER  n: the same in a worker, and only in the first one to get there
RAISE_ONCE   directory, kind and stages (none: all): in each recipe they go wrong the first time that they are
             reached, with ALWAYS every time
CLOCK_BACK   seconds after which the clock of the daemon is a day behind
"""

import importlib.abc
import importlib.machinery
import itertools
import os
import signal
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

CHANGES = {"os.rename", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
IN_WORKER = any("spawn_main" in argument for argument in sys.orig_argv)


def kill_at(number, marker=None):
    """End this process before its change of a number; with a marker only where no other has been ended so."""
    count = itertools.count(1)

    def hook(event, arguments):
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (event in CHANGES or writes or event == "kspecdr.commit") and next(count) == number:
            if marker is not None:
                try:
                    os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    return
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


class After(importlib.abc.MetaPathFinder):
    """Does something to a module when it has been imported."""

    def __init__(self, name, change):
        self.name, self.change = name, change

    def find_spec(self, name, path, target=None):
        if name != self.name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        whole = spec.loader.exec_module

        def exec_module(module):
            whole(module)
            self.change(module)

        spec.loader.exec_module = exec_module
        return spec


def commits_are_told(module):
    """Let every commit of SQLAlchemy be a change that `kill_at` sees, before and after it."""
    whole = module.DefaultDialect.do_commit

    def do_commit(self, connection):
        sys.audit("kspecdr.commit")
        whole(self, connection)
        sys.audit("kspecdr.commit")

    module.DefaultDialect.do_commit = do_commit


def go_wrong(kind):
    """Do in a stage what the fault is."""
    if kind == "memory":
        bytearray(64 * 2**30)
    elif kind == "hang":
        time.sleep(600.0)
    elif kind == "disk":
        raise OSError(5, "Input/output error", "injected")
    raise RuntimeError("injected")


def raise_once(directory, kind, stages):
    """Return a change of the recipes in which stages go wrong the first time that they are reached."""

    def first(name):
        try:
            os.close(os.open(Path(directory, name), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return "ALWAYS" in os.environ
        return True

    def change(module):
        whole = module.Bench.stage

        @contextmanager
        def stage(bench, name):
            if (not stages or name in stages.split(",")) and first(f"{bench.job.rule}.{name}"):
                go_wrong(kind)
            with whole(bench, name):
                yield

        module.Bench.stage = stage

    return change


def set_back(seconds):
    """Return a change of the daemon's clock: after some seconds it is a day behind."""

    def change(module):
        whole, start = module.SteadyClock.__init__.__kwdefaults__["wall"], time.monotonic()

        def wall():
            return whole() - timedelta(days=time.monotonic() - start >= seconds)

        module.SteadyClock.__init__.__kwdefaults__["wall"] = wall

    return change


if "KILL_AT" in os.environ and not IN_WORKER:
    sys.meta_path.insert(0, After("sqlalchemy.engine.default", commits_are_told))
    kill_at(int(os.environ["KILL_AT"]))
if "KILL_WORKER" in os.environ and IN_WORKER:
    wanted, place = os.environ["KILL_WORKER"].split(":", 1)
    kill_at(int(wanted), place)
if "RAISE_ONCE" in os.environ and IN_WORKER:
    sys.meta_path.insert(0, After("daemon.recipes", raise_once(*os.environ["RAISE_ONCE"].split(":"))))
if "CLOCK_BACK" in os.environ and not IN_WORKER:
    sys.meta_path.insert(0, After("daemon.clock", set_back(float(os.environ["CLOCK_BACK"]))))
