"""Codes for known contacts, and how often something was done."""

import sqlalchemy as sa
from alembic import op

from consent.columns import Bytes, Ref, UtcDateTime

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "contact_code",
        sa.Column("challenge", Bytes(), nullable=False),
        sa.Column("contact", Bytes(), nullable=False),
        sa.Column("code", Bytes(), nullable=False),
        sa.Column("subject_ref", Ref(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("challenge", name=op.f("pk_contact_code")),
    )
    op.create_index(op.f("ix_contact_code_expires_at"), "contact_code", ["expires_at"])
    op.create_index(op.f("ix_contact_code_subject_ref"), "contact_code", ["subject_ref"])
    op.create_table(
        "contact_use",
        sa.Column("key", Bytes(), nullable=False),
        sa.Column("began_at", UtcDateTime(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", "began_at", name=op.f("pk_contact_use")),
    )
    op.create_index(op.f("ix_contact_use_began_at"), "contact_use", ["began_at"])
