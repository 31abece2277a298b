"""The record of imports: which file, how it was read, how far it is, what became of its rows.

Guarantees:

- The cursor, the counters, the lines of the report, quarantined rows, drafts and notes of a batch
  are committed with the batch's events, or not at all. An import that was killed goes on behind
  its last batch, and ends as if it had not been.
- Only one process works on an import: whoever takes it over becomes its owner, and the next batch
  of whoever was is refused (`ImportTakenError`), with everything in it.
- A file is known by the hash of its bytes. To import it again by the same plan begins a new import
  once the last one is done, and continues it until then.

Non-goals: who may do this, and what the trail of operators says of it.
"""

import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Final

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.orm import Session
from uuid_utils import uuid7

from consent.errors import ConsentError
from consent.importer import quarantine
from consent.importer.batches import BatchOutcome
from consent.importer.cells import printable
from consent.importer.facts import Fingerprint
from consent.importer.marks import DraftState, MarkFact
from consent.importer.models import draft, import_part, import_run, note
from consent.importer.outcomes import RowResult, Tally
from consent.importer.people import Begin
from consent.importer.report import RowReport
from consent.importer.sealing import Sealer, texts
from consent.importer.upserts import insertion
from consent.subjects import Reader, new_subject_ref

_c: Final = import_run.c
_p: Final = import_part.c
_LONGEST_NAME: Final = 80


class ImportTakenError(ConsentError):
    """Another process works on this import. Nothing of this batch was kept."""

    code = "IMPORT_TAKEN"


class UnknownImportError(ConsentError):
    """No import has this id, or it is not in a state in which this can be done."""

    code = "IMPORT_UNKNOWN"


class ImportState(StrEnum):
    """Where an import stands."""

    RUNNING = "running"
    """Rows are being recorded, or were, by a process that ended before its time."""
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file, as far as it may be known."""

    hash: str
    """SHA-256 of its bytes, in hexadecimal digits."""
    size: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class ImportRecord:
    """An import, as it stands in the table."""

    id: str
    state: ImportState
    kind: str
    file: FileFacts
    plan: str
    policy: str
    mapping: str | None
    encoding: str | None
    key_ref: str
    actor: str
    created_at: datetime
    finished_at: datetime | None = None
    rows_total: int | None = None
    rows_done: int = 0
    counts: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    first_index: int | None = None
    last_index: int | None = None
    manifest: str | None = None
    error: str | None = None
    header: bytes | None = None
    """Sealed: a file without headings has a person in its first line."""


def shown_name(name: str) -> str:
    """A file's name as it may be kept and shown: its last part, printable and short.

    A browser may send a whole path, or whatever somebody made it send.
    """
    last = PureWindowsPath(PurePosixPath(name).name).name
    return printable(last)[:_LONGEST_NAME]


class Journal:
    """Keeps the record of imports. Shared by threads."""

    def __init__(
        self,
        begin: Begin,
        sealer: Sealer,
        fingerprint: Fingerprint,
        clock: Callable[[], datetime],
    ) -> None:
        self.begin: Final = begin
        self.sealer: Final = sealer
        self.fingerprint: Final = fingerprint
        self.clock: Final = clock

    # --- beginning -----------------------------------------------------------------------------

    def create(
        self,
        session: Session,
        state: ImportState,
        kind: str,
        file: FileFacts,
        *,
        actor: str,
        plan: str = "",
        policy: str = "",
        mapping: str | None = None,
        encoding: str | None = None,
    ) -> str:
        """Make the record of a new import; returns its id."""
        import_id = str(uuid7())
        session.execute(
            insert(import_run).values(
                id=import_id,
                state=state,
                kind=kind,
                file_hash=file.hash,
                file_size=file.size,
                file_name=shown_name(file.name),
                plan=plan,
                policy=policy,
                mapping=mapping,
                encoding=encoding,
                key_ref=new_subject_ref(),
                actor=actor,
                created_at=self.clock(),
                rows_done=0,
            )
        )
        return import_id

    def unfinished(self, reader: Reader, file_hash: str, plan: str) -> str | None:
        """The import of this file by this plan that was begun and not finished; None if none is."""
        found: str | None = reader.execute(
            select(_c.id)
            .where(_c.file_hash == file_hash, _c.plan == plan, _c.state == ImportState.RUNNING)
            .order_by(_c.created_at.desc())
            .limit(1)
        ).scalar_one_or_none()
        return found

    def take(self, import_id: str, form: str) -> "RunKeeper":
        """Become the one who works on an import that was begun.

        Args:
            import_id: which.
            form: how rows are read, as part of the identity of those that are kept.

        Raises:
            UnknownImportError: there is none, or it is not to be run.
        """
        owner = str(uuid7())
        with self.begin() as session:
            row = session.execute(
                update(import_run)
                .where(_c.id == import_id, _c.state == ImportState.RUNNING)
                .values(
                    owner=owner,
                )
                .returning(import_run)
            ).one_or_none()
        if row is None:
            raise UnknownImportError("there is no such import, or it has ended")
        return RunKeeper(self, record_of(row), owner, form)

    # --- changing ------------------------------------------------------------------------------

    def move(
        self,
        session: Session,
        import_id: str,
        before: Iterable[ImportState],
        after: ImportState,
        **values: Any,
    ) -> ImportRecord:
        """Change an import's state, and what goes with it.

        Raises:
            UnknownImportError: it is not in any of the states before.
        """
        row = session.execute(
            update(import_run)
            .where(_c.id == import_id, _c.state.in_(list(before)))
            .values(state=after, **values)
            .returning(import_run)
        ).one_or_none()
        if row is None:
            raise UnknownImportError("the import is not where it was: load its page again")
        return record_of(row)

    # --- reading -------------------------------------------------------------------------------

    def get(self, reader: Reader, import_id: str) -> ImportRecord:
        """One import.

        Raises:
            UnknownImportError: there is none with this id.
        """
        row = reader.execute(select(import_run).where(_c.id == import_id)).one_or_none()
        if row is None:
            raise UnknownImportError("there is no such import")
        return record_of(row)

    def lines(self, reader: Reader, import_id: str) -> Iterator[str]:
        """The lines of a report, as CSV text in pieces, without the header."""
        of_import = select(_p.number).where(_p.import_id == import_id).order_by(_p.number)
        for number in list(reader.execute(of_import).scalars()):
            content = reader.execute(
                select(_p.content).where(_p.import_id == import_id, _p.number == number)
            ).scalar_one()
            yield zlib.decompress(content).decode()


class RunKeeper:
    """Keeps what becomes of the rows of one import, for its owner."""

    def __init__(self, journal: Journal, record: ImportRecord, owner: str, form: str) -> None:
        self.record: Final = record
        self._journal = journal
        self._owner = owner
        self._form = form
        self._tally = Tally() if record.counts is None else Tally.of(record.counts)
        self._next = self._tally

    @property
    def import_id(self) -> str:
        """Which import it is."""
        return self.record.id

    @property
    def tally(self) -> Tally:
        """What was counted up to the last batch that is kept."""
        return self._tally.copy()

    def begin(self, header: Sequence[str], total: int) -> None:
        """Keep the header, for repairs, and how many rows there are."""
        record, journal = self.record, self._journal
        with journal.begin() as session:
            document = {"header": texts(header)}
            sealed = journal.sealer.seal(
                session, record.key_ref, record.id, document, journal.clock()
            )
            self._write(session, header=sealed, rows_total=total)

    def keep(self, session: Session, outcome: BatchOutcome) -> None:
        """Keep a batch with its events."""
        now = self._journal.clock()
        after = self._tally.copy()
        for result in outcome.results:
            after.add(result)
        values: dict[str, Any] = {"rows_done": after.rows, "counts": json.dumps(after.as_json())}
        if outcome.indexes:
            values["first_index"] = func.coalesce(_c.first_index, min(outcome.indexes))
            values["last_index"] = max(outcome.indexes)
        self._write(session, **values)
        piece = _piece(self.import_id, self._tally.rows, outcome.results)
        session.execute(insert(import_part).values(piece))
        quarantine.hold(
            session,
            self.import_id,
            self.record.key_ref,
            self._form,
            outcome.held,
            [outcome.results[one.place].record for one in outcome.held],
            self._journal.sealer,
            self._journal.fingerprint,
            now,
        )
        _mark(session, self.import_id, outcome.marks, now)
        self._next = after

    def committed(self) -> None:
        """The batch is durable: go on behind it."""
        self._tally = self._next

    def _write(self, session: Session, **values: Any) -> None:
        written = session.execute(
            update(import_run)
            .where(
                _c.id == self.import_id,
                _c.owner == self._owner,
                _c.state == ImportState.RUNNING,
                _c.rows_done == self._tally.rows,
            )
            .values(values)
            .returning(_c.id)
        ).one_or_none()
        if written is None:
            raise ImportTakenError("another process has taken this import over")


def _mark(session: Session, import_id: str, marks: Sequence[MarkFact], now: datetime) -> None:
    """Keep drafts and notes; take back what no longer holds."""
    drafts = [
        {
            "id": fact.id,
            "subject_ref": fact.subject,
            "asks": fact.name,
            "import_id": import_id,
            "line": fact.line,
            "record": fact.record,
            "state": DraftState.OPEN,
            "made_at": now,
        }
        for fact in marks
        if fact.mark.asks
    ]
    if drafts:
        session.execute(insertion(session, draft).on_conflict_do_nothing(), drafts)
    notes: dict[tuple[str, str], MarkFact] = {
        (fact.subject, fact.name): fact for fact in marks if not fact.mark.asks
    }
    for (subject, name), fact in notes.items():
        if not fact.value:
            session.execute(delete(note).where(note.c.subject_ref == subject, note.c.name == name))
    kept = [
        {
            "subject_ref": subject,
            "name": name,
            "value": fact.value,
            "import_id": import_id,
            "line": fact.line,
            "noted_at": now,
        }
        for (subject, name), fact in notes.items()
        if fact.value
    ]
    if kept:
        statement = insertion(session, note)
        changes = {
            column: statement.excluded[column]
            for column in ("value", "import_id", "line", "noted_at")
        }
        session.execute(
            statement.on_conflict_do_update(index_elements=["subject_ref", "name"], set_=changes),
            kept,
        )


def _piece(import_id: str, number: int, results: Sequence[RowResult]) -> dict[str, Any]:
    text = io.StringIO(newline="")
    report = RowReport(text, header=False)
    for result in results:
        report(result)
    content = zlib.compress(text.getvalue().encode())
    return {"import_id": import_id, "number": number, "content": content}


def record_of(row: Row[Any]) -> ImportRecord:
    """The import of a row."""

    def parsed(text: str | None) -> Any:
        return None if text is None else json.loads(text)

    return ImportRecord(
        id=row.id,
        state=ImportState(row.state),
        kind=row.kind,
        file=FileFacts(row.file_hash, row.file_size, row.file_name),
        plan=row.plan,
        policy=row.policy,
        mapping=row.mapping,
        encoding=row.encoding,
        key_ref=row.key_ref,
        actor=row.actor,
        created_at=row.created_at,
        finished_at=row.finished_at,
        rows_total=row.rows_total,
        rows_done=row.rows_done,
        counts=parsed(row.counts),
        warnings=tuple(parsed(row.warnings) or ()),
        first_index=row.first_index,
        last_index=row.last_index,
        manifest=row.manifest,
        error=row.error,
        header=row.header,
    )
