"""What staff chose about their pages, and the organisation about all of them.

Small words by owner and name: an account's theme, the organisation's time zone. They grant
nothing, so that a lost or forged row changes only how a page looks.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import select

from consent import bulk
from consent.subjects import Reader
from governance.access.models import preference
from governance.database import Database

ORGANISATION: Final = "organisation"
"""The owner of what holds for everyone."""


class PreferenceStore:
    """Keeps preferences. The caller knows which names and values make sense."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, reader: Reader, owner: str) -> dict[str, str]:
        """What an owner chose, by name."""
        rows = reader.execute(
            select(preference.c.name, preference.c.value).where(preference.c.owner == owner)
        )
        return {row.name: row.value for row in rows}

    def keep(self, owner: str, chosen: Mapping[str, str]) -> None:
        """Remember choices, in place of earlier ones of the same names."""
        rows = [(owner, name, value) for name, value in chosen.items()]
        with self._database.begin() as session:
            bulk.upsert(session, preference, rows, key=("owner", "name"))
