"""Registers as rows of `consent_state`: read for many people at once, and written."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from consent import bulk
from consent.bulk import Rows, connection_of, select_by_keys
from consent.columns import UtcDateTime
from consent.models import state as state_table
from consent.registers import Key, Register
from consent.subjects import Reader, SubjectRef

COLUMNS: Final = tuple(column.name for column in state_table.columns)
"""The subject, the three parts of the key, and a register's fields in their order."""

_INSTANTS: Final = tuple(
    place
    for place, column in enumerate(state_table.columns)
    if isinstance(column.type, UtcDateTime)
)
_ALL: Final = f"SELECT {', '.join(COLUMNS)} FROM consent_state WHERE subject_ref {{keys}}"  # noqa: S608 - our own columns


def read_registers(
    reader: Reader, subjects: Sequence[SubjectRef]
) -> dict[tuple[SubjectRef, Key], Register]:
    """All registers of some people."""
    rows = select_by_keys(reader, _ALL, sorted(set(subjects)))
    return {(subject, key): register for subject, key, register in parsed(reader, rows)}


def read_bearing(
    reader: Reader, subjects: Sequence[SubjectRef], purposes: Sequence[str], channels: Sequence[str]
) -> dict[SubjectRef, list[tuple[Key, Register]]]:
    """Of some people, the registers of these purposes (signals by their name) and channels."""
    query = f"{_ALL} AND purpose IN ({_marks(purposes)}) AND channel IN ({_marks(channels)})"
    found: dict[SubjectRef, list[tuple[Key, Register]]] = {}
    rows = select_by_keys(reader, query, subjects, also=(*purposes, *channels))
    for subject, key, register in parsed(reader, rows):
        found.setdefault(subject, []).append((key, register))
    return found


def write_registers(
    session: Session, registers: Iterable[tuple[SubjectRef, Key, Register]]
) -> None:
    """Insert or replace registers; no key twice in one call."""
    bulk.write(session, [rows_of(registers)])


def rows_of(registers: Iterable[tuple[SubjectRef, Key, Register]]) -> Rows:
    """Registers as rows to insert or to replace; no key twice in one call."""
    rows = [
        (
            subject,
            *key,
            register.state,
            register.event_id,
            register.idx,
            register.occurred_at,
            register.first_granted_at,
            register.confirmed_at,
            register.ends_at,
            register.notice,
            register.notice_version,
            register.child_without_authority,
        )
        for subject, key, register in registers
    ]
    return Rows.of(state_table, rows, key=COLUMNS[:4])


def parsed(
    reader: Reader, rows: Iterable[Sequence[Any]]
) -> Iterator[tuple[SubjectRef, Key, Register]]:
    """What rows of all `COLUMNS` say, as the driver gave them."""
    textual = connection_of(reader).dialect.name == "sqlite"
    for row in rows:
        values: Sequence[Any] = _with_instants(row) if textual else row
        subject, purpose, channel, kind, *fields = values
        yield subject, (purpose, channel, kind), Register(*fields)


def _with_instants(row: Sequence[Any]) -> list[Any]:
    values = list(row)
    for place in _INSTANTS:
        if values[place] is not None:
            values[place] = datetime.fromisoformat(values[place])
    return values


def _marks(values: Sequence[str]) -> str:
    return ", ".join("{mark}" for _ in values)
