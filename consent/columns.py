"""Column types that mean the same on SQLite and on PostgreSQL.

Guarantees: references sort by byte on both engines; a time goes in aware and comes out as the
same instant in UTC, from year 1 to 9999 and to the microsecond; bytes come out as `bytes`.

Non-goals: local times (keep a zone's name beside the instant), text in a language's order.

The types override the processors themselves: a plain `TypeDecorator` adds a Python call to every
value read, also where the driver already returns the right thing.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias

from sqlalchemy import Dialect, LargeBinary, Text
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.types import TypeDecorator, TypeEngine

_Bind: TypeAlias = Callable[[Any], Any] | None


class Ref(TypeDecorator[str]):
    """Text that programs compare and people do not read: references, ids, names of states.

    In the C collation on PostgreSQL, so that order and indexes do not depend on a locale.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        """Text of the engine, in byte order."""
        return Text(collation="C") if dialect.name == "postgresql" else Text()


class UtcDateTime(TypeDecorator[datetime]):
    """An instant.

    `timestamptz` on PostgreSQL; on SQLite text of fixed width (`2026-03-01T09:30:00.000000Z`),
    which sorts as the instants do and which people can read.

    Raises (as `sqlalchemy.exc.StatementError`, when a statement is run):
        ValueError: the datetime is naive, or lies outside the years 1 to 9999 in UTC.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The engine's own type for instants, or text where it has none."""
        return TIMESTAMP(timezone=True) if dialect.name == "postgresql" else Text()

    def bind_processor(self, dialect: Dialect) -> _Bind:
        """Refuses naive datetimes."""
        return _in_utc if dialect.name == "postgresql" else _to_text

    def result_processor(self, dialect: Dialect, coltype: object) -> _Bind:  # noqa: ARG002 - signature of the base class
        """Gives aware datetimes in UTC."""
        return _read_in_utc if dialect.name == "postgresql" else _from_text


class Bytes(TypeDecorator[bytes]):
    """Bytes in, `bytes` out: no memoryview, no copy."""

    impl = LargeBinary
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> _Bind:  # noqa: ARG002 - signature of the base class
        """Nothing: both drivers take `bytes`."""
        return None

    def result_processor(self, dialect: Dialect, coltype: object) -> _Bind:  # noqa: ARG002 - signature of the base class
        """Nothing: both drivers return `bytes`."""
        return None


def _in_utc(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    if value.utcoffset() is None:
        raise ValueError("a datetime without a time zone cannot be stored; make it aware")
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the datetime lies outside the years 1 to 9999 in UTC") from error


def _to_text(value: datetime | None) -> str | None:
    instant = _in_utc(value)
    return None if instant is None else f"{instant.isoformat(timespec='microseconds')[:-6]}Z"


def _read_in_utc(value: datetime | None) -> datetime | None:
    # The driver uses the connection's zone, which a foreign engine may have set to another.
    return None if value is None else value.astimezone(UTC)


def _from_text(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
