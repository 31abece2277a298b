"""The closed words of the field, used by every package.

Each enumeration is closed on purpose: a word that is not here is refused at the door.
The mapping to the W3C Data Privacy Vocabulary (DPV 2.3) stands beside the word it maps.
"""

from enum import StrEnum, unique
from typing import Final

ANY: Final = "*"
"""Stands for every purpose or every channel. Only a denial may use it."""


@unique
class Channel(StrEnum):
    """A way of reaching a person."""

    EMAIL = "email"
    SMS = "sms"
    PHONE = "phone"
    POST = "post"
    PUSH = "push"
    IN_APP = "in_app"
    CHAT = "chat"
    WEB = "web"


@unique
class LegalBasis(StrEnum):
    """Why processing is lawful: GDPR Art. 6(1)(a) to (f), in order."""

    CONSENT = "consent"
    CONTRACT = "contract"
    LEGAL_OBLIGATION = "legal_obligation"
    VITAL_INTERESTS = "vital_interests"
    PUBLIC_TASK = "public_task"
    LEGITIMATE_INTERESTS = "legitimate_interests"

    @property
    def yields_to_objection(self) -> bool:
        """Whether the person may stop it by objecting (Art. 21(1)) or withdrawing (Art. 7(3))."""
        return self in _STOPPABLE

    @property
    def dpv(self) -> str:
        """The DPV term of this basis, under https://w3id.org/dpv#."""
        return _DPV_BASIS[self]

    @property
    def gdpr(self) -> str:
        """The DPV extension's term for the GDPR article, under https://w3id.org/dpv/legal/eu/gdpr#."""
        return f"A6-1-{'abcdef'[list(LegalBasis).index(self)]}"


_STOPPABLE: Final = frozenset(
    {LegalBasis.CONSENT, LegalBasis.LEGITIMATE_INTERESTS, LegalBasis.PUBLIC_TASK}
)
_DPV_BASIS: Final = {
    LegalBasis.CONSENT: "Consent",
    LegalBasis.CONTRACT: "Contract",
    LegalBasis.LEGAL_OBLIGATION: "LegalObligation",
    LegalBasis.VITAL_INTERESTS: "VitalInterest",
    LegalBasis.PUBLIC_TASK: "PublicInterest",
    LegalBasis.LEGITIMATE_INTERESTS: "LegitimateInterest",
}


@unique
class EventType(StrEnum):
    """What kind of fact an event in the ledger records."""

    CHOICE = "choice"
    CONFIRMATION = "confirmation"
    SUPPRESSION = "suppression"
    SIGNAL = "signal"


@unique
class ChoiceState(StrEnum):
    """What a person said about one purpose on one channel."""

    GRANTED = "granted"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    OBJECTED = "objected"

    @property
    def denies(self) -> bool:
        """Whether the person said no."""
        return self is not ChoiceState.GRANTED


@unique
class MarkState(StrEnum):
    """The state of a suppression or a browser signal: in force, or taken back."""

    SET = "set"
    LIFTED = "lifted"


@unique
class Signal(StrEnum):
    """A browser signal that opts a person out of the purposes that heed it."""

    GPC = "gpc"
    """Global Privacy Control: the header `Sec-GPC: 1`."""


UNCLEAR_REPLY: Final = "unclear_reply"
"""The name of the mark that a text message of unclear meaning leaves on its channel until somebody
has read it. A signal by its type; every purpose that a person could stop heeds it."""

CONFIRMED: Final = "confirmed"
"""The only state of a confirmation event: the second step of a double opt-in."""


@unique
class ConsentStatus(StrEnum):
    """The effective status, one to one with the ten consent states of DPV 2.3."""

    GIVEN = "given"
    RENEWED = "renewed"
    REQUESTED = "requested"
    DEFERRED = "deferred"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    INVALIDATED = "invalidated"
    REVOKED = "revoked"
    WITHDRAWN = "withdrawn"

    @property
    def valid(self) -> bool:
        """Whether DPV counts the state as valid for processing: only given and renewed are."""
        return self in (ConsentStatus.GIVEN, ConsentStatus.RENEWED)

    @property
    def dpv(self) -> str:
        """The DPV term of this status, under https://w3id.org/dpv#."""
        return _DPV_STATUS[self]


_DPV_STATUS: Final = {
    ConsentStatus.GIVEN: "ConsentGiven",
    ConsentStatus.RENEWED: "RenewedConsentGiven",
    ConsentStatus.REQUESTED: "ConsentRequested",
    ConsentStatus.DEFERRED: "ConsentRequestDeferred",
    ConsentStatus.REFUSED: "ConsentRefused",
    ConsentStatus.UNKNOWN: "ConsentUnknown",
    ConsentStatus.EXPIRED: "ConsentExpired",
    ConsentStatus.INVALIDATED: "ConsentInvalidated",
    ConsentStatus.REVOKED: "ConsentRevoked",
    ConsentStatus.WITHDRAWN: "ConsentWithdrawn",
}


@unique
class Reason(StrEnum):
    """Why a decision came out as it did. Stable codes: other services branch on them."""

    GRANTED = "GRANTED"
    RENEWED = "RENEWED"
    CONTRACT = "CONTRACT"
    LEGAL_OBLIGATION = "LEGAL_OBLIGATION"
    VITAL_INTERESTS = "VITAL_INTERESTS"
    PUBLIC_TASK = "PUBLIC_TASK"
    LEGITIMATE_INTERESTS = "LEGITIMATE_INTERESTS"

    PURPOSE_UNKNOWN = "PURPOSE_UNKNOWN"
    CHANNEL_NOT_COVERED = "CHANNEL_NOT_COVERED"
    SUBJECT_UNKNOWN = "SUBJECT_UNKNOWN"
    NO_RECORD = "NO_RECORD"
    SUPPRESSED = "SUPPRESSED"
    WITHDRAWN = "WITHDRAWN"
    OBJECTED = "OBJECTED"
    REFUSED = "REFUSED"
    SIGNAL_OPT_OUT = "SIGNAL_OPT_OUT"
    REPLY_UNDER_REVIEW = "REPLY_UNDER_REVIEW"
    EXPIRED = "EXPIRED"
    PENDING_CONFIRMATION = "PENDING_CONFIRMATION"
    CONFIRMATION_LAPSED = "CONFIRMATION_LAPSED"
    NOTICE_SUPERSEDED = "NOTICE_SUPERSEDED"
    CHILD_WITHOUT_AUTHORITY = "CHILD_WITHOUT_AUTHORITY"
    DNC_LISTED = "DNC_LISTED"
    DNC_STALE = "DNC_STALE"
    DNC_NUMBER_UNKNOWN = "DNC_NUMBER_UNKNOWN"
    STATE_UNREADABLE = "STATE_UNREADABLE"
