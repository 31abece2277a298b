import multiprocessing
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, func, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from consent.columns import Bytes, Ref, UtcDateTime
from governance.database import Database, utcnow
from governance.errors import DatabaseError, DatabaseUnavailableError

tables = MetaData()
note = Table(
    "note",
    tables,
    Column("id", Integer, primary_key=True),
    Column("ref", Ref),
    Column("at", UtcDateTime),
    Column("data", Bytes),
    Column("text", Text),
)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database.open(database_url)
    with database.begin() as session:
        tables.create_all(session.connection())
    yield database
    database.dispose()


def count(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(note)).scalar_one()


def add_notes(database: Database, *ids: int, text: str | None = None) -> None:
    with database.begin() as session:
        for number in ids:
            session.execute(insert(note).values(id=number, text=text))


# --- units of work -----------------------------------------------------------------------------


def test_a_unit_of_work_is_kept_whole_or_not_at_all(database: Database) -> None:
    add_notes(database, 1)
    with pytest.raises(IntegrityError):
        add_notes(database, 2, 1)
    assert count(database) == 1


def test_reading_connections_cannot_write(database: Database) -> None:
    with pytest.raises(DBAPIError), database.read() as connection:
        connection.execute(insert(note).values(id=1))
    with pytest.raises(DBAPIError), database.snapshot() as connection:
        connection.execute(insert(note).values(id=1))
    assert count(database) == 0
    with database.begin() as session:
        session.execute(insert(note).values(id=1))
    assert count(database) == 1


def test_a_read_sees_each_commit_and_a_snapshot_sees_none(database: Database) -> None:
    query = select(func.count()).select_from(note)
    with database.read() as connection, database.snapshot() as snapshot:
        assert connection.execute(query).scalar_one() == 0
        assert snapshot.execute(query).scalar_one() == 0
        with database.begin() as session:
            session.execute(insert(note).values(id=1))
        assert connection.execute(query).scalar_one() == 1
        assert snapshot.execute(query).scalar_one() == 0
    assert count(database) == 1


def test_concurrent_units_of_work_lose_no_update(database: Database) -> None:
    with database.begin() as session:
        session.execute(insert(note).values(id=1, text="0"))

    def add() -> None:
        for _ in range(20):
            with database.begin() as session:
                row = select(note.c.text).where(note.c.id == 1).with_for_update()
                value = int(session.execute(row).scalar_one()) + 1
                session.execute(note.update().where(note.c.id == 1).values(text=str(value)))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert connection.execute(select(note.c.text)).scalar_one() == "160"


def test_a_unit_of_work_inside_another_is_refused_rather_than_stuck(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'nested.db'}")
    with (
        pytest.raises(DatabaseError, match="pass its session on"),
        database.begin(),
        database.begin(),
    ):
        pass
    with database.begin():
        pass
    database.dispose()


def test_a_failed_read_does_not_spoil_the_next(database: Database) -> None:
    with pytest.raises(DBAPIError), database.read() as connection:
        connection.exec_driver_sql("SELECT * FROM missing")
    assert count(database) == 0


def test_a_forked_child_leaves_its_parents_connections_alone(database: Database) -> None:
    assert count(database) == 0
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with database.begin() as session:
                session.execute(insert(note).values(id=1))
            status = 0 if count(database) == 1 else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    with database.begin() as session:
        session.execute(insert(note).values(id=2))
    assert count(database) == 2


# --- privacy and durability --------------------------------------------------------------------


def test_errors_do_not_show_parameters(database: Database) -> None:
    with pytest.raises(IntegrityError) as caught:
        add_notes(database, 1, 1, text="alice@example.org")
    assert "alice" not in str(caught.value)


def test_sqlite_is_durable_and_overwrites_what_it_deletes(tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    database = Database.open(f"sqlite:///{file}")
    with database.read() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys")
        }
    database.dispose()
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "foreign_keys": 1,
    }
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


# --- opening -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://root@db/x", "nonsense"]
)
def test_urls_that_cannot_serve_are_refused_with_the_remedy(url: str) -> None:
    with pytest.raises(DatabaseError, match=r"sqlite:///"):
        Database.open(url)


def test_an_absent_server_is_named_without_the_password() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(
        DatabaseUnavailableError, match=r"does not answer at 127\.0\.0\.1"
    ) as caught:
        Database.open(f"postgresql://app:hunter2@127.0.0.1:{port}/tutela")
    assert "hunter2" not in str(caught.value)


def test_a_missing_folder_and_a_foreign_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailableError, match="does not exist"):
        Database.open(f"sqlite:///{tmp_path}/missing/x.db")
    (tmp_path / "text.db").write_text("not a database, but long enough to look like one" * 20)
    with pytest.raises(DatabaseUnavailableError, match="file is not a database"):
        Database.open(f"sqlite:///{tmp_path}/text.db")


def test_a_second_opening_does_not_drop_the_locks_of_the_first(tmp_path: Path) -> None:
    file = tmp_path / "shared.db"
    first = Database.open(f"sqlite:///{file}")
    with first.begin() as session:
        tables.create_all(session.connection())
    assert count(first) == 0
    Database.open(f"sqlite:///{file}").dispose()
    # Leaving WAL needs the file to oneself, which the first's connection must prevent.
    command = [sys.executable, "-c", _TRY_TO_LEAVE_WAL, str(file)]
    tried = subprocess.run(command, check=True, capture_output=True, text=True)
    assert tried.stdout.strip() == "database is locked"
    first.dispose()


_TRY_TO_LEAVE_WAL = """
import sqlite3, sys
try:
    print(sqlite3.connect(sys.argv[1], timeout=0).execute("PRAGMA journal_mode=DELETE").fetchone())
except sqlite3.OperationalError as error:
    print(error)
"""


def test_processes_that_make_a_file_at_once_all_get_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for number in range(3):
        start = context.Barrier(6)
        arguments = (f"sqlite:///{tmp_path / f'{number}.db'}", start)
        processes = [context.Process(target=open_and_close, args=arguments) for _ in range(6)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * 6


def open_and_close(url: str, start: Any) -> None:
    start.wait()
    Database.open(url).dispose()


# --- columns -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "instant",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
        datetime(2026, 7, 1, 12, 0, tzinfo=timezone(timedelta(hours=5, minutes=45))),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
)
def test_an_instant_survives_to_the_microsecond_and_comes_back_in_utc(
    database: Database, instant: datetime
) -> None:
    with database.begin() as session:
        session.execute(insert(note).values(id=1, at=instant))
    with database.read() as connection:
        stored = connection.execute(select(note.c.at).where(note.c.at == instant)).scalar_one()
    assert stored == instant
    assert stored.tzinfo is UTC


@pytest.mark.parametrize(
    "instant",
    [
        datetime(2026, 1, 1),  # noqa: DTZ001 - naive on purpose
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    ],
)
def test_naive_and_impossible_instants_are_refused(database: Database, instant: datetime) -> None:
    with pytest.raises(StatementError), database.begin() as session:
        session.execute(insert(note).values(id=1, at=instant))


def test_instants_refs_and_bytes_sort_and_compare_alike_on_both_engines(
    database: Database,
) -> None:
    start = datetime(999, 5, 1, tzinfo=UTC)
    refs = ["B", "a", "b", "á", "Z"]
    with database.begin() as session:
        for number, ref in enumerate(refs):
            session.execute(
                insert(note).values(
                    id=number,
                    ref=ref,
                    at=start + timedelta(days=365_250 * number, microseconds=number),
                    data=bytes([number, 0, 255]),
                )
            )
    with database.read() as connection:
        assert list(connection.scalars(select(note.c.ref).order_by(note.c.ref))) == sorted(refs)
        assert list(connection.scalars(select(note.c.id).order_by(note.c.at))) == [0, 1, 2, 3, 4]
        later = select(func.count()).where(note.c.at > start + timedelta(days=365_250))
        assert connection.execute(later).scalar_one() == 4
        data = connection.execute(select(note.c.data).where(note.c.data == b"\x02\x00\xff"))
        assert type(data.scalar_one()) is bytes


def test_null_stays_null(database: Database) -> None:
    with database.begin() as session:
        session.execute(insert(note).values(id=1, at=None, data=None, ref=None))
    with database.read() as connection:
        row = connection.execute(select(note.c.at, note.c.data, note.c.ref)).one()
    assert tuple(row) == (None, None, None)


def test_the_clock_of_production_is_aware() -> None:
    assert utcnow().tzinfo is UTC
