"""The signed account of an import, and how somebody checks it without us.

It says which file was read by which plan, what became of its rows in numbers, and where in the
ledger their events stand. It names the lines (a CSV of every row) by their hash, so that neither
can be exchanged. Pure but for reading the lines.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from consent.errors import LedgerError
from consent.importer.journal import ImportRecord
from consent.importer.outcomes import Outcome, Tally
from consent.importer.report import COLUMNS
from consent.ledger.checkpoint import Verifier, open_checkpoint
from consent.ledger.leaf import timestamp
from consent.signed_documents import opened

TYPE: Final = "tutela/import-report/1"
_CHUNK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LinesFacts:
    """The lines of a report, as the account names them."""

    sha256: str
    bytes: int


def facts_of(lines: Iterator[bytes]) -> LinesFacts:
    """The hash and the size of lines."""
    digest, size = sha256(), 0
    for piece in lines:
        digest.update(piece)
        size += len(piece)
    return LinesFacts(digest.hexdigest(), size)


def account(
    record: ImportRecord,
    tally: Tally,
    lines: LinesFacts,
    *,
    dry_run: bool,
    origin: str,
    checkpoint: str,
    policy: str,
    at: datetime,
) -> dict[str, Any]:
    """The account of an import, or of a dry run, not signed yet.

    Args:
        record: the import.
        tally: what became of its rows.
        lines: the report that goes with it.
        dry_run: whether nothing was recorded.
        origin: the ledger's name.
        checkpoint: a signed checkpoint that covers all its events.
        policy: the hash of the policies that it was judged by.
        at: when it was finished.
    """
    ledger: dict[str, Any] = {"origin": origin, "checkpoint": checkpoint}
    if record.first_index is not None and not dry_run:
        ledger |= {"first": record.first_index, "last": record.last_index}
    return {
        "type": TYPE,
        "dry_run": dry_run,
        "import": record.id,
        "actor": record.actor,
        "file": {"sha256": record.file.hash, "bytes": record.file.size},
        "kind": record.kind,
        "mapping": record.mapping,
        "encoding": record.encoding,
        "policy": policy,
        "counts": tally.as_json(),
        "complete": not tally.outcomes[Outcome.FAILED],
        "lines": {"sha256": lines.sha256, "bytes": lines.bytes},
        "ledger": ledger,
        "at": timestamp(at),
    }


def check(document: Mapping[str, Any], lines: bytes | None, verifier: Verifier) -> dict[str, Any]:
    """The account, if it is what it claims to be.

    Args:
        document: the account, signed.
        lines: the CSV that goes with it; None: it is not looked at.
        verifier: the ledger's public key.

    Raises:
        LedgerError: the signature, the checkpoint, the lines or the counts do not fit; the message
            says which.
    """
    content = opened(document, verifier)
    if content.get("type") != TYPE:
        raise LedgerError("this is no report of an import")
    ledger = content["ledger"]
    signed = open_checkpoint(ledger["checkpoint"], [verifier])
    if ledger["origin"] != verifier.name or ledger.get("last", -1) >= signed.size:
        raise LedgerError("the checkpoint does not cover the events that the report names")
    if lines is not None:
        _check_lines(content, lines)
    return content


def _check_lines(content: Mapping[str, Any], lines: bytes) -> None:
    told = content["lines"]
    if (sha256(lines).hexdigest(), len(lines)) != (told["sha256"], told["bytes"]):
        raise LedgerError("the lines are not those that the report was signed with")
    counts = content["counts"]
    rows = list(csv.DictReader(io.StringIO(lines.decode(), newline="")))
    counted = {
        "rows": len(rows),
        "events": sum(int(row[COLUMNS[3]]) for row in rows),
        "marks": sum(int(row[COLUMNS[4]]) for row in rows),
        "outcomes": Counter(row[COLUMNS[1]] for row in rows),
        "reasons": Counter(code for row in rows for code in row[COLUMNS[2]].split()),
        "held": Counter(row[COLUMNS[5]] for row in rows if row[COLUMNS[5]]),
    }
    for name, count in counted.items():
        said = counts[name]
        if isinstance(count, Counter):
            said = {word: number for word, number in said.items() if number}
        if count != said:
            raise LedgerError(f"the report's {name} are not those of its lines")
