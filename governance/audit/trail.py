"""The record of what operators did: who, what, to which object, why.

Guarantees: a record is part of the caller's transaction, so the act and its record are both
durable or neither happened. It is an RFC 8785 entry of the operator log, which is append-only
and tamper-evident like the consent ledger. The first entry is always `service.installed`.

No personal data: an object or an actor is an opaque reference (`account:0198…`), and the pattern
it is held to leaves no room for an e-mail address. The reason is the operator's own sentence.

Non-goals: reading accounts' names for display, and signing (`consent.ledger.notary`).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy.orm import Session
from uuid_utils import uuid7

from consent.ledger.canonical import JSONValue, encode
from consent.ledger.leaf import timestamp
from consent.ledger.log import Entry, MerkleLog
from consent.subjects import Reader
from governance.errors import GovernanceError

INSTALLED: Final = "service.installed"
MAX_REASON: Final = 500
VERSION: Final = 1

_ACTION: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_REFERENCE: Final = re.compile(r"[a-z][a-z0-9_]*(:[A-Za-z0-9][A-Za-z0-9_.:-]{0,127})?")


class InvalidRecordError(GovernanceError):
    """The record has not the form that keeps personal data out of the operator log."""

    code = "AUDIT_RECORD_INVALID"


class ActorKind(StrEnum):
    """What sort of actor did something."""

    ACCOUNT = "account"
    API_KEY = "api_key"
    SYSTEM = "system"
    CLI = "cli"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did something: an account, an API key, the service itself, or its host's operator."""

    kind: ActorKind
    id: str
    """Opaque: an account's id, a key's id, a job's name. Never a name or an address."""
    role: str
    """The roles it acted in, such as `admin officer`."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


SYSTEM: Final = Actor(ActorKind.SYSTEM, "service", "system")
"""The service acting by itself, such as at installation."""

CLI: Final = Actor(ActorKind.CLI, "host", "operator")
"""Whoever may run commands on the host, who could as well change the files."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One entry of the operator log, as it was written."""

    index: int
    id: str
    at: datetime
    actor: str
    actor_role: str
    action: str
    object: str
    reason: str | None
    details: Mapping[str, Any]


class Trail:
    """Writes and reads the operator log."""

    def __init__(self, log: MerkleLog) -> None:
        self.log: Final = log

    def record(
        self,
        session: Session,
        *,
        actor: Actor,
        action: str,
        object: str,  # noqa: A002 - the field's name in the entry and in every screen
        reason: str | None = None,
        details: Mapping[str, JSONValue] | None = None,
        now: datetime,
    ) -> int:
        """Append one entry in the caller's transaction; returns its index.

        Takes the log's lock until the transaction ends. Every writer takes it last, after the
        consent ledger's, so that two of them never wait for each other.

        Raises:
            InvalidRecordError: action or object are not of their pattern; the reason is longer
                than 500 characters.
            consent.ledger.canonical.CanonicalError: the details have no canonical form.
        """
        if not (_ACTION.fullmatch(action) and _REFERENCE.fullmatch(object)):
            raise InvalidRecordError(
                "an action is written like account.created, an object like account:id"
            )
        if not _REFERENCE.fullmatch(str(actor)):
            raise InvalidRecordError("an actor's id is an opaque reference")
        if reason is not None and len(reason) > MAX_REASON:
            raise InvalidRecordError(f"a reason has at most {MAX_REASON} characters")
        entry = _entry(actor, action, object, reason, details or {}, now)
        head = self.log.lock(session)
        if head.size == 0 and action != INSTALLED:
            head = self.log.append(
                session, head, [_entry(SYSTEM, INSTALLED, "service", None, {}, now)]
            ).after
        self.log.append(session, head, [entry])
        return head.size

    def install(self, session: Session, *, version: str, now: datetime) -> bool:
        """Write the installation's record, with the program's version, if the log is empty."""
        if self.log.frontier(session).size or self.log.lock(session).size:
            return False
        self.record(
            session,
            actor=SYSTEM,
            action=INSTALLED,
            object="service",
            details={"version": version},
            now=now,
        )
        return True

    def read(self, reader: Reader, before: int | None = None, limit: int = 50) -> list[AuditRecord]:
        """Up to `limit` records, newest first, of those with an index below `before`."""
        stop = self.log.frontier(reader).size if before is None else before
        found = self.log.entries(reader, max(0, stop - limit), stop)
        return [_record_of(entry) for entry in found][::-1]


def _entry(
    actor: Actor,
    action: str,
    target: str,
    reason: str | None,
    details: Mapping[str, JSONValue],
    now: datetime,
) -> tuple[str, bytes]:
    entry_id = str(uuid7())
    return entry_id, encode(
        {
            "action": action,
            "actor": str(actor),
            "actor_role": actor.role,
            "at": timestamp(now),
            "details": dict(details),
            "id": entry_id,
            "object": target,
            "reason": reason,
            "v": VERSION,
        }
    )


def _record_of(entry: Entry) -> AuditRecord:
    value = json.loads(entry.leaf)
    return AuditRecord(
        index=entry.idx,
        id=value["id"],
        at=datetime.fromisoformat(value["at"]),
        actor=value["actor"],
        actor_role=value["actor_role"],
        action=value["action"],
        object=value["object"],
        reason=value["reason"],
        details=value["details"],
    )
