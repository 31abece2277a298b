"""Endpoints that are told of events, and what is on its way to them."""

import sqlalchemy as sa
from alembic import op

from consent.columns import Bytes, Ref, UtcDateTime

revision = "0006"
down_revision = "0005"

_WAITING = sa.text("due_at IS NOT NULL")


def upgrade() -> None:
    """Make the tables of endpoints and deliveries."""
    op.create_table(
        "outbound_endpoint",
        sa.Column("id", Ref(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host", Ref(), nullable=False),
        sa.Column("sealed", Bytes(), nullable=True),
        sa.Column("purposes", Ref(), nullable=False),
        sa.Column("types", Ref(), nullable=False),
        sa.Column("fields", Ref(), nullable=False),
        sa.Column("system", Ref(), nullable=True),
        sa.Column("state", Ref(), nullable=False),
        sa.Column("reason", Ref(), nullable=True),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", UtcDateTime(), nullable=True),
        sa.Column("rests_until", UtcDateTime(), nullable=True),
        sa.Column("delivered_at", UtcDateTime(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("created_by", Ref(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbound_endpoint")),
    )
    op.create_table(
        "outbound_delivery",
        sa.Column("endpoint_id", Ref(), nullable=False),
        sa.Column("idx", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_id", Ref(), nullable=False),
        sa.Column("subject_ref", Ref(), nullable=False),
        sa.Column("state", Ref(), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=True),
        sa.Column("owner", Ref(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("queued_at", UtcDateTime(), nullable=False),
        sa.Column("tried_at", UtcDateTime(), nullable=True),
        sa.Column("reason", Ref(), nullable=True),
        sa.Column("took_ms", sa.Integer(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("endpoint_id", "idx", name=op.f("pk_outbound_delivery")),
    )
    op.create_index(
        op.f("ix_outbound_delivery_subject_ref"), "outbound_delivery", ["subject_ref"], unique=False
    )
    for name, columns in (
        ("ix_outbound_delivery_due", ["endpoint_id", "due_at"]),
        ("ix_outbound_delivery_person", ["endpoint_id", "subject_ref", "idx"]),
    ):
        op.create_index(
            name,
            "outbound_delivery",
            columns,
            unique=False,
            sqlite_where=_WAITING,
            postgresql_where=_WAITING,
        )
    op.create_index(
        "ix_outbound_delivery_ended", "outbound_delivery", ["endpoint_id", "ended_at"], unique=False
    )
