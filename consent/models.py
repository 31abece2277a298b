"""The tables of consent. No foreign key leaves this package.

`consent_event` is at once a person's timeline, the change feed and the outbox: its `idx` is the
position in the ledger, given under a lock, so it is ordered and without gaps. `consent_state`
is a projection: the fold of the events, one register a row (`consent.registers`). Everything
that grows with people carries `subject_ref`.
"""

from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.schema import DDL

from consent.columns import Bytes, Ref, UtcDateTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)


@dataclass(frozen=True, slots=True)
class LogTables:
    """Where one Merkle log is kept. Trusted for nothing: `consent.ledger.verify` recomputes it."""

    entry: Table
    """One leaf a row. UPDATE and DELETE are refused by trigger."""
    tile: Table
    """Full tiles of 256 hashes. UPDATE and DELETE are refused by trigger."""
    head: Table
    """One row: size and frontier. Its lock orders all appends."""

    @property
    def append_only(self) -> tuple[Table, Table]:
        """The tables that triggers must protect."""
        return self.entry, self.tile


def log_tables(name: str, into: MetaData) -> LogTables:
    """The three tables of a Merkle log called `name`."""
    tables = LogTables(
        entry=Table(
            f"{name}_entry",
            into,
            Column("idx", BigInteger, primary_key=True, autoincrement=False),
            Column("id", Ref, nullable=False, unique=True),
            Column("leaf", Bytes, nullable=False),
            Column("leaf_hash", Bytes, nullable=False),
        ),
        tile=Table(
            f"{name}_tile",
            into,
            Column("level", Integer, primary_key=True, autoincrement=False),
            Column("n", BigInteger, primary_key=True, autoincrement=False),
            Column("data", Bytes, nullable=False),
        ),
        head=Table(
            f"{name}_head",
            into,
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("size", BigInteger, nullable=False),
            Column("frontier", Bytes, nullable=False),
            CheckConstraint("id = 1", name="one_row"),
        ),
    )
    for table in tables.append_only:
        _protect(table)
    return tables


def _protect(table: Table) -> None:
    """Make the database refuse to UPDATE or DELETE rows of `table` wherever it is created."""
    for dialect in ("sqlite", "postgresql"):
        for statement in append_only_ddl(table.name, dialect):
            ddl = DDL(statement)  # type: ignore[no-untyped-call]
            sqlalchemy_event.listen(table, "after_create", ddl.execute_if(dialect=dialect))


def append_only_ddl(table: str, dialect: str) -> list[str]:
    """The statements that make a table append-only on that engine."""
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {table}_refuses_{verb} BEFORE {verb.upper()} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            for verb in ("update", "delete")
        ]
    function = f"{table}_refuse"
    return [
        (
            f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql "
            f"AS $$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$"
        ),
        (
            f"CREATE TRIGGER {table}_refuses_change BEFORE UPDATE OR DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {function}()"
        ),
        (
            f"CREATE TRIGGER {table}_refuses_truncate BEFORE TRUNCATE ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        ),
    ]


ledger = log_tables("ledger", metadata)

event = Table(
    "consent_event",
    metadata,
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Ref, nullable=False, unique=True),
    Column("subject_ref", Ref, nullable=False),
    Column("type", Ref, nullable=False),
    Column("purpose", Ref, nullable=False),
    Column("channel", Ref, nullable=False),
    Column("state", Ref, nullable=False),
    Column("occurred_at", UtcDateTime, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
    Column("notice", Text),
    Column("notice_version", Text),
    Column("ends_at", UtcDateTime),
    Column("confirms", Ref),
    Column("confirmed_at", UtcDateTime),
    Column("child_without_authority", Boolean, nullable=False),
    Column("sealed", Bytes, nullable=False),
    Index("ix_consent_event_subject_ref_idx", "subject_ref", "idx"),
)
"""What was recorded about a person, with the disclosures sealed under the person's key."""

state = Table(
    "consent_state",
    metadata,
    Column("subject_ref", Ref, nullable=False),
    Column("purpose", Ref, nullable=False),
    Column("channel", Ref, nullable=False),
    Column("type", Ref, nullable=False),
    Column("state", Ref, nullable=False),
    Column("event_id", Ref, nullable=False),
    Column("idx", BigInteger, nullable=False),
    Column("occurred_at", UtcDateTime, nullable=False),
    Column("first_granted_at", UtcDateTime),
    Column("confirmed_at", UtcDateTime),
    Column("ends_at", UtcDateTime),
    Column("notice", Text),
    Column("notice_version", Text),
    Column("child_without_authority", Boolean, nullable=False),
    PrimaryKeyConstraint("subject_ref", "purpose", "channel", "type"),
    Index("ix_consent_state_idx", "idx"),
)
"""The register of each person, purpose, channel and type: what a check reads."""

idempotency = Table(
    "consent_idempotency",
    metadata,
    Column("key", Ref, primary_key=True),
    Column("body_hash", Bytes, nullable=False),
    Column("subject_ref", Ref, nullable=False, index=True),
    Column("events", Text, nullable=False),
    Column("used_at", UtcDateTime, nullable=False, index=True),
)
"""Answers already given to a writer's `Idempotency-Key`, kept 24 hours."""

subject_change = Table(
    "consent_subject_change",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("subject_ref", Ref, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False, index=True),
)
"""Who has to be looked at anew: what they are called changed (`consent.subject_changes`)."""

notice_version = Table(
    "consent_notice_version",
    metadata,
    Column("notice", Ref, nullable=False),
    Column("version", Ref, nullable=False),
    Column("seq", BigInteger, nullable=False, unique=True),
    Column("controller", Ref, nullable=False),
    Column("effective_from", UtcDateTime, nullable=False),
    Column("published_at", UtcDateTime, nullable=False),
    Column("material", Boolean, nullable=False),
    Column("authors", Ref, nullable=False),
    Column("published_by", Ref, nullable=False),
    Column("reason", Text, nullable=False),
    PrimaryKeyConstraint("notice", "version"),
    UniqueConstraint("notice", "effective_from"),
)
"""A published version of a notice. `seq` counts all publications from 1 in the order of their
commits, so that whoever knows the greatest knows what was published; `authors` are separated by
spaces. UPDATE and DELETE are refused by trigger."""

notice_words = Table(
    "consent_notice_words",
    metadata,
    Column("notice", Ref, nullable=False),
    Column("version", Ref, nullable=False),
    Column("language", Ref, nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("recipients", Text, nullable=False),
    Column("hash", Ref, nullable=False),
    Column("rendering", Text, nullable=False),
    Column("rendering_hash", Ref, nullable=False),
    PrimaryKeyConstraint("notice", "version", "language"),
)
"""What people are shown: a published version in one language. UPDATE and DELETE are refused by
trigger."""

notice_draft = Table(
    "consent_notice_draft",
    metadata,
    Column("notice", Ref, primary_key=True),
    Column("controller", Ref, nullable=False),
    Column("version", Text, nullable=False),
    Column("effective_from", UtcDateTime),
    Column("material", Boolean, nullable=False),
    Column("languages", Ref, nullable=False),
    Column("words", Text, nullable=False),
    Column("authors", Ref, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
)
"""The next version of a notice while it is being written. `words` is JSON by language."""

for _published in (notice_version, notice_words):
    _protect(_published)

text_message = Table(
    "consent_text_message",
    metadata,
    Column("key", Ref, primary_key=True),
    Column("subject_ref", Ref, nullable=False, index=True),
    Column("purpose", Ref),
    Column("meaning", Ref, nullable=False),
    Column("state", Ref, nullable=False),
    Column("received_at", UtcDateTime, nullable=False, index=True),
    Column("due_at", UtcDateTime),
    Column("sealed", Bytes),
    Column("decided_at", UtcDateTime),
    Column("decided_by", Ref),
    Index(
        "ix_consent_text_message_open",
        "due_at",
        "key",
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
)
"""Text messages that people sent: what each meant, and that it was taken in. The words are kept of
those alone that somebody still has to read, under the person's key. Trusted for naming what waits:
a row that is removed is not noticed, and the hold that its message set stands."""

confirmation_request = Table(
    "consent_confirmation_request",
    metadata,
    Column("subject_ref", Ref, nullable=False),
    Column("purpose", Ref, nullable=False),
    Column("channel", Ref, nullable=False),
    Column("event_id", Ref, nullable=False),
    Column("notice", Text, nullable=False),
    Column("notice_version", Text, nullable=False),
    Column("contact", Bytes, nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("subject_ref", "purpose", "channel"),
    Index("ix_consent_confirmation_request_contact", "contact", "asked_at"),
)
"""Who was asked last to confirm what, and when, so that nobody is asked again and again. `contact`
is a keyed hash of the mailbox. Trusted for that alone: without it people get more mails."""
