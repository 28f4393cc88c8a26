"""The first tables."""

import sqlalchemy as sa
from alembic import op

from daemon.store.schema import Utc

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

VIEWS = {  # for people with a database shell
    "latest_products": (
        "SELECT obs_time, night, kind, frame_class, lamp, target, path, provisional, reason, flag "
        "FROM products WHERE state = 'current' ORDER BY obs_time"
    ),
    "waiting": (
        "SELECT night, obs_time, path, part, frame_class, reason FROM frames WHERE state = 'waiting' ORDER BY obs_time"
    ),
}


def upgrade() -> None:
    """Create the tables and the views."""
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("time", Utc(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_time", "events", ["time"], unique=False)
    op.create_table(
        "frames",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("root", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("frame_class", sa.String(), nullable=False),
        sa.Column("lamp", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("exposure_s", sa.Float(), nullable=False),
        sa.Column("readout_s", sa.Float(), nullable=False),
        sa.Column("obs_time", Utc(), nullable=True),
        sa.Column("night", sa.String(), nullable=False),
        sa.Column("setup", sa.JSON(), nullable=False),
        sa.Column("fibers", sa.String(), nullable=False),
        sa.Column("fibers_hash", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("landed", Utc(), nullable=False),
        sa.Column("decided", sa.JSON(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_frames"),
        sa.UniqueConstraint("root", "path", "part", name="uq_frames_root_path_part"),
    )
    op.create_index("ix_frames_content_hash_part", "frames", ["content_hash", "part"], unique=False)
    op.create_index("ix_frames_night_frame_class", "frames", ["night", "frame_class"], unique=False)
    op.create_index("ix_frames_revision", "frames", ["revision"], unique=False)
    op.create_index("ix_frames_state", "frames", ["state"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("recipe", sa.String(), nullable=False),
        sa.Column("night", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("product_state", sa.String(), nullable=False),
        sa.Column("provisional", sa.JSON(), nullable=False),
        sa.Column("set_aside", sa.JSON(), nullable=False),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.Column("exposure_s", sa.Float(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("stage_times", sa.JSON(), nullable=False),
        sa.Column("memory_mb", sa.Float(), nullable=False),
        sa.Column("landed", Utc(), nullable=False),
        sa.Column("claimed", Utc(), nullable=True),
        sa.Column("started", Utc(), nullable=True),
        sa.Column("finished", Utc(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_jobs"),
    )
    op.create_index("ix_jobs_night_rule", "jobs", ["night", "rule"], unique=False)
    op.create_index("ix_jobs_revision", "jobs", ["revision"], unique=False)
    op.create_index("ix_jobs_state", "jobs", ["state"], unique=False)
    op.create_table(
        "requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("time", Utc(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("answer", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_requests"),
    )
    op.create_index("ix_requests_state", "requests", ["state"], unique=False)
    op.create_table(
        "revisions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_revisions"),
    )
    op.create_table(
        "product_inputs",
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("input", sa.String(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["fingerprint"],
            ["jobs.fingerprint"],
            name="fk_product_inputs_fingerprint_jobs",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("fingerprint", "role", "input", "part", name="pk_product_inputs"),
    )
    op.create_index("ix_product_inputs_input_part", "product_inputs", ["input", "part"], unique=False)
    op.create_table(
        "products",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("main", sa.Boolean(), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("frame_class", sa.String(), nullable=False),
        sa.Column("lamp", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("raw", sa.JSON(), nullable=False),
        sa.Column("night", sa.String(), nullable=False),
        sa.Column("first_obs", Utc(), nullable=False),
        sa.Column("obs_time", Utc(), nullable=False),
        sa.Column("setup", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("provisional", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("flag", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["fingerprint"], ["jobs.fingerprint"], name="fk_products_fingerprint_jobs", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_products"),
        sa.UniqueConstraint("path", name="uq_products_path"),
    )
    op.create_index("ix_products_fingerprint", "products", ["fingerprint"], unique=False)
    op.create_index("ix_products_state_kind_obs_time", "products", ["state", "kind", "obs_time"], unique=False)
    op.create_table(
        "quality",
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("limit", sa.Float(), nullable=True),
        sa.Column("flag", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["fingerprint"], ["jobs.fingerprint"], name="fk_quality_fingerprint_jobs", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("fingerprint", "name", name="pk_quality"),
    )
    op.execute("INSERT INTO revisions (id, value) VALUES (1, 0)")
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def downgrade() -> None:
    """Drop them."""
    for name in VIEWS:
        op.execute(f"DROP VIEW {name}")
    for table in (
        "quality",
        "products",
        "product_inputs",
        "revisions",
        "requests",
        "jobs",
        "frames",
        "events",
    ):
        op.drop_table(table)
