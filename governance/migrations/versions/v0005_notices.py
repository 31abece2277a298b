"""Notices: their published versions, which can only be added to, their words, and drafts."""

import sqlalchemy as sa
from alembic import op

from consent.columns import Ref, UtcDateTime
from governance.migrations.append_only import protect

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the tables of notices; what is published can only be added to."""
    op.create_table(
        "consent_notice_version",
        sa.Column("notice", Ref(), nullable=False),
        sa.Column("version", Ref(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("controller", Ref(), nullable=False),
        sa.Column("effective_from", UtcDateTime(), nullable=False),
        sa.Column("published_at", UtcDateTime(), nullable=False),
        sa.Column("material", sa.Boolean(), nullable=False),
        sa.Column("authors", Ref(), nullable=False),
        sa.Column("published_by", Ref(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("notice", "version", name=op.f("pk_consent_notice_version")),
        sa.UniqueConstraint(
            "notice", "effective_from", name=op.f("uq_consent_notice_version_notice_effective_from")
        ),
        sa.UniqueConstraint("seq", name=op.f("uq_consent_notice_version_seq")),
    )
    op.create_table(
        "consent_notice_words",
        sa.Column("notice", Ref(), nullable=False),
        sa.Column("version", Ref(), nullable=False),
        sa.Column("language", Ref(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("recipients", sa.Text(), nullable=False),
        sa.Column("hash", Ref(), nullable=False),
        sa.Column("rendering", sa.Text(), nullable=False),
        sa.Column("rendering_hash", Ref(), nullable=False),
        sa.PrimaryKeyConstraint(
            "notice", "version", "language", name=op.f("pk_consent_notice_words")
        ),
    )
    op.create_table(
        "consent_notice_draft",
        sa.Column("notice", Ref(), nullable=False),
        sa.Column("controller", Ref(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("effective_from", UtcDateTime(), nullable=True),
        sa.Column("material", sa.Boolean(), nullable=False),
        sa.Column("languages", Ref(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("authors", Ref(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("notice", name=op.f("pk_consent_notice_draft")),
    )
    for table in ("consent_notice_version", "consent_notice_words"):
        protect(table)
