"""Constructs what the app is made of, out of its settings. Nothing else chooses implementations."""

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final, cast

from flask import Flask, current_app

import policies as policies_package
from admin_ui import mails
from admin_ui.confirmation_mails import ConfirmationPost
from admin_ui.settings import Settings
from consent.checks import Checker
from consent.choices import Follower, Recorder
from consent.confirmations import Asker, Confirmations
from consent.ledger.checkpoint import vkey
from consent.ledger.log import MerkleLog
from consent.ledger.notary import Notary, SqlCheckpointStore
from consent.links import Links
from consent.mirrors import Mirrors
from consent.models import ledger
from consent.notices import Notices
from consent.proof_bundle import Maker, ProofBundles
from consent.receipts import Receipts
from consent.signals import Signals
from consent.writer import ConsentWriter
from governance.access.accounts import Accounts
from governance.access.api_keys import ApiKeys
from governance.access.passwords import Passwords
from governance.access.sessions import Sessions
from governance.access.settings import AccessSettings, PasswordProfile
from governance.access.setup import Setup
from governance.audit.models import audit_log
from governance.audit.trail import Trail
from governance.contacts.codes import ContactCodes
from governance.database import Database, utcnow
from governance.keys.evidence import PersonCipher
from governance.keys.keyring import Keyring
from governance.keys.links import open_link_keys
from governance.keys.providers import LocalKeyring
from governance.keys.signer import Ed25519Signer, open_signer
from governance.migrations import runner
from governance.notice_desk import NoticeDesk
from governance.outbound.http import HttpClient
from governance.outbound.mail import MailDelivery, MailQueue, MailTransport
from governance.outbound.templates import MailKinds
from governance.outbound.transports import FolderTransport, SmtpTransport
from governance.outbound.webhooks.delivery import WebhookDelivery
from governance.outbound.webhooks.endpoints import Endpoints
from governance.vault.do_not_call import DoNotCallLists
from governance.vault.identify import Directory
from governance.vault.mirror_names import MirrorDirectory
from governance.vault.suppressions import ObjectionsRemembered, Suppressions
from policies.loader import load
from policies.model import PolicySet

Clock = Callable[[], datetime]

_EXTENSION: Final = "tutela.services"


@dataclass(frozen=True, slots=True)
class Services:
    """The collaborators of the views, the command line and the jobs."""

    settings: Settings
    clock: Clock
    database: Database
    checkpoint_database: Database
    later: Executor
    """Does small things behind the back of requests."""
    policies: Callable[[], PolicySet]
    keyring: Keyring
    directory: Directory
    cipher: PersonCipher
    signer: Ed25519Signer
    log: MerkleLog
    checkpoints: SqlCheckpointStore
    notary: Notary
    operator_notary: Notary
    """Signs the operator log, under a name and a key of its own."""
    writer: ConsentWriter
    checker: Checker
    mirrors: Mirrors
    receipts: Receipts
    proof_bundles: ProofBundles
    notices: Notices
    notice_desk: NoticeDesk
    links: Links
    trail: Trail
    accounts: Accounts
    sessions: Sessions
    api_keys: ApiKeys
    setup: Setup
    contact_codes: ContactCodes
    suppressions: Suppressions
    lists: DoNotCallLists
    signals: Signals
    confirmations: Confirmations
    mails: MailQueue
    mail_delivery: MailDelivery
    webhooks: Endpoints
    webhook_delivery: WebhookDelivery

    @property
    def operator_verifier_key(self) -> str:
        """The verifier key of the operator log."""
        signer = self.operator_notary.signer
        return vkey(signer.name, signer.public_key)

    @property
    def verifier_key(self) -> str:
        """The ledger's verifier key (vkey): what an auditor needs to check its signatures."""
        return vkey(self.signer.name, self.signer.public_key)

    def setup_link(self) -> str | None:
        """A new one-time link to set up the first account; None if there is one already."""
        token = self.setup.new_link()
        return None if token is None else f"{self.settings.url}/setup/{token}"

    def close(self) -> None:
        """Give back connections and threads."""
        self.later.shutdown()
        self.database.dispose()
        self.checkpoint_database.dispose()

    def put_on(self, app: Flask) -> None:
        """Make these the services of the app's views."""
        app.extensions[_EXTENSION] = self


def services() -> Services:
    """The services of the running app."""
    return cast(Services, current_app.extensions[_EXTENSION])


def migrate(settings: Settings) -> str:
    """Make the data folder, bring the tables up to date and return their revision.

    Safe to repeat, and to do in several processes at once.
    """
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database.open(settings.database, pool_size=1)
    try:
        runner.upgrade(database)
        with database.begin() as session:
            Trail(MerkleLog(audit_log)).install(session, version=version("tutela"), now=utcnow())
    finally:
        database.dispose()
    return runner.head()


def build(
    settings: Settings,
    clock: Clock = utcnow,
    *,
    fast_passwords: bool = False,
    trusting: bool = True,
) -> Services:
    """Open the database, the keyring and the ledger, and put everything together.

    The schema must be up to date (`migrate` sees to that). Nothing is served yet, so this is where
    a ledger that was rolled back stops the start; only who wants to examine it is not `trusting`.

    Raises:
        PolicyError: the policies cannot be loaded.
        GovernanceError: the database or the keyring cannot be used.
        LedgerRolledBackError: the ledger does not extend what was signed last.
    """
    database = Database.open(settings.database, pool_size=settings.threads)
    store = Database.open(settings.checkpoint_store, pool_size=2)
    policy_set = load(settings.policies or Path(policies_package.__file__).parent / "library")
    provider = LocalKeyring(settings.keyring_path)
    keyring = Keyring(provider)
    keyring.prepare(database, clock())
    directory, cipher = Directory(keyring), PersonCipher(keyring)
    signer = open_signer(database, provider, settings.log_origin, clock())
    log = MerkleLog(ledger)
    checkpoints = SqlCheckpointStore(store.begin, store.at_once, store.read)
    notary = Notary(log, signer, checkpoints, database.read, clock)
    notices = Notices()
    receipts = Receipts(log, cipher, notary, checkpoints, signer, lambda: policy_set)
    suppressions = Suppressions(keyring)
    mail_queue = MailQueue(keyring, directory, MailKinds(mails.KINDS))
    links = Links(open_link_keys(database, provider, clock()))
    followers: list[Follower] = [ObjectionsRemembered(suppressions, directory)]
    if settings.confirmation_mails:
        post = ConfirmationPost(mail_queue, directory, settings.url, settings.zone)
        followers.append(Asker(lambda: policy_set, links, post))
    recorder = Recorder(
        log,
        directory,
        cipher,
        lambda: policy_set,
        notary.admit,
        notices,
        suppressions,
        followers=followers,
    )
    writer = ConsentWriter(database.begin, recorder, notary, clock)
    lists = DoNotCallLists(directory, database.begin, clock)
    access = AccessSettings(
        passwords=PasswordProfile.FAST if fast_passwords else PasswordProfile.STANDARD,
        session_idle=settings.session_idle,
        session_absolute=settings.session_absolute,
    )
    trail = Trail(MerkleLog(audit_log))
    operators = open_signer(database, provider, f"{settings.log_origin}/operators", clock())
    operator_notary = Notary(trail.log, operators, checkpoints, database.read, clock)
    checker = Checker(database.read, directory, lambda: policy_set, clock, notices, lists)
    later = ThreadPoolExecutor(1, "later")
    sessions = Sessions(database, trail, clock, access)
    accounts = Accounts(database, trail, clock, Passwords(access.passwords), sessions)
    server, sender = settings.mail_server, settings.mail_sender
    transport: MailTransport = (
        FolderTransport(settings.mail_folder, sender)
        if server is None
        else SmtpTransport(server, sender)
    )
    client = HttpClient(settings.reach)
    webhooks = Endpoints(database, trail, clock, keyring, client.check, lambda: policy_set)
    if trusting:
        notary.certify()
        operator_notary.certify()
    return Services(
        settings=settings,
        clock=clock,
        database=database,
        checkpoint_database=store,
        later=later,
        policies=lambda: policy_set,
        keyring=keyring,
        directory=directory,
        cipher=cipher,
        signer=signer,
        log=log,
        checkpoints=checkpoints,
        notary=notary,
        operator_notary=operator_notary,
        writer=writer,
        checker=checker,
        mirrors=Mirrors(
            database.snapshot,
            database.read,
            checker,
            MirrorDirectory(keyring),
            lambda: policy_set,
            clock,
        ),
        receipts=receipts,
        proof_bundles=ProofBundles(
            receipts,
            checker,
            notices,
            signer,
            lambda: policy_set,
            Maker(settings.organisation, f"Tutela {version('tutela')}"),
        ),
        notices=notices,
        notice_desk=NoticeDesk(database, trail, clock, lambda: policy_set, notices),
        links=links,
        trail=trail,
        accounts=accounts,
        sessions=sessions,
        api_keys=ApiKeys(database, trail, clock, later),
        setup=Setup(database, trail, clock, access, accounts),
        suppressions=suppressions,
        lists=lists,
        signals=Signals(writer, directory, lambda: policy_set, database.read),
        confirmations=Confirmations(writer, lambda: policy_set, clock),
        contact_codes=ContactCodes(
            database,
            directory,
            mail_queue,
            links,
            clock,
            {"organisation": settings.organisation},
        ),
        mails=mail_queue,
        mail_delivery=MailDelivery(database, mail_queue, transport, clock),
        webhooks=webhooks,
        webhook_delivery=WebhookDelivery(
            database,
            webhooks,
            directory,
            client,
            trail,
            clock,
            user_agent=f"Tutela/{version('tutela')}",
        ),
    )
