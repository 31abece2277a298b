"""Sealing what goes out: under a person's key, or under a key that is made for one thing alone.

A key that many things share could not be destroyed for one of them, and must not be used with
random nonces for long (`governance.keys.envelope`). So what belongs to nobody we know gets a data
key of its own, wrapped under the month's epoch like a person's, whose "subject" is the thing's id.
To destroy the key is to destroy the content, in backups too once the epoch ends.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from consent.subjects import Reader, SubjectRef
from governance.errors import DecryptionError
from governance.keys.envelope import Place, key_id
from governance.keys.keyring import Keyring
from governance.keys.models import data_key


class Sealer:
    """Seals documents for one place. Shared by threads."""

    def __init__(self, keyring: Keyring, place: Place) -> None:
        self._keyring = keyring
        self._place = place

    def seal(
        self, session: Session, owner: str, row: str, document: dict[str, Any], now: datetime
    ) -> bytes:
        """Seal a JSON document in a row, under the owner's key, which is made if there is none."""
        subject = SubjectRef(owner)
        key = self._keyring.active(session, [subject], now)[subject]
        return self._place.seal(key, document, row)

    def open(self, reader: Reader, owner: str, row: str, sealed: bytes) -> dict[str, Any] | None:
        """The document; None if the key was destroyed.

        Raises:
            DecryptionError: it was not sealed for this owner and row, or was changed.
        """
        kid = key_id(sealed)
        key = self._keyring.by_id(reader, [kid]).get(kid)
        if key is None:
            return None
        document = self._place.open(key, sealed, SubjectRef(owner), row)
        if not isinstance(document, dict):
            raise DecryptionError
        return document

    def destroy(self, session: Session, thing: str) -> None:
        """Destroy the key that was made for one thing alone. Never call it with a person."""
        subject = SubjectRef(thing)
        session.execute(delete(data_key).where(data_key.c.subject_ref == subject))
        self._keyring.evict([subject])
