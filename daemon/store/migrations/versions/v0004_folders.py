"""What a scan asks beside an archive: the files of one folder."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# What is left when everything but slashes is taken off the end, without the last slash.
FOLDER = "rtrim(rtrim(path, replace(path, '/', '')), '/')"


def upgrade() -> None:
    """Add the folders of frames."""
    op.add_column("frames", sa.Column("folder", sa.String(), nullable=False, server_default=""))
    op.execute(f"UPDATE frames SET folder = {FOLDER}")  # noqa: S608 - names of this file
    op.create_index("ix_frames_root_folder", "frames", ["root", "folder"])


def downgrade() -> None:
    """Remove them."""
    op.drop_index("ix_frames_root_folder", "frames")
    op.drop_column("frames", "folder")
