"""Sealing what points at a person in the ledger: consent's `EvidenceCipher`.

Guarantees: evidence opens only as the same person's same event's; when the person's key is
destroyed it cannot be opened by anybody, and the ledger still verifies.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from consent.subjects import Reader, SubjectRef
from governance.errors import DecryptionError
from governance.keys.envelope import PersonKey, Place, key_id
from governance.keys.keyring import Keyring

_PLACE: Final = Place("consent_event", "sealed")


class PersonCipher:
    """Seals evidence under people's own keys. Shared by threads."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def seal(
        self, session: Session, items: Sequence[tuple[SubjectRef, str, bytes]], now: datetime
    ) -> list[bytes]:
        """Seal (subject, event id, plaintext) in order; makes the key of a person who has none."""
        keys = self._keyring.active(session, {subject for subject, _, _ in items}, now)
        return [_PLACE.seal(keys[subject], plain, event) for subject, event, plain in items]

    def open(
        self, reader: Reader, items: Sequence[tuple[SubjectRef, str, bytes]]
    ) -> list[bytes | None]:
        """Open (subject, event id, sealed) in order; None where the person's key was destroyed.

        Raises:
            DecryptionError: an item was not sealed for this person and this event, or was changed.
        """
        kids = [key_id(sealed) for _, _, sealed in items]
        keys = self._keyring.by_id(reader, kids)
        return [_open(keys.get(kid), item) for kid, item in zip(kids, items, strict=True)]


def _open(key: PersonKey | None, item: tuple[SubjectRef, str, bytes]) -> bytes | None:
    if key is None:
        return None
    subject, event, sealed = item
    plain = _PLACE.open(key, sealed, subject, event)
    if not isinstance(plain, bytes):
        raise DecryptionError
    return plain
