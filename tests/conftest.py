"""What tests share: databases on both engines, a clock, a browser, and the rules of a run.

A test that takes `database_url` (or `engine_name`) runs once an engine; `TUTELA_TEST_DATABASE`
chooses among them. Each test process has its own PostgreSQL server, each test its own database.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.fakes.clock import FrozenClock
from tests.fakes.databases import (
    Engine,
    PostgresServer,
    engines,
    fresh_database,
    migrate,
    postgres_server,
)
from tools import browser as chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from admin_ui.services import Services
    from tests.fakes.core import Core
    from tests.fakes.services import Api

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

# No deadlines: two cores shared by test processes and servers make a single slow example likely.
settings.register_profile("default", deadline=None, max_examples=60)
settings.register_profile("ci", parent=settings.get_profile("default"), print_blob=True)
settings.register_profile(
    "soak",
    parent=settings.get_profile("ci"),
    max_examples=5_000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci" if os.environ.get("CI") else "default")

NO_BROWSER = "NO CHROMIUM OR CHROME ON THIS MACHINE"


# --- databases ---------------------------------------------------------------------------------


@pytest.fixture(params=engines())
def engine_name(request: pytest.FixtureRequest) -> Engine:
    """The engine this run of the test is on."""
    engine: Engine = request.param
    return engine


@pytest.fixture(scope="session")
def pg_server() -> Iterator[PostgresServer]:
    """The PostgreSQL server of this test process, started when first asked for."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def database_url(
    engine_name: Engine, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The URL of an empty database, `sqlite:///…` or `postgresql://…`."""

    def server() -> PostgresServer:
        started: PostgresServer = request.getfixturevalue("pg_server")
        return started

    with fresh_database(engine_name, tmp_path, server) as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database, made once a process, to be copied."""
    path = tmp_path_factory.mktemp("template") / "migrated.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(pg_server: PostgresServer) -> Iterator[str]:
    """The name of a migrated PostgreSQL database, made once a process, to be copied."""
    with pg_server.database() as url:
        migrate(url)
        yield pg_server.name_of(url)


@pytest.fixture
def migrated_url(
    engine_name: Engine, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The URL of a database with all tables and no rows."""
    with migrated_database(engine_name, tmp_path, request) as url:
        yield url


@contextmanager
def migrated_database(
    engine: Engine, folder: Path, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The URL of a copy of a migrated database, so that nothing is migrated."""
    if engine == "sqlite":
        path = folder / "migrated.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server: PostgresServer = request.getfixturevalue("pg_server")
    with server.database(template=request.getfixturevalue("postgres_template")) as url:
        yield url


# --- time, files -------------------------------------------------------------------------------


@pytest.fixture
def clock() -> FrozenClock:
    """A clock that stands still until the test moves it."""
    return FrozenClock()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data and vectors beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"reference data is not beside this checkout ({SHARED})")
    return SHARED


# --- browser -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """A headless Chromium; the test that takes it is marked `browser`."""
    from playwright.sync_api import sync_playwright

    arguments = [
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        # A test browser looks up nothing but our pages.
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=os.environ["TUTELA_TEST_BROWSER"], args=arguments
        )
        yield launched
        launched.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a browser, skip the tests that need one, or fail where that is not allowed."""
    wanting = [item for item in items if "browser" in getattr(item, "fixturenames", ())]
    for item in wanting:
        item.add_marker(pytest.mark.browser)
    if not wanting:
        return
    if path := chromium.find():
        os.environ["TUTELA_TEST_BROWSER"] = str(path)
        return
    if os.environ.get("TUTELA_TEST_REQUIRE_BROWSER") == "1":
        raise pytest.UsageError("TUTELA_TEST_REQUIRE_BROWSER=1, and there is no Chromium or Chrome")
    for item in wanting:
        item.add_marker(pytest.mark.skip(reason=NO_BROWSER))


# --- rules of a run ----------------------------------------------------------------------------


class RunRules:
    """A run that executed nothing has not passed; one without a browser says so at its very end."""

    def __init__(self) -> None:
        self.executed = 0
        self.without_browser = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count the tests whose body ran, and those that wanted a browser."""
        if report.skipped:
            self.without_browser += NO_BROWSER in str(report.longrepr)
        elif report.when == "call":
            self.executed += 1

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Turn success without a test into pytest's own "no tests" failure."""
        nothing_ran = exitstatus == pytest.ExitCode.OK and not self.executed
        if nothing_ran and not session.config.option.collectonly:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Say as the very last thing what a green run has left out."""
        if self.without_browser:
            config.get_terminal_writer().line(
                f"*** {NO_BROWSER}: {self.without_browser} TESTS OF THE PAGES WERE SKIPPED ***",
                red=True,
                bold=True,
            )


def pytest_configure(config: pytest.Config) -> None:
    """Only the process that prints the result judges it; xdist's workers report to it."""
    # Unconfigured, a logged exception is drawn with all its variables, which takes seconds.
    structlog.configure(processors=[structlog.processors.JSONRenderer(default=repr)])
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(RunRules())


# --- the service -------------------------------------------------------------------------------


@pytest.fixture
def core(database_url: str, tmp_path: Path, clock: FrozenClock) -> Iterator["Core"]:
    """The heart of the service on an empty database: ledger, people, choices, checks."""
    from tests.fakes.core import open_core

    with open_core(database_url, tmp_path, clock) as opened:
        yield opened


@pytest.fixture
def services(migrated_url: str, tmp_path: Path, clock: FrozenClock) -> Iterator["Services"]:
    """All services of a process, over a database of the test's own."""
    from tests.fakes.services import open_services

    with open_services(migrated_url, tmp_path, clock) as opened:
        yield opened


@pytest.fixture
def api(services: "Services") -> "Api":
    """The API of a service of the test's own."""
    from tests.fakes.services import Api

    return Api.of(services)


@pytest.fixture(scope="module", params=engines())
def shared_api(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["Api"]:
    """One service for all tests of a module: each brings people of its own and leaves the clock."""
    from tests.fakes.services import Api, open_services

    folder = tmp_path_factory.mktemp("shared")
    with (
        migrated_database(request.param, folder, request) as url,
        open_services(url, folder, FrozenClock()) as opened,
    ):
        yield Api.of(opened)
