"""The tables of codes. They hold no contact and no code: keyed digests of both, for minutes."""

from sqlalchemy import Column, Index, Integer, PrimaryKeyConstraint, Table

from consent.columns import Bytes, Ref, UtcDateTime
from governance.database import metadata

code = Table(
    "contact_code",
    metadata,
    Column("challenge", Bytes, primary_key=True),
    Column("contact", Bytes, nullable=False),
    Column("code", Bytes, nullable=False),
    Column("subject_ref", Ref, index=True),
    Column("tries", Integer, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
)
"""Codes that were asked for. Without a subject: nobody we know, or not looked up yet."""

use = Table(
    "contact_use",
    metadata,
    Column("key", Bytes, nullable=False),
    Column("began_at", UtcDateTime, nullable=False),
    Column("uses", Integer, nullable=False),
    PrimaryKeyConstraint("key", "began_at"),
    Index("ix_contact_use_began_at", "began_at"),
)
"""How often something was done in a window of time, by the keyed digest of who or what."""
