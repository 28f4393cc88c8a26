"""The databases that may hold a catalog, each with what makes its transactions safe; part of the catalog.

SQLite runs in WAL mode with synchronous=FULL, so that a commit survives the loss of power, and every write
transaction begins with BEGIN IMMEDIATE, so that two writers queue instead of failing.

PostgreSQL lets readers see one moment (REPEATABLE READ). Writers queue at the one row of `revisions`, which each
raises before it does anything else, and see what the one before has done (READ COMMITTED): so the numbers are
committed in their order, and who asks for what is newer than the last one seen misses nothing.
"""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from daemon.mounts import mount_of
from daemon.store.texts import dumps
from kspecdr.errors import BadOption, KspecError

DATABASE = "catalog.db"  # the file in an output directory, where the configuration names no other
BUSY_TIMEOUT_MS = 5_000  # how long a writer queues behind another before it gives up
CONNECT_S = 5  # within which a server has answered
POSTGRESQL_SETTINGS = {  # of a session; the server learns within a minute that a machine is gone, and frees its locks
    "lock_timeout": f"{BUSY_TIMEOUT_MS}ms",
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}


class CatalogUnavailable(OSError):  # noqa: N818 - a state of the machine, as the operating system names them
    """The database is locked, full, read-only or cannot be reached: it may be there again later."""


class CatalogLost(KspecError):  # noqa: N818 - as above
    """The database that was opened has been removed, or another is in its place."""


class CatalogDamaged(KspecError):  # noqa: N818 - as above
    """The file is no database, or a part of it cannot be read any more."""


def make_engine(url: str) -> Engine:
    """Return an engine whose transactions are safe between processes.

    Raises
    ------
    BadOption
        The database is of another kind, or would lie on a network mount, where SQLite's locks and WAL do not work.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = _sqlite(parsed)
    elif parsed.drivername == "postgresql+psycopg":
        engine = _postgresql(parsed)
    else:
        raise BadOption(
            f"catalog.url names {parsed.drivername}, expected sqlite or postgresql+psycopg://USER@HOST/DATABASE"
        )
    event.listen(engine, "handle_error", _tell)
    return engine


def file_of(url: str, out: Path) -> Path:
    """Return the file of the SQLite database that `catalog.url` names; empty: the one in an output directory."""
    return Path(url.removeprefix("sqlite:///")) if url else out / DATABASE


def writing(engine: Engine) -> Engine:
    """Return an engine for transactions that change something."""
    if is_shared(engine):
        return engine.execution_options(isolation_level="READ COMMITTED")
    return engine.execution_options(immediate=True)


def place_of(engine: Engine) -> tuple[tuple[int, int], int] | None:
    """Return what the file system knows of an SQLite database: its directory, and its file (0: there is none).

    Raises
    ------
    CatalogUnavailable
        The directory is not there.
    """
    if engine.dialect.name != "sqlite" or not engine.url.database:
        return None
    path = Path(engine.url.database)
    try:
        folder = path.parent.stat()
    except OSError as error:
        raise CatalogUnavailable(f"{path.parent} is not there ({error.strerror}); mount it again") from None
    try:
        return (folder.st_dev, folder.st_ino), path.stat().st_ino
    except FileNotFoundError:
        return (folder.st_dev, folder.st_ino), 0


def is_shared(engine: Engine) -> bool:
    """Tell whether several daemons may work on the database."""
    return engine.dialect.name == "postgresql"


def _sqlite(url: URL) -> Engine:
    path = Path(url.database or "")
    mount = mount_of(path)
    if mount.is_network:
        raise BadOption(
            f"{path} lies on a network mount ({mount.kind} at {mount.point}), where SQLite is not safe; "
            "set catalog.url to a file on a local disk"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, json_serializer=dumps)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _postgresql(url: URL) -> Engine:
    settings = " ".join(f"-c {name}={value}" for name, value in POSTGRESQL_SETTINGS.items())
    try:
        return create_engine(
            url,
            isolation_level="REPEATABLE READ",
            json_serializer=dumps,
            pool_pre_ping=True,
            connect_args={"connect_timeout": CONNECT_S, "options": settings},
        )
    except ModuleNotFoundError as error:
        raise BadOption(
            f"catalog.url names PostgreSQL, for which {error.name} is missing; pip install 'kspecdr[postgres]'"
        ) from None


def _tell(context: ExceptionContext) -> BaseException | None:
    """Return what the machine refuses as an error of the machine, None for any other error."""
    if context.is_disconnect or isinstance(context.sqlalchemy_exception, OperationalError):
        said = " ".join(str(context.original_exception).split())
        return CatalogUnavailable(f"the catalog cannot be used now ({said})")
    if type(context.original_exception) is sqlite3.DatabaseError:  # its subclasses are mistakes of the program
        return CatalogDamaged(
            f"the catalog is damaged ({context.original_exception}); put a backup in its place, or move it away: "
            "the next start builds another from products, raw frames and decisions.jsonl"
        )
    return None


def _configure(connection: Any, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says, not by the driver's guess
    cursor = connection.cursor()
    for setting in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
