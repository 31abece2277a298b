"""Keys over a real database: a prepared keyring, and what uses it."""

from dataclasses import dataclass, field
from pathlib import Path

from consent.models import ledger, subject_change
from consent.models import metadata as consent_metadata
from governance.database import Database, metadata
from governance.keys.evidence import PersonCipher
from governance.keys.keyring import Keyring
from governance.keys.models import data_key, index_key, key_epoch, link_key, signing_key
from governance.keys.providers import LocalKeyring
from governance.vault.identify import Directory
from governance.vault.models import vault_identifier, vault_person
from tests.fakes.clock import FrozenClock

FOLLOWED = [ledger.head, subject_change]
"""Where it is told that somebody's identifiers changed."""
TABLES = [key_epoch, data_key, index_key, link_key, signing_key, vault_person, vault_identifier]


class CountingProvider(LocalKeyring):
    """A local keyring that counts how often it is asked to unwrap."""

    unwrapped = 0

    def unwrap(self, key_ref: str, wrapped: bytes, context: bytes) -> bytes:
        self.unwrapped += 1
        return super().unwrap(key_ref, wrapped, context)


@dataclass
class Ticker:
    """Seconds that only grow, when the test says so."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class KeyKit:
    """One process's keys. A second kit on the same URL and folder is a second process."""

    url: str
    folder: Path
    clock: FrozenClock = field(default_factory=FrozenClock)
    monotonic: Ticker = field(default_factory=Ticker)
    cache_size: int = 10_000

    def __post_init__(self) -> None:
        self.database = Database.open(self.url)
        with self.database.begin() as session:
            metadata.create_all(session.connection(), tables=TABLES)
            consent_metadata.create_all(session.connection(), tables=FOLLOWED)
        self.provider = CountingProvider(self.folder)
        self.keyring = Keyring(self.provider, monotonic=self.monotonic, cache_size=self.cache_size)
        self.keyring.prepare(self.database, self.clock())
        self.directory = Directory(self.keyring)
        self.cipher = PersonCipher(self.keyring)

    def count(self, table: str) -> int:
        """How many rows a table has."""
        with self.database.read() as connection:
            return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())

    def close(self) -> None:
        """Give the connections back."""
        self.database.dispose()
