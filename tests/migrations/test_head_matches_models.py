"""A migrated database has exactly what the models say, and refuses what no model can say."""

import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, text
from sqlalchemy.exc import DBAPIError

import consent
import governance
from consent.models import metadata as consent_tables
from governance.database import Database
from governance.database import metadata as governance_tables
from governance.errors import SchemaError
from governance.migrations import runner
from governance.migrations.runner import current, head, upgrade

for package in (consent, governance):
    for module in walk_packages(package.__path__, f"{package.__name__}."):
        if module.name.rpartition(".")[2] == "models":
            import_module(module.name)

APPEND_ONLY = sorted(
    name
    for name in (*consent_tables.tables, *governance_tables.tables)
    if name.endswith(("_entry", "_tile"))
)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database.open(database_url)
    yield database
    database.dispose()


def structure(database: Database) -> set[tuple[str, ...]]:
    """What tables, columns, constraints and indexes there are, as the engine itself tells it."""
    queries = (
        ["SELECT type, name, sql FROM sqlite_master WHERE type <> 'trigger'"]
        if database.dialect == "sqlite"
        else [_COLUMNS, _CONSTRAINTS, _INDEXES]
    )
    with database.read() as connection:
        rows = [row for query in queries for row in connection.execute(text(query))]
    found = {tuple(" ".join(str(part).split()) for part in row) for row in rows}
    return {row for row in found if "alembic_version" not in " ".join(row)}


_COLUMNS = """
    SELECT table_name, ordinal_position, column_name, data_type, is_nullable, column_default,
        collation_name
    FROM information_schema.columns WHERE table_schema = 'public'
"""
_CONSTRAINTS = """
    SELECT conrelid::regclass, conname, contype, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
"""
_INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"


def create(database: Database, *all_metadata: MetaData) -> None:
    with database.begin() as session:
        for metadata in all_metadata:
            metadata.create_all(session.connection())


def drop(database: Database, *all_metadata: MetaData) -> None:
    with database.begin() as session:
        for metadata in all_metadata:
            metadata.drop_all(session.connection())


def test_the_head_is_what_the_models_say(database: Database) -> None:
    create(database, consent_tables, governance_tables)
    modelled = structure(database)
    drop(database, consent_tables, governance_tables)
    assert structure(database) == set()
    upgrade(database)
    assert structure(database) == modelled


def test_every_package_has_its_tables_under_watch() -> None:
    names = {*consent_tables.tables, *governance_tables.tables}
    assert names >= {"consent_event", "ledger_entry", "audit_entry", "data_key", "job_run"}
    assert len(names) == len(consent_tables.tables) + len(governance_tables.tables)
    unnamed = [
        f"{table.name}: {constraint!r}"
        for metadata in (consent_tables, governance_tables)
        for table in metadata.tables.values()
        for constraint in table.constraints
        if constraint.name is None
    ]
    assert unnamed == []


def test_the_steps_are_one_line_and_the_head_is_its_end() -> None:
    script = ScriptDirectory(str(runner.FOLDER))
    steps = list(script.walk_revisions())
    assert script.get_heads() == [head()]
    assert [step.revision for step in steps] == [
        f"{number:04}" for number in range(len(steps), 0, -1)
    ]
    assert {Path(step.path).name[1:5] for step in steps} == {step.revision for step in steps}


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_what_is_appended_cannot_be_changed_or_removed(database: Database, table: str) -> None:
    upgrade(database)
    if table.endswith("_entry"):
        first, row = "idx", "(idx, id, leaf, leaf_hash) VALUES (0, 'a', 'x', 'y')"
    else:
        first, row = "level", "(level, n, data) VALUES (0, 0, 'x')"
    with database.begin() as session:
        session.execute(text(f"INSERT INTO {table} {row}"))
    changes = [f"UPDATE {table} SET {first} = 1", f"DELETE FROM {table}"]
    if database.dialect == "postgresql":
        changes.append(f"TRUNCATE {table}")
    for change in changes:
        with pytest.raises(DBAPIError, match="append-only"), database.begin() as session:
            session.execute(text(change))
    with database.read() as connection:
        assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 1


def test_append_only_covers_both_logs() -> None:
    assert APPEND_ONLY == ["audit_entry", "audit_tile", "ledger_entry", "ledger_tile"]


def test_processes_that_start_at_once_take_each_step_once(database: Database) -> None:
    start = threading.Barrier(4)
    before: list[str | None] = []

    def begin() -> None:
        mine = Database.open(database.engine.url.render_as_string(hide_password=False))
        start.wait()
        before.append(upgrade(mine))
        mine.dispose()

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(before) == 4
    assert current(database) == head()


def test_an_up_to_date_database_is_recognised_without_loading_alembic(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert current(database) is None
    assert upgrade(database) is None
    # None in its place makes any import of it an error.
    monkeypatch.setitem(sys.modules, "alembic", None)
    assert upgrade(database) == head()


def test_a_database_of_a_newer_program_is_left_alone(database: Database) -> None:
    upgrade(database)
    with database.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="newer version"):
        upgrade(database)
    assert current(database) == "9999"


def test_a_step_that_fails_leaves_nothing_behind(database: Database) -> None:
    with database.begin() as session:
        session.execute(text("CREATE TABLE vault_person (ref text)"))
    with pytest.raises(DBAPIError):
        upgrade(database)
    assert current(database) is None
    assert {row[0] for row in structure(database)} <= {"vault_person", "table"}
