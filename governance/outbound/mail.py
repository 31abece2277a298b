"""The queue of mails: written in the caller's transaction, sealed, delivered behind its back.

Guarantees:
- A mail is queued if and only if the caller's transaction commits.
- Address and facts are in the database only sealed: under the person's own key where the address
  belongs to somebody we know, so that erasing the person takes the mail along; else under a key
  of the mail's own, which is destroyed when the mail ends.
- When a mail ends, sent or not, its content is deleted. A trace remains: kind, when, result.
- At any time at most one node works on a mail, and what a node writes after it lost its lease is
  refused. A mail is handed over again only if nobody learned that it was taken: the node died, or
  was cut off, between the server's yes and our commit. It then has the same Message-ID.

Non-goals: bounces, campaigns, and how often a stranger may have mail sent: callers limit that.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import structlog
from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.orm import Session
from uuid_utils import uuid7

from consent.errors import UnknownSubjectError
from consent.subjects import Identifier, Reader, SubjectRef
from governance.database import Database
from governance.errors import DecryptionError
from governance.keys.envelope import Place
from governance.keys.keyring import Keyring
from governance.outbound.backoff import delay
from governance.outbound.errors import (
    DeliveryFailedError,
    DeliveryRefusedError,
    InvalidMailError,
)
from governance.outbound.models import MailState, mail
from governance.outbound.people import AddressBook
from governance.outbound.sealing import Sealer
from governance.outbound.templates import MailKinds, Written

LIFE: Final = timedelta(days=3)
"""How long delivery is tried, where the caller does not say."""

_PLACE: Final = Place("outbound_mail", "sealed")
_LONGEST_LINK: Final = 900
"""A line of a mail has 998 characters at most (RFC 5322, section 2.1.1)."""

_FIRST_WAIT: Final = timedelta(minutes=1)
_LONGEST_WAIT: Final = timedelta(hours=4)
_DICE: Final = secrets.SystemRandom().random
_c = mail.c

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail that is ready to be handed over."""

    id: str
    """The same in every attempt; what the Message-ID is made of."""
    queued_at: datetime
    address: str = field(repr=False)
    written: Written = field(repr=False)
    unsubscribe: str | None = field(default=None, repr=False)
    """An address that takes RFC 8058 one-click POSTs."""


class MailTransport(Protocol):
    """Hands mails over. Threads may share it."""

    def send(self, letter: Letter) -> None:
        """Hand one mail over, within less than a lease. Outside any transaction.

        Returning means that the other side has taken responsibility for it.

        Raises:
            DeliveryFailedError: it has not, or nobody knows; another attempt makes sense.
            DeliveryRefusedError: it will not take this mail, now or later.
        """


@dataclass(frozen=True, slots=True)
class MailTrace:
    """What may be known of a mail: nothing about its address or content."""

    id: str
    subject_ref: SubjectRef | None
    kind: str
    language: str
    state: MailState
    queued_at: datetime
    due_at: datetime | None
    attempts: int
    reason: str | None
    ended_at: datetime | None


class MailQueue:
    """Takes mails, in somebody else's transaction. Shared by threads."""

    def __init__(self, keyring: Keyring, people: AddressBook, kinds: MailKinds) -> None:
        self.kinds: Final = kinds
        self._sealer = Sealer(keyring, _PLACE)
        self._people = people

    def put(
        self,
        session: Session,
        to: Identifier,
        kind: str,
        language: str,
        facts: Mapping[str, str],
        now: datetime,
        *,
        unsubscribe: str | None = None,
        life: timedelta = LIFE,
    ) -> str:
        """Queue a mail. It leaves after the caller's transaction commits; returns its id.

        Args:
            session: the caller's unit of work.
            to: an e-mail address, whether or not we know whose it is; or a person (`ref`), who
                is written to at the first address that we had of them.
            kind: one of the registered kinds of mail.
            language: a language tag; where the kind is not written in it, the nearest is taken.
            facts: exactly those that the kind asks for. What a stranger typed is none of them:
                a mail must not carry a stranger's words to a third person.
            now: the present.
            unsubscribe: an http(s) address that ends such mails by one POST (RFC 8058); becomes
                the List-Unsubscribe headers.
            life: how long to try. Not longer than what the mail offers is good for.

        Raises:
            InvalidMailError: see `MailKinds.check`; or `to` is neither an e-mail address nor a
                person; or the address to unsubscribe is none.
            UnknownSubjectError: the person does not exist.
        """
        self.kinds.check(kind, language, facts)
        if to.kind not in ("email", "ref"):
            raise InvalidMailError("mail goes to an e-mail address or to a person")
        if unsubscribe is not None and not _is_address(unsubscribe):
            raise InvalidMailError("the address to unsubscribe must be an http(s) address")
        (person,) = self._people.find(session, [to])
        if person is None and to.kind == "ref":
            raise UnknownSubjectError("the subject ref names nobody")
        mail_id = str(uuid7())
        content = {
            "to": None if to.kind == "ref" else to.value,
            "facts": dict(facts),
            "unsubscribe": unsubscribe,
        }
        session.execute(
            insert(mail).values(
                id=mail_id,
                subject_ref=person,
                kind=kind,
                language=language,
                state=MailState.WAITING,
                sealed=self._sealer.seal(session, person or mail_id, mail_id, content, now),
                queued_at=now,
                expires_at=now + life,
                due_at=now,
                attempts=0,
            )
        )
        return mail_id

    def open(self, reader: Reader, row: Row[Any]) -> Letter:
        """The mail of a row, written. For delivery.

        Raises:
            DeliveryRefusedError: the person was erased or has no address; the row was tampered
                with; or the kind is not known any more.
        """
        owner = row.subject_ref or row.id
        try:
            content = self._sealer.open(reader, owner, row.id, row.sealed)
        except DecryptionError as error:
            raise DeliveryRefusedError("UNREADABLE") from error
        if content is None:
            raise DeliveryRefusedError("PERSON_ERASED")
        address = content["to"] or self._first_address(reader, row.subject_ref)
        try:
            written = self.kinds.write(row.kind, row.language, content["facts"])
        except InvalidMailError as error:
            raise DeliveryRefusedError("KIND_UNKNOWN") from error
        return Letter(row.id, row.queued_at, address, written, content["unsubscribe"])

    def end(
        self, session: Session, row: Row[Any], state: MailState, reason: str | None, now: datetime
    ) -> bool:
        """Delete the content, keep the trace. False if the attempt was not the row's latest."""
        ended = session.execute(
            update(mail)
            .where(_c.id == row.id, _c.owner == row.owner, _c.attempts == row.attempts)
            .values(state=state, sealed=None, due_at=None, owner=None, reason=reason, ended_at=now)
            .returning(_c.id)
        ).first()
        if ended is not None and row.subject_ref is None:
            self._sealer.destroy(session, row.id)
        return ended is not None

    def _first_address(self, reader: Reader, person: SubjectRef) -> str:
        try:
            held = self._people.identifiers_of(reader, [person])[person]
        except DecryptionError as error:
            raise DeliveryRefusedError("UNREADABLE") from error
        for identifier in held:
            if identifier.kind == "email":
                return identifier.value
        raise DeliveryRefusedError("NO_ADDRESS")


class MailDelivery:
    """Hands queued mails to a transport. Any number of nodes may do so at once."""

    def __init__(
        self,
        database: Database,
        queue: MailQueue,
        transport: MailTransport,
        clock: Callable[[], datetime],
        *,
        lease: timedelta = timedelta(minutes=3),
        dice: Callable[[], float] = _DICE,
    ) -> None:
        """Collaborators and measures.

        Args:
            database: where the queue is.
            queue: opens what it sealed.
            transport: hands over; must take less time than a lease.
            clock: the present.
            lease: after how long without a result another node may try.
            dice: a random number from 0 to 1, to spread attempts.
        """
        self._database = database
        self._queue = queue
        self._transport = transport
        self._clock = clock
        self._lease = lease
        self._dice = dice
        self._node: Final = f"node-{secrets.token_hex(6)}"

    def deliver_next(self) -> bool:
        """Make one attempt at one mail that is due; False if there was none."""
        row = self._claim()
        if row is None:
            return False
        now = self._clock()
        if row.expires_at <= now:
            self._end(row, MailState.FAILED, "EXPIRED")
            return True
        try:
            with self._database.read() as reader:
                letter = self._queue.open(reader, row)
            self._transport.send(letter)
        except DeliveryFailedError as error:
            _log.info("mail not sent", reference=row.id, attempt=row.attempts, outcome=error.reason)
            if error.final:
                self._end(row, MailState.FAILED, error.reason)
            else:
                self._postpone(row, error.reason)
        else:
            self._end(row, MailState.SENT, None)
        return True

    def _claim(self) -> Row[Any] | None:
        now = self._clock()
        due = select(_c.id).where(_c.due_at <= now).order_by(_c.due_at).limit(1)
        with self._database.read() as connection:
            # Asked first, as a claim takes a write lock on SQLite.
            if connection.execute(due).first() is None:
                return None
        with self._database.begin() as session:
            chosen = session.execute(due.with_for_update(skip_locked=True)).scalar()
            return session.execute(
                update(mail)
                .where(_c.id == chosen)
                .values(owner=self._node, attempts=_c.attempts + 1, due_at=now + self._lease)
                .returning(mail)
            ).one_or_none()

    def _end(self, row: Row[Any], state: MailState, reason: str | None) -> None:
        with self._database.begin() as session:
            self._queue.end(session, row, state, reason, self._clock())

    def _postpone(self, row: Row[Any], reason: str) -> None:
        now = self._clock()
        due = now + delay(row.attempts, _FIRST_WAIT, _LONGEST_WAIT, self._dice())
        with self._database.begin() as session:
            session.execute(
                update(mail)
                .where(_c.id == row.id, _c.owner == row.owner, _c.attempts == row.attempts)
                # At its end once more, so that it ends as expired and its content is deleted.
                .values(owner=None, reason=reason, due_at=min(due, row.expires_at))
            )


# --- reading and keeping -----------------------------------------------------------------------


def traces(reader: Reader, *, before: datetime | None = None, limit: int = 50) -> list[MailTrace]:
    """Mails that were queued before an instant, the newest first, ended or not."""
    query = select(mail).order_by(_c.queued_at.desc(), _c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(_c.queued_at < before)
    return [
        MailTrace(
            id=row.id,
            subject_ref=row.subject_ref,
            kind=row.kind,
            language=row.language,
            state=MailState(row.state),
            queued_at=row.queued_at,
            due_at=row.due_at,
            attempts=row.attempts,
            reason=row.reason,
            ended_at=row.ended_at,
        )
        for row in reader.execute(query)
    ]


def oldest_waiting(reader: Reader) -> datetime | None:
    """Since when the mail that waits longest has been waiting."""
    since: datetime | None = reader.execute(
        select(func.min(_c.queued_at)).where(_c.due_at.is_not(None))
    ).scalar()
    return since


def remove_traces(session: Session, before: datetime) -> int:
    """Delete the traces of mails that ended before an instant; returns how many."""
    gone = session.execute(delete(mail).where(_c.ended_at < before).returning(_c.id))
    return len(gone.all())


def _is_address(url: str) -> bool:
    """Whether it can stand between < and > in a header."""
    return (
        url.startswith(("http://", "https://"))
        and len(url) <= _LONGEST_LINK
        and all("!" <= character <= "~" and character not in '<>,"\\' for character in url)
    )
