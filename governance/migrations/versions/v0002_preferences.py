"""How staff like their pages, and the organisation's time zone."""

import sqlalchemy as sa
from alembic import op

from consent.columns import Ref

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table of preferences."""
    op.create_table(
        "access_preference",
        sa.Column("owner", Ref(), nullable=False),
        sa.Column("name", Ref(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "name", name=op.f("pk_access_preference")),
    )
