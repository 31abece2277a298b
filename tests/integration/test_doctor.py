"""`tutela doctor`: what is wrong with an installation is named, and nothing of it is changed."""

from pathlib import Path

import pytest

from admin_ui import doctor
from admin_ui.services import migrate
from admin_ui.settings import Settings
from governance.database import Database
from tests.fakes.databases import Engine


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "var", database_url=database_url)


def said(settings: Settings) -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in doctor.examine(settings)}


def test_a_folder_that_is_missing_is_named_and_not_made(settings: Settings) -> None:
    assert not said(settings)["data directory"].good
    assert not settings.data_dir.exists()


def test_tables_that_were_never_made_are_named(settings: Settings) -> None:
    settings.data_dir.mkdir()
    finding = said(settings)["database"]
    assert not finding.good
    assert "tutela migrate" in finding.says


def test_an_installation_in_order_is_called_so(settings: Settings, engine_name: Engine) -> None:
    migrate(settings)
    findings = said(settings)
    if engine_name == "postgresql":  # the tests' own server may not wait for the disk
        findings.pop("durability")
    assert all(finding.good for finding in findings.values())


@pytest.fixture
def careless(settings: Settings, engine_name: Engine) -> Settings:
    if engine_name != "postgresql":
        pytest.skip("SQLite is told to wait for the disk by each connection")
    migrate(settings)
    database = Database.open(settings.database, pool_size=1)
    with database.begin() as session:
        connection = session.connection()
        name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    database.dispose()
    return settings


def test_a_server_that_acknowledges_before_the_disk_has_it_is_named(careless: Settings) -> None:
    finding = said(careless)["durability"]
    assert not finding.good
    assert "synchronous_commit" in finding.says
