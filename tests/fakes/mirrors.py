"""Mirrors without a network: pages straight from the service, and a person taken out of it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete

from consent.client import subjects as sdk
from consent.client.decisions import Decision as Answer
from consent.client.replica import Replica, read_page
from consent.errors import MirrorOutdatedError
from consent.mirrors import Cell, Mirrors, Wanted, encode, text_of
from consent.models import event, idempotency, state
from consent.subject_changes import note_people
from consent.subjects import Identifier, SubjectRef
from governance.database import Database
from governance.keys.keyring import Keyring
from governance.keys.models import data_key
from governance.vault.models import vault_identifier, vault_person
from policies.decisions import Decision

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(instant: datetime) -> int:
    """As pages have it."""
    return (instant - EPOCH) // timedelta(microseconds=1)


def as_subject(identifier: Identifier) -> sdk.Subject:
    """An identifier of the service as the SDK names it."""
    return sdk.Subject(identifier.kind, identifier.value, identifier.system)


def told(decision: Decision | Answer) -> tuple[object, ...]:
    """All that a decision says but when, the same for both sides."""
    return (
        decision.allow,
        str(decision.status),
        str(decision.reason),
        decision.record_id,
        decision.expires_at,
        None if decision.basis is None else str(decision.basis),
        decision.policy,
    )


class Follower:
    """A replica, and the pages that fill it."""

    def __init__(
        self, mirrors: Mirrors, cells: Sequence[Cell], kinds: Sequence[str], audience: str
    ) -> None:
        self.mirrors = mirrors
        self.wanted = Wanted(tuple(cells), tuple(kinds), audience)
        self.copies = 0
        self.start_over()

    def start_over(self) -> None:
        """Forget everything."""
        cells = [(purpose, channel.value) for purpose, channel in self.wanted.cells]
        self.replica = Replica(cells, self.wanted.kinds)
        self.copies += 1

    def step(self, limit: int) -> bool:
        """Read one page. Whether the copy is complete, as of the instant of that page."""
        replica = self.replica
        try:
            if replica.after is not None:
                page = self.mirrors.everybody(self.wanted, replica.epoch, replica.after, limit)
                secret = text_of(self.mirrors.secret(self.wanted.audience))
                replica.take_everybody(read_page(encode(page, self.wanted, secret=secret)))
                return False
            assert replica.epoch is not None
            page = self.mirrors.changes(self.wanted, replica.epoch, replica.cursor, limit)
        except MirrorOutdatedError:
            self.start_over()
            return False
        return not replica.take_changes(read_page(encode(page, self.wanted)))

    def catch_up(self, limit: int = 100) -> None:
        """Read until the copy is complete."""
        while not self.step(limit):
            pass

    def check(self, who: Identifier, cell: Cell, now: datetime) -> Answer:
        """What the copy says at an instant."""
        purpose, channel = cell
        return self.replica.decide(as_subject(who), purpose, channel.value, microseconds(now), 0)


def erase(database: Database, keyring: Keyring, subject: SubjectRef, now: datetime) -> None:
    """Take a person out of the service: whoever knew them by name does not find them any more."""
    with database.begin() as session:
        for table in (vault_identifier, data_key, state, event, idempotency):
            session.execute(delete(table).where(table.c.subject_ref == subject))
        session.execute(delete(vault_person).where(vault_person.c.ref == subject))
        note_people(session, [subject], now)
    keyring.evict([subject])
