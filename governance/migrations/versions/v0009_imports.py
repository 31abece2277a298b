"""Imports: runs, quarantine and its repairs, draft requests, notes on people."""

import sqlalchemy as sa
from alembic import op

from consent.columns import Bytes, Ref, UtcDateTime

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the tables of imports."""
    op.create_table(
        "import_draft",
        sa.Column("id", Ref(), nullable=False),
        sa.Column("subject_ref", Ref(), nullable=False),
        sa.Column("asks", Ref(), nullable=False),
        sa.Column("import_id", Ref(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("state", Ref(), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime()),
        sa.Column("ended_by", Ref()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_import_draft")),
    )
    op.create_index("ix_import_draft_state_made_at", "import_draft", ["state", "made_at"])
    op.create_index("ix_import_draft_subject_ref", "import_draft", ["subject_ref"])
    op.create_table(
        "import_note",
        sa.Column("subject_ref", Ref(), nullable=False),
        sa.Column("name", Ref(), nullable=False),
        sa.Column("value", Ref(), nullable=False),
        sa.Column("import_id", Ref(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("noted_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("subject_ref", "name", name=op.f("pk_import_note")),
    )
    op.create_table(
        "import_part",
        sa.Column("import_id", Ref(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content", Bytes(), nullable=False),
        sa.PrimaryKeyConstraint("import_id", "number", name=op.f("pk_import_part")),
    )
    op.create_table(
        "import_quarantine",
        sa.Column("id", Ref(), nullable=False),
        sa.Column("import_id", Ref(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("reason", Ref(), nullable=False),
        sa.Column("reasons", Ref(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("subject_ref", Ref()),
        sa.Column("sealed", Bytes()),
        sa.Column("state", Ref(), nullable=False),
        sa.Column("held_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime()),
        sa.Column("ended_by", Ref()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_import_quarantine")),
    )
    op.create_index("ix_import_quarantine_import_id", "import_quarantine", ["import_id"])
    op.create_index(
        "ix_import_quarantine_state_reason_id", "import_quarantine", ["state", "reason", "id"]
    )
    op.create_index("ix_import_quarantine_subject_ref", "import_quarantine", ["subject_ref"])
    op.create_table(
        "import_repair",
        sa.Column("id", Ref(), nullable=False),
        sa.Column("reason", Ref(), nullable=False),
        sa.Column("supplied", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("actor", Ref(), nullable=False),
        sa.Column("state", Ref(), nullable=False),
        sa.Column("asked_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime()),
        sa.Column("after", Ref()),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_import_repair")),
    )
    op.create_table(
        "import_run",
        sa.Column("id", Ref(), nullable=False),
        sa.Column("state", Ref(), nullable=False),
        sa.Column("kind", Ref(), nullable=False),
        sa.Column("file_hash", Ref(), nullable=False),
        sa.Column("file_size", sa.BigInteger(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("plan", Ref(), nullable=False),
        sa.Column("policy", Ref(), nullable=False),
        sa.Column("mapping", sa.Text()),
        sa.Column("encoding", Ref()),
        sa.Column("header", Bytes()),
        sa.Column("key_ref", Ref(), nullable=False),
        sa.Column("actor", Ref(), nullable=False),
        sa.Column("owner", Ref()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime()),
        sa.Column("rows_total", sa.BigInteger()),
        sa.Column("rows_done", sa.BigInteger(), nullable=False),
        sa.Column("counts", sa.Text()),
        sa.Column("warnings", sa.Text()),
        sa.Column("first_index", sa.BigInteger()),
        sa.Column("last_index", sa.BigInteger()),
        sa.Column("manifest", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_import_run")),
    )
    op.create_index("ix_import_run_created_at", "import_run", ["created_at"])
    op.create_index("ix_import_run_file_hash", "import_run", ["file_hash"])
