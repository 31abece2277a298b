"""The tables of access.

Trust: whoever can write here can let themselves in, and only the operator log would tell. Whoever
can read here learns staff login names and argon2id hashes, and no token or key that works: of
those there are SHA-256 digests of 256 random bits.
"""

from enum import StrEnum

from sqlalchemy import CheckConstraint, Column, Integer, PrimaryKeyConstraint, Table, Text

from consent.columns import Bytes, Ref, UtcDateTime
from governance.database import metadata


class AccountState(StrEnum):
    """Whether an account may log in. Accounts are never deleted: the operator log names them."""

    ACTIVE = "active"
    DISABLED = "disabled"


account = Table(
    "access_account",
    metadata,
    Column("id", Ref, primary_key=True),
    Column("login", Text, nullable=False, unique=True),
    Column("display_name", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("roles", Ref, nullable=False),
    Column("state", Ref, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("password_changed_at", UtcDateTime, nullable=False),
    Column("last_login_at", UtcDateTime),
)
"""A member of staff. `roles` are separated by spaces, sorted."""

throttle = Table(
    "access_throttle",
    metadata,
    Column("key", Bytes, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("failed_at", UtcDateTime, nullable=False, index=True),
    Column("locked_until", UtcDateTime),
)
"""Failed logins by digest of the login name, whether or not an account has it: what is counted
for real accounts alone tells which are real."""

session = Table(
    "access_session",
    metadata,
    Column("token_hash", Bytes, primary_key=True),
    Column("id", Ref, nullable=False, unique=True),
    Column("account_id", Ref, nullable=False, index=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_seen_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
)
"""A browser that is logged in. To end a session is to delete its row."""

api_key = Table(
    "access_api_key",
    metadata,
    Column("id", Ref, primary_key=True),
    Column("name", Text, nullable=False),
    Column("secret_hash", Bytes, nullable=False),
    Column("scopes", Ref, nullable=False),
    Column("created_by", Ref, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
)
"""A program that may call the API. `scopes` are separated by spaces, sorted."""

setup_link = Table(
    "access_setup_link",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("token_hash", Bytes, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime),
    CheckConstraint("id = 1", name="one_row"),
)
"""The one link that makes the first account. One row: its lock lets one visitor through."""

preference = Table(
    "access_preference",
    metadata,
    Column("owner", Ref, nullable=False),
    Column("name", Ref, nullable=False),
    Column("value", Text, nullable=False),
    PrimaryKeyConstraint("owner", "name"),
)
"""How an account, or the `organisation` as a whole, likes pages. Grants nothing."""
