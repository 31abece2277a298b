"""Who people are, as a feed: for whoever keeps a copy that knows people by their identifiers.

The change feed tells what people said. That somebody was made without saying anything, was given
one more identifier, lost one or was erased is no event of the ledger, and stands here: one row for
each person who has to be looked at anew. It does not say what changed.

Guarantees: rows are numbered under the ledger's lock, so their order is that of the commits and has
no gaps, beside the events as among themselves. They are kept for 30 days, and the newest for ever.
A row names an erased person by a reference that leads nowhere any more.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, delete, func, select
from sqlalchemy.orm import Session

from consent import bulk
from consent.ledger.log import MerkleLog
from consent.models import ledger
from consent.models import subject_change as table
from consent.subjects import Reader, SubjectRef

KEPT: Final = timedelta(days=30)
"""Whoever was away for longer starts over."""

_log = MerkleLog(ledger)


def note_people(session: Session, people: Collection[SubjectRef], now: datetime) -> None:
    """Have these people looked at anew, by whoever follows.

    Call it in the unit of work that made, linked, parted or erased them, as the last thing that
    may wait: it takes the ledger's lock until the transaction ends.
    """
    if not people:
        return
    _log.lock(session)
    number = newest(session)
    rows = [(number + n, subject, now) for n, subject in enumerate(sorted(set(people)), 1)]
    bulk.insert(session, table, rows)


def newest(reader: Reader) -> int:
    """The number of the newest row; 0 if there never was one."""
    return reader.execute(select(func.max(table.c.seq))).scalar() or 0


def read_after(reader: Reader, number: int, limit: int) -> Sequence[Row[Any]]:
    """The rows behind a number, in their order: `seq`, `subject_ref`, `changed_at`."""
    behind = select(table).where(table.c.seq > number).order_by(table.c.seq).limit(limit)
    return reader.execute(behind).all()


def row_at(reader: Reader, number: int) -> Row[Any] | None:
    """The row of a number, if it is still kept."""
    return reader.execute(select(table).where(table.c.seq == number)).one_or_none()


def remove_old(session: Session, now: datetime) -> int:
    """Remove what is older than `KEPT`, but the newest row. Says how many rows went."""
    greatest = select(func.max(table.c.seq)).scalar_subquery()
    gone = session.execute(
        delete(table)
        .where(table.c.changed_at < now - KEPT, table.c.seq < greatest)
        .returning(table.c.seq)
    )
    return len(gone.all())
