"""How often something may be done in a window of time.

A use is counted before it is carried out, refused ones too, in the caller's transaction. Windows
are fixed: at the turn of two, twice as many may pass in a short time, and over any longer time no
more than the limit says.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from governance.contacts.models import use

LONGEST: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Limit:
    """So many uses in such a window, of at most a day."""

    uses: int
    window: timedelta


def admit(session: Session, limit: Limit, key: bytes, now: datetime) -> bool:
    """Count a use; whether it is within the limit.

    Args:
        session: the caller's unit of work; a rollback forgets the use.
        limit: what is allowed.
        key: of whom or what, and of which limit: different limits take different keys.
        now: the present.
    """
    began_at = _EPOCH + (now - _EPOCH) // limit.window * limit.window
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    counted = (
        insert(use)
        .values(key=key, began_at=began_at, uses=1)
        .on_conflict_do_update(index_elements=["key", "began_at"], set_={"uses": use.c.uses + 1})
        .returning(use.c.uses)
    )
    uses: int = session.execute(counted).scalar_one()
    return uses <= limit.uses


def remove_old(session: Session, now: datetime) -> int:
    """Delete counts of windows that are over; returns how many. For a regular job."""
    gone = session.execute(delete(use).where(use.c.began_at <= now - LONGEST).returning(use.c.key))
    return len(gone.all())
