"""What the guards of views share: one question, its answer whatever happens, and what to say of it.

Guarantees: a view is reached by a decision that allows, and by nothing else. What is said to the
visitor and to the log names the reason, and never the person.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from consent.client.decisions import Checks, Decision, denied
from consent.client.errors import ClientError, LocalReason
from consent.client.mirror import Mirror
from consent.client.subjects import Subject

Using: TypeAlias = Checks | Callable[[], Checks]
"""What answers: a `Client` or a `Mirror`, or what gives it once the program is configured."""

HEADERS: Final[Mapping[str, str]] = {"Cache-Control": "no-store"}
"""Of the answer to whoever is not let in: the next time it may be another one."""
PROBLEM: Final = "application/problem+json"

_UNANSWERED: Final = frozenset(
    {
        LocalReason.SERVICE_UNREACHABLE,
        LocalReason.SERVICE_BUSY,
        LocalReason.SERVICE_FAILED,
        LocalReason.KEY_REFUSED,
        LocalReason.ANSWER_UNREADABLE,
        LocalReason.NOT_MIRRORED,
        LocalReason.MIRROR_NOT_READY,
        LocalReason.MIRROR_STALE,
    }
)

_log = logging.getLogger("tutela.gate")


@dataclass(frozen=True, slots=True)
class Gate:
    """One purpose on one channel, and whom to ask about it."""

    purpose: str
    channel: str
    using: Using

    @property
    def waits(self) -> bool:
        """Whether a decision may take long enough to hold an event loop up: but for a mirror."""
        try:
            return not isinstance(self._checks(), Mirror)
        except Exception:  # noqa: BLE001 - `decide` meets it again, and says what it is
            return True

    def decide(self, subject: Subject | None) -> Decision:
        """May it happen to them? Raises nothing that checking raises: that is a no as well."""
        decision = self._decide(subject)
        if not decision:
            level = logging.WARNING if status_of(decision) == 503 else logging.INFO
            _log.log(
                level,
                "%s by %s is denied: %s %s",
                self.purpose,
                self.channel,
                decision.reason,
                decision.detail,
            )
        return decision

    def _decide(self, subject: Any) -> Decision:
        if subject is None:
            return denied(LocalReason.NOBODY, "There is nobody to ask about.")
        # Mistakes of the program. Of an address as bare text nobody knows the kind.
        if not isinstance(subject, Subject):
            kind = type(subject).__name__
            return denied(LocalReason.SUBJECT_INVALID, f"The subject is a {kind}, not a Subject.")
        value: Any = subject.value
        if not isinstance(value, str):
            kind = type(value).__name__
            return denied(LocalReason.SUBJECT_INVALID, f"The identifier is a {kind}, not text.")
        try:
            decision: Any = self._checks().check(subject, self.purpose, self.channel)
        except ClientError as error:
            return denied(error.local, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not a yes
            # What we did not raise on purpose may quote anything.
            return denied(LocalReason.SERVICE_FAILED, f"The check raised {type(error).__name__}.")
        if not isinstance(decision, Decision) or not isinstance(decision.allow, bool):
            return denied(LocalReason.ANSWER_UNREADABLE, "The check answered with no decision.")
        return decision

    def _checks(self) -> Checks:
        # Not `callable`: stand-ins of tests often are.
        return self.using if hasattr(self.using, "check") else self.using()


def status_of(decision: Decision) -> int:
    """The HTTP status of a no: 403 where that is the answer, 503 where none could be had."""
    return 503 if decision.reason in _UNANSWERED else 403


def problem(decision: Decision) -> dict[str, Any]:
    """A no as problem details (RFC 9457). Its `reason` is the code, and there is no more to it."""
    status = status_of(decision)
    if status == 503:
        title = "Whether this may happen could not be checked"
        detail = "So it did not happen. Nobody's choice was changed. Try again later."
    else:
        title = "There is no consent for this"
        detail = "It did not happen."
    return {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "reason": decision.reason,
    }
