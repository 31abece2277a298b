"""Bringing a database to the form that this program was made for.

Guarantees: all missing steps happen in one transaction, or none does; of several processes that
start at once one does them and the others wait; a database of a newer program is left alone. An
up-to-date database is recognised by one look-up, without loading Alembic.

Non-goals: going back. Restore a backup instead: a step back cannot invent what a step removed.
"""

from functools import cache
from pathlib import Path
from typing import Final

from sqlalchemy import MetaData, inspect, text
from sqlalchemy.exc import DBAPIError

from governance.database import Database
from governance.errors import SchemaError

FOLDER: Final = Path(__file__).parent
_LOCK: Final = 0x7475_7465_6C61
"""The key of PostgreSQL's advisory lock on the form of the tables: "tutela" in ASCII."""


@cache
def head() -> str:
    """The revision that this program was made for: the highest number of a step."""
    return max(file.name[1:5] for file in (FOLDER / "versions").glob("v[0-9]*_*.py"))


def current(database: Database) -> str | None:
    """The revision that a database is at; None before the first step."""
    with database.read() as connection:
        try:
            found = connection.execute(text("SELECT version_num FROM alembic_version"))
        except DBAPIError:
            if inspect(connection).has_table("alembic_version"):
                raise
            return None
        revision: str | None = found.scalar_one_or_none()
        return revision


def upgrade(database: Database) -> str | None:
    """Take all steps that are missing.

    Returns:
        The revision that the database was at before, or None if it was new.

    Raises:
        SchemaError: the database is at a revision that this program does not know.
    """
    before = current(database)
    if before == head():
        return before
    if before is not None and before > head():
        raise SchemaError(
            f"the database is at revision {before}, made by a newer version of this program, "
            f"which knows {head()}; install that version, or restore an older backup"
        )
    # Half a second to load, and needed on the day of an update alone.
    from alembic import command
    from alembic.config import Config

    with database.begin() as session:
        connection = session.connection()
        if database.dialect == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        config = Config(attributes={"connection": connection, "metadata": MetaData()})
        config.set_main_option("script_location", str(FOLDER))
        command.upgrade(config, "head")
    return before
