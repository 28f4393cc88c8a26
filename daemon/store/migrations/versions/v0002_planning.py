"""What planning at scale asks for: frames by class and time, products by rule and time, and where a plan was."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SAID = sa.text("reason <> ''")


def upgrade() -> None:
    """Add the indexes, and the table of what was compared."""
    op.create_table(
        "planned",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("book", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_planned"),
    )
    op.create_index("ix_frames_frame_class_obs_time", "frames", ["frame_class", "obs_time"])
    op.create_index(
        "ix_frames_doubtful", "frames", ["frame_class", "obs_time"], sqlite_where=SAID, postgresql_where=SAID
    )
    op.create_index("ix_products_rule_state_obs_time", "products", ["rule", "state", "main", "obs_time"])
    op.create_index("ix_product_inputs_path", "product_inputs", ["path"])


def downgrade() -> None:
    """Remove them."""
    op.drop_index("ix_product_inputs_path", "product_inputs")
    op.drop_index("ix_products_rule_state_obs_time", "products")
    op.drop_index("ix_frames_doubtful", "frames")
    op.drop_index("ix_frames_frame_class_obs_time", "frames")
    op.drop_table("planned")
