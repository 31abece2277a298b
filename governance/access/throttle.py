"""Slows down guessing of passwords, the same for login names that exist and that do not.

An attempt is counted as a failure before the password is looked at, and forgotten if it was
right: so any number of attempts at once are still counted one by one. Five in a row are free;
after each further one the login name is locked twice as long, from 30 seconds to 15 minutes.
Counting starts afresh a day after the last failure.

Whoever knows a login name can keep its owner from logging in anew, for as long as they keep
trying. Sessions that are open stay open, and the host's operator can unlock.
"""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from governance.access.models import throttle
from governance.access.tokens import digest

FREE_FAILURES: Final = 5
FIRST_LOCK: Final = timedelta(seconds=30)
LONGEST_LOCK: Final = timedelta(minutes=15)
FORGOTTEN_AFTER: Final = timedelta(hours=24)


def lock_after(failures: int) -> timedelta:
    """How long nobody may try again after so many failures in a row."""
    if failures < FREE_FAILURES:
        return timedelta(0)
    doublings = min(failures - FREE_FAILURES, 10)
    return min(FIRST_LOCK * (1 << doublings), LONGEST_LOCK)


def begin_attempt(session: Session, login: str, now: datetime) -> timedelta | None:
    """Count an attempt. Returns the lock that its failure brings, or None: it must not be made."""
    key = digest(login)
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    session.execute(
        insert(throttle).values(key=key, failures=0, failed_at=now).on_conflict_do_nothing()
    )
    row = session.execute(
        select(throttle.c.failures, throttle.c.failed_at, throttle.c.locked_until)
        .where(throttle.c.key == key)
        .with_for_update()
    ).one()
    if row.locked_until is not None and now < row.locked_until:
        return None
    failures = 1 if now - row.failed_at >= FORGOTTEN_AFTER else row.failures + 1
    lock = lock_after(failures)
    session.execute(
        update(throttle)
        .where(throttle.c.key == key)
        .values(failures=failures, failed_at=now, locked_until=now + lock if lock else None)
    )
    return lock


def forget(session: Session, login: str) -> bool:
    """Start counting afresh: the password was right, or an operator unlocks."""
    forgotten = session.execute(
        delete(throttle).where(throttle.c.key == digest(login)).returning(throttle.c.key)
    )
    return forgotten.first() is not None


def remove_old(session: Session, now: datetime) -> int:
    """Delete counts that have no effect any more; returns how many. For a regular job."""
    removed = session.execute(
        delete(throttle)
        .where(throttle.c.failed_at <= now - FORGOTTEN_AFTER)
        .returning(throttle.c.key)
    )
    return len(removed.all())
