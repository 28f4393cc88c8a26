"""`kspecdr demo`: a simulated night that lands frame by frame, and what becomes of it."""

import logging
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from daemon.commands.replay import landings, replay
from daemon.commands.shown import COLORS, make_console, show_products
from daemon.config import Config, load
from daemon.preview import render_spectrum
from daemon.records import FrameInfo, FrameState, Job, Outcome
from daemon.service import Service, Step, opened
from kspecdr.simulate import PRESETS, write_night

NIGHT = "demo"
QUIET = 1.8  # s; the frames of a group follow each other within this time
SPACING = 1.2  # s between frames that land
KINDS_SHOWN = ("bias", "dark", "tlm", "fflat", "red")
LONGEST = 120.0  # s after which something is wrong


@dataclass
class Progress:
    """What has happened so far."""

    made: list[tuple[Job, Outcome, float]] = field(default_factory=list)  # and the seconds since the last frame landed
    landed: int = 0
    all_landed: bool = False
    trouble: str = ""


def run_demo(directory: Path | None) -> int:
    """Simulate a short night, reduce it as it lands, show how; return the exit code."""
    place = directory or Path(tempfile.mkdtemp(prefix="kspecdr-demo-"))
    console, begin = make_console(), time.monotonic()
    logging.getLogger("kspecdr").setLevel(logging.ERROR)  # the display says the same
    console.print(f"working in {place}")
    source, raw, out = place / "night", place / "raw", place / "reduced"
    raw.mkdir(parents=True, exist_ok=True)
    config = _config(raw, out)
    progress = Progress()
    with opened(config, batch=False, command="kspecdr demo") as service:
        paths = write_night(source, PRESETS[NIGHT])
        console.print(f"simulated {len(paths)} frames in {time.monotonic() - begin:.1f} s")
        writer = threading.Thread(target=_let_land, args=(source, raw, progress), daemon=True)
        writer.start()
        with _shown(console, service, progress) as show:
            _work(service, progress, show)
        writer.join(timeout=1.0)
        return _conclude(service, progress, console, place, time.monotonic() - begin)


def _config(raw: Path, out: Path) -> Config:
    n_fiber = PRESETS[NIGHT].instrument.slit.n_fiber
    return load(
        None,
        {
            "paths": {"watch": [str(raw)], "out": str(out)},
            "instrument": {"fibers": n_fiber},
            "plan": {"quiet": QUIET, "like_wait": 10.0},
        },
    )


def _let_land(source: Path, raw: Path, progress: Progress) -> None:
    try:
        for _ in replay(landings(source), raw, speed=0.0, sleep=time.sleep):
            progress.landed += 1
            time.sleep(SPACING)
    except Exception as error:  # noqa: BLE001 - a thread's error is shown by the one that waits for it
        progress.trouble = str(error)
    progress.all_landed = True


def _work(service: Service, progress: Progress, show: "Display") -> None:
    end = time.monotonic() + LONGEST
    while not service.stopping and time.monotonic() < end:
        step = service.step()
        _note(step, progress)
        show.update()
        if progress.all_landed and step.tick.idle and not step.tick.settling and not service.n_waiting:
            return
        service.wait(0.25)


def _note(step: Step, progress: Progress) -> None:
    for job, outcome in step.tick.finished:
        landed = max(frame.landed for frame in job.frames)
        progress.made.append((job, outcome, time.time() - landed.timestamp()))


class Display:
    """What waits for what and what was made: a live table, or plain lines where there is no terminal."""

    def __init__(self, console: Console, service: Service, progress: Progress, live: Live | None) -> None:
        self._console, self._service, self._progress, self._live = console, service, progress, live
        self._said = 0
        self._states: dict[str, tuple[FrameState, str]] = {}

    def update(self) -> None:
        """Show the present state."""
        frames = self._service.catalog.frames()
        if self._live:
            self._live.update(Group(_frames_shown(frames), _made_shown(self._progress)))
            return
        for frame in frames:
            now = (frame.state, frame.reason)
            if self._states.get(frame.name) != now and frame.state not in (
                FrameState.QUEUED,
                FrameState.RUNNING,
            ):
                self._console.print(f"{frame.name}: {frame.state}: {frame.reason}".rstrip(": "))
            self._states[frame.name] = now
        for job, outcome, seconds in self._progress.made[self._said :]:
            self._console.print(_sentence(job, outcome, seconds))
        self._said = len(self._progress.made)


@contextmanager
def _shown(console: Console, service: Service, progress: Progress) -> Iterator[Display]:
    if not console.is_terminal:
        yield Display(console, service, progress, None)
        return
    with Live(console=console, refresh_per_second=8) as live:
        yield Display(console, service, progress, live)


def _frames_shown(frames: list[FrameInfo]) -> Table:
    table = Table("frame", "class", "state", "why", box=None, title="frames that have landed")
    for frame in frames:
        cells = (frame.name, frame.frame_class, str(frame.state), frame.reason)
        table.add_row(*(Text(cell) for cell in cells), style=COLORS.get(frame.state))
    return table


def _made_shown(progress: Progress) -> Text:
    lines = [_sentence(*each) for each in progress.made[-6:]]
    return Text("\n".join(lines))


def _sentence(job: Job, outcome: Outcome, seconds: float) -> str:
    name = job.frames[0].name + (f" and {len(job.frames) - 1} more" if len(job.frames) > 1 else "")
    if outcome.error:
        return f"{job.rule} of {name} failed: {outcome.error}"
    return f"{job.rule} of {name}: in the catalog {seconds:.2f} s after its last frame landed"


def _conclude(service: Service, progress: Progress, console: Console, place: Path, seconds: float) -> int:
    """Show the latest products, their latency and one spectrum; return the exit code."""
    spectra = service.catalog.latest("red", "MFOBJECT", 0)
    made = [each for kind in KINDS_SHOWN for each in service.catalog.latest(kind, None, 0)]
    seconds_of = {outcome.fingerprint: late for _, outcome, late in progress.made}
    out = service.catalog.out
    console.print(f"products in {out}")
    show_products(made, out, seconds_of, console)
    console.print("latency: from the last of its frames being complete to the catalog; a group waits for more")
    if progress.trouble:
        console.print(f"the frames did not land: {progress.trouble}")
    if not spectra:
        console.print("no spectrum was made; see the reasons above")
        return 1
    png = render_spectrum(spectra[-1].path, place / "spectrum.png")
    console.print(f"{spectra[-1].path.name} is drawn in {png}")
    console.print(f"{progress.landed} frames, {len(spectra)} object spectra in {seconds:.0f} s altogether")
    console.print(f"night, raw, reduced and spectrum.png in {place} may be removed")
    failed = [outcome for _, outcome, _ in progress.made if outcome.error]
    return int(bool(failed or progress.trouble))
