"""What a verification finds: each fault has a name, a place and a plain sentence. Pure.

Sentences name ledger indexes and opaque references; they never repeat a value of a damaged row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Any, Final, Self

MAX_FINDINGS: Final = 100
"""As many are kept; the rest are counted."""


@unique
class Kind(StrEnum):
    """What is wrong. Stable codes: alarms branch on them."""

    ROLLED_BACK = "ROLLED_BACK"
    """The database holds less than what was signed: an old copy, or cut back with its head."""
    TRUNCATED = "TRUNCATED"
    """Entries are missing at the end of what the head counts."""
    FORKED = "FORKED"
    """The entries are a history other than the one that was signed."""
    MISSING_ENTRY = "MISSING_ENTRY"
    """An entry within the log is gone."""
    SURPLUS_ENTRY = "SURPLUS_ENTRY"
    """A row stands where the log has no entry."""
    EDITED = "EDITED"
    """An entry, or its stored hash, is not what was logged."""
    REORDERED = "REORDERED"
    """Entries have changed places, their hashes with them."""
    SWAPPED_ROW = "SWAPPED_ROW"
    """The content of one row stands in another's."""
    TILE_DAMAGED = "TILE_DAMAGED"
    """A stored tile is missing, surplus, or not what the entries hash to."""
    HEAD_DAMAGED = "HEAD_DAMAGED"
    """The head row is missing, malformed, or not that of the entries."""
    BAD_SIGNATURE = "BAD_SIGNATURE"
    """A checkpoint that should be ours is not validly signed by our key."""
    UNSIGNED = "UNSIGNED"
    """There are entries and no checkpoint to hold them to."""
    UNREADABLE = "UNREADABLE"
    """The database refuses to read on: its file is damaged."""
    MISSING_EVENT = "MISSING_EVENT"
    """An entry's event is gone, and no erasure is on record."""
    SURPLUS_EVENT = "SURPLUS_EVENT"
    """An event stands where the ledger has no entry."""
    ALTERED_EVENT = "ALTERED_EVENT"
    """A column of an event is not what its entry and disclosures say."""
    DISCLOSURE_MISMATCH = "DISCLOSURE_MISMATCH"
    """An event's disclosures are not those that its entry commits to."""
    EVIDENCE_LOST = "EVIDENCE_LOST"
    """An event's evidence cannot be opened for want of its key, and no erasure is on record."""
    ALTERED_PROJECTION = "ALTERED_PROJECTION"
    """A register is not the fold of the person's events."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault."""

    kind: Kind
    index: int | None
    """The first bad ledger index, where the fault has one."""
    sentence: str


class Findings:
    """Keeps the first `MAX_FINDINGS` and counts the rest."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.omitted = 0

    def add(self, kind: Kind, index: int | None, sentence: str) -> None:
        """Report one fault."""
        if len(self.kept) < MAX_FINDINGS:
            self.kept.append(Finding(kind, index, sentence))
        else:
            self.omitted += 1

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "kept": [[one.kind.value, one.index, one.sentence] for one in self.kept],
            "omitted": self.omitted,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        findings = cls()
        findings.kept = [Finding(Kind(kind), *rest) for kind, *rest in value["kept"]]
        findings.omitted = value["omitted"]
        return findings


@dataclass(frozen=True, slots=True)
class Report:
    """What was verified, and what was found."""

    origin: str
    size: int
    """Entries that were walked: all of them, unless the log was found truncated."""
    root: bytes
    """The root that these entries hash to."""
    signed_size: int | None
    """Size of the last signed checkpoint; entries behind it are not signed yet."""
    findings: tuple[Finding, ...]
    omitted: int
    """Findings beyond those listed."""
    entries_checked: int
    events_checked: int
    erased: int
    """Entries whose disclosures were erased, as is on record."""
    started_at: datetime
    finished_at: datetime

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings and not self.omitted
