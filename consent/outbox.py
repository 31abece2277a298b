"""The change feed: every event in the order of the ledger, from a cursor on.

`consent_event` itself is the outbox. An event is visible once its transaction committed, and its
index was given under the ledger's lock, so the order is that of the commits and has no gaps: a
consumer that keeps its cursor misses nothing and sees nothing twice. An erased person's events
are gone from the feed; the indexes they had stay empty.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select

from consent.errors import InvalidCursorError
from consent.models import event as event_table
from consent.models import ledger
from consent.subjects import Reader, SubjectRef

MAX_PAGE: Final = 1000

_SHOWN: Final = (
    event_table.c.idx,
    event_table.c.id,
    event_table.c.subject_ref,
    event_table.c.type,
    event_table.c.purpose,
    event_table.c.channel,
    event_table.c.state,
    event_table.c.occurred_at,
    event_table.c.recorded_at,
)


@dataclass(frozen=True, slots=True)
class Change:
    """One event, as consumers see it: no evidence, no identifier."""

    index: int
    id: str
    subject: SubjectRef
    type: str
    purpose: str
    channel: str
    state: str
    occurred_at: datetime
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Some changes, and the cursor that continues behind them."""

    changes: list[Change]
    cursor: str
    more: bool
    """Whether changes behind this page are waiting already."""


def read_changes(reader: Reader, cursor: str | None, limit: int = MAX_PAGE) -> Page:
    """The changes behind `cursor` (from the first, if None), at most `limit` of them.

    Raises:
        InvalidCursorError: the cursor is none of ours, or lies beyond the ledger's end (which a
            consumer sees after the service was restored from a backup: it must start over).
    """
    start = parse_cursor(cursor)
    table = event_table.c
    rows = reader.execute(
        select(*_SHOWN).where(table.idx >= start).order_by(table.idx).limit(limit + 1)
    ).all()
    changes = [Change(*row) for row in rows[:limit]]
    if changes:
        return Page(changes, str(changes[-1].index + 1), more=len(rows) > limit)
    size = reader.execute(select(ledger.head.c.size)).scalar() or 0
    if start > size:
        raise InvalidCursorError("the cursor lies beyond the end of the ledger")
    return Page([], str(start), more=False)


def change_at(reader: Reader, index: int) -> Change | None:
    """The change at a place of the ledger; None if there is none, or its person was erased."""
    row = reader.execute(select(*_SHOWN).where(event_table.c.idx == index)).one_or_none()
    return None if row is None else Change(*row)


def read_timeline(
    reader: Reader, subject: SubjectRef, cursor: str | None, limit: int
) -> tuple[list[Change], str | None]:
    """A person's events, newest in the ledger first, and the cursor behind them (None: no more).

    Raises:
        InvalidCursorError: the cursor is none of ours.
    """
    table = event_table.c
    query = select(*_SHOWN).where(table.subject_ref == subject).order_by(table.idx.desc())
    if cursor is not None:
        query = query.where(table.idx < parse_cursor(cursor))
    rows = reader.execute(query.limit(limit + 1)).all()
    events = [Change(*row) for row in rows[:limit]]
    return events, str(events[-1].index) if len(rows) > limit else None


def parse_cursor(cursor: str | None) -> int:
    """The ledger index at which to go on.

    Raises:
        InvalidCursorError: it is not a decimal index as this feed writes it.
    """
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= 18):
        raise InvalidCursorError("the cursor is not one that this feed gave out")
    return int(cursor)
