"""What became of each row of an import, and of all of them. No personal data: rows are numbers."""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from types import MappingProxyType
from typing import TextIO

from consent.importer.rows import Damage


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
    DAMAGED_OPT_OUT = "DAMAGED_OPT_OUT"
    OVERRULES_GRANT = "OVERRULES_GRANT"
    # What was recorded as a grant.
    CONSENT_EVIDENCED = "CONSENT_EVIDENCED"
    DOUBLE_OPT_IN = "DOUBLE_OPT_IN"
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
    NOTHING_STATED = "NOTHING_STATED"
    # Whom the row is about.
    EMAIL_MALFORMED = "EMAIL_MALFORMED"
    RECORD_ID_MALFORMED = "RECORD_ID_MALFORMED"
    AMBIGUOUS_IDENTITY = "AMBIGUOUS_IDENTITY"
    NO_IDENTITY = "NO_IDENTITY"
    OPT_OUT_WITHOUT_PERSON = "OPT_OUT_WITHOUT_PERSON"
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


@dataclass(frozen=True, slots=True)
class RowResult:
    """What became of one row."""

    line: int
    outcome: Outcome
    reasons: tuple[ImportReason, ...]
    events: int
    """How many events the row was the first to bring."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a file. In a dry run: what would become of it."""

    rows: int
    outcomes: Mapping[Outcome, int]
    reasons: Mapping[ImportReason, int]
    """Rows by reason; a row may have several."""
    events: int
    dry_run: bool
    ignored_columns: tuple[str, ...] = ()
    doubtful_columns: tuple[str, ...] = ()
    """Ignored ones that may hold opt-outs, by their names."""
    unmapped_columns: tuple[str, ...] = ()
    """Columns about a subscription type that no purpose of the policy claims."""
    without_unsubscribes: bool = False
    """The file lacks the column that holds the opt-outs from all e-mail."""

    @property
    def complete(self) -> bool:
        """Whether every row is accounted for, and none failed."""
        return sum(self.outcomes.values()) == self.rows and not self.outcomes[Outcome.FAILED]

    def sentences(self) -> list[str]:
        """The summary for people, what needs them first, the result last."""
        would = "Events that would be recorded" if self.dry_run else "Events recorded"
        told = [
            f"WARNING: no purpose of the policy is called {name!r} in HubSpot (external_names). "
            f"Whoever opted out there is denied every purpose by e-mail."
            for name in self.unmapped_columns
        ]
        told += [
            f"WARNING: the column {name!r} was not read, and may hold opt-outs."
            for name in self.doubtful_columns
        ]
        if self.without_unsubscribes:
            told.append(
                "WARNING: the file has no column 'Unsubscribed from all email'. Who opted out of "
                "everything cannot be told from it: export the file again with that column."
            )
        told += [
            f"WARNING: {self.reasons[reason]} rows {sentence}"
            for reason, sentence in _ALARMS.items()
            if self.reasons.get(reason)
        ]
        if self.ignored_columns:
            told.append(f"Columns not read: {', '.join(self.ignored_columns)}.")
        told += [f"{count:>9,} {reason}" for reason, count in sorted(self.reasons.items())]
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
        "denied. If that is wrong, correct HubSpot and ask the person."
    ),
    ImportReason.WRITE_REFUSED: "could not be written: import the file again.",
}


@dataclass(slots=True)
class Tally:
    """Counts row results into a summary."""

    rows: int = 0
    events: int = 0
    outcomes: Counter[Outcome] = field(default_factory=lambda: Counter(dict.fromkeys(Outcome, 0)))
    reasons: Counter[ImportReason] = field(default_factory=Counter)

    def add(self, result: RowResult) -> None:
        """Count one row."""
        self.rows += 1
        self.events += result.events
        self.outcomes[result.outcome] += 1
        self.reasons.update(result.reasons)

    def summary(self, *, dry_run: bool) -> Summary:
        """What was counted so far."""
        return Summary(
            self.rows,
            MappingProxyType(dict(self.outcomes)),
            MappingProxyType(dict(self.reasons)),
            self.events,
            dry_run,
        )


class RowReport:
    """Writes a CSV of what became of each row, by its line: for `tutela import … --report FILE`.

    It repeats no cell of the import: nothing in it is personal data, and nothing a formula.
    """

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file)
        self._writer.writerow(("line", "outcome", "reasons", "events"))

    def __call__(self, result: RowResult) -> None:
        """Write one row's line."""
        self._writer.writerow(
            (result.line, result.outcome.value, " ".join(result.reasons), result.events)
        )
