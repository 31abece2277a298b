"""Suppressed identifiers, do-not-call lists, text messages, requests to confirm."""

import sqlalchemy as sa
from alembic import op

from consent.columns import Bytes, Ref, UtcDateTime

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the tables of what stops messages beside people's choices."""
    op.create_table(
        "vault_suppression",
        sa.Column("token", Bytes(), nullable=False),
        sa.Column("kind", Ref(), nullable=False),
        sa.Column("index_version", sa.Integer(), nullable=False),
        sa.Column("cause", Ref(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("review_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_vault_suppression")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "vault_dnc_list",
        sa.Column("id", Ref(), nullable=False),
        sa.Column("registry", Ref(), nullable=False),
        sa.Column("state", Ref(), nullable=False),
        sa.Column("listed_on", Ref(), nullable=False),
        sa.Column("index_version", sa.Integer(), nullable=False),
        sa.Column("numbers", sa.BigInteger(), nullable=False),
        sa.Column("begun_at", UtcDateTime(), nullable=False),
        sa.Column("current_from", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vault_dnc_list")),
    )
    op.create_index("ix_vault_dnc_list_registry", "vault_dnc_list", ["registry"])
    op.create_index(
        "uq_vault_dnc_list_current",
        "vault_dnc_list",
        ["registry"],
        unique=True,
        sqlite_where=sa.text("state = 'current'"),
        postgresql_where=sa.text("state = 'current'"),
    )
    op.create_table(
        "vault_dnc_number",
        sa.Column("list", Ref(), nullable=False),
        sa.Column("token", Bytes(), nullable=False),
        sa.Column("since", Ref(), nullable=False),
        sa.PrimaryKeyConstraint("list", "token", name=op.f("pk_vault_dnc_number")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "consent_text_message",
        sa.Column("key", Ref(), nullable=False),
        sa.Column("subject_ref", Ref(), nullable=False),
        sa.Column("purpose", Ref()),
        sa.Column("meaning", Ref(), nullable=False),
        sa.Column("state", Ref(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("due_at", UtcDateTime()),
        sa.Column("sealed", Bytes()),
        sa.Column("decided_at", UtcDateTime()),
        sa.Column("decided_by", Ref()),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_consent_text_message")),
    )
    op.create_index("ix_consent_text_message_subject_ref", "consent_text_message", ["subject_ref"])
    op.create_index("ix_consent_text_message_received_at", "consent_text_message", ["received_at"])
    op.create_index(
        "ix_consent_text_message_open",
        "consent_text_message",
        ["due_at", "key"],
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "consent_confirmation_request",
        sa.Column("subject_ref", Ref(), nullable=False),
        sa.Column("purpose", Ref(), nullable=False),
        sa.Column("channel", Ref(), nullable=False),
        sa.Column("event_id", Ref(), nullable=False),
        sa.Column("notice", sa.Text(), nullable=False),
        sa.Column("notice_version", sa.Text(), nullable=False),
        sa.Column("contact", Bytes(), nullable=False),
        sa.Column("asked_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint(
            "subject_ref", "purpose", "channel", name=op.f("pk_consent_confirmation_request")
        ),
    )
    op.create_index(
        "ix_consent_confirmation_request_contact",
        "consent_confirmation_request",
        ["contact", "asked_at"],
    )
