"""Whether a database can hold a catalog, as far as that can be told without changing it; part of the catalog."""

from dataclasses import dataclass

from sqlalchemy import make_url, text

from daemon.store.engines import make_engine
from daemon.store.migrate import current_version

_SERVER = text("SELECT current_setting('server_version'), current_user, current_database(), current_schema()")
_MAY_CREATE = text("SELECT has_schema_privilege(current_schema(), 'CREATE')")


@dataclass(frozen=True, slots=True)
class Server:
    """What a PostgreSQL server says of itself and of us."""

    version: str
    user: str
    database: str
    may_create: bool  # tables, in the schema that new ones go to
    catalog: str  # version of the tables of the catalog; empty: there are none yet


def ask_server(url: str) -> Server:
    """Connect to a PostgreSQL server and ask it what it is.

    Raises
    ------
    BadOption
        The driver is not installed.
    CatalogUnavailable
        It cannot be reached, or refuses us.
    """
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            version, user, database, schema = connection.execute(_SERVER).one()
            may_create = bool(schema) and bool(connection.execute(_MAY_CREATE).scalar())
            return Server(version, user, database, may_create, current_version(connection))
    finally:
        engine.dispose()


def address_of(url: str) -> str:
    """Return where a database is, without what may be secret: `HOST/DATABASE`."""
    parsed = make_url(url)
    return f"{parsed.host or parsed.query.get('host') or 'this machine'}/{parsed.database or ''}"
