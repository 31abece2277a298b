"""The second step of a double opt-in: one mail that asks, one POST that confirms.

Source: GDPR Art. 7(1); BGH, 10.02.2011, I ZR 164/09 (who sends has to show that the owner of the
mailbox signed up, and the mail that asks must not advertise). Until it is confirmed a grant denies;
when the offer ends it goes on denying, by evaluation alone (`policies.decisions`).

- A grant and the mail that asks for its confirmation are committed together or not at all.
- Signing up again under the same words while an offer stands sends no second mail; the link that
  was sent confirms the newest of these grants.
- Whoever signs other people up gets little mail out of it: one a purpose and day, five a mailbox
  and day, where `name+tag` is the mailbox of `name`.
- Opening a link changes nothing. Confirming twice confirms once.

Non-goals: other channels than e-mail (a text message is confirmed by its answer, `consent.texts`);
grants that an import brings, an operator enters or somebody else had confirmed: they ask nobody;
people without a known e-mail address, to whom the privacy centre says what else there is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final, Protocol

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from consent import bulk
from consent.choices import Followed, NoticeRef, Record, confirmation
from consent.links import Link, Links, LinkScope
from consent.models import confirmation_request
from consent.models import event as event_table
from consent.registers import Register
from consent.states import read_bearing
from consent.subjects import Identifier, Reader, SubjectRef, ref
from consent.writer import ConsentWriter
from policies.model import Controller, PolicySet, Purpose
from policies.vocabulary import ANY, Channel, ChoiceState, EventType, MarkState

METHOD: Final = "confirmation_link"
ACTOR: Final = "person:link"
DAY: Final = timedelta(hours=24)
MOST_A_DAY: Final = 5
"""Mails to one mailbox, whoever signs it up for what."""
KEPT: Final = timedelta(days=180)
"""How long it is remembered who was asked; longer than any offer (90 days) stands."""
_OVERTIME: Final = 2
"""A link outlives its offer by as much again: a later grant under the same words may take it up,
and to whoever comes late the page says so.
"""

_asked = confirmation_request.c


@dataclass(frozen=True, slots=True)
class Asking:
    """A mail that asks somebody to confirm."""

    subject: SubjectRef
    to: Identifier
    """The address that signed up; or the person, where no address was named."""
    purpose: Purpose
    controller: Controller
    notice: NoticeRef
    signed_up_at: datetime
    method: str
    """How, as the caller named it: a short machine name."""
    token: str
    """Of the link that confirms."""
    offer: timedelta


class ConfirmationMails(Protocol):
    """Writes the mails. Implemented by the layer that may know addresses."""

    def address_of(self, session: Session, subject: SubjectRef) -> Identifier | None:
        """The e-mail address at which a person is written to; None if none is known."""

    def ask(self, session: Session, asking: Asking, now: datetime) -> None:
        """Queue a mail in the caller's transaction. It says when, how and for what; no advert."""


class Asker:
    """Asks for the confirmation of grants as they are recorded: a `Follower` of the recorder."""

    def __init__(
        self, policies: Callable[[], PolicySet], links: Links, mails: ConfirmationMails
    ) -> None:
        self._policies = policies
        self._links = links
        self._mails = mails

    def follow(self, session: Session, recorded: Sequence[Followed], now: datetime) -> None:
        """See `consent.choices.Follower`."""
        for one in recorded:
            if one.command.asks and one.event.state == ChoiceState.GRANTED:
                self._ask(session, one, now)

    def _ask(self, session: Session, one: Followed, now: datetime) -> None:
        event, policies = one.event, self._policies()
        rule, notice = policies.purpose(event.purpose), event.notice
        if rule is None or rule.double_opt_in is None or notice is None:
            return
        offer = rule.double_opt_in.confirm_within
        signed_up_at = min(event.occurred_at or now, now)
        if (
            event.channel != Channel.EMAIL
            or not rule.needs_confirmation(Channel.EMAIL)
            or event.confirmed_at is not None
            or event.child_without_authority
            or now - signed_up_at >= offer
        ):
            return
        named = one.command.subject
        by_address = named.kind == "email"
        address = named if by_address else self._mails.address_of(session, one.subject)
        if address is None:
            return
        register = _newest(session, one.subject, rule.key, Channel.EMAIL)
        if register is None or register.event_id != event.id:
            return  # something newer stands, and an answer would change nothing
        contact = self._links.digest("confirmation", _mailbox(address))
        if not _may_ask(session, one.subject, rule.key, notice, contact, offer, now):
            return
        token = self._links.issue(
            LinkScope.CONFIRM,
            one.subject,
            now,
            expires_at=now + _OVERTIME * offer,
            purpose=rule.key,
            channel=event.channel,
            event=event.id,
            recipient=address,
        )
        asking = Asking(
            one.subject,
            named if by_address else ref(one.subject),
            rule,
            policies.controllers[rule.controller],
            notice,
            signed_up_at,
            event.method,
            token,
            offer,
        )
        self._mails.ask(session, asking, now)
        place = one.subject, rule.key, event.channel
        row = (*place, event.id, notice.id, notice.version, contact, now)
        bulk.upsert(session, confirmation_request, [row], key=("subject_ref", "purpose", "channel"))


def _mailbox(to: Identifier) -> str:
    """The mailbox of an address: `name+tag@host` is most often that of `name@host`."""
    name, at, host = to.value.casefold().rpartition("@")
    return f"{name.partition('+')[0]}{at}{host}"


def _may_ask(
    session: Session,
    subject: SubjectRef,
    purpose: str,
    notice: NoticeRef,
    contact: bytes,
    offer: timedelta,
    now: datetime,
) -> bool:
    last = session.execute(
        select(_asked.notice, _asked.notice_version, _asked.asked_at).where(
            _asked.subject_ref == subject,
            _asked.purpose == purpose,
            _asked.channel == Channel.EMAIL.value,
        )
    ).one_or_none()
    if last is not None:
        same_words = (last.notice, last.notice_version) == (notice.id, notice.version)
        if now - last.asked_at < (max(offer, DAY) if same_words else DAY):
            return False
    marks = read_bearing(session, [subject], [ANY], [Channel.EMAIL.value, ANY]).get(subject, [])
    if any(
        kind == EventType.SUPPRESSION and register.state == MarkState.SET
        for (_, _, kind), register in marks
    ):
        return False
    lately = session.execute(
        select(func.count()).where(_asked.contact == contact, _asked.asked_at > now - DAY)
    ).scalar_one()
    return lately < MOST_A_DAY


def awaited(
    reader: Reader,
    policies: PolicySet,
    subject: SubjectRef,
    registers: Mapping[tuple[str, str, str], Register],
    now: datetime,
) -> frozenset[str]:
    """The purposes for whose newest grant by e-mail somebody holds a link that confirms it.

    Args:
        reader: where to read.
        policies: the rules in force.
        subject: whom it is about.
        registers: what they said, by purpose, channel and type.
        now: the present.
    """
    found = set()
    for row in reader.execute(
        select(confirmation_request).where(
            _asked.subject_ref == subject, _asked.channel == Channel.EMAIL.value
        )
    ):
        rule = policies.purpose(row.purpose)
        register = registers.get((row.purpose, row.channel, EventType.CHOICE.value))
        if rule is None or rule.double_opt_in is None or register is None:
            continue
        until = row.asked_at + _OVERTIME * rule.double_opt_in.confirm_within
        same_words = (row.notice, row.notice_version) == (register.notice, register.notice_version)
        if now < until and (same_words or row.event_id == register.event_id):
            found.add(row.purpose)
    return frozenset(found)


@unique
class Offer(StrEnum):
    """What has become of what a link would confirm."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    LAPSED = "lapsed"
    OVER = "over"
    """The person has said something else since, or the purpose is gone."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a link would confirm, as it stands now."""

    offer: Offer
    purpose: Purpose | None
    signed_up_at: datetime | None = None
    notice: str | None = None
    notice_version: str | None = None
    open_until: datetime | None = None
    grant_id: str | None = None


class Confirmations:
    """Carries links out. Shared by threads."""

    def __init__(
        self,
        writer: ConsentWriter,
        policies: Callable[[], PolicySet],
        clock: Callable[[], datetime],
    ) -> None:
        self._writer = writer
        self._policies = policies
        self._clock = clock

    def look(self, reader: Reader, link: Link) -> Standing:
        """What a link would confirm now. Changes nothing."""
        return self._standing(reader, link, self._clock())

    def confirm(self, link: Link) -> Standing:
        """Confirm what a link stands for, if its offer is open. Durable when this returns.

        Returns how it stands then: `CONFIRMED`, also where it was before, or why it is not.

        Raises:
            UnknownSubjectError: the person was erased.
        """
        standing: list[Standing] = []

        def decide(session: Session, _: Sequence[SubjectRef], now: datetime) -> list[Record]:
            found = self._standing(session, link, now)
            standing[:] = [found]
            if found.offer is not Offer.OPEN or found.purpose is None or found.grant_id is None:
                return []
            standing[:] = [replace(found, offer=Offer.CONFIRMED)]
            event = confirmation(
                purpose=found.purpose.key,
                channel=link.channel or Channel.EMAIL.value,
                grant_id=found.grant_id,
                method=METHOD,
            )
            return [Record(ref(link.subject), (event,), ACTOR)]

        self._writer.decide([ref(link.subject)], decide)
        return standing[0]

    def _standing(self, reader: Reader, link: Link, now: datetime) -> Standing:
        rule = self._policies().purpose(link.purpose or "")
        if rule is None or rule.double_opt_in is None or link.channel not in rule.channels:
            return Standing(Offer.OVER, rule)
        register = _newest(reader, link.subject, rule.key, link.channel)
        if register is None or register.state != ChoiceState.GRANTED:
            return Standing(Offer.OVER, rule)
        if register.event_id != link.event and not self._same_words(reader, link, register):
            return Standing(Offer.OVER, rule)
        until = register.occurred_at + rule.double_opt_in.confirm_within
        offer = Offer.OPEN if now < until else Offer.LAPSED
        if register.confirmed_at is not None:
            offer = Offer.CONFIRMED if register.confirmed_at < until else Offer.LAPSED
        return Standing(
            offer,
            rule,
            register.occurred_at,
            register.notice,
            register.notice_version,
            until,
            register.event_id,
        )

    def _same_words(self, reader: Reader, link: Link, register: Register) -> bool:
        """Whether the newest grant is under the words of the one that the link was sent for."""
        said = event_table.c
        row = reader.execute(
            select(said.notice, said.notice_version).where(
                said.id == link.event, said.subject_ref == link.subject
            )
        ).one_or_none()
        return row is not None and (row.notice, row.notice_version) == (
            register.notice,
            register.notice_version,
        )


def _newest(reader: Reader, subject: SubjectRef, purpose: str, channel: str) -> Register | None:
    """What the person said last about a purpose and channel, be it about everything."""
    found = read_bearing(reader, [subject], [purpose, ANY], [channel, ANY]).get(subject, [])
    chosen = [one for (_, _, kind), one in found if kind == EventType.CHOICE]
    return max(chosen, key=lambda one: one.rank, default=None)


def forget(session: Session, now: datetime) -> int:
    """Delete who was asked long ago; returns how many. For a regular job."""
    gone = session.execute(
        delete(confirmation_request)
        .where(_asked.asked_at < now - KEPT)
        .returning(_asked.subject_ref)
    )
    return len(gone.all())
