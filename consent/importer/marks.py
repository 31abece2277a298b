"""What exports say of people that is no choice: rights that are asked for, and facts to heed.

A wish such as Salesforce's `ShouldForget` is nobody's request yet: somebody ticked a box, once, of
which we do not know when and why. So it becomes a draft, which an officer looks at. While a draft
is open it is nothing new in any export; once it was dealt with, the same export says nothing new
either, and another one does.

A note is what the last export said: of a child's age, of where data may be stored, of faxes. Inside
one export the stricter of two counts, so that the order of its rows says nothing.
"""

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Self

from sqlalchemy import select

from consent.bulk import select_by_keys
from consent.importer.facts import Source
from consent.importer.models import draft, note
from consent.importer.statements import AGE, Mark
from consent.subjects import Reader, SubjectRef
from policies.model import Purpose

_AGES: Final = {"under_13": 0, "unreadable": 0, "13_or_older": 13}
"""The least that somebody of a band may be. Nothing is shown of what lies above it."""

_SELECT_DRAFTS: Final = (
    f"SELECT id, subject_ref, asks, state FROM {draft.name} WHERE subject_ref {{keys}}"  # noqa: S608 - a table of ours
)
_SELECT_NOTES: Final = (
    f"SELECT subject_ref, name, value, import_id FROM {note.name} WHERE subject_ref {{keys}}"  # noqa: S608 - a table of ours
)


class DraftState(StrEnum):
    """What became of a draft request."""

    OPEN = "open"
    TAKEN = "taken"
    """A request was made of it."""
    DISMISSED = "dismissed"


@dataclass(frozen=True, slots=True)
class MarkFact:
    """A mark of one person, from one row."""

    subject: SubjectRef
    mark: Mark
    id: str
    """Of the draft that it makes; derived, so that the same wish makes one."""
    line: int
    record: str
    """What the row calls the person, masked."""

    @classmethod
    def of(cls, source: Source, subject: SubjectRef, mark: Mark, line: int, record: str) -> Self:
        """The mark as a fact of its export."""
        digest = source.fingerprint(
            f"draft\x1f{source.system}\x1f{subject}\x1f{mark.name}".encode()
        )
        return cls(
            subject, mark, str(uuid.UUID(bytes=digest[:12] + source.export[:4])), line, record
        )

    @property
    def name(self) -> str:
        """What sort of mark it is."""
        return self.mark.name

    @property
    def value(self) -> str:
        """What it says; empty: what was said before no longer holds."""
        return self.mark.value


@dataclass(slots=True)
class Kept:
    """The marks that are known of some people, and those that an import has added."""

    import_id: str = ""
    _ids: set[str] = field(default_factory=set)
    _open: set[tuple[SubjectRef, str]] = field(default_factory=set)
    _notes: dict[tuple[SubjectRef, str], tuple[str, str]] = field(default_factory=dict)
    """Value, and the import that said so."""

    def take(self, fact: MarkFact) -> bool:
        """Add a mark; whether it says anything new."""
        place = fact.subject, fact.name
        if fact.mark.asks:
            if fact.id in self._ids or place in self._open:
                return False
            self._ids.add(fact.id)
            self._open.add(place)
            return True
        value, said_by = self._notes.get(place, ("", ""))
        ours = bool(value) and said_by == self.import_id
        if fact.value == value or (ours and not _is_stricter(fact.value, value)):
            return False
        if fact.value:
            self._notes[place] = fact.value, self.import_id
        else:
            self._notes.pop(place, None)
        return True

    def add(self, facts: Iterable[MarkFact]) -> None:
        """Add marks, new or not."""
        for fact in facts:
            self.take(fact)

    def after(self, others: "Kept") -> "Kept":
        """These, and what was added since."""
        notes = self._notes | others._notes  # noqa: SLF001 - one of our own
        ids, still_open = self._ids | others._ids, self._open | others._open  # noqa: SLF001 - as above
        return Kept(self.import_id, ids, still_open, notes)

    def too_young(self, subject: SubjectRef, rule: Purpose) -> bool:
        """Whether somebody may be too young to agree to a purpose alone, by what was noted."""
        value, _ = self._notes.get((subject, AGE), ("", ""))
        return is_too_young(value, rule)


def is_too_young(value: str, rule: Purpose) -> bool:
    """Whether somebody in that band of ages may be too young to agree to a purpose alone."""
    return bool(value) and rule.child is not None and _AGES.get(value, 0) < rule.child.minimum_age


def known_marks(reader: Reader, subjects: Collection[SubjectRef], import_id: str) -> Kept:
    """The marks of these people, as an import finds them."""
    kept = Kept(import_id)
    refs = sorted(subjects)
    for draft_id, subject, asks, state in select_by_keys(reader, _SELECT_DRAFTS, refs):
        kept._ids.add(draft_id)  # noqa: SLF001 - one of our own
        if state == DraftState.OPEN:
            kept._open.add((subject, asks))  # noqa: SLF001 - as above
    for subject, name, value, said_by in select_by_keys(reader, _SELECT_NOTES, refs):
        kept._notes[subject, name] = value, said_by  # noqa: SLF001 - as above
    return kept


def _is_stricter(value: str, other: str) -> bool:
    return bool(value) and _AGES.get(value, 0) < _AGES.get(other, 0)


@dataclass(frozen=True, slots=True)
class OpenDraft:
    """A draft request that nobody has dealt with."""

    id: str
    subject: SubjectRef
    asks: str
    line: int
    made_at: datetime


def open_drafts(reader: Reader) -> list[OpenDraft]:
    """Draft requests that nobody has dealt with, the oldest first."""
    rows = reader.execute(
        select(draft.c.id, draft.c.subject_ref, draft.c.asks, draft.c.line, draft.c.made_at)
        .where(draft.c.state == DraftState.OPEN)
        .order_by(draft.c.made_at, draft.c.id)
    )
    return [OpenDraft(*row) for row in rows]
