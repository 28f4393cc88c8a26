"""What is looked at before a daemon or a batch begins, and told or refused in a sentence."""

import logging
from collections.abc import Sequence
from pathlib import Path

from daemon.agreement import differences
from daemon.catalog import Catalog
from daemon.config import Config
from daemon.records import FrameState
from daemon.session import Session
from daemon.watching.moved import has_moved
from kspecdr.errors import BadOption
from kspecdr.io.fiber_table import load_fibers

LOG = logging.getLogger("kspecdr.daemon")


def is_at(roots: Sequence[str], catalog: Catalog, number: int, place: Path) -> bool:
    """Tell whether a directory that was watched is at another place now."""
    known = catalog.known_files(number)
    sizes = {name: size for name, (size, _, state) in known.items() if state is not FrameState.ABSENT and size}

    def content_of(name: str) -> str:
        found = (frame for frame in catalog.find_frames(name) if (frame.root, frame.path) == (number, name))
        return next((frame.content_hash for frame in found), "")

    moved = place.is_dir() and has_moved(Path(roots[number]), place, sizes, content_of)
    if moved:
        LOG.info("%s is what %s was; its frames are known", place, roots[number])
    return moved


def tell_other_settings(before: Session, config: Config) -> None:
    """Warn where an output directory is reduced with other settings than before."""
    other = differences(before.config, config)
    if before.roots and other:
        LOG.warning(
            "%s was last reduced with other settings (%s); plan.remake = %r says what is made again",
            config.paths.out,
            other,
            config.plan.remake,
        )


def check_agreement(before: Session, session: Session) -> None:
    """Refuse to work beside other daemons on what they know otherwise."""
    out = session.config.paths.out
    if session.roots != before.roots:
        new = ", ".join(root for root in session.roots if root not in before.roots)
        raise BadOption(
            f"{out}: another daemon is at work on its catalog and does not watch {new}; let all watch the same "
            "directories, or stop it first"
        )
    if other := differences(before.config, session.config):
        raise BadOption(
            f"{out}: another daemon is at work on its catalog with other settings ({other}); "
            "give all the same config.toml"
        )


def check_places(config: Config, out: Path) -> None:
    """Refuse directories that cannot be watched, or that are named for two things."""
    if any(Path(root).resolve() == out.resolve() for root in config.paths.watch):
        raise BadOption(f"{out} is watched for frames and named for products; give another output directory")
    for root in config.paths.watch:
        if Path(root).exists() and not Path(root).is_dir():
            raise BadOption(f"{root} is no directory; give the directory in which frames land")


def check_fibers(config: Config) -> None:
    """Read the fiber tables, so that a wrong one is told before the first frame needs it."""
    instrument = config.instrument
    for table in (instrument.fibers, *(each.table for each in instrument.fibre_tables)):
        if isinstance(table, str):
            load_fibers(table)
