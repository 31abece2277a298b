"""The tables of the vault. No identifier is in them in clear.

Trusted for availability, and for which person an identifier leads to: whoever can write to
`vault_identifier` and knows an identifier's token can point it at another person. That changes no
evidence, and `identifiers_of` refuses what was moved.
"""

from enum import StrEnum

from sqlalchemy import BigInteger, Column, Index, Integer, PrimaryKeyConstraint, Table, text

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

vault_suppression = Table(
    "vault_suppression",
    metadata,
    Column("token", Bytes, primary_key=True),
    Column("kind", Ref, nullable=False),
    Column("index_version", Integer, nullable=False),
    Column("cause", Ref, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("review_at", UtcDateTime, nullable=False),
    sqlite_with_rowid=False,
)
"""Identifiers of people who must not be written to again, as keyed hashes that outlive the people.

Personal data, kept for the person's own objection (GDPR Art. 21(3), 17(3)(b)): whoever holds the
index key can test a guess. A token cannot be made anew under another key, as nobody has the
identifier any more: an index key that made one must stay readable for as long as the token stays.
Trusted for keeping erased people erased: a row that is removed is not noticed.
"""


class ListState(StrEnum):
    """What a copy of a do-not-call list is good for."""

    LOADING = "loading"
    """Being read in; nobody compares with it."""
    CURRENT = "current"
    """The one to compare with. At most one a registry."""
    PAST = "past"
    """Replaced. Its numbers are removed, its date stays."""
    ABANDONED = "abandoned"
    """Broken off, or overtaken by another import."""


_CURRENT = text(f"state = '{ListState.CURRENT}'")

vault_dnc_list = Table(
    "vault_dnc_list",
    metadata,
    Column("id", Ref, primary_key=True),
    Column("registry", Ref, nullable=False),
    Column("state", Ref, nullable=False),
    Column("listed_on", Ref, nullable=False),
    Column("index_version", Integer, nullable=False),
    Column("numbers", BigInteger, nullable=False),
    Column("begun_at", UtcDateTime, nullable=False),
    Column("current_from", UtcDateTime),
    Index("ix_vault_dnc_list_registry", "registry"),
    Index(
        "uq_vault_dnc_list_current",
        "registry",
        unique=True,
        sqlite_where=_CURRENT,
        postgresql_where=_CURRENT,
    ),
)
"""Our copies of do-not-call lists; `listed_on` is the day, such as `2026-03-01`, each was drawn.

Trusted: whoever can write here can make a listed number look free. What notices it is the next
import, which says how many numbers came and went.
"""

vault_dnc_number = Table(
    "vault_dnc_number",
    metadata,
    Column("list", Ref, nullable=False),
    Column("token", Bytes, nullable=False),
    Column("since", Ref, nullable=False),
    PrimaryKeyConstraint("list", "token"),
    sqlite_with_rowid=False,
)
"""The numbers of a copy, as tokens of the index of `vault_identifier`, so that a check compares in
its own statement; `since` is the day of the first copy, without a gap, that had the number.

Trusted as `vault_dnc_list` is. Whoever steals the database learns which of its people are listed,
and no number.
"""
