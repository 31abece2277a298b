"""The engine, the metadata of governance's tables, and units of work.

Guarantees:
- `begin()` is one transaction; an acknowledged commit is durable (SQLite: WAL, synchronous=FULL).
- On SQLite a unit of work takes the write lock when it begins (BEGIN IMMEDIATE), so that it never
  fails half-way for want of it. Threads of one process queue for it in turn.
- `read()` and `snapshot()` cannot write: the database itself refuses.
- Deleted bytes are overwritten in SQLite files (`secure_delete`).
- Parameters of statements never appear in errors or logs (`hide_parameters`).
- A forked child shares no connection with its parent.

Non-goals: tables (each package declares its own), migrations (`governance.migrations`), retries.
"""

import fcntl
import os
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, cast

from sqlalchemy import (
    URL,
    Connection,
    CursorResult,
    Engine,
    MetaData,
    Table,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import Session

from governance.errors import DatabaseError, DatabaseUnavailableError

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""The tables of governance. No foreign key leaves this package."""

"""A row of columns that the type checker does not know."""

_BUSY_SECONDS: Final = 30
_BEGIN: Final = "tutela_begin"


def utcnow() -> datetime:
    """The present, aware, in UTC: the clock of production."""
    return datetime.now(UTC)


class Database:
    """One database of one process, shared by its threads. Made by `Database.open`."""

    def __init__(self, engine: Engine, reader: Engine) -> None:
        self.engine: Final = engine
        """For units of work. Do not connect to it directly: use `begin`."""
        self.dialect: Final[Literal["sqlite", "postgresql"]] = (
            "sqlite" if engine.dialect.name == "sqlite" else "postgresql"
        )
        self._reader = reader
        self._idle: deque[Connection] = deque()
        self._idle_at_once: deque[Connection] = deque()
        self._writing = threading.Lock()
        self._writer: int | None = None
        if self.dialect == "sqlite":
            self._snapshots = engine.execution_options(**{_BEGIN: "DEFERRED"})
            self._direct = engine.execution_options(**{_BEGIN: ""})
        else:
            self._direct = engine.execution_options(isolation_level="AUTOCOMMIT")
            self._snapshots = engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        _open_databases.add(self)

    @classmethod
    def open(cls, url: str, *, pool_size: int = 8) -> Self:
        """Connect to `sqlite:///path` or `postgresql://…`, and find out whether that works.

        Args:
            url: where the database is. A SQLite file is made, readable by its owner alone, when
                there is none; its folder must exist.
            pool_size: how many connections of each sort (writing, reading) this process keeps.
                As many again are opened while all of them are busy.

        Raises:
            DatabaseError: the URL is not one of the two forms, or names SQLite in memory.
            DatabaseUnavailableError: there is no server, database or folder at that address.
        """
        parsed = _parse(url)
        if parsed.get_backend_name() == "sqlite":
            database = cls(*_sqlite_engines(parsed, pool_size))
        else:
            database = cls(*_postgresql_engines(parsed, pool_size))
        try:
            with database.read():
                pass
        except DBAPIError as error:
            database.dispose()
            raise _unavailable(parsed, error) from error
        return database

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """One unit of work: commits at exit, rolls back on an error.

        Raises:
            DatabaseError: on SQLite, this thread is inside a unit of work already, or other
                threads held the database for 30 seconds.
        """
        if self.dialect == "postgresql":
            with Session(self.engine, autoflush=False, expire_on_commit=False) as session:
                yield session
                session.commit()
            return
        # SQLite polls for its write lock, with growing pauses; a lock of our own is handed over.
        with self._turn(), Session(self.engine, autoflush=False, expire_on_commit=False) as session:
            session.connection()
            yield session
            session.commit()

    def read(self) -> AbstractContextManager[Connection]:
        """A connection outside transactions: each statement sees what is committed when it starts.

        The cheapest way to ask one question: no BEGIN, no ROLLBACK, no pool in between. Consume
        every result before the next statement, so that none keeps an old snapshot alive.
        """
        return _Read(self._reader, self._idle)

    @contextmanager
    def at_once(self) -> Iterator[Connection]:
        """A connection on which each statement is a unit of work, durable when it returns.

        Raises:
            DatabaseError: as `begin`.
        """
        turn = self._turn() if self.dialect == "sqlite" else nullcontext()
        with turn, _Read(self._direct, self._idle_at_once) as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A read-only transaction: all its statements see the database at one instant."""
        with self._snapshots.connect() as connection:
            if self.dialect == "postgresql":
                yield connection
                return
            connection.exec_driver_sql("PRAGMA query_only=ON")
            try:
                yield connection
            finally:
                connection.exec_driver_sql("PRAGMA query_only=OFF")

    @contextmanager
    def exclusively(self, name: str) -> Iterator[bool]:
        """Whether this is the only context of that name, in all processes on this database.

        It ends with the context or with the process, however that ends, so that whoever comes
        after a crash need not wait. Whatever is written inside has to be safe without it: on
        PostgreSQL it ends with its connection too.
        """
        digest = sha256(name.encode()).digest()
        if self.dialect == "sqlite":
            with _file_lock(Path(f"{self.engine.url.database}.{digest[:8].hex()}.lock")) as alone:
                yield alone
            return
        key = {"key": int.from_bytes(digest[:8], "big", signed=True)}
        with self._direct.connect() as connection:
            alone = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), key).scalar_one()
            try:
                yield bool(alone)
            finally:
                if alone and not connection.invalidated:
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)

    def dispose(self) -> None:
        """Close all idle connections. The database may be used again afterwards."""
        for idle in (self._idle, self._idle_at_once):
            while idle:
                idle.popleft().close()
        self._reader.dispose()
        self.engine.dispose()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        me = threading.get_ident()
        if self._writer == me:
            raise DatabaseError("a unit of work is open in this thread; pass its session on")
        if not self._writing.acquire(timeout=_BUSY_SECONDS):
            raise DatabaseError(f"the database was busy for {_BUSY_SECONDS} seconds; try again")
        self._writer = me
        try:
            yield
        finally:
            self._writer = None
            self._writing.release()

    def _after_fork(self) -> None:
        idle = [*self._idle, *self._idle_at_once]
        _inherited.append((self.engine.pool, self._reader.pool, idle))
        self._idle.clear()
        self._idle_at_once.clear()
        self.engine.dispose(close=False)
        self._reader.dispose(close=False)
        self._writing = threading.Lock()
        self._writer = None


class _Read:
    """Takes an idle connection and gives it back. A class, as a generator costs more to enter."""

    __slots__ = ("_connection", "_idle", "_reader")

    def __init__(self, reader: Engine, idle: deque[Connection]) -> None:
        self._reader = reader
        self._idle = idle

    def __enter__(self) -> Connection:
        try:
            self._connection = self._idle.pop()
        except IndexError:
            self._connection = self._reader.connect()
        return self._connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._idle.append(self._connection)
            return
        # A result that is open still keeps SQLite's snapshot, and with it the next who reads, in
        # the past. And the connection may be broken, with those that idle: the pool finds out.
        if self._connection.dialect.name == "sqlite":
            self._connection.invalidate()
        self._connection.close()
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            while self._idle:
                self._idle.popleft().close()


@contextmanager
def _file_lock(path: Path) -> Iterator[bool]:
    """Whether the file could be locked. It is removed by whoever had the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            yield False
            return
        try:
            same = path.stat().st_ino == os.fstat(descriptor).st_ino
        except FileNotFoundError:
            same = False
        if same:
            break
        os.close(descriptor)  # the one before removed it between our two steps
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


# --- statements ---------------------------------------------------------------------------------


def insert_if_absent(session: Session, table: Table, **values: object) -> bool:
    """Insert a row unless one with the same key is there. True if it was inserted.

    Waits for a concurrent transaction that inserts the same key, until that ends.
    """
    dialect = session.get_bind().dialect.name
    insert = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    result = session.execute(insert.values(values).on_conflict_do_nothing())
    return cast("CursorResult[Any]", result).rowcount == 1


# --- engines -----------------------------------------------------------------------------------


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise DatabaseError("the database URL is malformed; write sqlite:///FILE") from error
    backend = parsed.get_backend_name()
    if backend in {"postgres", "postgresql"}:
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise DatabaseError(
            f"{backend} is not supported; use sqlite:///FILE or postgresql://HOST/NAME"
        )
    if not parsed.database or parsed.database == ":memory:" or "mode" in parsed.query:
        raise DatabaseError(
            "SQLite in memory cannot be shared by threads and is not durable; "
            "give a file, such as sqlite:///var/tutela.db"
        )
    return parsed.set(drivername="sqlite+pysqlite")


def _sqlite_engines(url: URL, pool_size: int) -> tuple[Engine, Engine]:
    file = Path(url.database or "")
    if not file.parent.is_dir():
        raise DatabaseUnavailableError(f"the folder {file.parent} does not exist; make it first")
    try:
        # The WAL and its index take over these permissions. Never opened where it exists: to
        # close it again would drop the locks that SQLite holds on it for this process.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise DatabaseUnavailableError(f"{file} cannot be written: {error.strerror}") from error

    def configure(connection: sqlite3.Connection, _: object) -> None:
        # Python's sqlite3 must leave transactions alone: `begin` below starts them.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout={_BUSY_SECONDS * 1000}").close()
        _use_wal(connection)
        # Without recursive triggers, INSERT OR REPLACE would delete from append-only tables unseen.
        for pragma in (
            "synchronous=FULL",
            "secure_delete=ON",
            "foreign_keys=ON",
            "recursive_triggers=ON",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    def read_only(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA query_only=ON").close()

    def begin(connection: Connection) -> None:
        if mode := connection.get_execution_options().get(_BEGIN, "IMMEDIATE"):
            connection.exec_driver_sql(f"BEGIN {mode}")

    engine = _engine(url, pool_size)
    reader = _engine(url, pool_size, pool_reset_on_return=None)
    event.listen(engine, "connect", configure)
    event.listen(engine, "begin", begin)
    event.listen(reader, "connect", configure)
    event.listen(reader, "connect", read_only)
    return engine, reader


def _use_wal(connection: sqlite3.Connection) -> None:
    """Once a file: the mode is kept in it. SQLite does not wait for this lock, so we do."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _postgresql_engines(url: URL, pool_size: int) -> tuple[Engine, Engine]:
    # The third time that a connection sends a statement, the server keeps its plan.
    arguments = {"prepare_threshold": 2, "connect_timeout": 10}

    def configure(setting: str) -> Any:
        def run(connection: Any, _: object) -> None:
            before = connection.autocommit
            connection.autocommit = True
            connection.execute(setting)
            connection.autocommit = before

        return run

    utc = "SET TIME ZONE 'UTC'"
    engine = _engine(url, pool_size, connect_args=arguments)
    reader = _engine(
        url,
        pool_size,
        connect_args=arguments,
        isolation_level="AUTOCOMMIT",
        pool_reset_on_return=None,
        skip_autocommit_rollback=True,
    )
    event.listen(engine, "connect", configure(utc))
    event.listen(reader, "connect", configure(f"{utc}; SET default_transaction_read_only = on"))
    return engine, reader


def _engine(url: URL, pool_size: int, **options: Any) -> Engine:
    return create_engine(
        url, pool_size=pool_size, max_overflow=pool_size, hide_parameters=True, **options
    )


def _unavailable(url: URL, error: DBAPIError) -> DatabaseUnavailableError:
    if url.get_backend_name() == "sqlite":
        return DatabaseUnavailableError(
            f"{url.database} cannot be used as a SQLite database: {error.orig}"
        )
    where = f"{url.host or url.query.get('host', 'localhost')}, database {url.database}"
    return DatabaseUnavailableError(
        f"PostgreSQL does not answer at {where}; is it running, and are name and password right?"
    )


# --- fork --------------------------------------------------------------------------------------

_open_databases: weakref.WeakSet[Database] = weakref.WeakSet()
# What a child inherits is kept, unused, until it ends: to close it would end the parent's session.
_inherited: list[object] = []


def _forget_inherited_connections() -> None:
    for database in list(_open_databases):
        database._after_fork()  # noqa: SLF001 - this module's own class


os.register_at_fork(after_in_child=_forget_inherited_connections)
