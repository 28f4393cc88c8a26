"""Is everything in order for a daemon to run here? One check, one line, one remedy."""

import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from daemon.cluster import Cluster
from daemon.config import Config
from daemon.mounts import mount_of, observer_for
from daemon.outage import NoWorker
from daemon.pulse import read_pulse
from daemon.sections import Hook, Web
from daemon.session import is_locked
from daemon.store.engines import file_of
from daemon.store.pages import PageReader
from daemon.store.probe import address_of, ask_server
from daemon.web.process import listen
from kspecdr.errors import BadOption, KspecError

FREE_LEAST = 2 << 30  # bytes below which a night may not fit
WATCHES_LEAST = 8192
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PACKAGES = ("kspecdr", "numpy", "scipy", "astropy", "sqlalchemy", "watchdog")
LAMPS = ("hg", "ar", "hgar", "ne", "kr", "cd", "xe")


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    name: str
    flag: str  # ok, warn, fail
    message: str


def examine(config: Config) -> list[Finding]:
    """Return what every check finds."""
    return [
        *(finding for root in config.paths.watch for finding in _watched(Path(root), config.watch.observer)),
        _output(Path(config.paths.out)),
        _catalog(Path(config.paths.out), config.catalog.url),
        *_dask(config.workers.scheduler, tuple(map(Path, (config.paths.out, *config.paths.watch)))),
        _inotify_limit(Path("/proc/sys/fs/inotify/max_user_watches")),
        _fibers(config.instrument.fibers),
        _arc_tables(config.instrument.default_lamp),
        *_pages(config.web, Path(config.paths.out)),
        *_hooks(config.hooks),
        _daemon(Path(config.paths.out), datetime.now(UTC)),
        Finding("versions", "ok", ", ".join(f"{name} {version(name)}" for name in PACKAGES)),
        Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.release()}"),
    ]


def _watched(root: Path, wanted: str) -> Iterator[Finding]:
    name = f"watch {root}"
    if not root.is_dir():
        yield Finding(name, "fail", "is not there; make it, mount it, or give another with --watch")
        return
    if not os.access(root, os.R_OK | os.X_OK):
        yield Finding(name, "fail", "cannot be read; give the daemon's user read permission")
        return
    mount, observer = mount_of(root), observer_for(root, wanted)
    if observer == "inotify" and mount.is_network:
        yield Finding(name, "warn", f"{mount.kind} mount: inotify sees nothing that others write; use polling")
    else:
        yield Finding(name, "ok", f"{mount.kind} mount, observed by {observer}")


def _output(out: Path) -> Finding:
    place = next(each for each in (out, *out.absolute().parents) if each.exists())
    name = f"out {out}"
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK, effective_ids=True)):
        return Finding(name, "fail", f"{place} cannot be written; give the daemon's user write permission")
    free = shutil.disk_usage(place).free
    flag = "ok" if free >= FREE_LEAST else "warn"
    return Finding(name, flag, f"{free / 2**30:.1f} GiB free" + ("" if flag == "ok" else "; make room"))


def _catalog(out: Path, url: str) -> Finding:
    """Say whether the database of the catalog can be used."""
    if url and not url.startswith("sqlite"):
        return _server(url)
    path = file_of(url, out)
    mount = mount_of(path)
    if mount.is_network:
        remedy = "SQLite needs a local disk: set catalog.url to a local path"
        return Finding("catalog", "fail", f"{mount.kind} mount; {remedy}")
    if not path.is_file():
        return Finding("catalog", "ok", f"none yet; SQLite on a local disk ({mount.kind})")
    try:
        with closing(PageReader(url or str(out), out)) as reader:
            reader.check_version()
            n_frame = sum(reader.frame_counts().values())
    except KspecError as error:
        return Finding("catalog", "fail", str(error))
    return Finding("catalog", "ok", f"{n_frame} frames; SQLite on a local disk ({mount.kind})")


def _server(url: str) -> Finding:
    """Try the database that the configuration names."""
    place = address_of(url)
    try:
        server = ask_server(url)
    except (KspecError, OSError) as error:
        return Finding("catalog", "fail", f"{place}: {error}; start the server, or mend catalog.url")
    said = f"PostgreSQL {server.version} at {place} as {server.user}"
    if not (server.may_create or server.catalog):
        remedy = f"GRANT CREATE ON SCHEMA public TO {server.user}"
        return Finding("catalog", "fail", f"{said}: no permission to make tables; as its owner: {remedy}")
    return Finding("catalog", "ok", f"{said}, {'the catalog is there' if server.catalog else 'may make tables'}")


def _dask(scheduler: str, directories: tuple[Path, ...]) -> Iterator[Finding]:
    """Try the dask scheduler that the configuration names, where it names one."""
    if not scheduler:
        return
    try:
        cluster = Cluster(scheduler, tuple(each.resolve() for each in directories))
    except KspecError as error:
        yield Finding("dask", "fail", str(error))
        return
    try:
        present, fit = cluster.workers()
    except NoWorker as error:
        yield Finding("dask", "fail", str(error))
    else:
        flag = "ok" if fit == present else "warn"
        yield Finding("dask", flag, f"{scheduler}: {present} workers, {fit} of them may have our jobs")
    finally:
        cluster.leave()


def _pages(web: Web, out: Path) -> Iterator[Finding]:
    """Say whether the pages can be served, and who may see them."""
    if not web.port:
        yield Finding("pages", "ok", "none: web.port is 0")
        return
    place, holder = f"{web.host} port {web.port}", is_locked(out)
    try:
        listen(web.host, web.port).close()
    except BadOption as error:
        flag, said = ("ok", f"{place}, where {holder} may serve them") if holder else ("warn", str(error))
        yield Finding("pages", flag, said)
        return
    if web.host in LOOPBACK:
        yield Finding("pages", "ok", f"{place} is free")
    else:
        yield Finding("pages", "warn", f"{place} can be reached from elsewhere without a password; use 127.0.0.1")


def _daemon(out: Path, now: datetime) -> Finding:
    """Say how a daemon that runs here is."""
    holder, pulse = is_locked(out), read_pulse(out)
    if not holder:
        return Finding("daemon", "ok", f"none works in {out}")
    if pulse is None:
        return Finding("daemon", "ok", f"{out} is held by {holder}")
    trouble = pulse.trouble(now)
    return Finding("daemon", "warn" if trouble else "ok", f"{holder}: {trouble or pulse.line}")


def _hooks(hooks: Iterable[Hook]) -> Iterator[Finding]:
    """Say whether the commands of the hooks are there."""
    for hook in hooks:
        if hook.command and shutil.which(hook.command[0]) is None:
            yield Finding(f"hook on {hook.on}", "fail", f"{hook.command[0]} is no command; give one that can be run")


def _inotify_limit(setting: Path) -> Finding:
    try:
        limit = int(setting.read_text())
    except (OSError, ValueError):
        return Finding("inotify", "warn", 'its limits cannot be read; watch.observer = "polling" always works')
    if limit < WATCHES_LEAST:
        return Finding("inotify", "warn", f"{limit} watches; raise fs.inotify.max_user_watches to {WATCHES_LEAST}")
    return Finding("inotify", "ok", f"{limit} watches allowed")


def _fibers(fibers: int | str) -> Finding:
    from kspecdr.io.fiber_table import load_fibers  # noqa: PLC0415 - astropy's tables are slow to import

    try:
        table = load_fibers(n_fibers=fibers) if isinstance(fibers, int) else load_fibers(fibers)
    except KspecError as error:
        return Finding("fibers", "fail", f"{error}; mend instrument.fibers")
    kinds = {str(kind): int((table.type == kind).sum()) for kind in sorted(set(table.type))}
    return Finding("fibers", "ok", ", ".join(f"{count} {kind}" for kind, count in kinds.items()))


def _arc_tables(default_lamp: str) -> Finding:
    from kspecdr.wavecal.arc_io import read_arc_file  # noqa: PLC0415 - numpy is not needed until now

    try:
        counts = {lamp: read_arc_file(0, None, lamp)[3] for lamp in (*LAMPS, default_lamp)}
    except KspecError as error:
        return Finding("arc tables", "fail", str(error))
    return Finding("arc tables", "ok", ", ".join(f"{lamp} {count}" for lamp, count in counts.items()))
