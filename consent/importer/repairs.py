"""Completing quarantined rows, all of a reason at once, and running them again.

An officer says what the rows lack: the words that a form had, where a list came from, on which day
a fair was. Nobody's own word is replaced: only what is missing is taken from there, and the
evidence says that it was supplied. The rows then pass the rules of every import.

Guarantees:

- A repaired row never undoes a no: what a row dates itself is ordered by time; where an officer
  supplied the date, any no that stands beats it, whenever it was said.
- What is recorded and what becomes of the row in quarantine are committed together. A repair that
  was broken off goes on, and nothing is done twice.
- What the rows deny was recorded when they were imported, and is not recorded again; of rows that
  were set aside as a whole, it is recorded now.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Row as TableRow
from sqlalchemy import insert, select, tuple_, update
from sqlalchemy.orm import Session
from uuid_utils import uuid7

from consent.choices import NoticeRef
from consent.errors import ConsentError
from consent.importer import wording
from consent.importer.batches import Batches, BatchOutcome, Collaborators
from consent.importer.facts import Source
from consent.importer.journal import ImportRecord, Journal
from consent.importer.mapping import MappingError
from consent.importer.models import quarantine, repair
from consent.importer.outcomes import ImportReason, Outcome, Tally
from consent.importer.plan import Plan
from consent.importer.quarantine import HeldState
from consent.importer.rows import Damage, Row, UnreadableFileError
from consent.importer.run import Progress
from consent.importer.sealing import SealedRow, texts_of
from consent.importer.statements import Reading, Statement, Supplied
from consent.importer.survey import Survey
from consent.subjects import Reader
from policies.model import PolicySet
from policies.vocabulary import LegalBasis

BATCH: Final = 500

_c: Final = quarantine.c
_r: Final = repair.c
_EARLIEST: Final = date(1990, 1, 1)


class InvalidRepairError(ConsentError):
    """The repair cannot be ordered. `fields` says what is wrong where."""

    code = "REPAIR_INVALID"

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__(" ".join(fields.values()))
        self.fields: Final = dict(fields)


class RepairState(StrEnum):
    """How far a repair is."""

    ASKED = "asked"
    DONE = "done"


SUPPLIES: Final[Mapping[ImportReason, str]] = {
    ImportReason.NO_DATE: "date",
    ImportReason.NO_SOURCE: "source",
    ImportReason.NO_WORDS: "words",
    ImportReason.NO_PURPOSE: "purpose",
    ImportReason.UNMAPPED_TYPE: "purpose",
    ImportReason.WORDS_NAME_NO_TYPE: "purpose",
}
"""What rows of a reason lack. Rows of other reasons can be run again, or dismissed."""


@dataclass(frozen=True, slots=True)
class Order:
    """A repair that was asked for."""

    id: str
    reason: ImportReason
    supplied: Supplied
    why: str
    actor: str
    state: RepairState
    asked_at: datetime
    ended_at: datetime | None
    after: tuple[str, str]
    counts: Mapping[str, int]


def check(
    reason: ImportReason, supplied: Supplied, why: str, policies: PolicySet, today: date
) -> None:
    """Refuse a repair that makes no sense.

    Raises:
        InvalidRepairError: a reason for the repair is missing, or what rows of this sort lack; or
            it is not what may be supplied.
    """
    lacks = SUPPLIES.get(reason)
    wrong: dict[str, str] = {}
    if not why.strip():
        wrong["why"] = "Say why this is known: where the answer comes from."
    if lacks == "date":
        if supplied.given_on is None:
            wrong["date"] = "Say on which day it was, such as 2024-05-17."
        elif not _EARLIEST <= supplied.given_on <= today:
            wrong["date"] = "The day must lie between 1990 and today."
    if lacks == "source" and not wording.tells(supplied.source or ""):
        wrong["source"] = "Say where they agreed, such as: web form of our shop."
    if lacks == "words" and not (supplied.words or "").strip():
        wrong["words"] = "Write the words that people saw."
    if lacks == "purpose":
        purpose = policies.purpose(supplied.purpose or "")
        if purpose is None:
            wrong["purpose"] = "Choose the purpose that they agreed to."
        elif purpose.legal_basis is not LegalBasis.CONSENT:
            wrong["purpose"] = "This purpose does not rest on consent."
    if wrong:
        raise InvalidRepairError(wrong)


def ask(
    session: Session,
    reason: ImportReason,
    supplied: Supplied,
    *,
    why: str,
    actor: str,
    now: datetime,
) -> str:
    """Order a repair of all rows of a reason, as `check` allows it; returns its id."""
    order_id = str(uuid7())
    session.execute(
        insert(repair).values(
            id=order_id,
            reason=reason.value,
            supplied=json.dumps(as_document(supplied)),
            why=why,
            actor=actor,
            state=RepairState.ASKED,
            asked_at=now,
            counts="{}",
        )
    )
    return order_id


def waiting(reader: Reader) -> list[Order]:
    """Repairs that are not done, the oldest first."""
    query = select(repair).where(_r.state == RepairState.ASKED).order_by(_r.asked_at, _r.id)
    return [_order(row) for row in reader.execute(query)]


class Repairs:
    """Carries repairs out."""

    def __init__(
        self,
        parts: Collaborators,
        journal: Journal,
        plan_of: Callable[[ImportRecord], Plan],
        batch: int = BATCH,
    ) -> None:
        """Collaborators.

        Args:
            parts: what an import works with.
            journal: where imports are kept.
            plan_of: how an import's rows are read.
            batch: rows in one transaction.
        """
        self._parts = parts
        self._journal = journal
        self._plan_of = plan_of
        self._batch = batch

    def work(self, order: Order, progress: Progress = lambda _done, _total: None) -> Order:
        """Run the rows of a repair again, from where it was broken off.

        Raises:
            LedgerRolledBackError: the ledger may not be extended.
        """
        with self._parts.read() as reader:
            rows = reader.execute(
                select(_c.import_id, _c.id)
                .where(
                    _c.state == HeldState.HELD,
                    _c.reason == order.reason.value,
                    _c.held_at <= order.asked_at,
                    tuple_(_c.import_id, _c.id) > order.after,
                )
                .order_by(_c.import_id, _c.id)
            ).all()
        keeper, done = _Keeper(order, self._journal), 0

        def tell(number: int) -> None:
            progress(done + number, len(rows))

        for import_id, of_import in groupby(rows, key=lambda row: str(row.import_id)):
            ids = [row.id for row in of_import]
            self._work_on(import_id, ids, order, keeper, tell)
            done += len(ids)
        with self._parts.begin() as session:
            session.execute(
                update(repair)
                .where(_r.id == order.id)
                .values(state=RepairState.DONE, ended_at=self._parts.clock())
            )
        return replace(order, state=RepairState.DONE, counts=dict(keeper.counts))

    def _work_on(
        self,
        import_id: str,
        ids: Sequence[str],
        order: Order,
        keeper: "_Keeper",
        progress: Callable[[int], None],
    ) -> None:
        parts, now = self._parts, self._parts.clock()
        policies = parts.policies()
        with parts.read() as reader:
            record = self._journal.get(reader, import_id)
        header = self._header(record)
        try:
            plan = self._plan_of(record)
            reading = plan.reading(header, policies)
        except (UnreadableFileError, MappingError):
            # The policy has changed so that the file could not be read any more: the rows stay.
            keeper.counts["held"] += len(ids)
            return
        survey = Survey()
        for some in self._opened(record, ids):
            for one in some:
                survey.learn(one.row, self._read(reading, one, order, now))
        source = Source(
            plan.system,
            plan.method,
            policies,
            parts.fingerprint,
            parts.fingerprint(f"repair\x1f{import_id}".encode()),
        )
        batches = Batches(parts, source, survey, now, order.actor, keeper)
        done = 0
        for some in self._opened(record, ids):
            keeper.rows = [(record, one.id, one.content(order.supplied)) for one in some]
            batches.take([(one.row, self._read(reading, one, order, now)) for one in some])
            done += len(some)
            progress(done)

    def _read(self, reading: Reading, one: "_Opened", order: Order, now: datetime) -> Statement:
        """What a row says, completed. What it denies was recorded with its import."""
        statement = reading.read(one.row, now, one.completed(order.supplied))
        if order.reason is not ImportReason.SUPPRESSED:
            statement = replace(statement, denials=(), marks=())
        if one.sealed.shared and statement.opt_ins:
            reasons = (*statement.reasons, ImportReason.AMBIGUOUS_IDENTITY)
            held = (*statement.held, ImportReason.AMBIGUOUS_IDENTITY)
            statement = replace(statement, opt_ins=(), reasons=reasons, held=held)
        return statement

    def _header(self, record: ImportRecord) -> list[str]:
        """The headings of the file; none if their key is gone, so that nothing can be read."""
        if record.header is None:
            return []
        with self._parts.read() as reader:
            document = self._journal.sealer.open(reader, record.key_ref, record.id, record.header)
        return [] if document is None else texts_of(document["header"])

    def _opened(self, record: ImportRecord, ids: Sequence[str]) -> Iterator[list["_Opened"]]:
        """The rows that are held still, in batches; those whose key is gone are left out."""
        for start in range(0, len(ids), self._batch):
            wanted = ids[start : start + self._batch]
            with self._parts.read() as reader:
                rows = reader.execute(
                    select(_c.id, _c.line, _c.subject_ref, _c.sealed)
                    .where(_c.id.in_(wanted), _c.state == HeldState.HELD)
                    .order_by(_c.id)
                ).all()
                opened = [
                    _Opened(row.id, row.line, SealedRow.of(document))
                    for row in rows
                    if (
                        document := self._journal.sealer.open(
                            reader, row.subject_ref or record.key_ref, row.id, row.sealed
                        )
                    )
                    is not None
                ]
            if opened:
                yield opened


@dataclass(frozen=True, slots=True)
class _Opened:
    """A row out of quarantine."""

    id: str
    line: int
    sealed: SealedRow

    @property
    def row(self) -> Row:
        """The row as it stood in its file."""
        damage = Damage(self.sealed.damage) if self.sealed.damage is not None else None
        return Row(self.line, list(self.sealed.cells), damage)

    def completed(self, supplied: Supplied) -> Supplied:
        """What was supplied to the row, earlier or now."""
        return supplied_of(self.sealed.supplied | as_document(supplied))

    def content(self, supplied: Supplied) -> SealedRow:
        """The row as it is sealed again, if it is still not complete."""
        return replace(self.sealed, supplied=self.sealed.supplied | as_document(supplied))


class _Keeper:
    """Keeps what becomes of quarantined rows."""

    def __init__(self, order: Order, journal: Journal) -> None:
        self.counts: Counter[str] = Counter(order.counts)
        self.rows: list[tuple[ImportRecord, str, SealedRow]] = []
        """The rows of the batch that comes next."""
        self._order = order
        self._journal = journal
        self._next = self.counts

    @property
    def import_id(self) -> str:
        """No import: a repair."""
        return self._order.id

    @property
    def tally(self) -> Tally:
        """Nothing was counted."""
        return Tally()

    def begin(self, header: Sequence[str], total: int) -> None:
        """There is nothing to keep of a header."""

    def keep(self, session: Session, outcome: BatchOutcome) -> None:
        """Keep a batch: rows that were recorded leave quarantine, the others say what they lack."""
        now = self._journal.clock()
        held = {one.place: one for one in outcome.held}
        counts = self.counts.copy()
        for place, (result, (record, held_id, content)) in enumerate(
            zip(outcome.results, self.rows, strict=True)
        ):
            where = update(quarantine).where(_c.id == held_id, _c.state == HeldState.HELD)
            if place in held or result.outcome is Outcome.FAILED:
                counts["held"] += 1
                one = held.get(place)
                if one is None:
                    continue
                sealed = self._journal.sealer.seal(
                    session, one.subject or record.key_ref, held_id, content.document(), now
                )
                session.execute(
                    where.values(
                        reason=one.reason.value,
                        reasons=" ".join(one.reasons),
                        subject_ref=one.subject,
                        sealed=sealed,
                    )
                )
                continue
            recorded = result.outcome in {Outcome.IMPORTED, Outcome.UNCHANGED}
            counts["repaired" if recorded else "given_up"] += 1
            session.execute(
                where.values(
                    state=HeldState.REPAIRED if recorded else HeldState.DISMISSED,
                    reasons=" ".join(result.reasons),
                    sealed=None,
                    ended_at=now,
                    ended_by=self._order.actor,
                )
            )
        record, last, _ = self.rows[-1]
        session.execute(
            update(repair)
            .where(_r.id == self._order.id)
            .values(after=json.dumps([record.id, last]), counts=json.dumps(counts))
        )
        self._next = counts

    def committed(self) -> None:
        """The batch is durable."""
        self.counts = self._next


def as_document(supplied: Supplied) -> dict[str, Any]:
    """What is supplied, without what is not, as JSON has it."""
    document: dict[str, Any] = {
        "given_on": None if supplied.given_on is None else supplied.given_on.isoformat(),
        "source": supplied.source,
        "words": supplied.words,
        "notice": None if supplied.notice is None else asdict(supplied.notice),
        "purpose": supplied.purpose,
    }
    return {name: value for name, value in document.items() if value is not None}


def supplied_of(document: Mapping[str, Any]) -> Supplied:
    """What a document supplies."""
    given_on, notice = document.get("given_on"), document.get("notice")
    return Supplied(
        given_on=None if given_on is None else date.fromisoformat(given_on),
        source=document.get("source"),
        words=document.get("words"),
        notice=None if notice is None else NoticeRef(**notice),
        purpose=document.get("purpose"),
    )


def _order(row: TableRow[Any]) -> Order:
    after = json.loads(row.after) if row.after else ["", ""]
    return Order(
        id=row.id,
        reason=ImportReason(row.reason),
        supplied=supplied_of(json.loads(row.supplied)),
        why=row.why,
        actor=row.actor,
        state=RepairState(row.state),
        asked_at=row.asked_at,
        ended_at=row.ended_at,
        after=(after[0], after[1]),
        counts=json.loads(row.counts),
    )
