"""Codes that prove that somebody reads what is sent to a known contact.

Guarantees:
- Whoever asks for a code learns nothing about whether the contact is known: asking does the same
  work for every contact, and whose it is is looked up only after the answer was given (`deliver`).
- A code is 8 random digits, good for 10 minutes, 5 tries and one success. A guesser has, by
  contact, 20 tries a day, so that one guess in five million days of trying is right.
- Contacts, codes and callers' addresses are in the database only as keyed digests.
- Nobody is sent more than 3 codes in a quarter of an hour, nor 10 a day; nobody who is unknown
  is sent anything.

Whoever knows a contact can use up its codes of the day, and so keep its owner from this door. The
links in messages stay open, as do letter and phone.

Non-goals: what whoever has proven a contact may do.
"""

import hmac
import secrets
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Final, Protocol

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.orm import Session

from consent.links import Links
from consent.subjects import Identifier, Reader, SubjectRef
from governance.contacts import limits
from governance.contacts.limits import Limit
from governance.contacts.models import code as code_table
from governance.database import Database
from governance.errors import DecryptionError

DIGITS: Final = 8
LIFE: Final = timedelta(minutes=10)
TRIES: Final = 5
KIND: Final = "contact.code"
"""The kind of mail. Its facts: `code`, `minutes`, and those that `ContactCodes` was given."""

_A_CONTACT: Final = (Limit(3, timedelta(minutes=15)), Limit(10, timedelta(days=1)))
_A_CALLER: Final = (Limit(10, timedelta(minutes=15)), Limit(40, timedelta(days=1)))
_TRIES_A_CONTACT: Final = (Limit(20, timedelta(days=1)),)
_TRIES_A_CALLER: Final = (Limit(30, timedelta(minutes=15)), Limit(100, timedelta(days=1)))

_c = code_table.c


class People(Protocol):
    """Knows whose an identifier is, and which identifiers somebody has."""

    def find(self, reader: Reader, identifiers: Sequence[Identifier]) -> list[SubjectRef | None]:
        """The people of identifiers, in their order; None for the unknown."""

    def identifiers_of(
        self, reader: Reader, refs: Sequence[SubjectRef]
    ) -> Mapping[SubjectRef, list[Identifier]]:
        """The identifiers of people.

        Raises:
            DecryptionError: a row was changed or moved.
        """


class Mails(Protocol):
    """Sends mails, in the caller's transaction."""

    def put(
        self,
        session: Session,
        to: Identifier,
        kind: str,
        language: str,
        facts: Mapping[str, str],
        now: datetime,
        *,
        life: timedelta,
    ) -> str:
        """Queue a mail."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A code that was asked for. The challenge goes to whoever asked, the code to the contact."""

    challenge: str
    contact: Identifier
    code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Proven:
    """Who reads which contact."""

    subject: SubjectRef
    contact: Identifier


class NotProven(StrEnum):
    """Why a code proves nothing. Which of the two does not depend on whether anyone is known."""

    WRONG = "wrong"
    """Not the code, or not any more."""
    TOO_MANY = "too_many"
    """Tried too often."""


class ContactCodes:
    """Asks, sends and checks codes. Shared by threads."""

    def __init__(
        self,
        database: Database,
        people: People,
        mails: Mails,
        links: Links,
        clock: Callable[[], datetime],
        facts: Mapping[str, str],
    ) -> None:
        """Collaborators.

        Args:
            database: where codes are kept.
            people: who is known.
            mails: what sends.
            links: whose keys digest what is stored.
            clock: the present.
            facts: what the mail says beside the code: the organisation's name.
        """
        self._database = database
        self._people = people
        self._mails = mails
        self._links = links
        self._clock = clock
        self._facts = dict(facts)

    def ask(self, contact: Identifier, caller: str) -> Asked | None:
        """Make a code for a contact, known or not; None if too many were made. Sends nothing.

        Args:
            contact: an e-mail address.
            caller: the network address from which it is asked for.
        """
        now = self._clock()
        asked = Asked(secrets.token_urlsafe(24), contact, _new_code())
        whose = self._digest("contact", contact.kind, contact.value)
        with self._database.begin() as session:
            if not self._admit(session, "ask", (_A_CALLER, _who(caller)), now):
                return None
            if not self._admit(session, "ask", (_A_CONTACT, whose.hex()), now):
                return None
            session.execute(
                insert(code_table).values(
                    challenge=self._digest("challenge", asked.challenge),
                    contact=whose,
                    code=self._digest("code", asked.challenge, asked.code),
                    subject_ref=None,
                    tries=0,
                    expires_at=now + LIFE,
                )
            )
        return asked

    def deliver(self, asked: Asked, language: str) -> bool:
        """Send a code to its contact if that is known; whether it is.

        Call it behind the back of whoever asked: how long it takes tells what they must not know.
        """
        now = self._clock()
        with self._database.begin() as session:
            (subject,) = self._people.find(session, [asked.contact])
            if subject is None:
                return False
            facts = self._facts | {
                "code": f"{asked.code[:4]} {asked.code[4:]}",
                "minutes": str(LIFE // timedelta(minutes=1)),
            }
            self._mails.put(session, asked.contact, KIND, language, facts, now, life=LIFE)
            session.execute(
                update(code_table)
                .where(_c.challenge == self._digest("challenge", asked.challenge))
                .values(subject_ref=subject)
            )
        return True

    def prove(self, challenge: str, code: str, caller: str) -> Proven | NotProven:
        """Try a code. A right one is used up.

        Args:
            challenge: what `ask` gave to whoever asked.
            code: what was typed; spaces and hyphens do not count.
            caller: the network address from which it is tried.
        """
        now = self._clock()
        with self._database.begin() as session:
            if not self._admit(session, "try", (_TRIES_A_CALLER, _who(caller)), now):
                return NotProven.TOO_MANY
            row = session.execute(
                select(code_table)
                .where(_c.challenge == self._digest("challenge", challenge))
                .with_for_update()
            ).one_or_none()
            if row is None or row.expires_at <= now:
                return NotProven.WRONG
            if not self._admit(session, "try", (_TRIES_A_CONTACT, row.contact.hex()), now):
                return NotProven.TOO_MANY
            if not self._is_right(row, challenge, code):
                session.execute(
                    update(code_table)
                    .where(_c.challenge == row.challenge)
                    .values(tries=row.tries + 1)
                )
                return NotProven.WRONG
            session.execute(delete(code_table).where(_c.challenge == row.challenge))
            contact = self._contact(session, row)
        return NotProven.WRONG if contact is None else Proven(row.subject_ref, contact)

    def remove_old(self, session: Session, now: datetime) -> int:
        """Delete codes and counts that have no effect any more; returns how many."""
        gone = session.execute(
            delete(code_table).where(_c.expires_at <= now).returning(_c.challenge)
        )
        return len(gone.all()) + limits.remove_old(session, now)

    def _is_right(self, row: Row[tuple[object, ...]], challenge: str, code: str) -> bool:
        told = self._digest("code", challenge, _digits(code))
        return (
            hmac.compare_digest(told, row.code)
            and row.tries < TRIES
            and row.subject_ref is not None
        )

    def _contact(self, reader: Reader, row: Row[tuple[object, ...]]) -> Identifier | None:
        """The contact, if the person still has it."""
        subject = SubjectRef(row.subject_ref)
        try:
            held = self._people.identifiers_of(reader, [subject])[subject]
        except DecryptionError:
            return None
        for one in held:
            if hmac.compare_digest(self._digest("contact", one.kind, one.value), row.contact):
                return one
        return None

    def _admit(
        self, session: Session, what: str, whose: tuple[Sequence[Limit], str], now: datetime
    ) -> bool:
        """Count a use in every window. All of them, so that none is told from the others."""
        allowed, key = whose
        admitted = [
            limits.admit(session, one, self._digest("limit", what, str(one.window), key), now)
            for one in allowed
        ]
        return all(admitted)

    def _digest(self, *parts: str) -> bytes:
        return self._links.digest("contacts", *parts)


def _new_code() -> str:
    return f"{secrets.randbelow(10**DIGITS):0{DIGITS}}"


def _digits(code: str) -> str:
    """What was typed or pasted, as digits: of any script, and without what stands between them."""
    return "".join(str(unicodedata.decimal(one)) for one in code[:100] if one.isdecimal())


def _who(caller: str) -> str:
    """Who calls, as far as an address tells: of IPv6 a household has a whole network."""
    try:
        address = ip_address(caller)
    except ValueError:
        return ""
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ip_network((address, 64), strict=False))
    return str(address)
