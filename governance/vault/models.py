"""The tables of the vault. No identifier is in them in clear.

Trusted for availability, and for which person an identifier leads to: whoever can write to
`vault_identifier` and knows an identifier's token can point it at another person. That changes no
evidence, and `identifiers_of` refuses what was moved.
"""

from sqlalchemy import Column, Integer, Table

from consent.columns import Bytes, Ref, UtcDateTime
from governance.database import metadata

vault_person = Table(
    "vault_person",
    metadata,
    Column("ref", Ref, primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
    sqlite_with_rowid=False,
)
"""Everyone who was ever given a reference and is not erased."""

vault_identifier = Table(
    "vault_identifier",
    metadata,
    Column("blind_index", Bytes, primary_key=True),
    Column("subject_ref", Ref, nullable=False, index=True),
    Column("kind", Ref, nullable=False),
    Column("sealed", Bytes, nullable=False),
    Column("index_version", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    sqlite_with_rowid=False,
)
"""Who an identifier leads to. The index's key differs by kind, so equal values do not collide."""
