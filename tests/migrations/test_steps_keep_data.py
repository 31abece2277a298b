"""What an older program wrote is there, and opens, after every later step."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData

from consent.subjects import email
from governance.database import Database
from governance.keys.evidence import PersonCipher
from governance.keys.keyring import Keyring
from governance.keys.providers import LocalKeyring
from governance.keys.signer import open_signer
from governance.migrations import runner
from governance.vault.identify import Directory
from tests.fakes.clock import FrozenClock

ALICE = email("alice@example.org")


def upgrade_to(database: Database, revision: str) -> None:
    with database.begin() as session:
        config = Config(attributes={"connection": session.connection(), "metadata": MetaData()})
        config.set_main_option("script_location", str(runner.FOLDER))
        command.upgrade(config, revision)


def test_people_keys_and_evidence_survive_every_step(
    database_url: str, tmp_path: Path, clock: FrozenClock
) -> None:
    database = Database.open(database_url)
    provider = LocalKeyring(tmp_path / "keys")
    upgrade_to(database, "0001")
    older = Keyring(provider)
    older.prepare(database, clock())
    signer = open_signer(database, provider, "example.org/log", clock())
    with database.begin() as session:
        (alice,) = Directory(older).ensure(session, [ALICE], clock())
        item = (alice, "event", b"evidence")
        (sealed,) = PersonCipher(older).seal(session, [item], clock())

    assert runner.upgrade(database) == "0001"
    newer = Keyring(provider)
    newer.prepare(database, clock())
    with database.read() as connection:
        assert Directory(newer).find(connection, [ALICE]) == [alice]
        assert Directory(newer).identifiers_of(connection, [alice]) == {alice: [ALICE]}
        assert PersonCipher(newer).open(connection, [(alice, "event", sealed)]) == [b"evidence"]
    again = open_signer(database, provider, "example.org/log", clock())
    assert again.public_key == signer.public_key
    database.dispose()
