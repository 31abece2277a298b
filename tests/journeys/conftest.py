"""The console for journeys: over either engine for visitors, over SQLite for browsers."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.clock import FrozenClock
from tests.fakes.console import Console, open_console, seed, serving
from tests.fakes.outbound import HOST


@pytest.fixture
def console(migrated_url: str, tmp_path: Path, clock: FrozenClock) -> Iterator[Console]:
    """The console with Alice and Bob, once an engine."""
    with open_console(migrated_url, tmp_path, clock) as opened:
        seed(opened)
        yield opened


@pytest.fixture
def new_console(migrated_url: str, tmp_path: Path, clock: FrozenClock) -> Iterator[Console]:
    """The console of a service that nobody has set up, once an engine."""
    with open_console(migrated_url, tmp_path, clock) as opened:
        yield opened


@pytest.fixture(scope="module")
def shown(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Console, str]]:
    """The console as a browser sees it, and its address. One for all tests of a module."""
    folder = tmp_path_factory.mktemp("shown")
    path = folder / "shown.db"
    shutil.copyfile(sqlite_template, path)
    url, more = f"sqlite:///{path}", {"demo": True, "outbound_hosts": HOST}
    with open_console(url, folder, FrozenClock(), **more) as opened:
        seed(opened)
        with serving(opened) as address:
            yield opened, address
