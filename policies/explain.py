"""The words of the field for people: what a decision, a status or a channel is called.

One place, so that the console, the API's documents and the command line say the same. English;
a sentence never names a person.
"""

from datetime import UTC
from typing import Final

from policies.decisions import Decision
from policies.vocabulary import Channel, ConsentStatus, LegalBasis, Reason

REASONS: Final = {
    Reason.GRANTED: "The person consented.",
    Reason.RENEWED: "The person consented again.",
    Reason.CONTRACT: "A contract with the person takes it; consent is not asked for.",
    Reason.LEGAL_OBLIGATION: "The law obliges us to; consent is not asked for.",
    Reason.VITAL_INTERESTS: "It protects someone's life; consent is not asked for.",
    Reason.PUBLIC_TASK: "It is a task in the public interest, and the person has not objected.",
    Reason.LEGITIMATE_INTERESTS: "It is a legitimate interest, and the person has not objected.",
    Reason.PURPOSE_UNKNOWN: "No policy in force declares this purpose.",
    Reason.CHANNEL_NOT_COVERED: "The purpose is not pursued on this channel.",
    Reason.SUBJECT_UNKNOWN: "Nobody is known under this identifier.",
    Reason.NO_RECORD: "The purpose takes consent, and the person has not given it.",
    Reason.SUPPRESSED: "The person is on a suppression list.",
    Reason.WITHDRAWN: "The person withdrew consent.",
    Reason.OBJECTED: "The person objected.",
    Reason.REFUSED: "The person was asked and refused.",
    Reason.SIGNAL_OPT_OUT: "The person's browser sends a signal to opt out.",
    Reason.REPLY_UNDER_REVIEW: "The person sent a text message that somebody has to read first.",
    Reason.EXPIRED: "The person consented, and that consent has run out.",
    Reason.PENDING_CONFIRMATION: "The person signed up and has not confirmed it yet.",
    Reason.CONFIRMATION_LAPSED: "The person signed up and did not confirm it in time.",
    Reason.NOTICE_SUPERSEDED: "What the person agreed to has changed since: we have to ask again.",
    Reason.CHILD_WITHOUT_AUTHORITY: "A child agreed, and nobody with parental responsibility did.",
    Reason.DNC_LISTED: "The person's number is on a do-not-call list.",
    Reason.DNC_STALE: "Our copy of a do-not-call list is missing or too old to rely on.",
    Reason.DNC_NUMBER_UNKNOWN: "No number is known to compare with the do-not-call lists.",
    Reason.STATE_UNREADABLE: "The stored choices cannot be read or verified, so the answer is no.",
}

STATUSES: Final = {
    ConsentStatus.GIVEN: "Given",
    ConsentStatus.RENEWED: "Given again",
    ConsentStatus.REQUESTED: "Waiting for confirmation",
    ConsentStatus.DEFERRED: "Not confirmed in time",
    ConsentStatus.REFUSED: "Refused",
    ConsentStatus.UNKNOWN: "No consent on record",
    ConsentStatus.EXPIRED: "Expired",
    ConsentStatus.INVALIDATED: "No longer valid",
    ConsentStatus.REVOKED: "Suppressed",
    ConsentStatus.WITHDRAWN: "Withdrawn",
}

CHANNELS: Final = {
    Channel.EMAIL: "E-mail",
    Channel.SMS: "Text message",
    Channel.PHONE: "Telephone",
    Channel.POST: "Letter",
    Channel.PUSH: "Push message",
    Channel.IN_APP: "In the app",
    Channel.CHAT: "Chat",
    Channel.WEB: "Website",
}

LEGAL_BASES: Final = {
    LegalBasis.CONSENT: "Consent",
    LegalBasis.CONTRACT: "Contract",
    LegalBasis.LEGAL_OBLIGATION: "Legal obligation",
    LegalBasis.VITAL_INTERESTS: "Vital interests",
    LegalBasis.PUBLIC_TASK: "Public task",
    LegalBasis.LEGITIMATE_INTERESTS: "Legitimate interests",
}


def explain(decision: Decision) -> str:
    """The decision in one or two sentences, such as `Yes. The person consented. …`."""
    sentence = f"{'Yes' if decision.allow else 'No'}. {REASONS[decision.reason]}"
    if decision.allow and decision.expires_at is not None:
        until = decision.expires_at.astimezone(UTC)
        sentence += f" This ends on {until:%Y-%m-%d} at {until:%H:%M} UTC."
    return sentence
