"""Which events an endpoint is told of, and what it is told. Pure.

Without any field configured a body holds ids, the event's place in the ledger and the time at which
it was recorded: who wants more asks the API, with a key of their own. What a receiver may see
beyond that is named field by field; an identifier only as the id that the receiver's own system
gave the person.
"""

import json
from collections.abc import Collection, Sequence
from enum import StrEnum, unique
from typing import Any, Final

from consent.ledger.leaf import timestamp
from consent.outbox import Change
from policies.vocabulary import ANY, EventType

CHANGED: Final = "consent.changed"
TEST: Final = "webhook.test"


@unique
class Field(StrEnum):
    """What a body may say besides ids."""

    TYPE = "type"
    PURPOSE = "purpose"
    CHANNEL = "channel"
    STATE = "state"
    OCCURRED_AT = "occurred_at"
    EXTERNAL_IDS = "external_ids"

    @property
    def description(self) -> str:
        """What it tells a receiver."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS: Final = {
    Field.TYPE: "whether it is a choice, a confirmation, a suppression or a signal",
    Field.PURPOSE: "which purpose it is about",
    Field.CHANNEL: "which channel it is about",
    Field.STATE: "what was said: granted, refused, withdrawn, objected, set or lifted",
    Field.OCCURRED_AT: "when it happened, if that is not when it was recorded",
    Field.EXTERNAL_IDS: "the ids that the system named below gave the person",
}


def concerns(change: Change, purposes: Collection[str], types: Collection[str]) -> bool:
    """Whether an endpoint with these filters is told of a change.

    No purposes or no types means all. What holds for every purpose (a withdrawal of everything, a
    suppression, a browser's signal) passes every filter of purposes.
    """
    if types and change.type not in types:
        return False
    about_all = change.purpose == ANY or change.type in (EventType.SUPPRESSION, EventType.SIGNAL)
    return not purposes or about_all or change.purpose in purposes


def body_of(
    change: Change, fields: Collection[str], system: str | None, external_ids: Sequence[str]
) -> bytes:
    """The body about a change: compact JSON in UTF-8."""
    data: dict[str, Any] = {"id": change.id, "index": change.index, "subject": change.subject}
    shown = {
        Field.TYPE: change.type,
        Field.PURPOSE: change.purpose,
        Field.CHANNEL: change.channel,
        Field.STATE: change.state,
        Field.OCCURRED_AT: timestamp(change.occurred_at),
        Field.EXTERNAL_IDS: [{"system": system, "id": one} for one in external_ids],
    }
    data |= {field.value: value for field, value in shown.items() if field in fields}
    return _encoded(CHANGED, timestamp(change.recorded_at), data)


def test_body(at: str) -> bytes:
    """The body of an event that an operator makes to try an endpoint out."""
    return _encoded(TEST, at, {})


def _encoded(kind: str, at: str, data: dict[str, Any]) -> bytes:
    document = {"type": kind, "timestamp": at, "data": data}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
