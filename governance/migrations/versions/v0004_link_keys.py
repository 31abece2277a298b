"""The keys of signed links."""

import sqlalchemy as sa
from alembic import op

from consent.columns import Bytes, Ref, UtcDateTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table of link keys."""
    op.create_table(
        "link_key",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("provider", Ref(), nullable=False),
        sa.Column("key_ref", Ref(), nullable=False),
        sa.Column("wrapped", Bytes(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_link_key")),
    )
