"""Imports, for the command line.

What an import promises is in `consent.importer.run` and `.journal`. Here it gets its collaborators,
its report and its place in the trail of operators.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from sqlalchemy.orm import Session
from uuid_utils import uuid7

from consent.errors import ConsentError, LedgerError
from consent.importer import quarantine, repairs
from consent.importer.account import account, check, facts_of
from consent.importer.batches import Collaborators
from consent.importer.cells import once_each
from consent.importer.journal import (
    FileFacts,
    ImportRecord,
    ImportState,
    Journal,
)
from consent.importer.mapping import ENCODINGS, MappingFile, load
from consent.importer.outcomes import HELD_FIRST, ImportReason, RowResult, Summary, Tally
from consent.importer.plan import Kind, Plan, plan_of
from consent.importer.proposal import SAMPLE, Proposal
from consent.importer.proposal import propose as guess
from consent.importer.repairs import Repairs
from consent.importer.report import COLUMNS, RowReport
from consent.importer.rows import UnreadableFileError, open_csv
from consent.importer.run import BATCH, FileImport, Progress
from consent.importer.statements import Supplied
from consent.ledger.canonical import JSONValue
from consent.ledger.checkpoint import parse_vkey
from consent.signed_documents import as_text, signed
from consent.subjects import Reader
from governance.audit.trail import SYSTEM, Actor
from governance.keys.blind_index import BlindIndex
from governance.keys.envelope import Place
from governance.outbound.sealing import Sealer
from governance.vault.identify import mask
from policies.model import PolicySet

if TYPE_CHECKING:
    from admin_ui.services import Services


_PLACE: Final = Place("import_quarantine", "sealed")
_CHUNK: Final = 1024 * 1024


class ImportBusyError(ConsentError):
    """Another process imports this very file."""

    code = "IMPORT_BUSY"


class Imports:
    """Everything about imports, over the services of a process."""

    def __init__(self, services: "Services", batch: int = BATCH) -> None:
        self._services = services
        self._batch = batch
        # The oldest root, so that a fact keeps its id when newer ones are made.
        root = min(services.keyring.index_roots, key=lambda one: one.version)
        index = BlindIndex(root, "consent_event", "id", "import")
        self.parts: Final = Collaborators(
            writer=services.writer,
            directory=services.directory,
            policies=services.policies,
            fingerprint=lambda content: index.token(content.hex()),
            clock=services.clock,
            begin=services.database.begin,
            read=services.database.read,
            suppressed=services.suppressions.suppressed,
            mask=mask,
        )
        sealer = Sealer(services.keyring, _PLACE)
        self.journal: Final = Journal(
            services.database.begin, sealer, self.parts.fingerprint, services.clock
        )

    # --- plans ---------------------------------------------------------------------------------

    def mapping(self, text: str, name: str = "mapping") -> MappingFile:
        """Read a mapping.

        Raises:
            MappingError: names everything that is wrong with it.
        """
        return load(name, text.encode(errors="surrogatepass"), self.parts.policies())

    def plan(self, kind: Kind, mapping: str | None, encoding: str | None = None) -> Plan:
        """How a file is to be read.

        Raises:
            UnreadableFileError, MappingError: as `plan_of` and `mapping`.
        """
        return plan_of(kind, None if mapping is None else self.mapping(mapping), encoding)

    def plan_of(self, record: ImportRecord) -> Plan:
        """How the rows of an import are read."""
        return self.plan(Kind(record.kind), record.mapping, record.encoding)

    # --- from the command line -----------------------------------------------------------------

    def import_file(
        self,
        path: Path,
        kind: Kind,
        mapping: str | None,
        *,
        encoding: str | None,
        dry_run: bool,
        report: Path | None,
        progress: Progress,
        actor: Actor,
    ) -> Summary:
        """Import a file, or go on with it where an earlier run was broken off.

        Raises:
            UnreadableFileError, MappingError: nothing was imported.
            ImportBusyError: another process imports this file.
        """
        plan = self.plan(kind, mapping, encoding)
        with path.open("rb") as file:
            facts = FileFacts(*_hash(file), path.name)
            if dry_run:
                return self._try_file(file, facts, plan, mapping, report, progress, actor)
            with self._alone(facts.hash):
                import_id = self._begun(facts, plan, mapping, encoding, actor)
                summary, record = self._run(import_id, file, plan, progress, actor)
        if report is not None:
            with self._services.database.snapshot() as reader, report.open("wb") as written:
                for piece in self.lines(reader, record.id):
                    written.write(piece)
            _beside(report).write_text(record.manifest or "", encoding="utf-8")
        return summary

    def _try_file(
        self,
        file: BinaryIO,
        facts: FileFacts,
        plan: Plan,
        mapping: str | None,
        report: Path | None,
        progress: Progress,
        actor: Actor,
    ) -> Summary:
        results: list[RowResult] = []
        summary = FileImport(self.parts, self._batch).run(
            file, plan, dry_run=True, progress=progress, report=results.append
        )
        if report is not None:
            text = io.StringIO(newline="")
            written, tally = RowReport(text), Tally()
            for result in results:
                written(result)
                tally.add(result)
            content = text.getvalue().encode()
            report.write_bytes(content)
            record = self._unrecorded(facts, plan, mapping, actor)
            manifest = self._signed(record, tally, iter([content]), dry_run=True)
            _beside(report).write_text(manifest, encoding="utf-8")
        return summary

    def _begun(
        self, facts: FileFacts, plan: Plan, mapping: str | None, encoding: str | None, actor: Actor
    ) -> str:
        """The import to go on with, or a new one."""
        policies = self.parts.policies()
        digest = plan.digest(policies)
        with self._services.database.begin() as session:
            return self.journal.unfinished(session, facts.hash, digest) or self.journal.create(
                session,
                ImportState.RUNNING,
                plan.kind,
                facts,
                actor=str(actor),
                plan=digest,
                policy=policies.hash,
                mapping=mapping,
                encoding=encoding,
            )

    # --- quarantine ----------------------------------------------------------------------------

    def repair(
        self, reason: ImportReason, supplied: Supplied, why: str, actor: Actor, progress: Progress
    ) -> Mapping[str, int]:
        """Complete all rows that are held for a reason, and run them again.

        Broken off, it is finished by the next repair.

        Returns:
            How many were `repaired`, `given_up` as nothing speaks for them, and are `held` still.

        Raises:
            repairs.InvalidRepairError: it cannot be ordered so.
        """
        services, now = self._services, self._services.clock()
        repairs.check(reason, supplied, why, self.parts.policies(), now.date())
        with services.database.begin() as session:
            order_id = repairs.ask(session, reason, supplied, why=why, actor=str(actor), now=now)
            services.trail.record(
                session,
                actor=actor,
                action="import.repair_asked",
                object=f"repair:{order_id}",
                reason=why,
                details={"reason": reason.value, "supplied": sorted(repairs.as_document(supplied))},
                now=now,
            )
        with services.database.read() as reader:
            orders = repairs.waiting(reader)
        counts: Mapping[str, int] = {}
        for order in orders:
            counts = Repairs(self.parts, self.journal, self.plan_of).work(order, progress).counts
            with services.database.begin() as session:
                services.trail.record(
                    session,
                    actor=SYSTEM,
                    action="import.repaired",
                    object=f"repair:{order.id}",
                    details={"reason": order.reason.value, **counts},
                    now=services.clock(),
                )
        return counts

    def dismiss(
        self, reason: ImportReason, why: str, actor: Actor, only: Iterable[str] = ()
    ) -> int:
        """Give up rows in quarantine; returns how many."""
        now = self._services.clock()
        with self._services.database.begin() as session:
            count = quarantine.dismiss(session, reason, str(actor), now, only=list(only))
            if count:
                self._services.trail.record(
                    session,
                    actor=actor,
                    action="import.rows_dismissed",
                    object="quarantine",
                    reason=why,
                    details={"reason": reason.value, "rows": count},
                    now=now,
                )
        return count

    def expire(self, session: Session) -> int:
        """Empty the rows in quarantine that were kept long enough; returns how many."""
        now = self._services.clock()
        before = now - self._services.settings.import_quarantine
        expired = quarantine.expire(session, before, str(SYSTEM), now)
        if expired:
            self._services.trail.record(
                session,
                actor=SYSTEM,
                action="import.rows_expired",
                object="quarantine",
                details={"rows": expired},
                now=now,
            )
        return expired

    # --- reports -------------------------------------------------------------------------------

    def lines(self, reader: Reader, import_id: str) -> Iterator[bytes]:
        """The lines of a report, with their header, in pieces."""
        text = io.StringIO(newline="")
        csv.writer(text).writerow(COLUMNS)
        yield text.getvalue().encode()
        for piece in self.journal.lines(reader, import_id):
            yield piece.encode()

    # --- inside --------------------------------------------------------------------------------

    @contextmanager
    def _alone(self, file_hash: str) -> Iterator[None]:
        with self._services.database.exclusively(f"import/{file_hash}") as alone:
            if not alone:
                raise ImportBusyError(
                    "This very file is being imported now, by another command or by the console. "
                    "Wait until that is done."
                )
            yield

    def _run(
        self, import_id: str, file: BinaryIO, plan: Plan, progress: Progress, actor: Actor
    ) -> tuple[Summary, ImportRecord]:
        keeper = self.journal.take(import_id, plan.form)
        try:
            summary = FileImport(self.parts, self._batch).run(
                file, plan, keeper=keeper, progress=progress, actor=keeper.record.actor
            )
        except UnreadableFileError as error:
            self._fail(keeper.record, error)
            raise
        # Covers all its events; signed before the transaction, which it would otherwise prolong.
        self._services.notary.certify()
        now = self._services.clock()
        with self._services.database.begin() as session:
            record = self.journal.get(session, import_id)
            lines = self.lines(session, import_id)
            manifest = self._signed(record, keeper.tally, lines, dry_run=False)
            record = self.journal.move(
                session,
                import_id,
                [ImportState.RUNNING],
                ImportState.DONE,
                finished_at=now,
                owner=None,
                warnings=json.dumps(list(summary.warnings)),
                manifest=manifest,
            )
            counts = {name: n for name, n in keeper.tally.as_json().items() if isinstance(n, int)}
            details: dict[str, JSONValue] = {"kind": record.kind, "sha256": record.file.hash}
            details |= counts
            self._told(session, "import.finished", import_id, actor, details)
        return summary, record

    def _fail(self, record: ImportRecord, error: ConsentError) -> None:
        with self._services.database.begin() as session:
            self.journal.move(
                session, record.id, [ImportState.RUNNING], ImportState.FAILED, error=str(error)
            )

    def _signed(
        self, record: ImportRecord, tally: Tally, lines: Iterator[bytes], *, dry_run: bool
    ) -> str:
        services = self._services
        document = account(
            record,
            tally,
            facts_of(lines),
            dry_run=dry_run,
            origin=services.notary.origin,
            checkpoint=services.notary.certify(),
            policy=record.policy,
            at=services.clock(),
        )
        return as_text(signed(document, services.signer))

    def _unrecorded(
        self, facts: FileFacts, plan: Plan, mapping: str | None, actor: Actor
    ) -> ImportRecord:
        """A dry run from the command line: nothing is kept of it."""
        policies, now = self.parts.policies(), self._services.clock()
        return ImportRecord(
            id=str(uuid7()),
            state=ImportState.DONE,
            kind=plan.kind,
            file=facts,
            plan=plan.digest(policies),
            policy=policies.hash,
            mapping=mapping,
            encoding=plan.encoding,
            key_ref="",
            actor=str(actor),
            created_at=now,
        )

    def _told(
        self,
        session: Session,
        action: str,
        import_id: str,
        actor: Actor,
        details: Mapping[str, JSONValue],
    ) -> None:
        self._services.trail.record(
            session,
            actor=actor,
            action=action,
            object=f"import:{import_id}",
            details=details,
            now=self._services.clock(),
        )


def _hash(file: BinaryIO) -> tuple[str, int]:
    digest, size = sha256(), 0
    while piece := file.read(_CHUNK):
        digest.update(piece)
        size += len(piece)
    file.seek(0)
    return digest.hexdigest(), size


def _beside(report: Path) -> Path:
    """Where the signed account of a report is written."""
    return report.with_name(f"{report.name}.json")


def propose(
    policies: PolicySet, file: Path, encoding: str | None, system: str = "imported"
) -> Proposal:
    """A mapping for a table, guessed from its first rows.

    Raises:
        UnreadableFileError: it is no table.
    """
    if encoding is not None and encoding not in ENCODINGS:
        raise UnreadableFileError(f"The encoding must be one of {', '.join(ENCODINGS)}.")
    declared = None if encoding is None else ENCODINGS[encoding]
    with open_csv(file, encoding=declared, only_text=encoding is None) as table:
        once_each(table.header)
        return guess(table.header, islice(table.rows(), SAMPLE), policies, system)


def held_reason(code: str) -> ImportReason:
    """The reason of that code.

    Raises:
        UnreadableFileError: rows are not held for it.
    """
    for reason in HELD_FIRST:
        if reason.value == code.upper():
            return reason
    raise UnreadableFileError(f"Rows are held for one of {', '.join(HELD_FIRST)}")


def verify_report(account_file: Path, lines_file: Path | None, vkey: str) -> str:
    """Check a signed report; returns a sentence about what it says.

    Raises:
        LedgerError: it is not what it claims to be.
    """
    try:
        document = json.loads(account_file.read_bytes())
    except ValueError as error:
        raise LedgerError("the account is no JSON document") from error
    if lines_file is None and account_file.suffix == ".json":
        beside = account_file.with_suffix("")
        lines_file = beside if beside.is_file() else None
    lines = None if lines_file is None else lines_file.read_bytes()
    said = check(document if isinstance(document, dict) else {}, lines, parse_vkey(vkey))
    counts = said["counts"]
    what = "dry run" if said["dry_run"] else "import"
    looked = "with its lines" if lines is not None else "its lines were not looked at"
    return (
        f"ok: {what} {said['import']} of the file {said['file']['sha256']}: "
        f"{counts['rows']} rows, {counts['events']} events ({looked})"
    )
