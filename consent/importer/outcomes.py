"""What became of each row of an import, and of all of them. No personal data: rows are numbers."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Any, Final, Self

from consent.importer.rows import Damage
from consent.ledger.canonical import JSONValue


@unique
class Outcome(StrEnum):
    """Every row has exactly one."""

    IMPORTED = "imported"
    """Something that the row says was recorded."""
    UNCHANGED = "unchanged"
    """All that the row says had been recorded before, from this file or an earlier one."""
    UNKNOWN = "unknown"
    """The row says nothing that may be recorded. What needs consent stays denied."""
    REJECTED = "rejected"
    """The row is damaged, or names nobody. What it denies was recorded where it could be."""
    FAILED = "failed"
    """The row could not be written. The import is not complete."""


@unique
class ImportReason(StrEnum):
    """Why a row had its outcome. Stable codes."""

    # What was recorded as a denial.
    UNSUBSCRIBED = "UNSUBSCRIBED"
    TYPE_OPT_OUT = "TYPE_OPT_OUT"
    NOTE_OPT_OUT = "NOTE_OPT_OUT"
    UNREADABLE_OPT_OUT = "UNREADABLE_OPT_OUT"
    UNMAPPED_TYPE = "UNMAPPED_TYPE"
    UNMAPPED_CHANNEL = "UNMAPPED_CHANNEL"
    DAMAGED_OPT_OUT = "DAMAGED_OPT_OUT"
    OVERRULES_GRANT = "OVERRULES_GRANT"
    OPT_OUT = "OPT_OUT"
    MARKETING_OPT_OUT = "MARKETING_OPT_OUT"
    PROCESSING_OPT_OUT = "PROCESSING_OPT_OUT"
    # What was kept beside the ledger.
    FORGET_ASKED = "FORGET_ASKED"
    DATA_ASKED = "DATA_ASKED"
    RESTRICTION_ASKED = "RESTRICTION_ASKED"
    RESIDENCY = "RESIDENCY"
    FAX_OPT_OUT = "FAX_OPT_OUT"
    MINOR = "MINOR"
    # What was recorded as a grant.
    CONSENT_EVIDENCED = "CONSENT_EVIDENCED"
    DOUBLE_OPT_IN = "DOUBLE_OPT_IN"
    CHILD_WITHOUT_AUTHORITY = "CHILD_WITHOUT_AUTHORITY"
    ENDS_SOONER = "ENDS_SOONER"
    REPAIRED = "REPAIRED"
    # Why an opt-in is none.
    DEFAULT_OPTED_IN = "DEFAULT_OPTED_IN"
    NO_CONSENT_BASIS = "NO_CONSENT_BASIS"
    NO_DATE = "NO_DATE"
    NO_SOURCE = "NO_SOURCE"
    NO_WORDS = "NO_WORDS"
    WORDS_NAME_NO_TYPE = "WORDS_NAME_NO_TYPE"
    NOT_A_CONSENT_PURPOSE = "NOT_A_CONSENT_PURPOSE"
    NOT_OPTED_IN = "NOT_OPTED_IN"
    CONTRADICTED = "CONTRADICTED"
    NO_ADDRESS = "NO_ADDRESS"
    NO_PURPOSE = "NO_PURPOSE"
    CHANNEL_NOT_PURSUED = "CHANNEL_NOT_PURSUED"
    NOT_DECIDED = "NOT_DECIDED"
    END_UNREADABLE = "END_UNREADABLE"
    AGE_UNREADABLE = "AGE_UNREADABLE"
    NOT_YET_IN_FORCE = "NOT_YET_IN_FORCE"
    DENIED_SINCE = "DENIED_SINCE"
    NOTHING_STATED = "NOTHING_STATED"
    # Whom the row is about.
    EMAIL_MALFORMED = "EMAIL_MALFORMED"
    RECORD_ID_MALFORMED = "RECORD_ID_MALFORMED"
    PHONE_MALFORMED = "PHONE_MALFORMED"
    AMBIGUOUS_IDENTITY = "AMBIGUOUS_IDENTITY"
    NO_IDENTITY = "NO_IDENTITY"
    OPT_OUT_WITHOUT_PERSON = "OPT_OUT_WITHOUT_PERSON"
    SUPPRESSED = "SUPPRESSED"
    # What is wrong with the row itself.
    NOT_UTF8 = Damage.NOT_UTF8.value
    NUL_BYTE = Damage.NUL_BYTE.value
    CELL_TOO_LONG = Damage.CELL_TOO_LONG.value
    LINE_TOO_LONG = Damage.LINE_TOO_LONG.value
    RAGGED_ROW = Damage.RAGGED_ROW.value
    BROKEN_QUOTES = Damage.BROKEN_QUOTES.value
    # Why nothing new was recorded, or could be.
    ALREADY_RECORDED = "ALREADY_RECORDED"
    WRITE_REFUSED = "WRITE_REFUSED"


HELD_FIRST: Final = (
    ImportReason.SUPPRESSED,
    ImportReason.NOT_UTF8,
    ImportReason.NUL_BYTE,
    ImportReason.CELL_TOO_LONG,
    ImportReason.LINE_TOO_LONG,
    ImportReason.RAGGED_ROW,
    ImportReason.BROKEN_QUOTES,
    ImportReason.OPT_OUT_WITHOUT_PERSON,
    ImportReason.NO_IDENTITY,
    ImportReason.EMAIL_MALFORMED,
    ImportReason.NO_ADDRESS,
    ImportReason.AMBIGUOUS_IDENTITY,
    ImportReason.NO_PURPOSE,
    ImportReason.UNMAPPED_TYPE,
    ImportReason.WORDS_NAME_NO_TYPE,
    ImportReason.UNMAPPED_CHANNEL,
    ImportReason.END_UNREADABLE,
    ImportReason.AGE_UNREADABLE,
    ImportReason.NOT_YET_IN_FORCE,
    ImportReason.NO_DATE,
    ImportReason.NO_SOURCE,
    ImportReason.NO_WORDS,
    ImportReason.DENIED_SINCE,
)
"""Why a row is kept in quarantine. It is listed under the first of its reasons, in this order:
what no answer can mend, then what has to be known before the next question makes sense."""


@dataclass(frozen=True, slots=True)
class RowResult:
    """What became of one row."""

    line: int
    outcome: Outcome
    reasons: tuple[ImportReason, ...]
    events: int
    """How many events the row was the first to bring."""
    marks: int = 0
    """How many draft requests and notes it was the first to bring."""
    held: ImportReason | None = None
    """Why the row, or part of it, is kept in quarantine."""
    record: str = ""
    """What the row calls the person, masked: enough to find the row again in the file."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a file. In a dry run: what would become of it."""

    rows: int
    outcomes: Mapping[Outcome, int]
    reasons: Mapping[ImportReason, int]
    """Rows by reason; a row may have several."""
    events: int
    dry_run: bool
    marks: int = 0
    """Draft requests and notes."""
    held: Mapping[ImportReason, int] = field(default_factory=dict)
    """Rows in quarantine, each under the reason that comes first."""
    ignored_columns: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """What the header gives cause to, before any row is read."""

    @property
    def complete(self) -> bool:
        """Whether every row is accounted for, and none failed."""
        return sum(self.outcomes.values()) == self.rows and not self.outcomes[Outcome.FAILED]

    def sentences(self) -> list[str]:
        """The summary for people, what needs them first, the result last."""
        would = "Events that would be recorded" if self.dry_run else "Events recorded"
        told = [f"WARNING: {sentence}" for sentence in self.warnings]
        told += [
            f"WARNING: {self.reasons[reason]} rows {sentence}"
            for reason, sentence in _ALARMS.items()
            if self.reasons.get(reason)
        ]
        if self.ignored_columns:
            told.append(f"Columns not read: {', '.join(self.ignored_columns)}.")
        told += [f"{count:>9,} {reason}" for reason, count in sorted(self.reasons.items())]
        if self.marks:
            drafted = "would be kept" if self.dry_run else "are kept"
            told.append(f"{self.marks:,} draft requests and notes {drafted} for the console.")
        if self.held:
            kept = "would be kept" if self.dry_run else "are kept"
            told.append(f"{sum(self.held.values()):,} rows {kept} in quarantine, to be repaired.")
        told.append(
            f"{self.rows:,} rows: "
            + ", ".join(f"{self.outcomes[outcome]:,} {outcome}" for outcome in Outcome)
            + f". {would}: {self.events:,}."
        )
        return told


_ALARMS = {
    ImportReason.OPT_OUT_WITHOUT_PERSON: "hold an opt-out, but name nobody: find the people.",
    ImportReason.UNREADABLE_OPT_OUT: "have an opt-out that cannot be read; it was taken for a yes.",
    ImportReason.NOTE_OPT_OUT: "have a note that was taken for an objection: review them.",
    ImportReason.OVERRULES_GRANT: (
        "are opted out in this export, though the person has granted something here: they are "
        "denied. If that is wrong, correct it there and ask the person."
    ),
    ImportReason.SUPPRESSED: (
        "name somebody who was erased here and must not be written to: nothing was recorded."
    ),
    ImportReason.WRITE_REFUSED: "could not be written: import the file again.",
}


@dataclass(slots=True)
class Tally:
    """Counts row results into a summary."""

    rows: int = 0
    events: int = 0
    marks: int = 0
    outcomes: Counter[Outcome] = field(default_factory=lambda: Counter(dict.fromkeys(Outcome, 0)))
    reasons: Counter[ImportReason] = field(default_factory=Counter)
    held: Counter[ImportReason] = field(default_factory=Counter)

    @classmethod
    def of(cls, counts: Mapping[str, Any]) -> Self:
        """Counts as `as_json` wrote them."""
        return cls(
            rows=counts["rows"],
            events=counts["events"],
            marks=counts["marks"],
            outcomes=Counter({outcome: counts["outcomes"][outcome] for outcome in Outcome}),
            reasons=Counter({ImportReason(code): n for code, n in counts["reasons"].items()}),
            held=Counter({ImportReason(code): n for code, n in counts["held"].items()}),
        )

    def copy(self) -> Self:
        """The same counts, to go on counting with."""
        return replace(
            self,
            outcomes=self.outcomes.copy(),
            reasons=self.reasons.copy(),
            held=self.held.copy(),
        )

    def add(self, result: RowResult) -> None:
        """Count one row."""
        self.rows += 1
        self.events += result.events
        self.marks += result.marks
        self.outcomes[result.outcome] += 1
        self.reasons.update(result.reasons)
        if result.held is not None:
            self.held[result.held] += 1

    def as_json(self) -> dict[str, JSONValue]:
        """The counts as they are stored and signed."""
        return {
            "rows": self.rows,
            "events": self.events,
            "marks": self.marks,
            "outcomes": {outcome.value: self.outcomes[outcome] for outcome in Outcome},
            "reasons": {code.value: n for code, n in sorted(self.reasons.items())},
            "held": {code.value: n for code, n in sorted(self.held.items())},
        }

    def summary(self, *, dry_run: bool) -> Summary:
        """What was counted so far."""
        return Summary(
            self.rows,
            MappingProxyType(dict(self.outcomes)),
            MappingProxyType(dict(self.reasons)),
            self.events,
            dry_run,
            self.marks,
            MappingProxyType(dict(self.held)),
        )
