"""What a person chose, as it is sent to be recorded, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from consent.client.errors import UnreadableAnswerError

ANY: Final = "*"
"""Every purpose, or every channel. Only a denial may say so."""


@dataclass(frozen=True, slots=True)
class Notice:
    """The words that the person was shown: which notice, in which version and language."""

    id: str
    version: str
    language: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice. Made by the functions below."""

    purpose: str
    channel: str
    state: str
    notice: Notice | None = None
    method: str | None = None
    occurred_at: datetime | None = None
    """When the person said so, if not now: aware."""
    evidence: Mapping[str, Any] | None = field(default=None, repr=False)

    def wire(self) -> dict[str, Any]:
        """As the API takes it.

        Raises:
            ValueError: `occurred_at` has no time zone.
        """
        said: dict[str, Any] = {
            "purpose": self.purpose,
            "channel": self.channel,
            "state": self.state,
        }
        if self.notice is not None:
            said["notice"] = {
                "id": self.notice.id,
                "version": self.notice.version,
                "language": self.notice.language,
            }
        if self.method is not None:
            said["method"] = self.method
        if self.occurred_at is not None:
            if self.occurred_at.utcoffset() is None:
                raise ValueError("occurred_at needs a time zone")
            said["occurred_at"] = self.occurred_at.isoformat()
        if self.evidence is not None:
            said["evidence"] = dict(self.evidence)
        return said


def granted(
    purpose: str,
    channel: str,
    *,
    notice: Notice,
    method: str = "web_form",
    occurred_at: datetime | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> Choice:
    """A yes, under the words that the person was shown."""
    return Choice(purpose, channel, "granted", notice, method, occurred_at, evidence)


def refused(
    purpose: str,
    channel: str = ANY,
    *,
    notice: Notice | None = None,
    method: str | None = None,
    occurred_at: datetime | None = None,
) -> Choice:
    """A no to a question."""
    return Choice(purpose, channel, "refused", notice, method, occurred_at)


def withdrawn(
    purpose: str = ANY,
    channel: str = ANY,
    *,
    method: str | None = None,
    occurred_at: datetime | None = None,
) -> Choice:
    """A yes taken back. It needs no words and no reason."""
    return Choice(purpose, channel, "withdrawn", None, method, occurred_at)


def objected(
    purpose: str = ANY,
    channel: str = ANY,
    *,
    method: str | None = None,
    occurred_at: datetime | None = None,
) -> Choice:
    """A no to what does not rest on consent."""
    return Choice(purpose, channel, "objected", None, method, occurred_at)


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event that is in the ledger."""

    id: str
    index: int
    leaf_hash: str
    """base64 of the RFC 6962 leaf hash."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was recorded, and is durable."""

    ref: str = field(repr=False)
    """The person's reference: later questions may use it in the place of an identifier."""
    events: tuple[RecordedEvent, ...]
    checkpoint: str = field(repr=False)
    """A signed checkpoint of the ledger that covers the events."""
    replayed: bool
    """Whether the same act, under the same Idempotency-Key, had been recorded before."""


def read_recorded(answer: Any, *, replayed: bool) -> Recorded:
    """What the service answers to a record.

    Raises:
        UnreadableAnswerError: it is no such answer.
    """
    try:
        events = tuple(
            RecordedEvent(str(one["id"]), int(one["index"]), str(one["leaf_hash"]))
            for one in answer["events"]
        )
        return Recorded(str(answer["subject"]), events, str(answer["checkpoint"]), replayed)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableAnswerError("the answer does not say what was recorded") from error
