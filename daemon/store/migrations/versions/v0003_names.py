"""What is asked beside an archive: a file by its name alone, the last jobs, the last frame, what is provisional."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# All up to the last slash is what is left when everything else but slashes is taken off the end.
LAST_PART = "substr(path, length(rtrim(path, replace(path, '/', ''))) + 1)"
SUPERSEDED = sa.text("product_state = 'superseded'")


def upgrade() -> None:
    """Add the names of files, and the indexes."""
    for table in ("frames", "products"):
        op.add_column(table, sa.Column("file", sa.String(), nullable=False, server_default=""))
        op.execute(f"UPDATE {table} SET file = {LAST_PART}")  # noqa: S608 - names of this file
        op.create_index(f"ix_{table}_file", table, ["file"])
    op.create_index("ix_frames_landed", "frames", ["landed"])
    op.create_index(
        "ix_products_provisional",
        "products",
        ["state"],
        sqlite_where=sa.text("provisional = 1"),
        postgresql_where=sa.text("provisional"),
    )
    op.create_index("ix_products_night_flag", "products", ["night", "flag"])
    op.drop_index("ix_jobs_state", "jobs")
    op.create_index("ix_jobs_state_revision", "jobs", ["state", "revision"])
    op.create_index("ix_jobs_superseded", "jobs", ["finished"], sqlite_where=SUPERSEDED, postgresql_where=SUPERSEDED)


def downgrade() -> None:
    """Remove them."""
    op.drop_index("ix_jobs_superseded", "jobs")
    op.drop_index("ix_jobs_state_revision", "jobs")
    op.create_index("ix_jobs_state", "jobs", ["state"])
    op.drop_index("ix_products_night_flag", "products")
    op.drop_index("ix_products_provisional", "products")
    op.drop_index("ix_frames_landed", "frames")
    for table in ("products", "frames"):
        op.drop_index(f"ix_{table}_file", table)
        op.drop_column(table, "file")
