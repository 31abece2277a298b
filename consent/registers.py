"""What a person said, folded into registers. Pure.

A register holds the newest fact of one person, purpose, channel and event type. `merge` is
commutative, associative and idempotent: whatever the order in which events arrive, however
often, the result is that of their true order. `occurred_at` decides; a tie goes to the denial;
a tie of two equals goes to the greater event id, so that it is decided at all.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from consent.notice_history import NoticeHistory
from policies.decisions import Choice, Facts
from policies.vocabulary import ANY, UNCLEAR_REPLY, ChoiceState, EventType, MarkState

Key: TypeAlias = tuple[str, str, str]
"""Purpose (for a signal: its name), channel, event type."""


@dataclass(frozen=True, slots=True)
class Register:
    """The newest fact of one key; `consent_state` keeps it in a row."""

    state: str
    event_id: str
    idx: int
    occurred_at: datetime
    first_granted_at: datetime | None = None
    confirmed_at: datetime | None = None
    ends_at: datetime | None = None
    notice: str | None = None
    notice_version: str | None = None
    child_without_authority: bool = False

    @property
    def rank(self) -> tuple[datetime, bool, str]:
        """What decides between two facts of one key."""
        return self.occurred_at, self.state not in _ALLOWING, self.event_id


_ALLOWING = frozenset({ChoiceState.GRANTED.value, MarkState.LIFTED.value})


@dataclass(frozen=True, slots=True)
class Event:
    """The part of an event that bears on state."""

    key: Key
    fact: Register
    confirms: str | None = None
    """For a confirmation: the id of the grant it confirms."""


def register_of(
    *,
    state: str,
    event_id: str,
    idx: int,
    occurred_at: datetime,
    confirmed_at: datetime | None = None,
    ends_at: datetime | None = None,
    notice: str | None = None,
    notice_version: str | None = None,
    child_without_authority: bool = False,
) -> Register:
    """The register that holds one event alone."""
    return Register(
        state=state,
        event_id=event_id,
        idx=idx,
        occurred_at=occurred_at,
        first_granted_at=occurred_at if state == ChoiceState.GRANTED else None,
        confirmed_at=confirmed_at,
        ends_at=ends_at,
        notice=notice,
        notice_version=notice_version,
        child_without_authority=child_without_authority,
    )


def merge(register: Register | None, event: Event) -> Register | None:
    """The register after `event`. Confirming anything but the newest grant changes nothing."""
    fact = event.fact
    if event.confirms is not None:
        if register is None or register.event_id != event.confirms:
            return register
        return replace(register, confirmed_at=_earlier(register.confirmed_at, fact.occurred_at))
    if register is None or register.event_id == fact.event_id:
        return register or fact
    winner = max(register, fact, key=lambda one: one.rank)
    return replace(
        winner, first_granted_at=_earlier(register.first_granted_at, fact.first_granted_at)
    )


def fold(events: Iterable[Event]) -> dict[Key, Register]:
    """The registers that a set of events leaves, in any order of arrival.

    Confirmations refer to ids that only exist once their grant is recorded, so they are taken
    after all else.
    """
    registers: dict[Key, Register] = {}
    late: list[Event] = []
    for event in events:
        if event.confirms is not None:
            late.append(event)
        else:
            registers[event.key] = merge(registers.get(event.key), event) or event.fact
    for event in late:
        confirmed = merge(registers.get(event.key), event)
        if confirmed is not None:
            registers[event.key] = confirmed
    return registers


def facts_of(
    registers: Iterable[tuple[Key, Register]], signals: frozenset[str], notices: NoticeHistory
) -> Facts:
    """The facts for a decision, from the registers that bear on one purpose and channel.

    The caller selects registers of the purpose and of every purpose, on the channel and on every
    channel. Between them the newest counts, and a tie goes to the denial. `notices` are all that
    were published: they say whether the words of a grant still stand.
    """
    chosen: Register | None = None
    suppression: Register | None = None
    signal: Register | None = None
    reply: Register | None = None
    for (purpose, _, kind), register in registers:
        if kind == EventType.CHOICE:
            chosen = _newer(chosen, register)
        elif register.state != MarkState.SET:
            continue
        elif kind == EventType.SUPPRESSION:
            suppression = _newer(suppression, register)
        elif kind == EventType.SIGNAL and purpose in signals:
            if purpose == UNCLEAR_REPLY:
                reply = _newer(reply, register)
            else:
                signal = _newer(signal, register)
    return Facts(
        known=True,
        choice=_choice(chosen, notices) if chosen is not None else None,
        suppression=suppression.event_id if suppression is not None else None,
        signal=signal.event_id if signal is not None else None,
        unclear_reply=reply.event_id if reply is not None else None,
    )


def _choice(register: Register, notices: NoticeHistory) -> Choice:
    first = register.first_granted_at
    return Choice(
        state=ChoiceState(register.state),
        occurred_at=register.occurred_at,
        record_id=register.event_id,
        renewed=first is not None and first < register.occurred_at,
        confirmed_at=register.confirmed_at,
        ends_at=register.ends_at,
        notice=register.notice,
        notice_version=register.notice_version,
        superseded_at=(
            notices.superseded_at(register.notice, register.notice_version, register.occurred_at)
            if register.state == ChoiceState.GRANTED
            else None
        ),
        child_without_authority=register.child_without_authority,
    )


def _newer(one: Register | None, other: Register) -> Register:
    return other if one is None or other.rank > one.rank else one


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return min(one, other)


def bears_on(key: Key, purpose: str, channel: str, signals: frozenset[str]) -> bool:
    """Whether the register of `key` has a say on this purpose and channel."""
    named, on, kind = key
    if on not in (channel, ANY):
        return False
    if kind == EventType.SIGNAL:
        return named in signals
    return named in (purpose, ANY)
