"""What the catalog holds, shown to people or, as JSON, to programs: status, frames, latest and why."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

from rich.table import Table

from daemon.commands.doctor import Finding
from daemon.commands.shown import (
    COLORS,
    FLAGS,
    make_console,
    print_json,
    say,
    show_account,
    show_frames,
    show_products,
)
from daemon.explaining import accounts, age_words, as_interrupted, brief_of
from daemon.lacking import count
from daemon.lights import UNDONE
from daemon.planning.gathering import surroundings
from daemon.pulse import read_pulse
from daemon.records import FrameInfo, FrameState
from daemon.rulebook import CLASSES, KINDS
from daemon.session import RECORD, Session, is_locked, session_to_read
from daemon.store.engines import DATABASE, file_of
from daemon.store.pages import PageReader
from daemon.store.reader import Reader
from daemon.tables import account_table, frame_table, product_table, status_table, without_holder
from kspecdr.errors import BadOption


def home_of(product: str) -> Path | None:
    """Return the output directory that the path of a product lies in, known by its catalog or its settings."""
    folders = Path(product).absolute().parents
    return next((each for each in folders if any((each / name).is_file() for name in (DATABASE, RECORD))), None)


@contextmanager
def read_catalog(out: Path | None, path: Path | None) -> Iterator[tuple[Session, PageReader]]:
    """Open the catalog of an output directory for reading, which needs no permission to write.

    Raises
    ------
    BadOption
        There is none.
    CatalogUnreadable
        It is of another version of the program, or damaged.
    """
    session = session_to_read(out, path)
    url, folder = session.config.catalog.url, Path(session.config.paths.out)
    file = file_of(url, folder)
    if is_alone(session) and not file.is_file():
        raise BadOption(
            f"{file if url else folder}: no catalog there; give the output directory of a reduction as --out"
        )
    with closing(PageReader(url or str(folder), folder.absolute())) as reader:
        reader.check_version()
        yield session, reader


def is_alone(session: Session) -> bool:
    """Tell whether nobody else than the holder of the output directory can be at work on its catalog."""
    url = session.config.catalog.url
    return not url or url.startswith("sqlite")


def status(out: Path | None, path: Path | None, *, as_json: bool) -> None:
    """Show how the daemon is, counts of states, latencies, stage times and what failed."""
    now = datetime.now(UTC)
    with read_catalog(out, path) as (session, catalog):
        summary, landed = catalog.summary(), catalog.last_landed()
        faulty = [frame for state in UNDONE for frame in catalog.frames(state=state)]
    home = Path(session.config.paths.out)
    holder, pulse = is_locked(home), read_pulse(home)
    if not holder and is_alone(session):
        summary = without_holder(summary)
    if as_json:
        print_json(status_table(summary, holder, faulty))
        return
    console = make_console()
    does = pulse.trouble(now) or pulse.line if holder and pulse else ""
    say(f"daemon: {holder or 'not running'}{f': {does}' if does else ''}", console)
    for title, counts in (("frames", summary.frames), ("jobs", summary.jobs), ("products", summary.products)):
        say(f"{title}: {', '.join(f'{n} {name}' for name, n in counts.items()) or 'none'}", console)
    say(f"provisional products: {summary.provisional}", console)
    if landed:
        say(f"last frame: {age_words(landed - now).replace('before', 'ago')}", console)
    console.print(_times(summary.latencies, "from landing to catalog"))
    console.print(_times(summary.stages, "stage"))
    for frame in faulty:
        say(f"{frame.path}: {frame.state}: {brief_of(frame)}", console, COLORS[frame.state])


def frames(out: Path | None, path: Path | None, criteria: Mapping[str, str | None], *, as_json: bool) -> None:
    """List frames with their state and its reason."""
    wanted = {name: value for name, value in criteria.items() if value is not None}
    _one_of("state", wanted.get("state"), [str(state) for state in FrameState])
    _one_of("class", wanted.get("frame_class"), CLASSES)
    if "night" in wanted:
        check_night(wanted["night"])
    with read_catalog(out, path) as (session, catalog):
        found = catalog.frames(**wanted)
    if is_alone(session) and not is_locked(Path(session.config.paths.out)):
        found = [as_interrupted(frame) for frame in found]
    if as_json:
        print_json([frame_table(frame) for frame in found])
        return
    show_frames(found)
    if not found:
        say("no frame in the catalog is such a one", make_console(stderr=True))


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
    show_products(found, home)
    say(f"{count(len(found), 'product', 'products')}; paths are below {home}", make_console(stderr=True))


def why(out: Path | None, path: Path | None, name: str, *, as_json: bool) -> None:
    """Say where a frame stands, what it became and needs, what was found and what was rejected."""
    now = datetime.now(UTC)
    with read_catalog(out, path) as (session, catalog):
        found, book = one_file(catalog, session, name), session.config.rulebook()
        with catalog.excerpts() as ask:
            exists = surroundings(ask, book, now, (frame.key for frame in found), batch=session.batch)
        told = accounts(catalog, exists, book, now, found, batch=session.batch)
        home = catalog.out
    if as_json:
        tables = [account_table(account) for account in told]
        print_json(tables[0] if len(tables) == 1 else tables)
        return
    for account in told:
        show_account(account, home)


def show_findings(findings: Iterable[Finding], *, as_json: bool) -> None:
    """Show what the doctor found."""
    listed = list(findings)
    if as_json:
        print_json([{"name": f.name, "flag": f.flag, "message": f.message} for f in listed])
        return
    console = make_console()
    for finding in listed:
        say(f"{finding.flag:4}  {finding.name}: {finding.message}", console, FLAGS[finding.flag])


def one_file(catalog: Reader, session: Session, name: str) -> list[FrameInfo]:
    """Return the frames of the one file that a name means; an ambiguous or unknown name is an error."""
    found = catalog.find_frames(_below(name, session))
    files = sorted({(frame.root, frame.path) for frame in found})
    if not files:
        close = catalog.similar_frames(name)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        raise BadOption(f"{name}: no such frame in the catalog; {meant}`kspecdr frames` lists them")
    if len(files) > 1:
        listed = ", ".join(path for _, path in files[:5])
        raise BadOption(f"{name} is ambiguous: {listed}; give the path below the watched directory")
    return found


def _times(times: Mapping[str, tuple[float, float]], title: str) -> Table:
    table = Table(title, "p50 s", "p95 s", box=None)
    for name, (p50, p95) in times.items():
        table.add_row(name, f"{p50:.2f}", f"{p95:.2f}")
    return table


def check_night(night: str) -> None:
    """Refuse what no night can be called."""
    try:
        good = date.fromisoformat(night).isoformat() == night
    except ValueError:
        good = False
    if not good:
        raise BadOption(f"--night {night!r} is no date; give YYYY-MM-DD, the date of the preceding local noon")


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
