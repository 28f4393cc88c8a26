"""`kspecdr reduce`: a directory of raw frames, until nothing is left."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from daemon.commands.shown import make_console, say
from daemon.config import Config
from daemon.explaining import brief_of
from daemon.intake import STATES
from daemon.journal import one_line
from daemon.records import FrameInfo, FrameState
from daemon.service import Service, opened
from daemon.store.queries import Product
from daemon.turn_log import ADOPTED
from kspecdr.errors import BadOption

DONE = frozenset(
    {
        FrameState.REDUCED,
        FrameState.USED,
        FrameState.SET_ASIDE,
        FrameState.IGNORED,
        FrameState.DUPLICATE,
        FrameState.BAD,
        FrameState.ABSENT,
    }
)
EARLIEST = datetime.min.replace(tzinfo=UTC)
COUNTING = 0.5  # s between counts of what is done
LONGEST_PAUSE = 60.0  # s that a full disk or a locked catalog is waited for without any progress
GLANCE = 0.2  # s between looks at files that are still written


def reduce_directory(config: Config, *, patience: float = LONGEST_PAUSE) -> int:
    """Reduce every frame below the watched directories; return the exit code, 1 where a frame failed.

    patience : s that a pause lasts until the reduction ends early
    """
    for root in config.paths.watch:
        if not Path(root).is_dir():
            raise BadOption(f"{root} is no directory; give the directory of raw frames")
    patient = config.watch.model_copy(update={"stuck_after": config.watch.settle})
    config = config.model_copy(update={"watch": patient})
    console = make_console(stderr=True)
    above = _log_above_the_bar(console)
    with opened(config, batch=True, command="kspecdr reduce") as service:
        with _bar(console) as progress:
            stuck = _reduce(service, progress, patience)
        states, frames = _told(service)
        spectra = service.catalog.latest("red", "MFOBJECT", 1) or service.catalog.latest("red", None, 1)
        interrupted, n_adopted = service.stopping, service.log.n_adopted
    if n_adopted:
        say(ADOPTED % n_adopted, console)
    if above.left_out:
        say(f"{above.left_out} more of these warnings, of other frames", console)
    if stuck:
        say(f"ended after {patience:g} s without progress: {stuck}; then run the command again", console)
    done = _report(states, frames, config.paths.out, console)
    if states:
        say(f"next: {_next_command(frames, spectra, config.paths.out)}", console)
    return int(interrupted or bool(stuck) or not done)


def _reduce(service: Service, progress: Progress, patience: float) -> str:
    """Take everything in, then work until nothing is left and nothing new has come; return what has ended it early."""
    bar = progress.add_task("frames", total=None)
    first = True
    stuck = ""
    while not stuck and not service.stopping and (take_in(service) or first):
        first = False
        stuck = _work(service, progress, bar, patience)
        _count(service, progress, bar)
    return stuck


def _work(service: Service, progress: Progress, bar: TaskID, patience: float) -> str:
    """Work until nothing is left; return why no job could begin, where that has lasted too long."""
    counted, paused_at = 0.0, None
    while not service.stopping:
        step, now = service.step(), time.monotonic()
        if now - counted > COUNTING:
            _count(service, progress, bar)
            counted = now
        if step.tick.idle and not service.intake.n_waiting:
            break
        if any(not outcome.error for _, outcome in step.tick.finished):
            paused_at = None
        elif step.tick.paused:
            paused_at = now if paused_at is None else paused_at
            if now - paused_at > patience:
                return step.tick.paused
        service.wait()
    return ""


def _count(service: Service, progress: Progress, bar: TaskID) -> None:
    """Let the bar show how many frames are done."""
    if progress.disable:
        return
    counts = service.catalog.frame_counts()
    n_done = sum(n for state, n in counts.items() if state in DONE)
    progress.update(bar, total=sum(counts.values()), completed=n_done)


def take_in(service: Service) -> int:
    """Describe everything that is there, also what becomes complete meanwhile; return how many files."""
    n_file = 0
    while not service.stopping:
        service.look()
        n_file += service.intake.n_waiting
        service.intake.take(datetime.now(UTC), service.intake.n_waiting)
        if not service.n_waiting:
            return n_file
        time.sleep(GLANCE)
    return n_file


class _Above(logging.Handler):
    """Writes warnings above the progress bar; those that differ in the frame alone only once."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console
        self._said: set[str] = set()
        self.left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        said = one_line(record.getMessage())
        what = said.rpartition(": ")[2] if record.levelno < logging.ERROR else said
        if what in self._said:
            self.left_out += 1
            return
        self._said.add(what)
        self._console.print(f"{record.levelname.lower()}: {said}")


def _log_above_the_bar(console: Console) -> _Above:
    """Show warnings of products; those of frames stand in the report at the end."""
    above = _Above(console)
    logging.basicConfig(handlers=[above], force=True)
    logging.getLogger(STATES.name).setLevel(logging.CRITICAL)
    return above


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _told(service: Service) -> tuple[Mapping[FrameState, int], list[FrameInfo]]:
    """Return how many frames are in each state, and those of which something is told, in the order of observing."""
    roots = service.intake.roots
    states = service.catalog.frame_counts(roots)
    named = [state for state in states if state not in DONE or state is FrameState.SET_ASIDE]
    frames = (frame for state in named for frame in service.catalog.frames(state=state) if frame.root in roots)
    return states, sorted(frames, key=lambda frame: (frame.obs_time or EARLIEST, frame.path, frame.part))


def _report(states: Mapping[FrameState, int], frames: Sequence[FrameInfo], out: str, console: Console) -> bool:
    """Name each frame that is not done with its reason, and count the rest; tell whether all are done."""
    if not states:
        say("no frame found (.fits, .fits.gz, .fits.fz, .spe); give the directory of raw frames", console)
        return False
    left = _left(frames)
    for frame in (*(each for each in frames if each.state is FrameState.SET_ASIDE), *left):
        say(f"{frame.path}: {frame.state}: {brief_of(frame)}", console)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    say(f"{sum(states.values())} frames: {counts}; products in {out}", console)
    return not left


def _left(frames: Iterable[FrameInfo]) -> list[FrameInfo]:
    """Return the frames that are not done, what has failed by itself first."""
    left = [frame for frame in frames if frame.state not in DONE]
    return sorted(left, key=lambda frame: frame.state is FrameState.WAITING)


def _next_command(frames: Sequence[FrameInfo], spectra: Sequence[Product], out: str) -> str:
    """Return what a person may type now: why the first frame is not done, else the newest spectrum."""
    for frame in _left(frames)[:1]:
        return f"kspecdr why {quote(frame.path)} --out {quote(out)}"
    for product in spectra:
        link = Path(out, product.night, product.path.name)
        return f"kspecdr show {quote(str(link))} --png spectrum.png"
    return f"kspecdr frames --out {quote(out)}"
