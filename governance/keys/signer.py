"""Ed25519 keys that sign for this service, made once and stored wrapped.

Guarantees: all processes sign under one name with one key, also when they start at once. The
private key is in the database only wrapped by the provider, and in the process only in the
signer, which shows it to nobody.
"""

from datetime import datetime
from typing import Any, Final, NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Row, select

from governance.database import Database, insert_if_absent
from governance.errors import KeyringError
from governance.keys.keyring import context_of, unwrap
from governance.keys.models import signing_key
from governance.keys.providers import KeyProvider


class Ed25519Signer:
    """Signs under a name; fits `consent.ledger.checkpoint.NoteSigner`. Shared by threads."""

    __slots__ = ("_private", "name", "public_key")

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        self.name: Final = name
        self.public_key: Final = private.public_key().public_bytes_raw()
        """The raw public key, 32 bytes."""
        self._private: Final = private

    def __repr__(self) -> str:
        return f"<Ed25519Signer {self.name!r}, redacted>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key must not be pickled or copied out of the process")

    def sign(self, message: bytes) -> bytes:
        """The signature of a message, 64 bytes."""
        return self._private.sign(message)


def open_signer(
    database: Database, provider: KeyProvider, name: str, now: datetime
) -> Ed25519Signer:
    """The signer of this name, whose key is made if there is none.

    Raises:
        RootKeyError: the provider's root key is missing, damaged, or not this database's.
        KeyringError: another provider wrapped the key, or the stored public key was changed.
    """
    row = _stored(database, name)
    if row is None:
        _make(database, provider, name, now)
        row = _stored(database, name)
    if row is None:
        raise KeyringError("the signing key vanished as soon as it was made")
    private = Ed25519PrivateKey.from_private_bytes(unwrap(provider, row, _purpose(name)))
    signer = Ed25519Signer(name, private)
    if signer.public_key != row.public_key:
        raise KeyringError("the stored public key is not that of the signing key")
    return signer


def _stored(database: Database, name: str) -> Row[*tuple[Any, ...]] | None:
    with database.read() as connection:
        query = select(signing_key).where(signing_key.c.name == name)
        return connection.execute(query).one_or_none()


def _make(database: Database, provider: KeyProvider, name: str, now: datetime) -> None:
    key_ref = provider.root("signing")
    private = Ed25519PrivateKey.generate()
    wrapped = provider.wrap(key_ref, private.private_bytes_raw(), context_of(_purpose(name)))
    with database.begin() as session:
        insert_if_absent(
            session,
            signing_key,
            name=name,
            provider=provider.name,
            key_ref=key_ref,
            public_key=private.public_key().public_bytes_raw(),
            wrapped=wrapped,
            created_at=now,
        )


def _purpose(name: str) -> str:
    return f"signing/{name}"
