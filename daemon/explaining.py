"""Why a frame stands where it does: what it became, what was found for it, and what was rejected."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from daemon.records import Candidate, FrameInfo, FrameState, Neighbourhood, Waiting
from daemon.rulebook import RULES, Rulebook
from daemon.rules import explain
from daemon.store.queries import Product
from daemon.store.reader import Reader

SELF_EXPLAINING = (  # states whose reason says all
    FrameState.INCOMPLETE,
    FrameState.UNCLASSIFIED,
    FrameState.IGNORED,
    FrameState.INVALID,
    FrameState.DUPLICATE,
    FrameState.BAD,
    FrameState.ABSENT,
)
HELD = (FrameState.QUEUED, FrameState.RUNNING)  # a process has taken its job
LONGEST = 160  # letters of a reason in a list
CHECK_FIBERS = "check --fibers"
_OTHER_RULE = re.compile(rf"; (?:{'|'.join(rule.name for rule in RULES)}): ")  # begins what another rule says
_OF_FIBERS = re.compile(r"\bfibers found\b|\bplaces for \d+ fibers\b|\bnumber of fibers\b")
INTERRUPTED = "its job was interrupted: nothing runs here now; the next start takes it up again"


@dataclass(frozen=True, slots=True)
class Account:
    """Why one frame stands where it does."""

    answer: Waiting
    products: tuple[Product, ...] = ()  # what it became part of, current ones
    calibrations: Mapping[str, Product] = field(default_factory=dict)  # of the candidates, by fingerprint
    taken: Mapping[str, Sequence[datetime]] = field(default_factory=dict)  # when the frames of each were exposed

    @property
    def found(self) -> Iterator[tuple[Candidate, Product | None]]:
        """Yield the calibrations that were chosen, each with its product where it exists."""
        for each in self.answer.candidates:
            if each.chosen:
                yield each, self.calibrations.get(each.fingerprint)

    @property
    def rejected(self) -> Iterator[Candidate]:
        """Yield the calibrations that were looked at and not taken."""
        return (each for each in self.answer.candidates if not each.chosen)

    def age(self, calibration: Product) -> timedelta | None:
        """Return how long after the frame the nearest frame of a calibration was taken, negative where before."""
        own = self.answer.frame.obs_time
        if own is None:
            return None
        return min((each - own for each in self.taken.get(calibration.fingerprint, (calibration.obs_time,))), key=abs)


def accounts(
    reader: Reader, exists: Neighbourhood, book: Rulebook, now: datetime, frames: Iterable[FrameInfo], *, batch: bool
) -> list[Account]:
    """Explain frames by everything that exists.

    batch : nothing more is to come
    """
    listed = list(frames)
    made = reader.products_of(frame.key for frame in listed)
    return [
        _account(reader, _answer(exists, book, now, frame, batch=batch), made.get(frame.key, ())) for frame in listed
    ]


def brief(reason: str) -> str:
    """Return what a reader of a list needs of a reason first; all of it is told by `why`.

    Of what is needed the first candidate is kept; of a failure the first clauses.
    Where the number of fibers is the likely cause, the sentence ends with what to check.
    """
    kept: list[str] = []
    for clause in map(_with_first, _clauses(_OTHER_RULE.split(reason, maxsplit=1)[0])):
        if kept and len("; ".join((*kept, clause))) > LONGEST:
            break
        kept.append(clause)
    said = "; ".join(kept)
    if len(said) > LONGEST:
        said = f"{said[:LONGEST].rpartition(' ')[0] or said[:LONGEST]} ..."
    return f"{said}; {CHECK_FIBERS}" if _OF_FIBERS.search(reason) else said


def brief_of(frame: FrameInfo) -> str:
    """Return what a list says beside a frame's name and state, without saying those again."""
    reason = frame.reason.removeprefix(f"{frame.name}: ")
    return brief(reason.removeprefix("not complete: ") if frame.state is FrameState.INCOMPLETE else reason)


def _clauses(text: str) -> Iterator[str]:
    """Yield what stands between semicolons outside all parentheses."""
    depth = first = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and text.startswith("; ", place):
            yield text[first:place]
            first = place + len("; ")
    yield text[first:]


def _with_first(clause: str) -> str:
    """Return what is to be taken, with the first candidate alone: `needs an arc (a.fits failed: no light)`."""
    needed, _, candidates = clause.partition(" (")
    if not (clause.startswith("needs ") and candidates.endswith(")")):
        return clause
    first = next(_clauses(candidates[:-1]))
    return f"{needed} ({first.replace(': failed: ', ' failed: ', 1)})"


def as_interrupted(frame: FrameInfo) -> FrameInfo:
    """Return a frame as it is where no process works: one that a worker had waits for the next start."""
    return replace(frame, state=FrameState.WAITING, reason=INTERRUPTED) if frame.state in HELD else frame


def age_words(age: timedelta) -> str:
    """Say how far apart two exposures are: `11 min before`."""
    seconds = abs(age.total_seconds())
    if seconds < 120:
        words = f"{seconds:.0f} s"
    elif seconds < 3 * 3600:
        words = f"{seconds / 60:.0f} min"
    elif seconds < 3 * 86400:
        words = f"{seconds / 3600:.0f} h"
    else:
        words = f"{seconds / 86400:.1f} days"
    return f"{words} {'before' if age < timedelta(0) else 'after'}"


def _answer(exists: Neighbourhood, book: Rulebook, now: datetime, frame: FrameInfo, *, batch: bool) -> Waiting:
    if frame.state in SELF_EXPLAINING:
        return Waiting(frame, frame.reason, state=frame.state)
    return explain(exists, book, now, frame, batch=batch)


def _account(reader: Reader, answer: Waiting, products: Iterable[Product]) -> Account:
    prints = {each.fingerprint for each in answer.candidates if each.chosen and each.fingerprint}
    return Account(answer, tuple(products), reader.main_products(prints), reader.times_of(prints))
