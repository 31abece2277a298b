"""The keys of signed links (`consent.links`): made once, stored wrapped, one a version.

Guarantees: all processes make and read links with the same keys, also when they start at once. A
key of its own, apart from the blind indexes': links can be made void without losing anyone.

Non-goals: rotation. To add a row with the next version is to make new links under it; to delete
one is to make every link under it void. Processes read the table when they start.
"""

import secrets
from datetime import datetime
from typing import Final

from sqlalchemy import select

from consent.links import KEY_BYTES, LinkKey
from governance.database import Database, insert_if_absent
from governance.keys.keyring import context_of, unwrap
from governance.keys.models import link_key
from governance.keys.providers import KeyProvider

_ROOT: Final = "links"


def open_link_keys(database: Database, provider: KeyProvider, now: datetime) -> list[LinkKey]:
    """All versions of the key, the newest first; the first is made if there is none.

    Raises:
        RootKeyError: the provider's root key is missing, damaged, or not this database's.
        KeyringError: another provider wrapped a key.
    """
    keys = _stored(database, provider)
    if not keys:
        _make(database, provider, now)
        keys = _stored(database, provider)
    return keys


def _stored(database: Database, provider: KeyProvider) -> list[LinkKey]:
    with database.read() as connection:
        rows = connection.execute(select(link_key).order_by(link_key.c.version.desc())).all()
    return [LinkKey(row.version, unwrap(provider, row, _purpose(row.version))) for row in rows]


def _make(database: Database, provider: KeyProvider, now: datetime) -> None:
    key_ref = provider.root(_ROOT)
    wrapped = provider.wrap(key_ref, secrets.token_bytes(KEY_BYTES), context_of(_purpose(1)))
    with database.begin() as session:
        insert_if_absent(
            session,
            link_key,
            version=1,
            provider=provider.name,
            key_ref=key_ref,
            wrapped=wrapped,
            created_at=now,
        )


def _purpose(version: int) -> str:
    return f"links/{version}"
