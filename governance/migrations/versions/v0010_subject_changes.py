"""Who has to be looked at anew by those who follow: what they are called changed."""

import sqlalchemy as sa
from alembic import op

from consent.columns import Ref, UtcDateTime

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the table of people whose identifiers changed."""
    op.create_table(
        "consent_subject_change",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("subject_ref", Ref(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_consent_subject_change")),
    )
    op.create_index(
        op.f("ix_consent_subject_change_changed_at"), "consent_subject_change", ["changed_at"]
    )
