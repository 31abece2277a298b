"""Import a HubSpot export: read it twice, record what may be recorded, account for every row.

The first reading takes in the file as a whole: how many rows, who is who, who denies what. The
second judges each row and writes in batches, each of which is kept when the next one fails.

Guarantees:

- Every row has one outcome and its reasons. Opt-outs enter as long as a person can be told.
- A consent counts only if no row of the file denies it for that person. When rows deny and grant
  at different times, here or elsewhere, the registers decide by time (`consent.registers`).
- Idempotent: a fact's event id is derived from its content, so that the same file, in any order of
  its rows, changes nothing the second time, also after the person chose otherwise in between.
- A dry run writes nothing, and tells the same.

Non-goals: what HubSpot calls a list or a campaign; merging people; repairing rows.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias

from sqlalchemy.exc import IntegrityError

from consent.bulk import select_by_keys
from consent.choices import Record
from consent.errors import ConsentError
from consent.importer.facts import Fact, Fingerprint, Held, Source, overrules, stands
from consent.importer.hubspot import SYSTEM, HubSpotMapping
from consent.importer.outcomes import ImportReason, Outcome, RowResult, Summary, Tally
from consent.importer.people import Begin, Directory, Identities, People, Read
from consent.importer.rows import Row, UnreadableFileError, open_csv
from consent.importer.statements import OptIn, Statement
from consent.ledger.canonical import JSONValue
from consent.models import ledger
from consent.registers import Key, Register
from consent.states import read_registers
from consent.subjects import Identifier, Reader, SubjectRef
from consent.writer import ConsentWriter
from policies.model import PolicySet
from policies.vocabulary import ANY

BATCH: Final = 1000
"""Rows in one transaction."""
METHOD: Final = "import.hubspot"

_RETRIES: Final = 5
_SELECT_RECORDED: Final = f"SELECT id FROM {ledger.entry.name} WHERE id {{keys}}"  # noqa: S608 - a table of ours

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many rows are done, and of how many."""


@dataclass(slots=True)
class _Survey:
    """What the file says as a whole."""

    rows: int = 0
    digest: int = 0
    """Of the rows as a set: their order does not change it."""
    identities: Identities = field(default_factory=Identities)
    _denied: dict[Identifier, frozenset[str]] = field(default_factory=dict)
    _kept: dict[frozenset[str], frozenset[str]] = field(default_factory=dict)
    """One object for all people who deny the same."""

    def learn(self, row: Row, statement: Statement) -> None:
        """Take in one row."""
        self.rows += 1
        content = "\x1f".join(row.cells).encode(errors="surrogateescape")
        self.digest += int.from_bytes(hashlib.sha256(content).digest(), "big")
        self.identities.learn(statement)
        if statement.denials:
            purposes = frozenset(denial.purpose for denial in statement.denials)
            for identifier in statement.identifiers:
                denied = purposes | self._denied.get(identifier, frozenset())
                self._denied[identifier] = self._kept.setdefault(denied, denied)

    def export(self) -> bytes:
        """The digest as bytes."""
        return (self.digest % 2**256).to_bytes(32, "big")

    def contradicts(self, statement: Statement, opt_in: OptIn) -> bool:
        """Whether any row about the same person denies what this one grants."""
        names = {*statement.identifiers}
        if statement.email is not None:
            names.update(self.identities.own_records(statement.email))
        return any(
            not self._denied.get(name, frozenset()).isdisjoint({opt_in.purpose, ANY})
            for name in names
        )


@dataclass(slots=True)
class _Judged:
    """A row, and what is to become of it."""

    statement: Statement
    facts: list[Fact] = field(default_factory=list)
    reasons: list[ImportReason] = field(default_factory=list)
    new: list[Fact] = field(default_factory=list)
    """The facts that this row is the first to bring."""
    overruling: bool = False


class HubSpotImport:
    """Imports HubSpot exports. This is where a transaction begins and ends: one a batch."""

    def __init__(
        self,
        writer: ConsentWriter,
        directory: Directory,
        policies: Callable[[], PolicySet],
        fingerprint: Fingerprint,
        clock: Callable[[], datetime],
        begin: Begin,
        read: Read,
        batch: int = BATCH,
    ) -> None:
        self._batch = batch
        self._writer = writer
        self._people = People(directory, begin, read)
        self._policies = policies
        self._fingerprint = fingerprint
        self._clock = clock
        self._read = read

    def run(
        self,
        path: Path,
        *,
        dry_run: bool = False,
        progress: Progress = lambda _done, _total: None,
        report: Callable[[RowResult], None] = lambda _result: None,
        actor: str = METHOD,
    ) -> Summary:
        """Import the file. What was recorded before an error stays, and is found the next time.

        Args:
            path: a regular file; it is read twice.
            dry_run: write nothing, and tell what would become of each row.
            progress: told after each batch how many rows are done, and of how many.
            report: given what became of each row, in their order.
            actor: who records it: an opaque reference.

        Raises:
            UnreadableFileError: the file as a whole cannot be imported.
            LedgerRolledBackError: the ledger may not be extended.
            sqlalchemy.exc.DBAPIError: the database refused a batch.
        """
        now = self._clock()
        policies = self._policies()
        tally = Tally()
        with open_csv(path) as table:
            mapping = HubSpotMapping(table.header, policies)
            survey = _Survey()
            for row in table.rows():
                survey.learn(row, mapping.read(row, now.date()))
            export = self._fingerprint(survey.export())
            source = Source(SYSTEM, METHOD, policies, self._fingerprint, export)
            batches = _Batches(self._people, self._writer, self._read, source, survey, now, actor)
            for rows in _in_batches(table.rows(), self._batch):
                statements = [mapping.read(row, now.date()) for row in rows]
                for result in batches.take(statements, dry_run=dry_run):
                    tally.add(result)
                    report(result)
                progress(tally.rows, survey.rows)
        if tally.rows != survey.rows:
            raise UnreadableFileError("The file was changed while it was read. Import it again.")
        return replace(
            tally.summary(dry_run=dry_run),
            ignored_columns=tuple(mapping.ignored),
            doubtful_columns=tuple(mapping.doubtful),
            unmapped_columns=tuple(mapping.unmapped),
            without_unsubscribes=not mapping.tells_unsubscribes,
        )


class _Batches:
    """Judges and records the rows of one run, batch by batch."""

    def __init__(
        self,
        people: People,
        writer: ConsentWriter,
        read: Read,
        source: Source,
        survey: _Survey,
        now: datetime,
        actor: str,
    ) -> None:
        self._people = people
        self._writer = writer
        self._read = read
        self._source = source
        self._survey = survey
        self._now = now
        self._actor = actor
        self._foreseen: set[str] = set()
        """What earlier batches of a dry run would have recorded."""

    def take(self, statements: Sequence[Statement], *, dry_run: bool) -> list[RowResult]:
        """What became of these rows."""
        judged = [_Judged(statement, reasons=[*statement.reasons]) for statement in statements]
        speaking = [
            one
            for one in judged
            if one.statement.identifiers and (one.statement.denials or one.statement.opt_in)
        ]
        people = self._people.resolve(
            [one.statement for one in speaking],
            self._survey.identities,
            self._now,
            make=not dry_run,
        )
        for one, refs in zip(speaking, people, strict=True):
            self._judge(one, refs)
        failed = self._foresee(speaking) if dry_run else self._record(speaking)
        return [_result(one, failed) for one in judged]

    def _judge(self, one: _Judged, refs: Sequence[SubjectRef]) -> None:
        """Turn what a row says into facts about those whom it is about."""
        statement, opt_in = one.statement, one.statement.opt_in
        place: dict[str, JSONValue] = {"system": self._source.system, "line": statement.line}
        if statement.record is not None:
            place["record_id"] = statement.record.value
        if len(refs) > 1:
            one.reasons.append(ImportReason.AMBIGUOUS_IDENTITY)
        one.facts += [
            self._source.denied(ref, denial, place) for ref in refs for denial in statement.denials
        ]
        if opt_in is not None and len(refs) == 1:
            if self._survey.contradicts(statement, opt_in):
                one.reasons.append(ImportReason.CONTRADICTED)
                return
            granted = list(self._source.granted(refs[0], opt_in, place, self._now))
            one.facts += granted
            one.reasons.append(ImportReason.CONSENT_EVIDENCED)
            if len(granted) > 1:
                one.reasons.append(ImportReason.DOUBLE_OPT_IN)

    def _record(self, judged: Sequence[_Judged]) -> set[SubjectRef]:
        """Record what is new. The people of whom nothing could be."""
        for _ in range(_RETRIES):
            self._compare(judged)
            try:
                return self._write(judged)
            except IntegrityError:
                # Another import recorded one of the facts meanwhile: now it is known.
                continue
        self._compare(judged)
        return self._write(judged)

    def _write(self, judged: Sequence[_Judged]) -> set[SubjectRef]:
        new: dict[SubjectRef, list[Fact]] = defaultdict(list)
        for one in judged:
            for fact in one.new:
                new[fact.subject].append(fact)
        outcomes = self._writer.write(
            [
                Record(Identifier("ref", subject), tuple(fact.event for fact in facts), self._actor)
                for subject, facts in new.items()
            ]
        )
        return {
            subject
            for subject, outcome in zip(new, outcomes, strict=True)
            if isinstance(outcome, ConsentError)
        }

    def _foresee(self, judged: Sequence[_Judged]) -> set[SubjectRef]:
        self._compare(judged)
        self._foreseen.update(fact.event.id for one in judged for fact in one.new)
        return set()

    def _compare(self, judged: Sequence[_Judged]) -> None:
        """Tell the new facts from those that are known, and from each other."""
        facts = [fact for one in judged for fact in one.facts]
        with self._read() as reader:
            known = _recorded(reader, [fact.event.id for fact in facts]) | self._foreseen
            held = _held(reader, {fact.subject for fact in facts})
        for one in judged:
            one.new = []
            for fact in one.facts:
                theirs = held.get(fact.subject, {})
                if fact.event.id not in known and not stands(fact, theirs):
                    known.add(fact.event.id)
                    one.new.append(fact)
                    one.overruling = one.overruling or overrules(fact, theirs)


def _result(one: _Judged, failed: set[SubjectRef]) -> RowResult:
    statement, reasons = one.statement, list(one.reasons)
    if not failed.isdisjoint(fact.subject for fact in one.new):
        reasons.append(ImportReason.WRITE_REFUSED)
        return RowResult(statement.line, Outcome.FAILED, tuple(reasons), 0)
    if one.overruling:
        reasons.append(ImportReason.OVERRULES_GRANT)
    if one.facts and not one.new:
        reasons.append(ImportReason.ALREADY_RECORDED)
    if statement.damage is not None or not statement.identifiers:
        outcome = Outcome.REJECTED
    elif not one.facts:
        outcome = Outcome.UNKNOWN
    else:
        outcome = Outcome.IMPORTED if one.new else Outcome.UNCHANGED
    return RowResult(statement.line, outcome, tuple(dict.fromkeys(reasons)), len(one.new))


def _recorded(reader: Reader, ids: Sequence[str]) -> set[str]:
    return {row[0] for row in select_by_keys(reader, _SELECT_RECORDED, ids)}


def _held(reader: Reader, subjects: set[SubjectRef]) -> Mapping[SubjectRef, Held]:
    held: dict[SubjectRef, dict[Key, Register]] = defaultdict(dict)
    for (subject, key), register in read_registers(reader, list(subjects)).items():
        held[subject][key] = register
    return held


def _in_batches(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while batch := list(islice(rows, size)):
        yield batch
