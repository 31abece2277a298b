"""Errors of this package. Each has a stable code for programs and a sentence for people.

Messages never contain an identifier or any other personal data.
"""

from collections.abc import Sequence
from typing import ClassVar, Final


class ConsentError(Exception):
    """Base of all errors that consent raises on purpose."""

    code: ClassVar[str] = "CONSENT_ERROR"


class InvalidSubjectError(ConsentError):
    """The subject is not one of the four forms, or its identifier is malformed."""

    code = "SUBJECT_INVALID"


class UnknownSubjectError(ConsentError):
    """The subject ref names nobody."""

    code = "SUBJECT_UNKNOWN"


class UnknownPurposeError(ConsentError):
    """The purpose is not in the active policy."""

    code = "PURPOSE_UNKNOWN"


class ChannelNotCoveredError(ConsentError):
    """The purpose is not pursued on this channel."""

    code = "CHANNEL_NOT_COVERED"


class InvalidChoiceError(ConsentError):
    """The choice contradicts itself or the rules for recording one."""

    code = "CHOICE_INVALID"


class UnknownNoticeError(ConsentError):
    """No such words were published, or they were not in effect yet when the choice was made."""

    code = "NOTICE_UNKNOWN"

    def __init__(self, message: str, places: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.places: Final = tuple(places)
        """Which events of a command name them, by their position."""


class UnknownEventError(ConsentError):
    """No event has this id."""

    code = "EVENT_UNKNOWN"


class InvalidInstantError(ConsentError):
    """The question is about a time that has not come."""

    code = "AS_OF_IN_FUTURE"


class InvalidCursorError(ConsentError):
    """The cursor was not given out by this feed, or the ledger is shorter than it says."""

    code = "CURSOR_INVALID"


class MirrorOutdatedError(ConsentError):
    """The copy was made under other rules, of another history, or too long ago: start over."""

    code = "MIRROR_OUTDATED"


class IdempotencyConflictError(ConsentError):
    """The same idempotency key was used before with another body."""

    code = "IDEMPOTENCY_CONFLICT"


class LedgerError(ConsentError):
    """The ledger cannot be trusted or extended as it stands."""

    code = "LEDGER_ERROR"


class LedgerRolledBackError(LedgerError):
    """The database holds less than, or other than, what was already signed."""

    code = "LEDGER_ROLLED_BACK"


class EvidenceErasedError(ConsentError):
    """The person's key was destroyed, so this event's disclosures cannot be read any more."""

    code = "EVIDENCE_ERASED"
