"""What the catalog holds, shown to people or, as JSON, to programs: status, frames, latest and why."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from daemon.catalog import Catalog
from daemon.commands.doctor import Finding
from daemon.records import FrameInfo, FrameState, Waiting
from daemon.rulebook import CLASSES, KINDS
from daemon.rules import explain
from daemon.session import Session, is_locked, session_to_read
from daemon.store.queries import Product
from daemon.tables import as_json as json_text
from daemon.tables import frame_table, product_table, status_table, waiting_table
from daemon.web.lights import product_light
from kspecdr.errors import BadOption

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
SELF_EXPLAINING = (
    FrameState.INCOMPLETE,
    FrameState.UNCLASSIFIED,
    FrameState.IGNORED,
    FrameState.INVALID,
    FrameState.DUPLICATE,
    FrameState.BAD,
    FrameState.ABSENT,
)
FAULTY = (FrameState.FAILED, FrameState.INVALID, FrameState.UNCLASSIFIED, FrameState.INCOMPLETE)


@contextmanager
def read_catalog(out: Path | None, path: Path | None) -> Iterator[tuple[Session, Catalog]]:
    """Open the catalog of an output directory for reading; BadOption where there is none."""
    session = session_to_read(out, path)
    folder = Path(session.config.paths.out)
    catalog = Catalog.open(session.config.catalog.url or str(folder), folder, create=False)
    try:
        yield session, catalog
    finally:
        catalog.close()


def status(out: Path | None, path: Path | None, *, as_json: bool) -> None:
    """Show counts of states, latencies, stage times and what failed."""
    with read_catalog(out, path) as (session, catalog):
        summary, faulty = catalog.summary(), [f for f in catalog.frames() if f.state in FAULTY]
    holder = is_locked(Path(session.config.paths.out))
    if as_json:
        print_json(status_table(summary, holder, faulty))
        return
    console = make_console()
    console.print(f"daemon: {holder or 'not running'}", markup=False)
    for title, counts in (("frames", summary.frames), ("jobs", summary.jobs), ("products", summary.products)):
        console.print(f"{title}: {', '.join(f'{n} {name}' for name, n in counts.items()) or 'none'}")
    console.print(f"provisional products: {summary.provisional}")
    console.print(_times(summary.latencies, "from landing to catalog"))
    console.print(_times(summary.stages, "stage"))
    for frame in faulty:
        console.print(f"{frame.path}: {frame.state}: {frame.reason}", style=COLORS[frame.state], markup=False)


def frames(out: Path | None, path: Path | None, criteria: Mapping[str, str | None], *, as_json: bool) -> None:
    """List frames with their state and its reason."""
    wanted = {name: value for name, value in criteria.items() if value is not None}
    _one_of("state", wanted.get("state"), [str(state) for state in FrameState])
    _one_of("class", wanted.get("frame_class"), CLASSES)
    with read_catalog(out, path) as (_, catalog):
        found = catalog.frames(**wanted)
    if as_json:
        print_json([frame_table(frame) for frame in found])
        return
    table = Table(Column("frame", overflow="fold"), "class", "lamp / target", "s", box=None)
    table.add_column("observed (UTC)", no_wrap=True)
    table.add_column("state")
    table.add_column("reason")
    for frame in found:
        observed = f"{frame.obs_time:%Y-%m-%d %H:%M:%S}" if frame.obs_time else ""
        part = f" [{frame.part}]" if frame.part else ""
        what, seconds = frame.lamp or frame.target, f"{frame.exposure_s:g}"
        row = (frame.path + part, frame.frame_class, what, seconds, observed, frame.state, frame.reason)
        table.add_row(*map(_plain, row), style=COLORS.get(frame.state))
    make_console().print(table)


def latest(
    out: Path | None, path: Path | None, kind: str, frame_class: str | None, number: int, *, as_json: bool
) -> None:
    """Show the latest products of a kind, the newest last."""
    _one_of("kind", kind, KINDS)
    _one_of("class", frame_class, CLASSES)
    if number < 0:
        raise BadOption(f"-n {number}, expected 0 (all) or more")
    with read_catalog(out, path) as (_, catalog):
        found, home = catalog.latest(kind, frame_class, number), catalog.out
    if as_json:
        print_json([product_table(product) for product in found])
        return
    console = make_console()
    console.print(products_shown(found, below=home))
    console.print(f"paths are below {home}", markup=False)


def why(out: Path | None, path: Path | None, name: str, *, as_json: bool) -> None:
    """Say where a frame stands, what it needs, what was found and what was rejected."""
    with read_catalog(out, path) as (session, catalog):
        found = one_file(catalog, session, name)
        book, exists = session.config.rulebook(), catalog.neighbourhood()
        now = datetime.now(UTC)
        answers = [
            Waiting(frame, frame.reason, state=frame.state)
            if frame.state in SELF_EXPLAINING
            else explain(exists, book, now, frame, batch=session.batch)
            for frame in found
        ]
    if as_json:
        tables = [waiting_table(answer) for answer in answers]
        print_json(tables[0] if len(tables) == 1 else tables)
        return
    console = make_console()
    for answer in answers:
        for line in _explained(answer):
            console.print(line, markup=False)


def show_findings(findings: Iterable[Finding], *, as_json: bool) -> None:
    """Show what the doctor found."""
    listed = list(findings)
    if as_json:
        print_json([{"name": f.name, "flag": f.flag, "message": f.message} for f in listed])
        return
    console = make_console()
    for finding in listed:
        console.print(f"{finding.flag:4}  {finding.name}: {finding.message}", style=FLAGS[finding.flag], markup=False)


def print_json(value: object) -> None:
    """Write JSON to standard output."""
    print(json_text(value))  # noqa: T201 - the command's output


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that breaks no line where its output is read by a program."""
    console = Console(highlight=False, stderr=stderr)
    return console if console.is_terminal else Console(highlight=False, stderr=stderr, width=PIPE_WIDTH)


def one_file(catalog: Catalog, session: Session, name: str) -> list[FrameInfo]:
    """Return the frames of the one file that a name means; an ambiguous or unknown name is an error."""
    found = catalog.find_frames(_below(name, session))
    files = sorted({(frame.root, frame.path) for frame in found})
    if not files:
        close = sorted({frame.path for frame in catalog.frames() if Path(name).name in frame.path})[:3]
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        raise BadOption(f"{name}: no such frame in the catalog; {meant}`kspecdr frames` lists them")
    if len(files) > 1:
        listed = ", ".join(path for _, path in files[:5])
        raise BadOption(f"{name} is ambiguous: {listed}; give the path below the watched directory")
    return found


def products_shown(
    products: Iterable[Product], latencies: Mapping[str, float] | None = None, below: Path | None = None
) -> Table:
    """Return a table of products.

    latencies : seconds by fingerprint
    below : the directory that paths are shown relative to
    """
    table = Table(Column("product", overflow="fold", ratio=3), "class", "lamp / target", box=None)
    table.add_column("observed (UTC)")
    table.add_column("quality", ratio=2)
    if latencies is not None:
        table.add_column("latency s", justify="right")
    table.add_column("from", ratio=2)
    for product in products:
        observed = f"{product.obs_time:%Y-%m-%d %H:%M:%S}"
        note = f"provisional: {product.reason}" if product.provisional else _few(product.raw)
        light = product_light(product)
        what = product.lamp or product.target
        path = product.path.relative_to(below) if below else product.path
        row: list[object] = [
            path,
            product.frame_class,
            what,
            observed,
            f"{light.word}: {light.figure}" if light.figure else light.word,
        ]
        if latencies is not None:
            seconds = latencies.get(product.fingerprint)
            row.append("" if seconds is None else f"{seconds:.2f}")
        table.add_row(*map(_plain, (*row, note)), style=FLAGS.get(product.flag))
    return table


def _few(names: tuple[str, ...]) -> str:
    """Return names of files, the first two and how many more."""
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more


def _explained(answer: Waiting) -> Iterator[str]:
    yield f"{answer.frame.name}: {answer.state}" + (f": {answer.reason}" if answer.reason else "")
    if answer.needs:
        yield f"  needs: {', '.join(answer.needs)}"
    for each in answer.candidates:
        if each.chosen:
            yield f"  found {each.rule}: {each.name}" + (f" ({each.criterion})" if each.criterion else "")
    for each in answer.candidates:
        if not each.chosen:
            yield f"  rejected {each.rule}: {each.name}: {each.criterion}"


def _times(times: Mapping[str, tuple[float, float]], title: str) -> Table:
    table = Table(title, "p50 s", "p95 s", box=None)
    for name, (p50, p95) in times.items():
        table.add_row(name, f"{p50:.2f}", f"{p95:.2f}")
    return table


def _below(name: str, session: Session) -> str:
    """Return a frame's path below the watched directory that it lies in; any other name as it is."""
    path = Path(name)
    if path.is_absolute() or path.exists():
        for root in session.roots:
            if path.resolve().is_relative_to(root):
                return path.resolve().relative_to(root).as_posix()
    return name


def _one_of(name: str, value: str | None, known: Iterable[str]) -> None:
    if value is not None and value not in known:
        raise BadOption(f"{name} {value!r} is not known; expected one of {', '.join(known)}")


def _plain(text: object) -> str:
    """Write a text that comes from names and headers so that a terminal takes it literally."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text)).replace("[", "\\[")
