"""Judge the rows of an export and record them, batch by batch.

A row becomes facts about those whom it is about; what is known already is left out; the rest is
written in one transaction, together with what a `Keeper` keeps of the batch.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Protocol, TypeAlias

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from consent.bulk import select_by_keys
from consent.choices import Record, Recorded
from consent.errors import ConsentError
from consent.importer.facts import (
    Fact,
    Fingerprint,
    Held,
    Source,
    denied_since,
    ends_sooner,
    is_imported,
    overrules,
    stands,
)
from consent.importer.marks import Kept, MarkFact, is_too_young, known_marks
from consent.importer.outcomes import HELD_FIRST, ImportReason, Outcome, RowResult, Tally
from consent.importer.people import Begin, Directory, People, Read
from consent.importer.rows import Row
from consent.importer.statements import AGE, Statement
from consent.importer.survey import Survey
from consent.ledger.canonical import JSONValue
from consent.models import ledger
from consent.registers import Key, Register
from consent.states import read_registers
from consent.subjects import Identifier, Reader, SubjectRef
from consent.writer import ConsentWriter
from policies.model import PolicySet
from policies.vocabulary import ChoiceState, EventType

_RETRIES: Final = 5
_SELECT_RECORDED: Final = f"SELECT id FROM {ledger.entry.name} WHERE id {{keys}}"  # noqa: S608 - a table of ours

Suppressed: TypeAlias = Callable[[Reader, Sequence[Identifier]], Sequence[datetime | None]]
"""Since when each identifier must not be written to again, in their order; None where it may."""


def nobody_suppressed(
    reader: Reader,  # noqa: ARG001 - signature of `Suppressed`
    identifiers: Sequence[Identifier],
) -> Sequence[datetime | None]:
    """The answer where nobody was ever erased."""
    return [None] * len(identifiers)


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A row of which something could not be used."""

    place: int
    """In its batch, from 0."""
    row: Row
    reason: ImportReason
    reasons: tuple[ImportReason, ...]
    subject: SubjectRef | None
    """The person whom it is about, if that is one, and known."""
    shared: bool
    """Whether the file says of the row that it is about several people."""


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What became of a batch, still in its transaction."""

    results: Sequence[RowResult]
    held: Sequence[HeldRow]
    marks: Sequence[MarkFact]
    indexes: Sequence[int]
    """The places in the ledger of the events that it brought."""


class Keeper(Protocol):
    """Keeps what becomes of an import's rows, each batch in the transaction of its events."""

    @property
    def import_id(self) -> str:
        """Which import it is."""

    @property
    def tally(self) -> Tally:
        """What was counted up to the last batch that is kept: the import goes on behind it."""

    def begin(self, header: Sequence[str], total: int) -> None:
        """The file was read once, and rows are about to be recorded."""

    def keep(self, session: Session, outcome: BatchOutcome) -> None:
        """Keep a batch.

        Raises:
            ConsentError: somebody else works on this import; nothing of the batch is kept.
        """

    def committed(self) -> None:
        """The last batch that was kept is durable."""


@dataclass(frozen=True, slots=True)
class Collaborators:
    """What an import works with."""

    writer: ConsentWriter
    directory: Directory
    policies: Callable[[], PolicySet]
    fingerprint: Fingerprint
    clock: Callable[[], datetime]
    begin: Begin
    read: Read
    suppressed: Suppressed = nobody_suppressed
    mask: Callable[[Identifier], str] = lambda _: ""
    """What may be shown of an identifier."""


@dataclass(slots=True)
class _Judged:
    """A row, and what is to become of it."""

    row: Row
    statement: Statement
    refs: tuple[SubjectRef, ...] = ()
    facts: list[Fact] = field(default_factory=list)
    marks: list[MarkFact] = field(default_factory=list)
    reasons: list[ImportReason] = field(default_factory=list)
    held: list[ImportReason] = field(default_factory=list)
    aside: bool = False
    """Whether nothing is recorded of it, as it names somebody who was erased."""
    place: dict[str, JSONValue] = field(default_factory=dict)
    new: list[Fact] = field(default_factory=list)
    """The facts that this row is the first to bring."""
    new_marks: list[MarkFact] = field(default_factory=list)
    seen: list[ImportReason] = field(default_factory=list)
    """Reasons that the comparison with what is recorded gave."""

    def end_sooner(self, same: Fact) -> None:
        """Let a grant that this row brings end when another row says that it ends, if sooner."""
        for place, fact in enumerate(self.new):
            ends_at = same.event.ends_at
            if fact.event.id == same.event.id and ends_at is not None:
                sooner = min(ends_at, fact.event.ends_at or ends_at)
                self.new[place] = replace(fact, event=replace(fact.event, ends_at=sooner))

    @property
    def all_held(self) -> tuple[ImportReason, ...]:
        """Why something of the row has to be kept."""
        denied = [reason for reason in self.seen if reason is ImportReason.DENIED_SINCE]
        return tuple(dict.fromkeys([*self.held, *denied]))


class Batches:
    """Judges and records the rows of one run, batch by batch."""

    def __init__(
        self,
        parts: Collaborators,
        source: Source,
        survey: Survey,
        now: datetime,
        actor: str,
        keeper: Keeper | None = None,
        *,
        dry_run: bool = False,
    ) -> None:
        self._parts = parts
        self._people = People(parts.directory, parts.begin, parts.read)
        self._source = source
        self._survey = survey
        self._now = now
        self._actor = actor
        self._keeper = keeper
        self._dry_run = dry_run
        self._foreseen: set[str] = set()
        """What earlier batches of a dry run would have recorded."""
        self._import_id = "" if keeper is None else keeper.import_id
        self._marked = Kept(self._import_id)
        """The marks that this run has made."""

    def take(self, rows: Sequence[tuple[Row, Statement]]) -> Sequence[RowResult]:
        """What became of these rows."""
        judged = [
            _Judged(row, statement, reasons=[*statement.reasons], held=[*statement.held])
            for row, statement in rows
        ]
        self._set_aside(judged)
        speaking = [one for one in judged if one.statement.speaks and not one.aside]
        people = self._people.resolve(
            [one.statement for one in speaking],
            self._survey.identities,
            self._now,
            make=not self._dry_run,
        )
        for one, refs in zip(speaking, people, strict=True):
            self._judge(one, refs)
        self._recognise([one for one in judged if not one.refs])
        if not self._dry_run:
            return self._record(judged)
        self._compare(judged)
        self._foreseen.update(fact.event.id for one in judged for fact in one.new)
        self._marked.add(mark for one in judged for mark in one.new_marks)
        return [self._result(one, frozenset()) for one in judged]

    # --- judging -------------------------------------------------------------------------------

    def _set_aside(self, judged: Sequence[_Judged]) -> None:
        """Whoever was erased does not come back by a list: nothing is recorded of such a row.

        Whoever came back by themselves is known again, and an import may tell of them: what it
        tells of the time before loses to what was recorded when they came.
        """
        names = list(dict.fromkeys(name for one in judged for name in one.statement.identifiers))
        with self._parts.read() as reader:
            since = self._parts.suppressed(reader, names)
        listed = [name for name, at in zip(names, since, strict=True) if at is not None]
        if not listed:
            return
        gone = frozenset(listed) - self._people.find(listed).keys()
        for one in judged:
            if not gone.isdisjoint(one.statement.identifiers):
                one.reasons.append(ImportReason.SUPPRESSED)
                one.held = [ImportReason.SUPPRESSED]
                one.aside = True

    def _recognise(self, judged: Sequence[_Judged]) -> None:
        """Find, and do not make, whom the other rows are about: to seal what is held of them, and
        to lift what earlier exports said.
        """
        wanting = [one for one in judged if not one.aside and (one.held or one.statement.marks)]
        names = [name for one in wanting for name in one.statement.identifiers]
        known = self._people.find(names) if names else {}
        for one in wanting:
            refs = (known.get(name) for name in one.statement.identifiers)
            one.refs = tuple(dict.fromkeys(ref for ref in refs if ref is not None))
            one.marks = self._marks(one)

    def _judge(self, one: _Judged, refs: tuple[SubjectRef, ...]) -> None:
        """Turn what a row says into facts about those whom it is about."""
        statement = one.statement
        one.refs = refs
        one.place = {"system": self._source.system, "line": statement.line}
        for record in statement.records[:1]:
            if record.system is not None:
                one.place["record_id"] = record.value
        if len(refs) > 1:
            one.reasons.append(ImportReason.AMBIGUOUS_IDENTITY)
            if statement.opt_ins:
                one.held.append(ImportReason.AMBIGUOUS_IDENTITY)
        one.facts += [
            self._source.denied(ref, denial, one.place)
            for ref in refs
            for denial in statement.denials
        ]
        one.marks = self._marks(one)
        for opt_in in statement.opt_ins if len(refs) == 1 else ():
            if self._survey.contradicts(statement, opt_in):
                one.reasons.append(ImportReason.CONTRADICTED)
                continue
            granted = list(self._source.granted(refs[0], opt_in, one.place, self._now))
            one.facts += granted
            one.reasons.append(ImportReason.CONSENT_EVIDENCED)
            if len(granted) > 1:
                one.reasons.append(ImportReason.DOUBLE_OPT_IN)
            if opt_in.supplied:
                one.reasons.append(ImportReason.REPAIRED)

    def _marks(self, one: _Judged) -> list[MarkFact]:
        return [
            MarkFact.of(self._source, ref, mark, one.statement.line, self._shown(one.statement))
            for ref in one.refs
            for mark in one.statement.marks
        ]

    # --- recording -----------------------------------------------------------------------------

    def _record(self, judged: Sequence[_Judged]) -> Sequence[RowResult]:
        """Record what is new."""
        for _ in range(_RETRIES):
            self._compare(judged)
            try:
                return self._write(judged)
            except IntegrityError:
                # Another import recorded one of the facts meanwhile: now it is known.
                continue
        self._compare(judged)
        return self._write(judged)

    def _write(self, judged: Sequence[_Judged]) -> Sequence[RowResult]:
        new: dict[SubjectRef, list[Fact]] = defaultdict(list)
        for one in judged:
            for fact in one.new:
                new[fact.subject].append(fact)
        results: list[RowResult] = []

        def then(session: Session, outcomes: Sequence[Recorded | ConsentError | None]) -> None:
            told = list(zip(new, outcomes, strict=True))
            failed = frozenset(ref for ref, outcome in told if not isinstance(outcome, Recorded))
            results[:] = [self._result(one, failed) for one in judged]
            if self._keeper is not None:
                indexes = [
                    event.index
                    for _, outcome in told
                    if isinstance(outcome, Recorded)
                    for event in outcome.events
                ]
                marks = [mark for one in judged for mark in one.new_marks]
                self._keeper.keep(
                    session, BatchOutcome(results, list(self._held(judged)), marks, indexes)
                )

        self._parts.writer.write(
            [
                Record(Identifier("ref", subject), tuple(fact.event for fact in facts), self._actor)
                for subject, facts in new.items()
            ],
            then,
        )
        if self._keeper is not None:
            self._keeper.committed()
        self._marked.add(mark for one in judged for mark in one.new_marks)
        return results

    def _held(self, judged: Sequence[_Judged]) -> Iterator[HeldRow]:
        for place, one in enumerate(judged):
            held = one.all_held
            reason = _first(held)
            if reason is not None:
                yield HeldRow(
                    place,
                    one.row,
                    reason,
                    held,
                    one.refs[0] if len(one.refs) == 1 else None,
                    self._survey.identities.is_shared(one.statement),
                )

    def _compare(self, judged: Sequence[_Judged]) -> None:
        """Tell the new facts from those that are known, and from each other."""
        facts = [fact for one in judged for fact in one.facts]
        subjects = {fact.subject for fact in facts} | {
            mark.subject for one in judged for mark in one.marks
        }
        with self._parts.read() as reader:
            known = _recorded(reader, [fact.event.id for fact in facts]) | self._foreseen
            held = _held(reader, subjects)
            marked = known_marks(reader, subjects, self._import_id).after(self._marked)
        for one in judged:
            one.new, one.new_marks, one.seen = [], [], []
        bringing: dict[str, _Judged] = {}
        for one in judged:
            restated = list(self._restated(one, known, held))
            for fact in [*one.facts, *restated]:
                theirs = held.get(fact.subject, {})
                if fact.event.id in bringing:
                    bringing[fact.event.id].end_sooner(fact)
                if fact.event.id in known or stands(fact, theirs):
                    continue
                if denied_since(fact, theirs):
                    one.seen.append(ImportReason.DENIED_SINCE)
                    continue
                known.add(fact.event.id)
                bringing[fact.event.id] = one
                one.new.append(self._for_its_age(fact, marked, one))
                if overrules(fact, theirs):
                    one.seen.append(ImportReason.OVERRULES_GRANT)
            one.new_marks = [mark for mark in one.marks if marked.take(mark)]

    def _for_its_age(self, fact: Fact, marked: Kept, one: _Judged) -> Fact:
        """A grant by somebody known to be too young is recorded, and never in force (Art. 8)."""
        event = fact.event
        if event.type is not EventType.CHOICE or event.state != ChoiceState.GRANTED:
            return fact
        if event.child_without_authority or self._is_child(fact.subject, event.purpose, marked):
            one.seen.append(ImportReason.CHILD_WITHOUT_AUTHORITY)
            return replace(fact, event=replace(event, child_without_authority=True))
        return fact

    def _is_child(self, subject: SubjectRef, purpose: str, marked: Kept) -> bool:
        rule = self._source.policies.purpose(purpose)
        return rule is not None and marked.too_young(subject, rule)

    def _too_young(self, mark: MarkFact, purpose: str) -> bool:
        rule = self._source.policies.purpose(purpose)
        return rule is not None and is_too_young(mark.value, rule)

    def _restated(
        self,
        one: _Judged,
        known: Collection[str],
        held: Mapping[SubjectRef, Held],
    ) -> Iterator[Fact]:
        """Imported grants that stand, of which this row says that they do not as they are."""
        for fact in one.facts:
            event = fact.event
            key = event.purpose, event.channel, EventType.CHOICE.value
            register = held.get(fact.subject, {}).get(key)
            if event.id in known and register is not None and ends_sooner(event, register):
                one.seen.append(ImportReason.ENDS_SOONER)
                yield self._source.restated(
                    fact.subject, key, register, one.place, ends_at=event.ends_at
                )
        for mark in one.marks:
            if mark.name != AGE or not mark.value:
                continue
            for key, register in held.get(mark.subject, {}).items():
                if (
                    register.state == ChoiceState.GRANTED
                    and not register.child_without_authority
                    and is_imported(register)
                    and self._too_young(mark, key[0])
                ):
                    yield self._source.restated(
                        mark.subject, key, register, one.place, age=mark.value
                    )

    # --- telling -------------------------------------------------------------------------------

    def _result(self, one: _Judged, failed: frozenset[SubjectRef]) -> RowResult:
        statement, reasons = one.statement, [*one.reasons, *one.seen]
        shown = self._shown(statement)
        held = _first(one.all_held)
        if not failed.isdisjoint(fact.subject for fact in one.new):
            reasons.append(ImportReason.WRITE_REFUSED)
            unique = tuple(dict.fromkeys(reasons))
            return RowResult(statement.line, Outcome.FAILED, unique, 0, 0, held, shown)
        stated = [*one.facts, *(mark for mark in one.marks if mark.value)]
        brought = [*one.new, *one.new_marks]
        known = bool(stated) and ImportReason.DENIED_SINCE not in one.seen
        if known and not brought:
            reasons.append(ImportReason.ALREADY_RECORDED)
        if statement.damage is not None or not statement.identifiers:
            outcome = Outcome.REJECTED
        elif brought:
            outcome = Outcome.IMPORTED
        else:
            outcome = Outcome.UNCHANGED if known else Outcome.UNKNOWN
        return RowResult(
            statement.line,
            outcome,
            tuple(dict.fromkeys(reasons)),
            len(one.new),
            len(one.new_marks),
            held,
            shown,
        )

    def _shown(self, statement: Statement) -> str:
        """What the row calls the person, masked: the record's id, else the address."""
        named = [*statement.records, *statement.identifiers]
        return self._parts.mask(named[0]) if named else ""


def _first(held: Sequence[ImportReason]) -> ImportReason | None:
    """The reason under which a row is kept: what has to be settled first."""
    return next((reason for reason in HELD_FIRST if reason in held), None)


def _recorded(reader: Reader, ids: Sequence[str]) -> set[str]:
    return {row[0] for row in select_by_keys(reader, _SELECT_RECORDED, ids)}


def _held(reader: Reader, subjects: set[SubjectRef]) -> Mapping[SubjectRef, Held]:
    held: dict[SubjectRef, dict[Key, Register]] = defaultdict(dict)
    for (subject, key), register in read_registers(reader, list(subjects)).items():
        held[subject][key] = register
    return held
