"""The heart of the service with everything real but the clock: ledger, people, choices, checks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import governance.keys.models
import governance.vault.models  # noqa: F401 - puts the tables on the metadata
import policies
from consent.checks import Checker
from consent.choices import NewEvent, NoticeRef, Record, Recorded, Recorder, choice
from consent.ledger.log import MerkleLog
from consent.ledger.notary import Notary, SqlCheckpointStore
from consent.models import ledger
from consent.models import metadata as consent_metadata
from consent.notices import Notices
from consent.subjects import Identifier, email
from consent.writer import ConsentWriter
from governance.database import Database
from governance.database import metadata as governance_metadata
from governance.keys.evidence import PersonCipher
from governance.keys.keyring import Keyring
from governance.keys.providers import LocalKeyring
from governance.keys.signer import Ed25519Signer, open_signer
from governance.vault.do_not_call import DoNotCallLists
from governance.vault.identify import Directory
from governance.vault.suppressions import Suppressions
from policies.decisions import Decision
from policies.loader import load
from policies.model import PolicySet
from policies.vocabulary import Channel, ChoiceState
from tests.fakes.clock import FrozenClock
from tests.fakes.notices import publish_privacy

NOTICE = NoticeRef("privacy", "3", "en")
MARKETING = "marketing_information"


@dataclass(frozen=True)
class Core:
    """One node's view: open a second one on the same folder for a second process."""

    database: Database
    store: Database
    clock: FrozenClock
    policies: PolicySet
    keyring: Keyring
    directory: Directory
    cipher: PersonCipher
    signer: Ed25519Signer
    log: MerkleLog
    checkpoints: SqlCheckpointStore
    notary: Notary
    recorder: Recorder
    writer: ConsentWriter
    notices: Notices
    checker: Checker
    suppressions: Suppressions
    lists: DoNotCallLists

    def said(
        self,
        state: ChoiceState,
        *,
        purpose: str = MARKETING,
        channel: str = "email",
        at: datetime | None = None,
    ) -> NewEvent:
        """A choice under the shipped policies."""
        return choice(
            self.policies,
            purpose=purpose,
            channel=channel,
            state=state,
            method="web_form",
            notice=NOTICE,
            occurred_at=at,
        )

    def record(self, who: Identifier | str, *events: NewEvent) -> Recorded:
        """Record events about a person, named by e-mail if by a string."""
        subject = email(who) if isinstance(who, str) else who
        return self.writer.submit(Record(subject, events, "api_key:test")).recorded

    def check(self, who: str, purpose: str = MARKETING, as_of: datetime | None = None) -> Decision:
        """May we e-mail this person?"""
        return self.checker.check(email(who), purpose, Channel.EMAIL, as_of)

    def size(self) -> int:
        """How many entries the ledger has."""
        with self.database.read() as reader:
            return self.log.frontier(reader).size


@contextmanager
def open_core(url: str, folder: Path, clock: FrozenClock, *, create: bool = True) -> Iterator[Core]:
    """The core over a database; the keyring and the checkpoints are kept in `folder`."""
    database = Database.open(url, pool_size=16)
    if create:
        with database.begin() as session:
            for metadata in (consent_metadata, governance_metadata):
                metadata.create_all(session.connection())
    store = Database.open(f"sqlite:///{folder / 'checkpoints.sqlite'}", pool_size=2)
    policy_set = load(Path(policies.__file__).parent / "library")
    provider = LocalKeyring(folder / "keyring")
    keyring = Keyring(provider)
    keyring.prepare(database, clock())
    directory, cipher = Directory(keyring), PersonCipher(keyring)
    signer = open_signer(database, provider, "example.com/log", clock())
    log = MerkleLog(ledger)
    checkpoints = SqlCheckpointStore(store.begin, store.at_once, store.read)
    notary = Notary(log, signer, checkpoints, database.read, clock)
    notices = Notices()
    publish_privacy(database, policy_set)
    suppressions = Suppressions(keyring)
    recorder = Recorder(
        log, directory, cipher, lambda: policy_set, notary.admit, notices, suppressions
    )
    lists = DoNotCallLists(directory, database.begin, clock)
    try:
        yield Core(
            database=database,
            store=store,
            clock=clock,
            policies=policy_set,
            keyring=keyring,
            directory=directory,
            cipher=cipher,
            signer=signer,
            log=log,
            checkpoints=checkpoints,
            notary=notary,
            recorder=recorder,
            writer=ConsentWriter(database.begin, recorder, notary, clock),
            notices=notices,
            checker=Checker(database.read, directory, lambda: policy_set, clock, notices, lists),
            suppressions=suppressions,
            lists=lists,
        )
    finally:
        database.dispose()
        store.dispose()
