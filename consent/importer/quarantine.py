"""Rows that could not be used as they stand: kept sealed, listed by reason, repaired or dismissed.

Guarantees: nothing of a row is kept in clear but its line and a masked ID. The same row is kept
once, however often it is imported. What is repaired, dismissed or too old is emptied at once; that
it was there, and what became of it, stays.

Non-goals: keeping rows that say nothing.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from consent.importer.batches import HeldRow
from consent.importer.facts import Fingerprint
from consent.importer.models import quarantine
from consent.importer.outcomes import ImportReason
from consent.importer.sealing import SealedRow, Sealer
from consent.importer.upserts import insertion
from consent.subjects import Reader

_c: Final = quarantine.c


class HeldState(StrEnum):
    """What became of a row in quarantine."""

    HELD = "held"
    REPAIRED = "repaired"
    DISMISSED = "dismissed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Pile:
    """The rows that are held for one reason."""

    reason: ImportReason
    count: int
    oldest: datetime


def row_id(fingerprint: Fingerprint, form: str, cells: Sequence[str]) -> str:
    """The id of a row: a keyed hash of what it says and how it is read."""
    content = "\x1f".join(("held", form, *cells)).encode(errors="surrogateescape")
    return str(uuid.UUID(bytes=fingerprint(content)[:16]))


def hold(
    session: Session,
    import_id: str,
    key_ref: str,
    form: str,
    rows: Sequence[HeldRow],
    records: Sequence[str],
    sealer: Sealer,
    fingerprint: Fingerprint,
    now: datetime,
) -> None:
    """Keep rows. One that is there already stays as it is, unless it had become too old.

    Args:
        session: the unit of work of the batch.
        import_id: where they come from.
        key_ref: whose key seals what belongs to nobody known.
        form: how they are read: another mapping makes other rows of them.
        rows: what to keep.
        records: what each is called, masked.
        sealer: seals their cells.
        fingerprint: makes their ids.
        now: the present.
    """
    kept: dict[str, dict[str, Any]] = {}
    for one, record in zip(rows, records, strict=True):
        held_id = row_id(fingerprint, form, one.row.cells)
        damage = one.row.damage.value if one.row.damage is not None else None
        content = SealedRow(one.row.cells, damage, one.shared)
        kept[held_id] = {
            "id": held_id,
            "import_id": import_id,
            "line": one.row.line,
            "reason": one.reason.value,
            "reasons": " ".join(one.reasons),
            "record": record,
            "subject_ref": one.subject,
            "sealed": sealer.seal(
                session, one.subject or key_ref, held_id, content.document(), now
            ),
            "state": HeldState.HELD,
            "held_at": now,
        }
    if not kept:
        return
    statement = insertion(session, quarantine)
    again = {
        name: statement.excluded[name]
        for name in (
            "import_id",
            "line",
            "reason",
            "reasons",
            "subject_ref",
            "sealed",
            "state",
            "held_at",
        )
    }
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["id"], set_=again, where=_c.state == HeldState.EXPIRED
        ),
        list(kept.values()),
    )


# --- looking -----------------------------------------------------------------------------------


def piles(reader: Reader) -> list[Pile]:
    """What is held, by reason; the largest first."""
    rows = reader.execute(
        select(_c.reason, func.count(), func.min(_c.held_at))
        .where(_c.state == HeldState.HELD)
        .group_by(_c.reason)
    ).all()
    found = [Pile(ImportReason(reason), count, oldest) for reason, count, oldest in rows]
    return sorted(found, key=lambda pile: (-pile.count, pile.reason))


# --- ending ------------------------------------------------------------------------------------


def dismiss(
    session: Session,
    reason: ImportReason,
    actor: str,
    now: datetime,
    *,
    only: Sequence[str] = (),
) -> int:
    """Give up rows of a reason, all of them or some by their ids; returns how many there were."""
    statement = update(quarantine).where(_c.state == HeldState.HELD, _c.reason == reason.value)
    if only:
        statement = statement.where(_c.id.in_(only))
    return _emptied(session, statement, HeldState.DISMISSED, actor, now)


def expire(session: Session, before: datetime, actor: str, now: datetime) -> int:
    """Empty what was held since before an instant; returns how much there was."""
    statement = update(quarantine).where(_c.state == HeldState.HELD, _c.held_at < before)
    return _emptied(session, statement, HeldState.EXPIRED, actor, now)


def _emptied(session: Session, statement: Any, state: HeldState, actor: str, now: datetime) -> int:
    values = {"state": state, "sealed": None, "ended_at": now, "ended_by": actor}
    count: int = session.execute(statement.values(values)).rowcount  # type: ignore[attr-defined]
    return count
