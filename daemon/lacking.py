"""How what a night still lacks is said: settings as an observer sets them, frames as one takes them.

Terminal and pages say it alike.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from daemon.planning.needed import Lack
from daemon.records import FrameInfo, Setup
from daemon.rulebook import OBJECT_CLASSES, describe_setting

FIRST_OF_SETTING = ("grating", "center_nm")  # what an observer sets first
CLASS_WORDS = {  # one, many
    "BIAS": ("bias", "biases"),
    "DARK": ("dark", "darks"),
    "LFLAT": ("long-slit flat", "long-slit flats"),
    "MFFFF": ("fiber flat", "fiber flats"),
    "MFARC": ("arc", "arcs"),
}


@dataclass(frozen=True, slots=True)
class Missing:
    """What one setting still lacks."""

    name: str  # what an observer sets first: `grating 150 lines/mm, center 620 nm`
    rest: str  # what else tells it from the other settings of the night; empty where nothing does
    waiting: int  # spectra that wait, or are provisional
    lacks: tuple[Lack, ...]  # in the order of the rules
    exposures: tuple[float, ...] = ()  # s, of its spectra, which darks should have


def by_setting(lacks: Iterable[Lack], frames: Iterable[FrameInfo] = ()) -> list[Missing]:
    """Gather what is lacking by setting, where most spectra wait first.

    frames : of the night; their exposure times are those that darks should have
    """
    grouped: dict[Setup, list[Lack]] = {}
    for lack in lacks:
        grouped.setdefault(lack.setup, []).append(lack)
    alike = set.intersection(*(set(setup.items()) for setup in grouped)) if len(grouped) > 1 else set()
    times = _exposures(frames)
    found = [
        _missing(setup, some, {name for name, _ in alike}, times.get(setup, ())) for setup, some in grouped.items()
    ]
    return sorted(found, key=lambda each: (-each.waiting, each.name, each.rest))


def to_take(lack: Lack, exposures: Sequence[float] = ()) -> str:
    """Say what is to be taken: `2 darks of 300 s`."""
    one, many = CLASS_WORDS.get(lack.frame_class, (lack.frame_class, lack.frame_class))
    taken = count(lack.lacks, one, many)
    if lack.frame_class != "DARK" or not exposures:
        return taken
    *most, last = (f"{each:g}" for each in exposures)
    return f"{taken} each of {', '.join(most)} and {last} s" if most else f"{taken} of {last} s"


def waits(lack: Lack) -> str:
    """Say how many spectra wait for it; empty where none does."""
    return count(lack.waiting, "spectrum waits", "spectra wait") if lack.waiting else ""


def count(number: int, one: str, many: str) -> str:
    """Return a number with its noun."""
    return f"{number} {one if number == 1 else many}"


def _missing(setup: Setup, lacks: list[Lack], alike: Collection[str], exposures: tuple[float, ...]) -> Missing:
    first = [name for name in FIRST_OF_SETTING if name in setup]
    rest = [name for name in setup if name not in first and name not in alike]
    if not first:
        first, rest = rest or list(setup), []
    named, other = (", ".join(describe_setting(name, setup[name]) for name in some) for some in (first, rest))
    return Missing(named, other, max(lack.waiting for lack in lacks), tuple(lacks), exposures)


def _exposures(frames: Iterable[FrameInfo]) -> Mapping[Setup, tuple[float, ...]]:
    """Return the exposure times of the spectra of each setting."""
    found: dict[Setup, set[float]] = {}
    for frame in frames:
        if frame.frame_class in OBJECT_CLASSES and frame.exposure_s > 0:
            found.setdefault(frame.setup, set()).add(frame.exposure_s)
    return {setup: tuple(sorted(times)) for setup, times in found.items()}
