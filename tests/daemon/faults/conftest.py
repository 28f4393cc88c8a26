"""The daemon as a process of its own, small frames, and what may not differ from an undisturbed run."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon.catalog import Catalog
from kspecdr.simulate import PRESETS, write_night
from kspecdr.simulate.exposure import Exposure

INJECT = Path(__file__).parent / "inject"
PATIENCE = 150.0  # s after which a daemon that has not ended has lost something
PRODUCTS = """
    select p.kind, p.fingerprint, p.provisional, p.flag, p.reason, p.path, group_concat(distinct i.input) as raw,
           group_concat(distinct q.name || q.flag) as quality
    from products p join product_inputs i on i.fingerprint = p.fingerprint and i.role = 'raw'
         left join quality q on q.fingerprint = p.fingerprint
    where p.state = 'current' group by p.id
"""


class Observatory:
    """A watched directory, an output directory and a daemon."""

    def __init__(self, place):
        self.place = place
        self.raw, self.out, self.log = place / "raw", place / "out", place / "log"
        self.raw.mkdir(parents=True, exist_ok=True)
        self.log.touch()
        self.begin = 0  # of what the last daemon has said

    def land(self, paths):
        """Let frames appear that are not there yet."""
        for path in paths:
            if not (self.raw / path.name).exists():
                shutil.copyfile(path, self.raw / path.name)

    def configured(self, **tables):
        """Write a configuration that waits little."""
        settings = {
            "plan": {"quiet": 0.5, "like_wait": 1.0},
            "watch": {"rescan": 1.0, "settle": 0.2},
            "web": {"port": 0},
        }
        for name, values in tables.items():
            settings[name] = {**settings.get(name, {}), **values}
        lines = []
        for name, values in settings.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        path = self.place / "config.toml"
        path.write_text("\n".join(lines))
        return path

    def command(self, *arguments):
        """Run another kspecdr command on the output directory; return what it prints."""
        done = subprocess.run(  # noqa: S603 - our own code
            [sys.executable, "-m", "daemon.cli", *map(str, arguments), "--out", str(self.out)],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    @contextmanager
    def daemon(self, *, until_idle=None, roots=None, environment=None, before=None, **tables):
        """Run the daemon; kill it where the block leaves it alive."""
        watch = [part for root in roots or [self.raw] for part in ("--watch", root)]
        arguments = ["run", "--config", self.configured(**tables), *watch, "--out", self.out]
        arguments += ["--fibers", "6", "--workers", "2"]
        arguments += [] if until_idle is None else ["--until-idle", until_idle]
        path = os.pathsep.join([str(INJECT), os.environ.get("PYTHONPATH", "")]) if environment else None
        injected = {**environment, "PYTHONPATH": path} if environment else {}
        self.begin = self.log.stat().st_size
        with self.log.open("a") as log:
            process = subprocess.Popen(  # noqa: S603 - our own code
                [*(before or []), sys.executable, "-m", "daemon.cli", *map(str, arguments)],
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1", **injected},
            )
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()

    def finish(self, **settings):
        """Run the daemon until nothing is left."""
        with self.daemon(until_idle=1.5, **settings) as process:
            assert process.wait(timeout=PATIENCE) == 0, self.log.read_text()[-4000:]

    def sql(self, query):
        """Ask the catalog."""
        with closing(sqlite3.connect(self.out / "catalog.db", timeout=30.0)) as connection:
            return connection.execute(query).fetchall()

    def request(self, kind, subject):
        """Ask something of the daemon, as a command of people does."""
        with closing(Catalog.open(str(self.out), create=False)) as catalog:
            catalog.request(kind, subject, {}, datetime.now(UTC))

    def wait_for(self, query, seconds=90.0):
        """Wait until a query of the catalog finds something."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := self.sql(query):
                    return found
            except sqlite3.Error:
                pass
            time.sleep(0.02)
        return []

    def progress(self, n_change, seconds=3.0):
        """Wait until the catalog has changed so many times, or nothing is left to change."""
        assert self.ready()
        (first,) = self.wait_for("select value from revisions")[0]
        self.wait_for(f"select 1 from revisions where value >= {first + n_change}", seconds)  # noqa: S608 - a number

    def said(self, words, seconds=60.0):
        """Wait until the last daemon has said something."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if words in self.log.read_bytes()[self.begin :].decode(errors="replace"):
                return True
            time.sleep(0.05)
        return False

    def ready(self):
        """Wait until the last daemon looks at its directory."""
        return self.said("INFO watching")

    def current(self):
        """Return current products with their bytes, and frame states; each link leads to what is current."""
        products = set()
        for kind, fingerprint, provisional, flag, reason, path, raw, quality in self.sql(PRODUCTS):
            digest = hashlib.sha256((self.out / path).read_bytes()).hexdigest()
            night, _, name = path.split("/")
            assert (self.out / night / name).resolve() == (self.out / path).resolve()
            made_from = tuple(sorted(raw.split(",")))
            figures = tuple(sorted((quality or "").split(",")))
            products.add((kind, made_from, fingerprint, bool(provisional), reason, flag, figures, digest))
        return products, set(self.sql("select path, part, state, reason from frames"))

    def content(self):
        """What may not differ; and nothing half, nothing twice, nothing that the catalog does not know."""
        known = {Path(path).parent for (path,) in self.sql("select path from products")}
        there = {p.relative_to(self.out) for p in self.out.glob("*/*") if p.is_dir() and not p.is_symlink()}
        assert there == known
        hidden = [path.name for path in self.out.rglob(".*") if path.name != ".lock"]
        assert not hidden
        done = self.sql("select count(*) from jobs where state = 'done'")
        assert self.sql("select count(*) from events where kind = 'made'") == done
        assert not self.sql("select 1 from jobs where state in ('queued', 'running')")
        assert self.sql("pragma integrity_check") == [("ok",)]
        return self.current()


def workers_of(pid):
    """Return the worker processes of a daemon."""
    found = []
    for each in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            listed = each.read_text().split()
            found += [int(n) for n in listed if "spawn_main" in Path(f"/proc/{n}/cmdline").read_text()]
        except OSError:
            continue  # it has ended meanwhile
    return found


@pytest.fixture
def workers():
    """Find the worker processes of a daemon."""
    return workers_of


@pytest.fixture(scope="session")
def night(tmp_path_factory):
    """The smallest night that has everything."""
    small = PRESETS["small"]
    return write_night(tmp_path_factory.mktemp("night"), small)


@pytest.fixture(scope="session")
def long_night(tmp_path_factory):
    """The same night with many more objects."""
    small = PRESETS["small"]
    more = tuple(Exposure("object", 60.0, target=f"field_{k:03d}") for k in range(1, 41))
    return write_night(tmp_path_factory.mktemp("long"), replace(small, exposures=(*small.exposures, *more)))


@pytest.fixture(scope="session")
def calm(night, tmp_path_factory):
    """What an undisturbed daemon makes of the smallest night."""
    return undisturbed(night, tmp_path_factory.mktemp("calm"))


@pytest.fixture(scope="session")
def long_calm(long_night, tmp_path_factory):
    """What an undisturbed daemon makes of the longer one."""
    return undisturbed(long_night, tmp_path_factory.mktemp("long_calm"))


def undisturbed(paths, place):
    quiet = Observatory(place)
    quiet.land(paths)
    quiet.finish()
    return quiet.content()


@pytest.fixture
def site(tmp_path):
    """An observatory at which nothing has happened yet."""
    return Observatory(tmp_path / "site")
