"""The services of access over a real database, with a still clock and cheap password hashes."""

from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

from consent.ledger.log import MerkleLog
from governance.access.accounts import Account, Accounts
from governance.access.api_keys import ApiKeys
from governance.access.passwords import Passwords
from governance.access.sessions import Sessions
from governance.access.settings import AccessSettings, PasswordProfile
from governance.access.setup import Setup
from governance.audit.models import audit_log
from governance.audit.trail import CLI, AuditRecord, Trail
from governance.database import Database, metadata
from policies.permissions import Role
from tests.fakes.clock import FrozenClock

PASSWORD = "plum-orbit-candle-9"


class AtOnce(Executor):
    """Runs what it is given before it answers."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call now."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@dataclass
class Ticker:
    """Seconds that only grow, when the test says so."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class AccessKit:
    """One process's services. A second kit on the same URL is a second process."""

    database: Database
    clock: FrozenClock
    settings: AccessSettings = field(
        default_factory=lambda: AccessSettings(passwords=PasswordProfile.FAST)
    )
    monotonic: Ticker = field(default_factory=Ticker)

    def __post_init__(self) -> None:
        self.trail = Trail(MerkleLog(audit_log))
        self.passwords = Passwords(self.settings.passwords)
        self.sessions = Sessions(self.database, self.trail, self.clock, self.settings)
        self.accounts = Accounts(
            self.database, self.trail, self.clock, self.passwords, self.sessions
        )
        self.api_keys = ApiKeys(self.database, self.trail, self.clock, AtOnce(), self.monotonic)
        self.setup = Setup(self.database, self.trail, self.clock, self.settings, self.accounts)

    def make_tables(self) -> None:
        """The tables of governance, in an empty database."""
        with self.database.begin() as session:
            metadata.create_all(session.connection())

    def account(self, login: str, *roles: Role, password: str = PASSWORD) -> Account:
        """A member of staff."""
        return self.accounts.create(
            login=login,
            display_name=login.title(),
            roles=roles or (Role.OFFICER, Role.ADMIN),
            password=password,
            actor=CLI,
        )

    def records(self) -> list[AuditRecord]:
        """The operator log, oldest first."""
        with self.database.read() as connection:
            return self.trail.read(connection, limit=1000)[::-1]

    def actions(self) -> list[str]:
        """What the operator log says was done, oldest first."""
        return [record.action for record in self.records()]
