"""Many rows, or many keys, in one round trip on either engine.

On PostgreSQL a column of values travels as the text of one array, which the driver does not have
to walk; on SQLite rows go by `executemany` and keys by IN lists of few lengths. Statements are
built once. Values pass the columns' own processors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Self, cast

from sqlalchemy import Column, Connection, Dialect, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from consent.subjects import Reader

_IN_SIZES: Final = (1, 8, 64, 512)


def run(connection: Connection, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of one statement (none, if it has none) as the driver gives them.

    Half the price of going through SQLAlchemy, for statements that need nothing else of it.

    Raises:
        sqlalchemy.exc.DBAPIError: the database refused, or did not answer.
    """
    pooled, driver = connection.connection, connection.dialect.loaded_dbapi
    cursor = pooled.cursor()
    try:
        cursor.execute(sql, parameters)
        return cast("list[tuple[Any, ...]]", cursor.fetchall()) if cursor.description else []
    except driver.Error as error:
        lost = connection.dialect.is_disconnect(error, pooled.driver_connection, None)
        if lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            sql, None, error, driver.Error, hide_parameters=True, connection_invalidated=lost
        ) from error
    finally:
        cursor.close()


def connection_of(reader: Reader) -> Connection:
    """The connection itself, or that of a session's transaction."""
    return reader if isinstance(reader, Connection) else reader.connection()


# --- writing -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows for one table, column by column in its order: all columns of one length.

    With `key`, a row replaces every other column of the row that has the same key; no two rows of
    one write may then share it.
    """

    table: Table
    columns: Sequence[Sequence[Any]]
    key: tuple[str, ...] = ()

    @classmethod
    def of(cls, table: Table, rows: Sequence[tuple[Any, ...]], key: tuple[str, ...] = ()) -> Self:
        """Rows that are given one by one."""
        return cls(table, list(zip(*rows, strict=True)), key)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.columns[0]) if self.columns else 0


def insert(session: Session, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows whose values stand in the table's column order.

    Raises:
        sqlalchemy.exc.IntegrityError: a row breaks a constraint; nothing of the call is kept.
    """
    write(session, [Rows.of(table, rows)])


def upsert(
    session: Session, table: Table, rows: Sequence[tuple[Any, ...]], key: tuple[str, ...]
) -> None:
    """Insert rows, or replace every other column of the row that has the same `key`."""
    write(session, [Rows.of(table, rows, key)])


def write(
    session: Session, writes: Sequence[Rows], then: str = "", values: tuple[Any, ...] = ()
) -> list[tuple[Any, ...]]:
    """Write into several tables, then run a statement: on PostgreSQL all in one round trip.

    The parts must not depend on each other: none sees what another wrote.

    Args:
        session: the unit of work.
        writes: rows by table; each table once.
        then: an UPDATE … RETURNING with a `{mark}` for each of its values.
        values: those values, as the driver takes them.

    Returns:
        The rows that `then` returned.

    Raises:
        sqlalchemy.exc.IntegrityError: a row breaks a constraint; nothing of the call is kept.
    """
    connection = session.connection()
    dialect = connection.dialect
    parts = [(_statement(one.table, one.key, dialect), one) for one in writes if one.count]
    if dialect.name == "postgresql":
        forms = tuple(part.one if rows.count == 1 else part.many for part, rows in parts)
        parameters = [value for part, rows in parts for value in _packed(part, rows)]
        sql = _together(forms, then)
        if not sql:
            return []
        return run(connection, sql, (*parameters, *values))
    for part, rows in parts:
        by_row = list(zip(*_processed(part, rows), strict=True))
        connection.exec_driver_sql(part.one, by_row)
    if not then:
        return []
    return run(connection, then.format(mark="?"), values)


@dataclass(frozen=True, slots=True)
class _Statement:
    one: str
    """Of one row, a parameter a column."""
    many: str
    """Of many rows: on PostgreSQL an array a column, on SQLite the same as `one`."""
    processors: tuple[Callable[[Any], Any] | None, ...]


def _processed(statement: _Statement, rows: Rows) -> list[Sequence[Any]]:
    return [
        column if process is None else [process(value) for value in column]
        for column, process in zip(rows.columns, statement.processors, strict=True)
    ]


def _packed(statement: _Statement, rows: Rows) -> list[Any]:
    columns = _processed(statement, rows)
    return [column[0] if rows.count == 1 else array_literal(column) for column in columns]


@lru_cache(maxsize=256)
def _together(forms: tuple[str, ...], then: str) -> str:
    """One statement that does all of it: the last part, with the others before it as CTEs."""
    *first, last = (*forms, then.format(mark="%s")) if then else forms or ("",)
    if not first:
        return last
    return f"WITH {', '.join(f'w{n} AS ({one})' for n, one in enumerate(first))} {last}"


@lru_cache(maxsize=64)
def _statement(table: Table, key: tuple[str, ...], dialect: Dialect) -> _Statement:
    columns = list(table.columns)
    names = ", ".join(column.name for column in columns)
    into = f"INSERT INTO {table.name} ({names})"
    conflict = ""
    if key:
        others = [column.name for column in columns if column.name not in key]
        changes = ", ".join(f"{name} = excluded.{name}" for name in others)
        conflict = f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
    arrays = dialect.name == "postgresql"
    one = f"{into} VALUES ({', '.join('%s' if arrays else '?' for _ in columns)}){conflict}"
    unnested = ", ".join(f"%s::{_sql_type(column, dialect)}[]" for column in columns)
    many = f"{into} SELECT * FROM unnest({unnested}){conflict}"  # noqa: S608 - our own columns
    processors = tuple(
        column.type.dialect_impl(dialect).bind_processor(dialect) for column in columns
    )
    return _Statement(one, many if arrays else one, processors)


def _sql_type(column: Column[Any], dialect: Dialect) -> str:
    return column.type.compile(dialect).partition(" COLLATE")[0]


# --- reading -----------------------------------------------------------------------------------


def select_by_keys(
    reader: Reader,
    query: str,
    keys: Sequence[bytes] | Sequence[str],
    also: tuple[str, ...] = (),
) -> list[tuple[Any, ...]]:
    """The rows of a query for any number of keys, at a few microseconds a key.

    Args:
        reader: a connection or a session.
        query: SQL in which `{keys}` follows the column that is compared, such as
            `SELECT subject_ref FROM vault_identifier WHERE blind_index {keys}`. Values come as
            the driver has them, without the columns' processors.
        keys: all bytes or all text. Rows come in no particular order.
        also: values for each `{mark}` that follows the keys in the query.
    """
    if not keys:
        return []
    connection = connection_of(reader)
    if connection.dialect.name == "postgresql":
        kind = "bytea" if isinstance(keys[0], bytes) else "text"
        if len(keys) == 1:
            # The server keeps the plan of this one; an array's it would make anew each time.
            sql, parameter = query.format(keys=f"= %s::{kind}", mark="%s"), keys[0]
        else:
            sql = query.format(keys=f"= ANY(%s::{kind}[])", mark="%s")
            parameter = array_literal(keys)
        return run(connection, sql, (parameter, *also))
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(keys), _IN_SIZES[-1]):
        chunk = tuple(keys[start : start + _IN_SIZES[-1]])
        # Few lengths, so that SQLite finds its prepared statements again.
        size = next(size for size in _IN_SIZES if size >= len(chunk))
        sql = query.format(keys=f"IN ({', '.join('?' * size)})", mark="?")
        padded = chunk + chunk[-1:] * (size - len(chunk))
        rows.extend(run(connection, sql, (*padded, *also)))
    return rows


def array_literal(values: Sequence[Any]) -> str:
    """A PostgreSQL array of bytes, text, numbers, truths or instants, as text."""
    if values and all(type(value) is bytes for value in values):
        return '{"\\\\x' + '","\\\\x'.join([value.hex() for value in values]) + '"}'
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, bytes):
        return f'"\\\\x{value.hex()}"'
    if isinstance(value, datetime):
        return f'"{value.isoformat()}"'
    return str(value)
