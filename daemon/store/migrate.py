"""Bring a catalog's tables to what this version of the program expects."""

from importlib.resources import files

from sqlalchemy import Connection, inspect, text

from kspecdr.errors import BadOption

SPACE = 0x6B737001  # of the lock among the advisory locks of a PostgreSQL database
HEAD = "0004"  # the newest file of migrations/versions


def alone(connection: Connection) -> None:
    """Let nobody else look at the version of the tables or change them until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:space, 0)"), {"space": SPACE})


def current_version(connection: Connection) -> str:
    """Return the version of the tables; empty in a new database."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or ""


def migrate(connection: Connection, name: str) -> None:
    """Apply the migrations that are missing, inside the caller's transaction.

    Raises
    ------
    BadOption
        A newer program has written the catalog.
    """
    version = current_version(connection)
    if version == HEAD:
        return
    if version > HEAD:
        raise BadOption(f"{name}: the catalog is of version {version}, newer than {HEAD} of this program; update it")
    from alembic import command  # noqa: PLC0415 - costs 0.1 s, and is needed once in a catalog's life
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(files("daemon.store") / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
