"""The catalog's tables; part of the catalog, the only place of SQL. What holds them is in `daemon.store.engines`."""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    TypeDecorator,
    UniqueConstraint,
    text,
)

from daemon.store.texts import Text


class Utc(TypeDecorator[datetime]):
    """An aware UTC time, stored without zone so that every database sorts and compares it."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Store UTC."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return UTC."""
        return None if value is None else value.replace(tzinfo=UTC)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# One row; each write transaction raises it and stamps the rows that it changes, so that a reader
# can ask for what has changed since it last looked.
revisions = Table(
    "revisions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("value", Integer, nullable=False),
)

# One row: up to which revision everything was compared with what the rules want, and by which rules.
planned = Table(
    "planned",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("book", Text, nullable=False),
)

# What a query that is to use a partial index says in the same words.
_SAID = text("reason <> ''")
_SUPERSEDED = text("product_state = 'superseded'")

frames = Table(
    "frames",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("root", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("folder", Text, nullable=False),  # the path without its last part
    Column("file", Text, nullable=False),  # the last part of the path
    Column("part", Integer, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("frame_class", Text, nullable=False),
    Column("lamp", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("exposure_s", Float, nullable=False),
    Column("readout_s", Float, nullable=False),
    Column("obs_time", Utc),
    Column("night", Text, nullable=False),
    Column("setup", JSON, nullable=False),
    Column("fibers", Text, nullable=False),
    Column("fibers_hash", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("landed", Utc, nullable=False),
    Column("decided", JSON, nullable=False),  # what a person has said of it: frame_class, lamp, target, bad
    Column("revision", Integer, nullable=False),
    UniqueConstraint("root", "path", "part"),
    Index("ix_frames_content_hash_part", "content_hash", "part"),
    Index("ix_frames_file", "file"),
    Index("ix_frames_landed", "landed"),
    Index("ix_frames_root_folder", "root", "folder"),
    Index("ix_frames_state", "state"),
    Index("ix_frames_night_frame_class", "night", "frame_class"),
    Index("ix_frames_revision", "revision"),
    Index("ix_frames_frame_class_obs_time", "frame_class", "obs_time"),
    Index("ix_frames_doubtful", "frame_class", "obs_time", sqlite_where=_SAID, postgresql_where=_SAID),
)

jobs = Table(
    "jobs",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("rule", Text, nullable=False),
    Column("recipe", Text, nullable=False),  # hash of rule, version and options
    Column("night", Text, nullable=False),
    Column("state", Text, nullable=False),  # open, queued, running, done, failed
    Column("attempts", Integer, nullable=False),
    Column("owner", Text, nullable=False),  # the process that has claimed it
    Column("product_state", Text, nullable=False),  # current, superseded, bad; empty as long as it is not done
    Column("provisional", JSON, nullable=False),  # reasons
    Column("set_aside", JSON, nullable=False),  # [[content hash, part, reason]]
    Column("warnings", JSON, nullable=False),
    Column("exposure_s", Float, nullable=False),
    Column("error", Text, nullable=False),
    Column("stage_times", JSON, nullable=False),  # seconds
    Column("memory_mb", Float, nullable=False),
    Column("landed", Utc, nullable=False),  # when its last frame was complete
    Column("claimed", Utc),
    Column("started", Utc),
    Column("finished", Utc),
    Column("revision", Integer, nullable=False),
    Index("ix_jobs_state_revision", "state", "revision"),
    Index("ix_jobs_night_rule", "night", "rule"),
    Index("ix_jobs_revision", "revision"),
    Index("ix_jobs_superseded", "finished", sqlite_where=_SUPERSEDED, postgresql_where=_SUPERSEDED),
)

product_inputs = Table(
    "product_inputs",
    metadata,
    Column("fingerprint", Text, ForeignKey(jobs.c.fingerprint, ondelete="CASCADE"), primary_key=True),
    Column("role", Text, primary_key=True),  # raw, or the rule of a calibration
    Column("input", Text, primary_key=True),  # content hash, or fingerprint of the calibration
    Column("part", Integer, primary_key=True),
    Column("path", Text, nullable=False),  # of the raw frame when it was used
    Index("ix_product_inputs_input_part", "input", "part"),
    Index("ix_product_inputs_path", "path"),
)

products = Table(
    "products",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("fingerprint", Text, ForeignKey(jobs.c.fingerprint, ondelete="CASCADE"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("path", Text, nullable=False, unique=True),  # relative to the output directory
    Column("file", Text, nullable=False),  # the last part of the path
    Column("rule", Text, nullable=False),
    Column("main", Boolean, nullable=False),  # what other jobs take; the rest are steps on the way
    Column("content_hash", Text, nullable=False),  # of the one frame that it belongs to; empty: the group
    Column("part", Integer, nullable=False),
    Column("frame_class", Text, nullable=False),
    Column("lamp", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("raw", JSON, nullable=False),  # paths of the raw frames, relative to the watched root
    Column("night", Text, nullable=False),
    Column("first_obs", Utc, nullable=False),
    Column("obs_time", Utc, nullable=False),  # of the last frame
    Column("setup", JSON, nullable=False),
    Column("state", Text, nullable=False),  # current, superseded, bad
    Column("provisional", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("flag", Text, nullable=False),  # the worst of its quality
    Index("ix_products_file", "file"),
    Index("ix_products_fingerprint", "fingerprint"),
    Index(
        "ix_products_provisional",
        "state",
        sqlite_where=text("provisional = 1"),
        postgresql_where=text("provisional"),
    ),
    Index("ix_products_night_flag", "night", "flag"),
    Index("ix_products_rule_state_obs_time", "rule", "state", "main", "obs_time"),
    Index("ix_products_state_kind_obs_time", "state", "kind", "obs_time"),
)

quality = Table(
    "quality",
    metadata,
    Column("fingerprint", Text, ForeignKey(jobs.c.fingerprint, ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Float),
    Column("limit", Float),
    Column("flag", Text, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("time", Utc, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("message", Text, nullable=False),
    Index("ix_events_time", "time"),
)

requests = Table(
    "requests",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("time", Utc, nullable=False),
    Column("kind", Text, nullable=False),  # classify, retry, mark-bad
    Column("subject", Text, nullable=False),  # path of a frame or of a product
    Column("value", JSON, nullable=False),
    Column("state", Text, nullable=False),  # new, applied, refused
    Column("answer", Text, nullable=False),
    Index("ix_requests_state", "state"),
)
