"""What an attacker with the database's own password can do: change what triggers protect."""

from sqlalchemy import Connection, text

from consent.models import LogTables, ledger


def drop_triggers(connection: Connection, tables: LogTables = ledger) -> None:
    """Make the tables of a log writable."""
    for table in tables.append_only:
        if connection.dialect.name == "sqlite":
            verbs = [f"{table.name}_refuses_{verb}" for verb in ("update", "delete")]
            statements = [f"DROP TRIGGER IF EXISTS {name}" for name in verbs]
        else:
            verbs = [f"{table.name}_refuses_{verb}" for verb in ("change", "update", "truncate")]
            statements = [f"DROP TRIGGER IF EXISTS {name} ON {table.name}" for name in verbs]
        for statement in statements:
            connection.execute(text(statement))
