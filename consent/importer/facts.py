"""From what a row says about a person to an event with an id of its own. Pure.

The id is derived from the fact, so that the same fact is the same event whenever, and in whatever
file, it is met again. A CRM's opt-out has no date: it means "from this import on", and a later
export may mean it anew. So the id of a denial is twelve bytes for the fact and four for the export
(the set of its rows):

- as long as the denial stands, it is the same fact in every export, and nothing new;
- once the person has granted something since, the same export says nothing new either, but another
  one does: it may be a new opt-out, and a wrong denial is better than a wrong permission.
"""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from consent.choices import NewEvent, NoticeRef, choice, confirmation
from consent.importer.statements import Denial, OptIn
from consent.ledger.canonical import JSONValue, encode
from consent.registers import Key, Register
from consent.subjects import SubjectRef
from policies.model import PolicySet
from policies.vocabulary import ANY, ChoiceState, EventType

Fingerprint: TypeAlias = Callable[[bytes], bytes]
"""A keyed hash of 16 bytes or more: without the key, an event id confirms no guess."""
Held: TypeAlias = Mapping[Key, Register]
"""All registers of one person."""

_FORMAT: Final = "tutela/import/1"
_FACT_BYTES: Final = 12
_FACT_CHARACTERS: Final = 28
"""Those bytes as an event id spells them, with its dashes."""
_VERSION_AT: Final = 14
_IMPORTED: Final = "8"
_NEXT: Final = timedelta(microseconds=1)
_SAME: Final = timedelta(milliseconds=1)
"""Within it lie a grant and what restates it: exports have no finer times."""
_MOST_WORDS: Final = 4000
_MOST_CELL: Final = 120
_MOST_CELLS: Final = 10


@dataclass(frozen=True, slots=True)
class Fact:
    """Something to record about one person, unless it is known."""

    subject: SubjectRef
    event: NewEvent
    denial: Denial | None = None
    """The denial that it is, where the export does not say since when."""
    supplied: bool = False
    """Whether an officer said when it happened."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a row comes from: part of its evidence, and what its facts are derived with."""

    system: str
    method: str
    policies: PolicySet
    fingerprint: Fingerprint
    export: bytes
    """A fingerprint of the rows of the export, whatever their order."""

    def denied(self, subject: SubjectRef, denial: Denial, place: Mapping[str, JSONValue]) -> Fact:
        """The fact that the person says no: at its own time, or from now on."""
        purpose, channel = denial.purpose, denial.channel
        if denial.at is None:
            fact = self._hash("denial", subject, purpose, channel)[:_FACT_BYTES] + self.export[:4]
        else:
            fact = self._hash("denial", subject, purpose, channel, denial.at.isoformat())
        event = choice(
            self.policies,
            purpose=purpose,
            channel=channel,
            state=denial.state,
            method=self.method,
            occurred_at=denial.at,
            evidence={
                **place,
                "said_in": [
                    {"column": _clipped(column, _MOST_CELL), "cell": _clipped(cell, _MOST_CELL)}
                    for column, cell in denial.said_in[:_MOST_CELLS]
                ],
            },
            event_id=_event_id(fact),
            elsewhere=True,
        )
        return Fact(subject, event, denial if denial.at is None else None)

    def granted(
        self, subject: SubjectRef, opt_in: OptIn, place: Mapping[str, JSONValue], now: datetime
    ) -> Iterator[Fact]:
        """The fact that the person consented and, if it is known, that they confirmed it.

        A day is not a time: the consent is dated to the day's first moment (UTC), so that no
        denial of the same day comes before it, and a tie goes to the denial.
        """
        notice = opt_in.notice
        grant_id = _event_id(
            self._hash(
                "grant",
                subject,
                opt_in.purpose,
                opt_in.channel,
                opt_in.stated_at,
                notice.id,
                notice.version,
                opt_in.words,
            )
        )
        evidence: dict[str, JSONValue] = {
            **place,
            "stated_date": opt_in.stated_at,
            "stated_source": _clipped(opt_in.source, _MOST_CELL),
            "stated_words": _clipped(opt_in.words, _MOST_WORDS),
            **{name: _clipped(cell, _MOST_CELL) for name, cell in opt_in.more.items()},
        }
        if opt_in.age is not None:
            evidence["age"] = opt_in.age
        if opt_in.supplied:
            evidence["supplied"] = list(opt_in.supplied)
        event = choice(
            self.policies,
            purpose=opt_in.purpose,
            channel=opt_in.channel,
            state=ChoiceState.GRANTED,
            method=self.method,
            occurred_at=opt_in.given_at,
            notice=notice,
            evidence=evidence,
            ends_at=opt_in.ends_at,
            event_id=grant_id,
            own_words=True,
        )
        yield Fact(subject, event, supplied="date" in opt_in.supplied)
        confirmed_at = opt_in.confirmed_at
        if confirmed_at is not None and opt_in.given_at <= confirmed_at <= now:
            confirmed = confirmation(
                purpose=opt_in.purpose,
                channel=opt_in.channel,
                grant_id=grant_id,
                method=self.method,
                occurred_at=confirmed_at,
            )
            own_id = _event_id(self._hash("confirmation", grant_id, confirmed_at.isoformat()))
            yield Fact(subject, replace(confirmed, id=own_id, derived=True))

    def restated(
        self,
        subject: SubjectRef,
        key: Key,
        register: Register,
        place: Mapping[str, JSONValue],
        *,
        ends_at: datetime | None = None,
        age: str | None = None,
    ) -> Fact:
        """An imported grant again, with what was learned of it since: it ends sooner, or a child
        gave it. Dated the least after it, so that it takes the grant's place and nothing else's.
        """
        purpose, channel, _ = key
        why = "child" if age is not None else ends_at.isoformat() if ends_at is not None else ""
        event = choice(
            self.policies,
            purpose=purpose,
            channel=channel,
            state=ChoiceState.GRANTED,
            method=self.method,
            occurred_at=register.occurred_at + _NEXT,
            notice=NoticeRef(register.notice or "", register.notice_version or "", "und"),
            evidence={
                **place,
                "restates": register.event_id,
                **({} if age is None else {"stated_age": age}),
            },
            ends_at=ends_at or register.ends_at,
            confirmed_at=None if register.confirmed_at is None else register.confirmed_at + _NEXT,
            event_id=_event_id(self._hash("restated", register.event_id, why)),
            own_words=True,
        )
        child = age is not None or register.child_without_authority
        return Fact(subject, replace(event, child_without_authority=child))

    def _hash(self, *parts: str) -> bytes:
        return self.fingerprint(encode([_FORMAT, self.system, *parts]))


def stands(fact: Fact, held: Held) -> bool:
    """Whether a denial is in force already by an event of the same fact, from whatever export."""
    denial = fact.denial
    if denial is None:
        return False
    register = held.get((denial.purpose, denial.channel, EventType.CHOICE.value))
    if register is None or register.event_id[:_FACT_CHARACTERS] != fact.event.id[:_FACT_CHARACTERS]:
        return False
    return all(grant.occurred_at <= register.occurred_at for grant in _grants(denial, held))


def overrules(fact: Fact, held: Held) -> bool:
    """Whether a denial ends a grant that was not imported, so that somebody should look at it."""
    denial = fact.denial
    return denial is not None and any(not is_imported(grant) for grant in _grants(denial, held))


def is_imported(register: Register) -> bool:
    """Whether an import recorded it: the id of its event says so."""
    return register.event_id[_VERSION_AT] == _IMPORTED


def ends_sooner(event: NewEvent, register: Register) -> bool:
    """Whether an export says of the very grant that a register holds that it ends earlier.

    That it ends later is not heeded: nobody was asked again.
    """
    if event.ends_at is None or event.occurred_at is None:
        return False
    return (
        event.state == register.state == ChoiceState.GRANTED
        and is_imported(register)
        and timedelta(0) <= register.occurred_at - event.occurred_at < _SAME
        and (register.ends_at is None or event.ends_at < register.ends_at)
    )


def denied_since(fact: Fact, held: Held) -> bool:
    """Whether the person says no to what an officer dated. Their own word counts, whenever said."""
    return fact.supplied and any(
        register.state != ChoiceState.GRANTED
        and kind == EventType.CHOICE
        and purpose in (fact.event.purpose, ANY)
        and channel in (fact.event.channel, ANY)
        for (purpose, channel, kind), register in held.items()
    )


def _grants(denial: Denial, held: Held) -> Iterator[Register]:
    """The grants that a denial is about."""
    for (purpose, channel, kind), register in held.items():
        if (
            kind == EventType.CHOICE
            and register.state == ChoiceState.GRANTED
            and denial.purpose in (purpose, ANY)
            and denial.channel in (channel, ANY)
        ):
            yield register


def _event_id(digest: bytes) -> str:
    """A UUID of version 8 (RFC 9562 section 5.8): bits of our own, but for version and variant."""
    octets = bytearray(digest[:16])
    octets[6] = octets[6] & 0x0F | 0x80
    octets[8] = octets[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(octets)))


def _clipped(text: str, most: int) -> str:
    """The text as evidence: at most that many bytes of JSON."""
    if text.isascii() and text.isprintable() and len(text) <= most // 2 - 2:
        return text
    while len(json.dumps(text)) > most:
        text = f"{text[: len(text) * 3 // 4]}…"
    return text
