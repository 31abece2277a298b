"""A process that delivers webhooks and mails until it is killed, or its standard input ends.

python -m tests.fakes.outbound_node URL FOLDER SMTP_PORT
"""

import sys
from datetime import timedelta
from pathlib import Path

from consent.ledger.log import MerkleLog
from governance.audit.models import audit_log
from governance.audit.trail import Trail
from governance.database import Database, utcnow
from governance.jobs.courier import Couriers, Round
from governance.keys.keyring import Keyring
from governance.keys.providers import LocalKeyring
from governance.outbound.mail import MailDelivery, MailQueue
from governance.outbound.settings import Sender, SmtpSecurity, SmtpServer
from governance.outbound.templates import MailKind, MailKinds, Words
from governance.outbound.transports import SmtpTransport
from governance.outbound.webhooks.delivery import WebhookDelivery
from governance.outbound.webhooks.endpoints import Endpoints
from governance.vault.identify import Directory
from policies.model import PolicySet
from tests.fakes.webhooks import local_client

KINDS = MailKinds([MailKind("test.note", {"en": Words("A note", "Number {number}.")})])
LEASE = timedelta(seconds=2)
"""Longer than a call takes to receivers of the tests, and short enough to wait for."""


def no_policies() -> PolicySet:
    """Deliveries need none."""
    raise AssertionError("a delivery asked for the policies")


def main(url: str, folder: Path, smtp_port: int) -> None:
    """Deliver until told to stop."""
    database = Database.open(url)
    keyring = Keyring(LocalKeyring(folder / "keyring"))
    keyring.prepare(database, utcnow())
    directory, trail, client = Directory(keyring), Trail(MerkleLog(audit_log)), local_client()
    endpoints = Endpoints(database, trail, utcnow, keyring, client.check, no_policies)
    webhooks = WebhookDelivery(
        database, endpoints, directory, client, trail, utcnow, lease=LEASE, at_once=4
    )
    server = SmtpServer("127.0.0.1", smtp_port, SmtpSecurity.NONE)
    transport = SmtpTransport(server, Sender("tutela@shop.example"))
    mails = MailDelivery(
        database, MailQueue(keyring, directory, KINDS), transport, utcnow, lease=LEASE
    )
    couriers = Couriers(
        [Round("webhooks", webhooks, threads=3), Round("mail", mails)],
        poll=timedelta(seconds=0.05),
    )
    couriers.start()
    sys.stdin.read()
    couriers.stop()
    database.dispose()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
