"""The ground under every other test: real engines, a still clock, a browser of ours."""

import socket
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from pytest_socket import SocketConnectBlockedError
from sqlalchemy import create_engine, func, inspect, select, text

from consent.models import state
from governance.database import Database
from governance.migrations.runner import current, head
from tests.fakes.clock import START, FrozenClock
from tests.fakes.databases import Engine, PostgresServer, engines

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_database_is_empty_and_of_the_engine_asked_for(
    database_url: str, engine_name: Engine
) -> None:
    engine = create_engine(database_url)
    assert engine.dialect.name == engine_name
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_migrated_database_is_at_the_newest_schema_and_holds_nobody(migrated_url: str) -> None:
    database = Database.open(migrated_url)
    assert current(database) == head()
    with database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(state)) == 0
    database.dispose()


@pytest.mark.skipif("postgresql" not in engines(), reason="this run is on SQLite alone")
def test_postgresql_is_version_18(pg_server: PostgresServer) -> None:
    engine = create_engine(pg_server.url())
    with engine.connect() as connection:
        assert str(connection.scalar(text("SHOW server_version"))).startswith("18")
    engine.dispose()


def test_clock_moves_only_when_told() -> None:
    clock = FrozenClock()
    assert clock() == clock() == START
    assert clock.advance(timedelta(days=1)) == START + timedelta(days=1) == clock()
    with pytest.raises(ValueError, match="aware"):
        clock.set(datetime(2026, 1, 1))  # noqa: DTZ001 -- the naive time is the fault


def test_nothing_beyond_this_machine_is_reached() -> None:
    # 192.0.2.0/24 is reserved for documentation (RFC 5737).
    with socket.socket() as outside, pytest.raises(SocketConnectBlockedError):
        outside.connect(("192.0.2.1", 80))


def test_browser_renders(browser: "Browser") -> None:
    page = browser.new_page()
    page.set_content("<title>Tutela</title>")
    assert page.title() == "Tutela"
    page.close()
