"""The answer to "may this happen now?", as a value.

A decision is true or false as it allows or not, so that `if client.check(…):` means what it says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from consent.client.errors import LocalReason, UnreadableAnswerError
from consent.client.subjects import Subject

UNKNOWN = "unknown"
"""The status of what nobody knows."""


@dataclass(frozen=True)
class Decision:
    """May this happen? Act on `allow` alone; log the rest, which explains it later."""

    allow: bool
    status: str
    """The effective status: one of the ten consent states of the service, such as `given`."""
    reason: str
    """A stable code: the service's own, or one of `LocalReason`."""
    record_id: str | None
    """The event that decided."""
    as_of: datetime
    """The instant at which it holds. Where a mirror is stale: when it last equalled the service."""
    expires_at: datetime | None
    """When an allow ends by itself."""
    basis: str | None
    """The legal basis of the purpose."""
    policy: str | None
    """Hash of the policy set that decided."""
    detail: str = ""
    """Where this side said no: a sentence for whoever reads the log."""

    def __bool__(self) -> bool:
        return self.allow


class Checks(Protocol):
    """What answers checks: a `Client`, a `Mirror`, or a stand-in of your tests."""

    def check(self, subject: Subject, purpose: str, channel: str) -> Decision:
        """May this channel be used for this purpose towards this person, now?"""


def denied(reason: LocalReason, detail: str, as_of: datetime | None = None) -> Decision:
    """A no of this side."""
    return Decision(
        allow=False,
        status=UNKNOWN,
        reason=reason.value,
        record_id=None,
        as_of=as_of or datetime.now(UTC),
        expires_at=None,
        basis=None,
        policy=None,
        detail=detail,
    )


def read_decision(answer: Any) -> Decision:
    """A decision as the service writes it.

    Raises:
        UnreadableAnswerError: it is none. Nothing but a literal `true` allows.
    """
    if not isinstance(answer, Mapping) or not isinstance(answer.get("allow"), bool):
        raise UnreadableAnswerError("the answer is not a decision")
    try:
        return Decision(
            allow=answer["allow"],
            status=_text(answer["status"]),
            reason=_text(answer["reason"]),
            record_id=_optional(answer["record_id"]),
            as_of=instant(answer["as_of"]),
            expires_at=None if answer["expires_at"] is None else instant(answer["expires_at"]),
            basis=_optional(answer["basis"]),
            policy=_optional(answer["policy"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableAnswerError("the answer is not a decision") from error


def instant(text: Any) -> datetime:
    """An instant as the service writes it, in UTC.

    Raises:
        TypeError: it is no text.
        ValueError: it is no instant.
    """
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError("an instant has an offset")
    return value.astimezone(UTC)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


def _optional(value: Any) -> str | None:
    return None if value is None else _text(value)
