"""A word and a shape for every state; the sentences are those of `policies.explain`. Pure.

A state is told by its shape and its word, and its colour only repeats them: an outlined tag is a
yes, a filled dark one a no, amber asks for something, a dashed one waits or is not known. The
words are finer than the ten statuses: "objected" and "withdrawn" are one status and two things.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from policies.decisions import Decision
from policies.explain import CHANNELS, REASONS
from policies.model import PolicySet
from policies.vocabulary import (
    ANY,
    CONFIRMED,
    UNCLEAR_REPLY,
    ChoiceState,
    EventType,
    MarkState,
    Reason,
)


class Tone(StrEnum):
    """Form and colour of a tag; the style sheet has a class for each."""

    ON = "on"
    OPEN = "open"
    SOON = "soon"
    FAILED = "failed"
    HELD = "held"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Tag:
    """A state as pages show it."""

    word: str
    tone: Tone
    brief: str = ""
    """Why, in a few words, for a table's column; `why` says it in full."""


EFFECTIVE: Final[Mapping[Reason, Tag]] = MappingProxyType(
    {
        Reason.GRANTED: Tag("Granted", Tone.ON, "said yes"),
        Reason.RENEWED: Tag("Renewed", Tone.ON, "said yes again"),
        Reason.CONTRACT: Tag("Contract", Tone.OPEN, "a contract needs it"),
        Reason.LEGAL_OBLIGATION: Tag("Legal duty", Tone.OPEN, "the law demands it"),
        Reason.VITAL_INTERESTS: Tag("Vital interests", Tone.OPEN, "protects a life"),
        Reason.PUBLIC_TASK: Tag("Public task", Tone.OPEN, "public task"),
        Reason.LEGITIMATE_INTERESTS: Tag("Not objected", Tone.OPEN, "legitimate interests"),
        Reason.PENDING_CONFIRMATION: Tag("Pending confirmation", Tone.SOON, "second step is open"),
        Reason.NOTICE_SUPERSEDED: Tag("Needs re-consent", Tone.SOON, "the notice has changed"),
        Reason.EXPIRED: Tag("Expired", Tone.SOON, "reached its end"),
        Reason.CONFIRMATION_LAPSED: Tag("Not confirmed", Tone.HELD, "second step was missed"),
        Reason.CHILD_WITHOUT_AUTHORITY: Tag("Needs a parent", Tone.HELD, "a child, no parent"),
        Reason.WITHDRAWN: Tag("Withdrawn", Tone.NO, "took the yes back"),
        Reason.OBJECTED: Tag("Objected", Tone.NO, "does not want it"),
        Reason.REFUSED: Tag("Denied", Tone.NO, "was asked, said no"),
        Reason.SUPPRESSED: Tag("Suppressed", Tone.NO, "standing no"),
        Reason.SIGNAL_OPT_OUT: Tag("Signal opt-out", Tone.NO, "browser opts out"),
        Reason.REPLY_UNDER_REVIEW: Tag("Reply unread", Tone.HELD, "a text message to read"),
        Reason.DNC_LISTED: Tag("Do-not-call list", Tone.NO, "number is listed"),
        Reason.DNC_STALE: Tag("List too old", Tone.HELD, "do-not-call list to renew"),
        Reason.DNC_NUMBER_UNKNOWN: Tag("No number", Tone.UNKNOWN, "nothing to compare"),
        Reason.NO_RECORD: Tag("Unknown", Tone.UNKNOWN, "no yes on record"),
        Reason.SUBJECT_UNKNOWN: Tag("Nobody known", Tone.UNKNOWN, "unknown identifier"),
        Reason.PURPOSE_UNKNOWN: Tag("Unknown purpose", Tone.UNKNOWN, "not in the policy"),
        Reason.CHANNEL_NOT_COVERED: Tag("Not pursued", Tone.UNKNOWN, "not on this channel"),
        Reason.STATE_UNREADABLE: Tag("Unreadable", Tone.FAILED, "cannot be read"),
    }
)
"""The effective status by the reason of the decision, in the order of a list to choose from."""

_STATES: Final[Mapping[str, Tag]] = MappingProxyType(
    {
        ChoiceState.GRANTED: Tag("Granted", Tone.ON),
        ChoiceState.REFUSED: Tag("Refused", Tone.NO),
        ChoiceState.WITHDRAWN: Tag("Withdrawn", Tone.NO),
        ChoiceState.OBJECTED: Tag("Objected", Tone.NO),
        CONFIRMED: Tag("Confirmed", Tone.ON),
    }
)

_MARKS: Final[Mapping[tuple[str, str], Tag]] = MappingProxyType(
    {
        (EventType.SUPPRESSION, MarkState.SET): Tag("Suppressed", Tone.NO),
        (EventType.SUPPRESSION, MarkState.LIFTED): Tag("Suppression lifted", Tone.OPEN),
        (EventType.SIGNAL, MarkState.SET): Tag("Signal seen", Tone.NO),
        (EventType.SIGNAL, MarkState.LIFTED): Tag("Signal lifted", Tone.OPEN),
    }
)

_SIGNALS: Final = {"gpc": "Global Privacy Control", UNCLEAR_REPLY: "Text message to read"}


def effective(decision: Decision) -> Tag:
    """The effective status."""
    return EFFECTIVE[decision.reason]


def why(decision: Decision) -> str:
    """The reason, as a sentence."""
    return REASONS[decision.reason]


def stored(kind: str, state: str) -> Tag:
    """What an event or a register says by itself."""
    return _MARKS.get((kind, state)) or _STATES.get(state) or Tag(state, Tone.UNKNOWN)


def purpose_name(policies: PolicySet, key: str, kind: str = EventType.CHOICE) -> str:
    """A purpose as people call it; its key, where the policy does not have it any more."""
    if kind == EventType.SIGNAL:
        return _SIGNALS.get(key, key)
    if key == ANY:
        return "Every purpose"
    rule = policies.purpose(key)
    return rule.name if rule is not None else key


def channel_name(channel: str) -> str:
    """A channel as people call it."""
    if channel == ANY:
        return "Every channel"
    return {one.value: name for one, name in CHANNELS.items()}.get(channel, channel)


def spaced(code: str) -> str:
    """A short machine name such as `web_form`, for reading."""
    return code.replace("_", " ")
