"""How frames and products stand on a terminal, and as lines of a file: what the reading commands have in common.

A terminal of 80 columns shows all of it; where another program reads, each frame or product is one line.
Names and headers are never obeyed: what cannot be printed is written as its escape.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from daemon.explaining import Account, age_words, brief
from daemon.journal import one_line
from daemon.lights import product_light
from daemon.records import FrameInfo, FrameState
from daemon.store.queries import Product
from daemon.tables import as_json

COLORS = {
    FrameState.REDUCED: "green",
    FrameState.USED: "green",
    FrameState.FAILED: "red",
    FrameState.INVALID: "red",
    FrameState.UNCLASSIFIED: "red",
    FrameState.WAITING: "yellow",
    FrameState.INCOMPLETE: "yellow",
    FrameState.SET_ASIDE: "yellow",
}
FLAGS = {"ok": "green", "warn": "yellow", "fail": "red"}
PIPE_WIDTH = 400  # columns of a table that goes to a file
INDENT = 10  # columns of what belongs to the line above: those of the time


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that takes every text literally, and breaks no line where its output is read by a program."""
    console = Console(highlight=False, markup=False, emoji=False, stderr=stderr)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, stderr=stderr, width=PIPE_WIDTH)
    return console


def say(text: str, console: Console | None = None, style: str = "") -> None:
    """Write one line."""
    console = console or make_console()
    console.print(Text(one_line(text), style), soft_wrap=True)


def print_json(value: object) -> None:
    """Write JSON to standard output."""
    print(as_json(value))  # noqa: T201 - the command's output


def show_frames(frames: Iterable[FrameInfo]) -> None:
    """Show frames in their order: on a terminal by nights, reasons below the frames."""
    console = make_console()
    if not console.is_terminal:
        for frame in frames:
            words = filter(None, (_date(frame.obs_time), _frame_words(frame), brief(frame.reason)))
            say("  ".join(words), console)
        return
    for night, some in groupby(frames, lambda frame: frame.night):
        say(f"night {night or 'not known'}", console, "bold")
        for frame in some:
            style = COLORS.get(frame.state, "")
            say(f"{_time(frame.obs_time):{INDENT}}{_frame_words(frame)}", console, style)
            _below(brief(frame.reason), console)


def show_products(
    products: Iterable[Product],
    below: Path,
    latencies: Mapping[str, float] | None = None,
    console: Console | None = None,
) -> None:
    """Show products in their order.

    below : the directory that paths are shown relative to
    latencies : seconds from landing to the catalog, by fingerprint
    """
    console = console or make_console()
    for product in products:
        seconds = (latencies or {}).get(product.fingerprint)
        what = [*_product_words(product), f"after {seconds:.2f} s" if seconds is not None else ""]
        place, partly = _place(product, below), f"provisional: {product.reason}"
        if not console.is_terminal:
            words = (_date(product.obs_time), *what, place, partly if product.provisional else "")
            say("  ".join(filter(None, words)), console)
            continue
        line = f"{_time(product.obs_time):{INDENT}}{'  '.join(filter(None, what))}"
        say(line, console, FLAGS.get(product.flag, ""))
        _below(place, console)
        _below(partly if product.provisional else "", console)


def quality_words(product: Product) -> str:
    """Say in a few words how good a product is: `good: S/N 12`."""
    light = product_light(product)
    return f"{light.word}: {light.figure}" if light.figure else light.word


def show_account(account: Account, below: Path) -> None:
    """Show why a frame stands where it does.

    below : the directory that paths are shown relative to
    """
    answer, console = account.answer, make_console()
    say(f"{answer.frame.name}: {answer.state}" + (f": {answer.reason}" if answer.reason else ""), console)
    for product in account.products:
        say(f"  became {_place(product, below)}", console)
        partly = f"; provisional: {product.reason}" if product.provisional else ""
        say(f"    {quality_words(product)}{partly}", console, FLAGS.get(product.flag, ""))
    if answer.needs:
        say(f"  needs: {', '.join(answer.needs)}", console)
    for candidate, calibration in account.found:
        waits = f" ({candidate.criterion})" if candidate.criterion else ""
        say(f"  found {candidate.rule}: {candidate.name}{waits}", console)
        if calibration is not None:
            age = account.age(calibration)
            words = (age_words(age) if age is not None else "", quality_words(calibration))
            say(f"    {', '.join(filter(None, words))}", console, FLAGS.get(calibration.flag, ""))
            say(f"    {_place(calibration, below)}", console)
    for each in account.rejected:
        say(f"  rejected {each.rule}: {each.name}: {each.criterion}", console)


def _place(product: Product, below: Path) -> str:
    return product.path.relative_to(below).as_posix()


def _frame_words(frame: FrameInfo) -> str:
    part = f" frame {frame.part}" if frame.part else ""
    what = frame.lamp or frame.target
    told = f"  ({what})" if what and what.lower() not in frame.path.lower() else ""
    frame_class = "" if frame.frame_class == "UNCLASSIFIED" else frame.frame_class
    seconds = f"{frame.exposure_s:g} s" if frame.obs_time else ""
    return f"{frame.state:<12} {frame_class:<8} {seconds:>7}  {frame.path}{part}{told}"


def _product_words(product: Product) -> Iterator[str]:
    yield f"{product.frame_class:<8}"
    yield product.lamp or product.target
    yield quality_words(product)


def _below(text: str, console: Console) -> None:
    """Write a text of several lines below the line that it belongs to."""
    if text:
        console.print(Padding(Text(one_line(text), "dim", overflow="fold"), (0, 0, 0, INDENT)))


def _time(time: datetime | None) -> str:
    return f"{time:%H:%M:%S}" if time else "-"


def _date(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}" if time else "-"
