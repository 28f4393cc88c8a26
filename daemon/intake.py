"""What the watcher has seen, described and put into the catalog."""

import logging
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path

from daemon.catalog import Catalog
from daemon.classify import Description, describe, is_one_exposure
from daemon.config import Config
from daemon.fiber_tables import table_hash
from daemon.planning.groups import night_of
from daemon.records import FrameInfo, FrameState
from daemon.store.texts import storable
from daemon.watcher import Key, Sighting, Standing
from daemon.watching.twins import gone, replaced

LOG = logging.getLogger("kspecdr.intake")
STATES = logging.getLogger("kspecdr.intake.states")  # what a frame's state says as well
AT_ONCE = 20  # files described between two ticks, so that work begins before a backlog is taken in
SHARE = 20  # of a large backlog one part in so many: a plan costs as much as the groups that grow, which may be large
LARGEST = 2_000  # files of such a part: the daemon gives no sign of life meanwhile, nor does it answer anybody
DESCRIBED_BY = ("instrument", "names", "classify", "site")  # sections of the configuration that say what a frame is
_UNSETTLED = (FrameState.INCOMPLETE, FrameState.INVALID, FrameState.UNCLASSIFIED)
NO_FILE = (-1, -1)  # size and mtime_ns: it is known, so that its end is seen, and no version of it is settled


class KnownFiles:
    """The files that need not be described again, folder by folder.

    What was not understood before is looked at again: settings may have changed since.
    """

    def __init__(self, catalog: Catalog, outdated: Collection[Key] = ()) -> None:
        self._catalog = catalog
        self._outdated = outdated  # described by other settings

    def files(self, root: int, folder: str) -> dict[str, tuple[int, int]]:
        """Return size and mtime_ns of the files in a folder, by name; of one to look at again what no file has."""
        return {
            path.rpartition("/")[2]: (size, mtime_ns) if self._is_settled(root, path, state) else NO_FILE
            for path, (size, mtime_ns, state) in self._catalog.known_files(root, folder).items()
            if state is not FrameState.ABSENT
        }

    def _is_settled(self, root: int, path: str, state: FrameState) -> bool:
        return state not in _UNSETTLED and (root, path) not in self._outdated

    def folders(self, root: int) -> list[str]:
        """Return the folders in which files are known."""
        return self._catalog.folders(root)


class Intake:
    """Takes sightings in, a few at a time, in the order in which they came."""

    def __init__(self, catalog: Catalog, config: Config, roots: dict[int, Path]) -> None:
        self._catalog = catalog
        self._config = config
        self.roots = roots
        self._waiting: deque[Sighting] = deque()
        self.changed: list[tuple[int, Path]] = []  # files that are to be described again

    def known(self, outdated: Collection[Key] = ()) -> KnownFiles:
        """Return what tells the files that need not be described again, but for some."""
        return KnownFiles(self._catalog, outdated)

    def outdated(self, before: Config, now: datetime, *, batch: bool, edited: bool = True) -> set[Key]:
        """Return the files that other settings, or fiber tables of other content, described.

        `plan.remake` says how far back a change reaches. Unless a table that the settings name was `edited`, only
        frames of tonight are looked at for one: those of an archive that sidecars name are left as they are.
        """
        config = self._config
        if config.plan.remake == "nothing":
            return set()
        tonight = night_of(now, config.site.timezone)
        night = "" if batch or config.plan.remake == "all" else tonight
        if any(getattr(before, section) != getattr(config, section) for section in DESCRIBED_BY):
            return {each for each in self._catalog.files(night) if each[0] in self.roots}
        by_tables = self._by_edited_tables(night if edited else tonight)
        return {each for each in by_tables if each[0] in self.roots}

    def _by_edited_tables(self, night: str) -> Iterator[Key]:
        """Yield the files whose fiber table says something else now, under the same name."""
        for table, content in self._catalog.fiber_tables(night):
            try:
                edited = table_hash(table) != content
            except OSError:
                continue  # a frame that needs it says so
            if edited:
                concerned = self._catalog.described_with((table, content), night)
                LOG.info("%s has changed; %d frames are described again", table, len(concerned))
                yield from concerned

    def follow(self, config: Config) -> None:
        """Describe by another configuration from now on."""
        self._config = config

    def put(self, sightings: Iterable[Sighting]) -> None:
        """Add what the watcher has seen."""
        for sighting in sightings:
            if sighting.standing in (Standing.ROOT_LOST, Standing.ROOT_FOUND):
                LOG.log(
                    logging.WARNING if sighting.standing is Standing.ROOT_LOST else logging.INFO,
                    sighting.reason,
                )
            else:
                self._waiting.append(sighting)

    def take(self, now: datetime, most: int = AT_ONCE) -> list[FrameInfo]:
        """Describe and record the next files, more than `most` of a backlog; return what is new or has changed."""
        some = list(islice(self._waiting, max(most, min(len(self._waiting) // SHARE, LARGEST))))
        changed: list[FrameInfo] = []
        found: list[FrameInfo] = []
        for sighting in some:
            frames = self._frames(sighting, now)
            self._look_at_twins(sighting)
            if not frames:
                changed += self._catalog.add_frames(found)
                found = []
                self._catalog.set_absent(sighting.root, [self._name(sighting)])
            found += frames
        if found:
            changed += self._catalog.add_frames(found)
        for _ in some:  # only now: whatever failed above is taken in again
            self._waiting.popleft()
        for frame in changed:
            _tell(frame)
        return changed

    @property
    def n_waiting(self) -> int:
        """How many files are seen and not described yet."""
        return len(self._waiting)

    def _frames(self, sighting: Sighting, now: datetime) -> tuple[FrameInfo, ...]:
        """Return what a sighting says; nothing where the file has gone."""
        name = self._name(sighting)
        if sighting.standing is Standing.GONE:
            return ()
        if sighting.standing is not Standing.COMPLETE:
            level = logging.WARNING if sighting.standing is Standing.STUCK else logging.INFO
            STATES.log(level, "%s: %s", name, sighting.reason)
            return (_incomplete(sighting, name, now),)
        frames = self._described(sighting, now).frames
        if frames[0].state is FrameState.INCOMPLETE:
            self.changed.append((sighting.root, sighting.path))
        return self._as_known(sighting, frames)

    def _as_known(self, sighting: Sighting, frames: tuple[FrameInfo, ...]) -> tuple[FrameInfo, ...]:
        """Return frames as the exposures that they were before their file was compressed, or expanded, in its place."""
        if frames[0].state is not FrameState.WAITING:
            return frames
        names = [self._relative(sighting.root, each) for each in gone(sighting.path)]
        for before in self._catalog.frames_at(sighting.root, names).values():
            pairs = list(zip(before, frames, strict=False))
            if len(before) == len(frames) and all(is_one_exposure(*pair, len(frames)) for pair in pairs):
                return tuple(replace(now, content_hash=then.content_hash) for then, now in pairs)
        return frames

    def _look_at_twins(self, sighting: Sighting) -> None:
        """Let files be described again in whose place this one is reduced, or was to be: X.spe beside X.fits."""
        if sighting.standing not in (Standing.COMPLETE, Standing.GONE):
            return
        self.changed += [(sighting.root, twin) for twin in replaced(sighting.path)]

    def _described(self, sighting: Sighting, now: datetime) -> Description:
        root = self.roots[sighting.root]
        try:
            found = describe(sighting.path, root, self._config, landed=now, index=sighting.root)
        except Exception as error:  # noqa: BLE001 - one file must not end the daemon; its state names the defect
            said = f"{sighting.path.name}: unexpected {type(error).__name__}: {error}"
            frame = _incomplete(sighting, self._name(sighting), now)
            return Description((replace(frame, state=FrameState.INVALID, reason=said),))
        for warning in found.warnings:
            LOG.warning(warning)
        return found

    def _name(self, sighting: Sighting) -> str:
        return self._relative(sighting.root, sighting.path)

    def _relative(self, root: int, path: Path) -> str:
        return storable(path.relative_to(self.roots[root]).as_posix())


def _incomplete(sighting: Sighting, name: str, now: datetime) -> FrameInfo:
    return FrameInfo(
        path=name,
        content_hash="",
        size=sighting.size,
        mtime_ns=sighting.mtime_ns,
        landed=now,
        state=FrameState.INCOMPLETE,
        reason=sighting.reason,
        root=sighting.root,
    )


def _tell(frame: FrameInfo) -> None:
    """Log what has landed, one line."""
    what = " ".join(each for each in (frame.frame_class, frame.lamp, frame.target) if each)
    if frame.state is FrameState.INCOMPLETE:
        return  # told when it was seen
    if frame.state in (FrameState.INVALID, FrameState.UNCLASSIFIED):
        STATES.warning("%s is %s: %s", frame.path, frame.state, frame.reason)
    elif frame.state is FrameState.IGNORED:
        STATES.info("%s is ignored: %s", frame.path, frame.reason)
    else:
        STATES.info("%s landed: %s, %g s", frame.path, what, frame.exposure_s)
