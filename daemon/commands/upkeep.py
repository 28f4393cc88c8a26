"""What people do for a catalog: needed, prune and backup."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote
from typing import Any

from daemon.commands.deciding import decide, open_catalog
from daemon.commands.reading import check_night, read_catalog
from daemon.commands.refusing import check_file
from daemon.commands.shown import make_console, print_json, say
from daemon.explaining import brief
from daemon.lacking import Missing, by_setting, to_take, waits
from daemon.planning.gathering import night_surroundings
from daemon.planning.groups import night_of
from daemon.planning.needed import Lack, needed
from daemon.store.engines import file_of
from kspecdr.errors import BadOption


def show_needed(out: Path | None, path: Path | None, night: str | None, *, as_json: bool) -> None:
    """Say which calibrations the settings of a night still lack; without a night those of the last with frames."""
    now = datetime.now(UTC)
    if night is not None:
        check_night(night)
    with read_catalog(out, path) as (session, catalog):
        book = session.config.rulebook()
        tonight = night_of(now, book.timezone)
        night = night or catalog.last_night() or tonight
        with catalog.excerpts() as ask:
            exists = night_surroundings(ask, book, now, night)
            lacks = needed(exists, book, now, night)
    if as_json:
        print_json([_lack_table(lack) for lack in lacks])
        return
    if night != tonight:
        say(f"of night {night}", make_console(stderr=True))
    settings = by_setting(lacks, (frame for frame in exists.frames if frame.night == night))
    if not settings:
        say("nothing is missing")
    for missing in settings:
        say(", ".join(filter(None, (missing.name, missing.rest))))
        for lack in missing.lacks:
            _say_lack(lack, missing)


def _say_lack(lack: Lack, missing: Missing) -> None:
    """Say what to take and for how many spectra, and why what was taken does not serve."""
    say(f"  take {to_take(lack, missing.exposures):<24}  {waits(lack)}".rstrip())
    reason = brief(lack.reason)
    if " failed: " in reason:
        say(f"       {reason}")
    elif lack.found:
        say(f"       {lack.found} there already")


def _lack_table(lack: Lack) -> dict[str, Any]:
    return {
        "setup": dict(lack.setup),
        "calibration": lack.rule,
        "frame_class": lack.frame_class,
        "lacks": lack.lacks,
        "found": lack.found,
        "waiting": lack.waiting,
        "reason": lack.reason,
    }


def prune(out: Path | None, path: Path | None, days: float, *, dry_run: bool) -> int:
    """Remove the files of superseded products that nothing uses, or only list them; return the exit code."""
    if days < 0:
        raise BadOption(f"--older-than {days:g}, expected 0 or more days")
    before = datetime.now(UTC) - timedelta(days=days)
    with read_catalog(out, path) as (_, catalog):
        old = catalog.prunable(before)
        directories = [catalog.directory(*each) for each in old]
    if dry_run:
        for directory in directories:
            say(str(directory))
        say(f"{len(directories)} directories would be removed")
        return 0
    return decide(out, path, "prune", "", {"before": before.isoformat()})


def backup(out: Path | None, path: Path | None, target: Path, *, force: bool) -> None:
    """Copy the catalog while it is in use; a file that is there is written over only with `force`."""
    check_file(target)
    with open_catalog(out, path) as (session, catalog):
        kept = file_of(session.config.catalog.url, catalog.out)
        if target.exists() and target.resolve() == kept.resolve():
            raise BadOption(f"{target} is the catalog itself; give another file")
        if target.exists() and not force:
            raise BadOption(f"{target} exists; give another file, or --force to write over it")
        catalog.backup(target)
        n_frame = sum(catalog.frame_counts().values())
    say(f"{target}: the catalog of {catalog.out}, {n_frame} frames, {target.stat().st_size / 1e6:.1f} MB")
    place, own = quote(str(target)), (quote(f"{kept}{end}") for end in ("-wal", "-shm"))
    say(f"to restore it: stop the daemon, then rm -f {' '.join(own)}, then cp {place} {quote(str(kept))}")
