"""Errors of this package. Each has a stable code for programs and a sentence for people.

Messages state the remedy and never contain an identifier, a key or any other secret.
"""

from typing import ClassVar


class GovernanceError(Exception):
    """Base of all errors that governance raises on purpose."""

    code: ClassVar[str] = "GOVERNANCE_ERROR"


class DatabaseError(GovernanceError):
    """The database cannot be used as it is configured or as it stands."""

    code = "DATABASE_ERROR"


class DatabaseUnavailableError(DatabaseError):
    """The database server or file cannot be reached."""

    code = "DATABASE_UNAVAILABLE"


class SchemaError(DatabaseError):
    """The tables are not those that this program was made for."""

    code = "DATABASE_SCHEMA"


class KeyringError(GovernanceError):
    """A key cannot be made, found or opened."""

    code = "KEYRING_ERROR"


class RootKeyError(KeyringError):
    """The provider's root key is missing, damaged or badly protected."""

    code = "ROOT_KEY_UNUSABLE"


class DecryptionError(GovernanceError):
    """A sealed value cannot be opened. Why is not said: an attacker learns nothing from trying."""

    code = "DECRYPTION_FAILED"

    def __init__(self) -> None:
        super().__init__("the sealed value cannot be opened with this key at this place")
