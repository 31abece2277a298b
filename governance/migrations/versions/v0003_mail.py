"""The queue of mails and their receipts."""

import sqlalchemy as sa
from alembic import op

from consent.columns import Bytes, Ref, UtcDateTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table of mails."""
    op.create_table(
        "outbound_mail",
        sa.Column("id", Ref(), nullable=False),
        sa.Column("subject_ref", Ref(), nullable=True),
        sa.Column("kind", Ref(), nullable=False),
        sa.Column("language", Ref(), nullable=False),
        sa.Column("state", Ref(), nullable=False),
        sa.Column("sealed", Bytes(), nullable=True),
        sa.Column("queued_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=True),
        sa.Column("owner", Ref(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("reason", Ref(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbound_mail")),
    )
    for column in ("subject_ref", "queued_at", "due_at", "ended_at"):
        op.create_index(op.f(f"ix_outbound_mail_{column}"), "outbound_mail", [column], unique=False)
