"""The report of an import: a line for every row, and a signed account of all of them.

The lines repeat no cell of the import but a masked ID: nothing in them is personal data. The
account (JSON) has the counts, the hashes of the file, of the mapping and of the lines, and where in
the ledger the events stand; it is signed with the ledger's key, as receipts are.
"""

import csv
from typing import Final, TextIO

from consent.importer.outcomes import RowResult

COLUMNS: Final = (
    "line",
    "outcome",
    "reasons",
    "events",
    "drafts_and_notes",
    "quarantine",
    "record",
)


class RowReport:
    """Writes the lines: RFC 4180, and no cell that a spreadsheet would take for a formula."""

    def __init__(self, file: TextIO, *, header: bool = True) -> None:
        self._writer = csv.writer(file)
        if header:
            self._writer.writerow(COLUMNS)

    def __call__(self, result: RowResult) -> None:
        """Write one row's line."""
        self._writer.writerow(
            (
                result.line,
                result.outcome.value,
                " ".join(result.reasons),
                result.events,
                result.marks,
                result.held.value if result.held is not None else "",
                as_text(result.record),
            )
        )


def as_text(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe in front, where it might."""
    return f"'{cell}" if cell[:1] in {"=", "+", "-", "@", "\t", "\r"} else cell
