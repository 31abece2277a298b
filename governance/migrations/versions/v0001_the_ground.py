"""The tables of part one: consent and its ledger, keys, vault, access, audit and jobs."""

import sqlalchemy as sa
from alembic import op

from consent.columns import Bytes, Ref, UtcDateTime
from governance.migrations.append_only import protect

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables; the entries and tiles of both logs can only be added to."""
    op.create_table(
        "consent_event",
        sa.Column("idx", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", Ref(), nullable=False),
        sa.Column("subject_ref", Ref(), nullable=False),
        sa.Column("type", Ref(), nullable=False),
        sa.Column("purpose", Ref(), nullable=False),
        sa.Column("channel", Ref(), nullable=False),
        sa.Column("state", Ref(), nullable=False),
        sa.Column("occurred_at", UtcDateTime(), nullable=False),
        sa.Column("recorded_at", UtcDateTime(), nullable=False),
        sa.Column("notice", sa.Text(), nullable=True),
        sa.Column("notice_version", sa.Text(), nullable=True),
        sa.Column("ends_at", UtcDateTime(), nullable=True),
        sa.Column("confirms", Ref(), nullable=True),
        sa.Column("confirmed_at", UtcDateTime(), nullable=True),
        sa.Column("child_without_authority", sa.Boolean(), nullable=False),
        sa.Column("sealed", Bytes(), nullable=False),
        sa.PrimaryKeyConstraint("idx", name=op.f("pk_consent_event")),
        sa.UniqueConstraint("id", name=op.f("uq_consent_event_id")),
    )
    op.create_index(
        "ix_consent_event_subject_ref_idx", "consent_event", ["subject_ref", "idx"], unique=False
    )
    op.create_table(
        "consent_idempotency",
        sa.Column("key", Ref(), nullable=False),
        sa.Column("body_hash", Bytes(), nullable=False),
        sa.Column("subject_ref", Ref(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_consent_idempotency")),
    )
    op.create_index(
        op.f("ix_consent_idempotency_subject_ref"),
        "consent_idempotency",
        ["subject_ref"],
        unique=False,
    )
    op.create_index(
        op.f("ix_consent_idempotency_used_at"), "consent_idempotency", ["used_at"], unique=False
    )
    op.create_table(
        "consent_state",
        sa.Column("subject_ref", Ref(), nullable=False),
        sa.Column("purpose", Ref(), nullable=False),
        sa.Column("channel", Ref(), nullable=False),
        sa.Column("type", Ref(), nullable=False),
        sa.Column("state", Ref(), nullable=False),
        sa.Column("event_id", Ref(), nullable=False),
        sa.Column("idx", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", UtcDateTime(), nullable=False),
        sa.Column("first_granted_at", UtcDateTime(), nullable=True),
        sa.Column("confirmed_at", UtcDateTime(), nullable=True),
        sa.Column("ends_at", UtcDateTime(), nullable=True),
        sa.Column("notice", sa.Text(), nullable=True),
        sa.Column("notice_version", sa.Text(), nullable=True),
        sa.Column("child_without_authority", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint(
            "subject_ref", "purpose", "channel", "type", name=op.f("pk_consent_state")
        ),
    )
    op.create_index("ix_consent_state_idx", "consent_state", ["idx"], unique=False)
    op.create_table(
        "ledger_entry",
        sa.Column("idx", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", Ref(), nullable=False),
        sa.Column("leaf", Bytes(), nullable=False),
        sa.Column("leaf_hash", Bytes(), nullable=False),
        sa.PrimaryKeyConstraint("idx", name=op.f("pk_ledger_entry")),
        sa.UniqueConstraint("id", name=op.f("uq_ledger_entry_id")),
    )
    op.create_table(
        "ledger_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("frontier", Bytes(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_ledger_head_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_head")),
    )
    op.create_table(
        "ledger_tile",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("data", Bytes(), nullable=False),
        sa.PrimaryKeyConstraint("level", "n", name=op.f("pk_ledger_tile")),
    )
    op.create_table(
        "access_account",
        sa.Column("id", Ref(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("roles", Ref(), nullable=False),
        sa.Column("state", Ref(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("password_changed_at", UtcDateTime(), nullable=False),
        sa.Column("last_login_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_account")),
        sa.UniqueConstraint("login", name=op.f("uq_access_account_login")),
    )
    op.create_table(
        "access_api_key",
        sa.Column("id", Ref(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_hash", Bytes(), nullable=False),
        sa.Column("scopes", Ref(), nullable=False),
        sa.Column("created_by", Ref(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=True),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.Column("last_used_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_api_key")),
    )
    op.create_table(
        "access_session",
        sa.Column("token_hash", Bytes(), nullable=False),
        sa.Column("id", Ref(), nullable=False),
        sa.Column("account_id", Ref(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("last_seen_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_access_session")),
        sa.UniqueConstraint("id", name=op.f("uq_access_session_id")),
    )
    op.create_index(
        op.f("ix_access_session_account_id"), "access_session", ["account_id"], unique=False
    )
    op.create_index(
        op.f("ix_access_session_expires_at"), "access_session", ["expires_at"], unique=False
    )
    op.create_table(
        "access_setup_link",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("token_hash", Bytes(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint("id = 1", name=op.f("ck_access_setup_link_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_setup_link")),
    )
    op.create_table(
        "access_throttle",
        sa.Column("key", Bytes(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failed_at", UtcDateTime(), nullable=False),
        sa.Column("locked_until", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_access_throttle")),
    )
    op.create_index(
        op.f("ix_access_throttle_failed_at"), "access_throttle", ["failed_at"], unique=False
    )
    op.create_table(
        "audit_entry",
        sa.Column("idx", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", Ref(), nullable=False),
        sa.Column("leaf", Bytes(), nullable=False),
        sa.Column("leaf_hash", Bytes(), nullable=False),
        sa.PrimaryKeyConstraint("idx", name=op.f("pk_audit_entry")),
        sa.UniqueConstraint("id", name=op.f("uq_audit_entry_id")),
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("frontier", Bytes(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "audit_tile",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("data", Bytes(), nullable=False),
        sa.PrimaryKeyConstraint("level", "n", name=op.f("pk_audit_tile")),
    )
    op.create_table(
        "data_key",
        sa.Column("kid", Bytes(), nullable=False),
        sa.Column("subject_ref", Ref(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("epoch", Ref(), nullable=False),
        sa.Column("wrapped", Bytes(), nullable=False),
        sa.Column("state", Ref(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_data_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "uq_data_key_active",
        "data_key",
        ["subject_ref"],
        unique=True,
        sqlite_where=sa.text("state = 'active'"),
        postgresql_where=sa.text("state = 'active'"),
    )
    op.create_index(
        "uq_data_key_subject_ref_generation", "data_key", ["subject_ref", "generation"], unique=True
    )
    op.create_table(
        "index_key",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("provider", Ref(), nullable=False),
        sa.Column("key_ref", Ref(), nullable=False),
        sa.Column("wrapped", Bytes(), nullable=False),
        sa.Column("state", Ref(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_index_key")),
    )
    op.create_table(
        "job_run",
        sa.Column("id", Ref(), nullable=False),
        sa.Column("job", Ref(), nullable=False),
        sa.Column("scheduled_for", UtcDateTime(), nullable=False),
        sa.Column("state", Ref(), nullable=False),
        sa.Column("owner", Ref(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column("heartbeat_at", UtcDateTime(), nullable=True),
        sa.Column("done", sa.BigInteger(), nullable=True),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("phase", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("checkpoint", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("error", Ref(), nullable=True),
        sa.Column("queued_at", UtcDateTime(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_run")),
        sa.UniqueConstraint("job", "scheduled_for", name=op.f("uq_job_run_job_scheduled_for")),
    )
    op.create_index(
        "uq_job_run_current",
        "job_run",
        ["job"],
        unique=True,
        sqlite_where=sa.text("state IN ('running', 'paused')"),
        postgresql_where=sa.text("state IN ('running', 'paused')"),
    )
    op.create_table(
        "key_epoch",
        sa.Column("epoch", Ref(), nullable=False),
        sa.Column("provider", Ref(), nullable=False),
        sa.Column("key_ref", Ref(), nullable=False),
        sa.Column("wrapped", Bytes(), nullable=False),
        sa.Column("state", Ref(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("destroy_after", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("epoch", name=op.f("pk_key_epoch")),
    )
    op.create_table(
        "signing_key",
        sa.Column("name", Ref(), nullable=False),
        sa.Column("provider", Ref(), nullable=False),
        sa.Column("key_ref", Ref(), nullable=False),
        sa.Column("public_key", Bytes(), nullable=False),
        sa.Column("wrapped", Bytes(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_signing_key")),
    )
    op.create_table(
        "vault_identifier",
        sa.Column("blind_index", Bytes(), nullable=False),
        sa.Column("subject_ref", Ref(), nullable=False),
        sa.Column("kind", Ref(), nullable=False),
        sa.Column("sealed", Bytes(), nullable=False),
        sa.Column("index_version", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("blind_index", name=op.f("pk_vault_identifier")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_vault_identifier_subject_ref"), "vault_identifier", ["subject_ref"], unique=False
    )
    op.create_table(
        "vault_person",
        sa.Column("ref", Ref(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("ref", name=op.f("pk_vault_person")),
        sqlite_with_rowid=False,
    )
    for table in ("ledger_entry", "ledger_tile", "audit_entry", "audit_tile"):
        protect(table)
