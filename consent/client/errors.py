"""What can go wrong between a program and the service. Messages name no person and no key."""

from collections.abc import Mapping
from enum import StrEnum, unique
from typing import Any, ClassVar


@unique
class LocalReason(StrEnum):
    """Why this side said no, where the service could not be asked or its answer not be used."""

    SERVICE_UNREACHABLE = "SERVICE_UNREACHABLE"
    """No connection, or no answer in time."""
    SERVICE_BUSY = "SERVICE_BUSY"
    """It asked to be left alone for now (429, 503), and went on asking."""
    SERVICE_FAILED = "SERVICE_FAILED"
    """It failed (5xx)."""
    KEY_REFUSED = "KEY_REFUSED"
    """The API key is unknown, expired or revoked, or lacks the scope."""
    QUESTION_REFUSED = "QUESTION_REFUSED"
    """The service does not accept the question, such as a malformed address."""
    ANSWER_UNREADABLE = "ANSWER_UNREADABLE"
    """What came back is not an answer of this service."""
    SUBJECT_INVALID = "SUBJECT_INVALID"
    """The identifier has not the form of its kind."""
    NOBODY = "NOBODY"
    """There is nobody to ask about, such as a visitor who is not logged in."""
    NOT_MIRRORED = "NOT_MIRRORED"
    """This mirror does not hold that purpose, channel or kind of identifier."""
    MIRROR_NOT_READY = "MIRROR_NOT_READY"
    """The mirror has not read everything yet."""
    MIRROR_STALE = "MIRROR_STALE"
    """The mirror has not heard from the service for too long."""


class ClientError(Exception):
    """Base of all that this package raises on purpose."""

    reason: str
    """A stable code: the service's own, or one of `LocalReason`."""
    local: ClassVar[LocalReason] = LocalReason.SERVICE_FAILED
    """The reason of a check that is denied for it."""
    idempotency_key: str | None = None
    """For a write that may have been carried out or not: repeat it under this key, and it is one
    act."""

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or self.local


class NotAnsweredError(ClientError):
    """There was no answer: no connection, a broken one, or none in time."""

    local = LocalReason.SERVICE_UNREACHABLE


class BusyError(ClientError):
    """The service asked to be left alone for now, and went on asking."""

    local = LocalReason.SERVICE_BUSY


class FailedError(ClientError):
    """The service failed."""

    local = LocalReason.SERVICE_FAILED


class UnreadableAnswerError(ClientError):
    """What came back is not an answer of this service: another server, a proxy, another version."""

    local = LocalReason.ANSWER_UNREADABLE


class RefusedError(ClientError):
    """The service understood and refused. `fields` names what to mend, never its value."""

    local = LocalReason.QUESTION_REFUSED

    def __init__(
        self, message: str, reason: str, status: int, fields: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, reason)
        self.status = status
        self.fields = fields or {}


class KeyRefusedError(RefusedError):
    """The API key is unknown, expired or revoked, or lacks the scope for this."""

    local = LocalReason.KEY_REFUSED
