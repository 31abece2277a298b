"""The tables of keys. Every key in them is wrapped: a copy of the database opens nothing.

Trusted for nothing but availability: a changed, moved or swapped key fails to open.
"""

from enum import StrEnum

from sqlalchemy import Column, Index, Integer, Table, text

from consent.columns import Bytes, Ref, UtcDateTime
from governance.database import metadata


class EpochState(StrEnum):
    """What an epoch's key is still for."""

    ACTIVE = "active"
    RETIRING = "retiring"
    """Wraps nothing new; what it wrapped is being re-wrapped."""
    DESTROYED = "destroyed"
    """Its root key is gone, and with it every key that only it wrapped, backups included."""


class DataKeyState(StrEnum):
    """What a person's key is still for. An erased person's keys are not a state: they are gone."""

    ACTIVE = "active"
    RETIRED = "retired"
    """An older generation: opens, seals nothing new."""


class IndexKeyState(StrEnum):
    """What an index key is still for."""

    READ_WRITE = "read-write"
    READ = "read"
    DEAD = "dead"


key_epoch = Table(
    "key_epoch",
    metadata,
    Column("epoch", Ref, primary_key=True),
    Column("provider", Ref, nullable=False),
    Column("key_ref", Ref, nullable=False),
    Column("wrapped", Bytes, nullable=False),
    Column("state", Ref, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("destroy_after", UtcDateTime),
)
"""One key a month (`2026-03`), wrapped by a root key of its own at the provider."""

_ACTIVE = text(f"state = '{DataKeyState.ACTIVE}'")

data_key = Table(
    "data_key",
    metadata,
    Column("kid", Bytes, primary_key=True),
    Column("subject_ref", Ref, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("epoch", Ref, nullable=False),
    Column("wrapped", Bytes, nullable=False),
    Column("state", Ref, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index("uq_data_key_subject_ref_generation", "subject_ref", "generation", unique=True),
    Index(
        "uq_data_key_active",
        "subject_ref",
        unique=True,
        sqlite_where=_ACTIVE,
        postgresql_where=_ACTIVE,
    ),
    sqlite_with_rowid=False,
)
"""A person's keys, wrapped under an epoch's. To delete the rows is to erase what they sealed."""

index_key = Table(
    "index_key",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("provider", Ref, nullable=False),
    Column("key_ref", Ref, nullable=False),
    Column("wrapped", Bytes, nullable=False),
    Column("state", Ref, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
"""The roots of all blind indexes, one a version."""

signing_key = Table(
    "signing_key",
    metadata,
    Column("name", Ref, primary_key=True),
    Column("provider", Ref, nullable=False),
    Column("key_ref", Ref, nullable=False),
    Column("public_key", Bytes, nullable=False),
    Column("wrapped", Bytes, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
"""Ed25519 keys by the name of what they sign for."""

link_key = Table(
    "link_key",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("provider", Ref, nullable=False),
    Column("key_ref", Ref, nullable=False),
    Column("wrapped", Bytes, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
"""The keys of signed links, one a version: without a row, what it signed is void."""
