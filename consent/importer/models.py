"""The tables of imports: runs, what belongs to them, quarantine, draft requests and notes.

What points at a person is sealed, or a subject ref. An import has a key of its own for what
belongs to nobody known: `key_ref` names it, and is no person's ref.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from consent.columns import Bytes, Ref, UtcDateTime
from consent.models import metadata

import_run = Table(
    "import_run",
    metadata,
    Column("id", Ref, primary_key=True),
    Column("state", Ref, nullable=False),
    Column("kind", Ref, nullable=False),
    Column("file_hash", Ref, nullable=False),
    Column("file_size", BigInteger, nullable=False),
    Column("file_name", Text, nullable=False),
    Column("plan", Ref, nullable=False),
    Column("policy", Ref, nullable=False),
    Column("mapping", Text),
    Column("encoding", Ref),
    Column("header", Bytes),
    Column("key_ref", Ref, nullable=False),
    Column("actor", Ref, nullable=False),
    Column("owner", Ref),
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("rows_total", BigInteger),
    Column("rows_done", BigInteger, nullable=False),
    Column("counts", Text),
    Column("warnings", Text),
    Column("first_index", BigInteger),
    Column("last_index", BigInteger),
    Column("manifest", Text),
    Column("error", Text),
    Index("ix_import_run_file_hash", "file_hash"),
    Index("ix_import_run_created_at", "created_at"),
)
"""One import of one file. `plan` is a hash of all that decides what becomes of its rows: kind,
mapping, encoding and policy. `rows_done` is the cursor; it moves in the transaction of the rows
it counts, and only for whoever is the `owner`."""

import_part = Table(
    "import_part",
    metadata,
    Column("import_id", Ref, nullable=False),
    Column("number", Integer, nullable=False, autoincrement=False),
    Column("content", Bytes, nullable=False),
    PrimaryKeyConstraint("import_id", "number"),
)
"""The lines of an import's report, compressed, a piece for each batch."""

quarantine = Table(
    "import_quarantine",
    metadata,
    Column("id", Ref, primary_key=True),
    Column("import_id", Ref, nullable=False),
    Column("line", BigInteger, nullable=False),
    Column("reason", Ref, nullable=False),
    Column("reasons", Ref, nullable=False),
    Column("record", Text, nullable=False),
    Column("subject_ref", Ref),
    Column("sealed", Bytes),
    Column("state", Ref, nullable=False),
    Column("held_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("ended_by", Ref),
    Index("ix_import_quarantine_state_reason_id", "state", "reason", "id"),
    Index("ix_import_quarantine_import_id", "import_id"),
    Index("ix_import_quarantine_subject_ref", "subject_ref"),
)
"""Rows, or parts of them, that could not be used. The id is a keyed hash of the row, so that the
same row is kept once. `sealed` has its cells, under the person's key where `subject_ref` says
whose, else under the import's; it is emptied when the row is repaired, dismissed or too old."""

repair = Table(
    "import_repair",
    metadata,
    Column("id", Ref, primary_key=True),
    Column("reason", Ref, nullable=False),
    Column("supplied", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("actor", Ref, nullable=False),
    Column("state", Ref, nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("after", Ref),
    Column("counts", Text, nullable=False),
)
"""An order to complete the rows of a reason and run them again. `after` is the cursor."""

draft = Table(
    "import_draft",
    metadata,
    Column("id", Ref, primary_key=True),
    Column("subject_ref", Ref, nullable=False),
    Column("asks", Ref, nullable=False),
    Column("import_id", Ref, nullable=False),
    Column("line", BigInteger, nullable=False),
    Column("record", Text, nullable=False),
    Column("state", Ref, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("ended_by", Ref),
    Index("ix_import_draft_state_made_at", "state", "made_at"),
    Index("ix_import_draft_subject_ref", "subject_ref"),
)
"""A right that another system says a person asked for. Nobody has looked at it yet: an officer
makes a request of it, or dismisses it."""

note = Table(
    "import_note",
    metadata,
    Column("subject_ref", Ref, nullable=False),
    Column("name", Ref, nullable=False),
    Column("value", Ref, nullable=False),
    Column("import_id", Ref, nullable=False),
    Column("line", BigInteger, nullable=False),
    Column("noted_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("subject_ref", "name"),
)
"""Something to heed about a person that is no choice: a child's age, where data may be stored."""
