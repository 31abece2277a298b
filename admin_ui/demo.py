"""A fictional shop and its customers, so that a first look finds something.

The same seed gives the same people and choices; only the dates follow the day of the filling.
Every address is under example.com, which belongs to nobody (RFC 2606).
"""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final

from admin_ui import demo_notices
from consent.choices import NewEvent, NoticeRef, Record, choice, confirmation, signal, suppression
from consent.subjects import Identifier, email, external_id
from policies.model import PolicySet, Purpose
from policies.vocabulary import ANY, Channel, ChoiceState, MarkState

if TYPE_CHECKING:
    from admin_ui.services import Services

PEOPLE: Final = 240
_SEED: Final = 20260101
_BATCH: Final = 200
_ACTOR: Final = "system:demo"

_GIVEN: Final = (
    "ada",
    "ben",
    "cleo",
    "dario",
    "ela",
    "finn",
    "gita",
    "hugo",
    "ines",
    "jan",
    "kaya",
)
_FAMILY: Final = ("abel", "brandt", "costa", "dietz", "engel", "fuchs", "garcia", "haas", "klein")


def fill(services: "Services") -> int:
    """Fill an empty installation; returns how many people were made, 0 if it was not empty."""
    with services.database.read() as reader:
        if services.log.frontier(reader).size:
            return 0
    demo_notices.publish(services)
    records = _records(services.policies(), services.clock())
    while batch := list(islice(records, _BATCH)):
        for outcome in services.writer.write(batch):
            if isinstance(outcome, Exception):
                raise outcome
    return PEOPLE


def _records(policies: PolicySet, now: datetime) -> Iterator[Record]:
    dice = random.Random(_SEED)  # noqa: S311 - a fiction, not a secret
    for number in range(PEOPLE):
        person = _person(dice, number)
        for events in _history(dice, policies, now):
            yield Record(person, events, _ACTOR)


def _person(dice: random.Random, number: int) -> Identifier:
    name = f"{dice.choice(_GIVEN)}.{dice.choice(_FAMILY)}"
    if dice.random() < 0.08:
        return external_id("shop", f"C{10_000 + number}")
    return email(f"{name}.{number}@example.com")


def _history(
    dice: random.Random, policies: PolicySet, now: datetime
) -> Iterator[tuple[NewEvent, ...]]:
    """What one person said over up to two years, as batches that were said together."""
    at = now - timedelta(days=dice.randint(5, 700), seconds=dice.randint(0, 80_000))
    asked = [rule for rule in policies.purposes.values() if rule.legal_basis.yields_to_objection]
    for rule in dice.sample(asked, k=dice.randint(1, min(4, len(asked)))):
        yield from _about(dice, policies, rule, at, now)
    if dice.random() < 0.06:
        at = _later(dice, at, now)
        yield (
            choice(
                policies,
                purpose=ANY,
                channel=dice.choice([Channel.EMAIL.value, ANY]),
                state=ChoiceState.OBJECTED,
                method="phone",
                occurred_at=at,
            ),
        )
    if dice.random() < 0.05:
        yield (signal("gpc", MarkState.SET, method="header", occurred_at=_later(dice, at, now)),)
    if dice.random() < 0.02:
        yield (suppression(MarkState.SET, method="officer", occurred_at=_later(dice, at, now)),)


def _about(
    dice: random.Random, policies: PolicySet, rule: Purpose, at: datetime, now: datetime
) -> Iterator[tuple[NewEvent, ...]]:
    channel = dice.choice(sorted(rule.channels))
    said = dice.choices([*ChoiceState], weights=[70, 16, 0, 14])[0]
    first = _said(dice, policies, rule, channel, said, at, now)
    yield (first,)
    if said is not ChoiceState.GRANTED:
        return
    if rule.needs_confirmation(channel) and dice.random() < 0.7:
        yield (
            confirmation(
                purpose=rule.key,
                channel=channel,
                grant_id=first.id,
                method="confirmation_link",
                occurred_at=min(now, at + timedelta(hours=dice.randint(1, 30))),
            ),
        )
    if dice.random() < 0.3:
        at = _later(dice, at, now)
        yield (_said(dice, policies, rule, channel, ChoiceState.WITHDRAWN, at, now),)


def _said(
    dice: random.Random,
    policies: PolicySet,
    rule: Purpose,
    channel: Channel,
    state: ChoiceState,
    at: datetime,
    now: datetime,
) -> NewEvent:
    return choice(
        policies,
        purpose=rule.key,
        channel=channel.value,
        state=state,
        method=dice.choice(["web_form", "checkout", "preference_page", "phone"]),
        occurred_at=at,
        notice=NoticeRef(
            demo_notices.NOTICE,
            demo_notices.version_at(at, now),
            dice.choice(demo_notices.LANGUAGES),
        ),
        evidence={"page": "https://shop.example.com/newsletter"},
    )


def _later(dice: random.Random, at: datetime, now: datetime) -> datetime:
    return at + (now - at) * dice.random()
