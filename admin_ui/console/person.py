"""One person: what applies, as a matrix; what was said, as a timeline; whether both are true.

The matrix is what checks answer, now or as of a past instant. The timeline is the ledger's events
of the person, newest first by when they happened. Everything shown is recomputed while the page
is made: each event against the ledger (`admin_ui.console.examined`), and the registers that
checks read against the fold of the events.

Non-goals: identifiers in clear, and the words that a notice said.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, select

from admin_ui.console import evidence, wording
from admin_ui.console.examined import Examined, Examiner, Verdict
from admin_ui.console.identifiers import KINDS, best_first
from admin_ui.console.wording import Tag
from consent.checks import Checker
from consent.choices import fact_of
from consent.ledger.checkpoint import Checkpoint
from consent.models import event as event_table
from consent.registers import fold
from consent.states import read_registers
from consent.subjects import Reader, SubjectRef
from governance.errors import DecryptionError
from governance.vault.identify import Directory, mask
from policies.decisions import Decision
from policies.model import PolicySet, Purpose
from policies.vocabulary import Channel, LegalBasis, Reason

SHOWN: Final = 200
"""Events on one page of a timeline."""
FOLDED: Final = 5_000
"""Of a person with more events than this, the registers are not compared with their fold."""

_UNSEALED: Final = [column for column in event_table.c if column.name != "sealed"]
_LATE: Final = timedelta(minutes=5)
_STOPPABLE: Final = frozenset(
    {
        Reason.GRANTED,
        Reason.RENEWED,
        Reason.PENDING_CONFIRMATION,
        Reason.LEGITIMATE_INTERESTS,
        Reason.PUBLIC_TASK,
    }
)
_GROUPS: Final = (
    ("Rests on consent", "a no until the person says yes", {LegalBasis.CONSENT}),
    (
        "Rests on an interest",
        "a yes until the person objects",
        {LegalBasis.LEGITIMATE_INTERESTS, LegalBasis.PUBLIC_TASK},
    ),
    (
        "Asks nobody",
        "needed for a contract, by law, or to protect life",
        {LegalBasis.CONTRACT, LegalBasis.LEGAL_OBLIGATION, LegalBasis.VITAL_INTERESTS},
    ),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """What applies to one purpose on one channel."""

    channel: Channel
    tag: Tag
    reason: str
    until: datetime | None
    record_id: str | None
    """The event that decided it, where that was not the legal basis or silence."""
    stop: str | None
    """What stopping it is called, where it can be stopped: withdraw, or object."""


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One purpose, with a cell or None for each channel of the matrix."""

    key: str
    name: str
    cells: list[Cell | None]


@dataclass(frozen=True, slots=True)
class MatrixGroup:
    """Purposes whose legal bases ask the person for the same thing."""

    title: str
    meaning: str
    rows: list[MatrixRow]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Purposes by channels."""

    channels: list[Channel]
    groups: list[MatrixGroup]

    def cell(self, purpose: str, channel: str) -> Cell | None:
        """What applies to this purpose on this channel."""
        for group in self.groups:
            for row in group.rows:
                if row.key == purpose:
                    return next((one for one in row.cells if one and one.channel == channel), None)
        return None


@dataclass(frozen=True, slots=True)
class Moment:
    """One event of the timeline."""

    id: str
    key: str
    """The purpose's key."""
    on: str
    """The channel, as stored."""
    state: str
    tag: Tag
    purpose: str
    channel: str
    occurred: datetime
    recorded: datetime
    late: bool
    """Learned of some time after it happened, as an import is."""
    beyond: bool
    """It happened after the instant that the page is about."""
    claimed: datetime | None
    method: str | None
    actor: str | None
    notice: Mapping[str, str] | None
    ends: datetime | None
    confirms: str | None
    evidence: list[tuple[str, str]] | None
    """None where the reader may not see evidence."""
    child: bool
    index: int
    examined: Examined

    @property
    def proved(self) -> bool:
        """Whether the event is what the ledger says."""
        return self.examined.verdict is not Verdict.MISMATCH


@dataclass(frozen=True, slots=True)
class Integrity:
    """What recomputing came to."""

    checked: int
    size: int
    """Of the signed tree that the events were found in."""
    flaws: list[str]
    registers_compared: bool

    @property
    def holds(self) -> bool:
        """Whether everything matches."""
        return not self.flaws


@dataclass(frozen=True, slots=True)
class PersonPage:
    """All that the page shows of one person."""

    ref: SubjectRef
    identifiers: list[tuple[str, str]]
    """Kind and masked value; empty where the reader may not see them, or there are none."""
    unreadable: bool
    """Whether identifiers could not be opened."""
    matrix: Matrix
    as_of: datetime | None
    timeline: list[Moment]
    older: int | None
    """The cursor of events further down the ledger."""
    integrity: Integrity

    @property
    def unknown(self) -> bool:
        """Whether what applies cannot be told."""
        return not self.matrix.channels


class People:
    """Reads people's pages."""

    def __init__(
        self,
        directory: Directory,
        examiner: Examiner,
        checker: Checker,
        policies: Callable[[], PolicySet],
    ) -> None:
        self._directory = directory
        self._examiner = examiner
        self._checker = checker
        self._policies = policies

    def page(
        self,
        reader: Reader,
        ref: SubjectRef,
        signed: Checkpoint,
        *,
        as_of: datetime | None = None,
        before: int | None = None,
        names: bool,
        evidence_seen: bool,
    ) -> PersonPage:
        """The page of a known person.

        Args:
            reader: a snapshot, taken after `signed` was.
            ref: the person.
            signed: the checkpoint in whose tree the events have to be.
            as_of: the instant that the matrix is about; None for now.
            before: the ledger index below which the timeline begins.
            names: whether the caller may see masked identifiers.
            evidence_seen: whether the caller may see evidence.

        Raises:
            InvalidInstantError: `as_of` lies in the future.
        """
        policies = self._policies()
        try:
            decisions = self._checker.matrix(reader, ref, as_of)
        except ValueError:
            # A word that is no state: somebody wrote into the table, and checks of it fail, too.
            decisions = {}
        rows, older = _events(reader, ref, before)
        examined = self._examiner.examine(reader, rows, signed)
        identifiers, unreadable = self.identifiers(reader, ref) if names else ([], False)
        moments = [_moment(row, examined[row.id], policies, as_of, evidence_seen) for row in rows]
        moments.sort(key=lambda one: (one.occurred, one.index), reverse=True)
        return PersonPage(
            ref=ref,
            identifiers=identifiers,
            unreadable=unreadable,
            matrix=_matrix(policies, decisions),
            as_of=as_of,
            timeline=moments,
            older=older,
            integrity=self.integrity(reader, ref, signed, examined.values()),
        )

    def integrity(
        self,
        reader: Reader,
        ref: SubjectRef,
        signed: Checkpoint,
        examined: Collection[Examined] | None = None,
    ) -> Integrity:
        """Whether this person's events and registers are what the ledger says."""
        if examined is None:
            rows, _ = _events(reader, ref, None)
            examined = self._examiner.examine(reader, rows, signed).values()
        flaws = sorted({one.flaw for one in examined if one.flaw is not None})
        said = reader.execute(
            select(*_UNSEALED).where(event_table.c.subject_ref == ref).limit(FOLDED + 1)
        ).all()
        compared = len(said) <= FOLDED
        if compared:
            held = {key: one for (_, key), one in read_registers(reader, [ref]).items()}
            if held != fold(fact_of(row) for row in said):
                flaws.append("the current state is not what the events amount to")
        return Integrity(len(examined), signed.size, flaws, compared)

    def identifiers(self, reader: Reader, ref: SubjectRef) -> tuple[list[tuple[str, str]], bool]:
        """Kind and masked value of each identifier, and whether they could not be opened."""
        try:
            held = self._directory.identifiers_of(reader, [ref])[ref]
        except DecryptionError:
            return [], True
        return [(KINDS[one.kind], mask(one)) for one in best_first(held)], False


def _events(
    reader: Reader, ref: SubjectRef, before: int | None
) -> tuple[Sequence[Row[Any]], int | None]:
    said = event_table.c
    query = select(event_table).where(said.subject_ref == ref).order_by(said.idx.desc())
    if before is not None:
        query = query.where(said.idx < before)
    rows = reader.execute(query.limit(SHOWN + 1)).all()
    return rows[:SHOWN], rows[SHOWN - 1].idx if len(rows) > SHOWN else None


def _matrix(policies: PolicySet, decisions: Mapping[tuple[str, Channel], Decision]) -> Matrix:
    used = {channel for _, channel in decisions}
    channels = [channel for channel in Channel if channel in used]
    groups = []
    for title, meaning, bases in _GROUPS:
        rows = [
            MatrixRow(
                rule.key,
                rule.name,
                [_cell(rule, one, decisions.get((rule.key, one))) for one in channels],
            )
            for rule in policies.purposes.values()
            if rule.legal_basis in bases
        ]
        if rows:
            rows.sort(key=lambda row: not any(cell and cell.record_id for cell in row.cells))
            groups.append(MatrixGroup(title, meaning, rows))
    return Matrix(channels, groups)


def _cell(rule: Purpose, channel: Channel, decision: Decision | None) -> Cell | None:
    if decision is None:
        return None
    stop = None
    if decision.reason in _STOPPABLE:
        stop = "withdraw" if rule.legal_basis is LegalBasis.CONSENT else "object"
    return Cell(
        channel=channel,
        tag=wording.effective(decision),
        reason=wording.why(decision),
        until=decision.expires_at,
        record_id=decision.record_id,
        stop=stop,
    )


def _moment(
    row: Row[Any],
    examined: Examined,
    policies: PolicySet,
    as_of: datetime | None,
    evidence_seen: bool,
) -> Moment:
    claims = examined.claims
    return Moment(
        id=row.id,
        key=row.purpose,
        on=row.channel,
        state=row.state,
        tag=wording.stored(row.type, row.state),
        purpose=wording.purpose_name(policies, row.purpose, row.type),
        channel=wording.channel_name(row.channel),
        occurred=row.occurred_at,
        recorded=row.recorded_at,
        late=row.recorded_at - row.occurred_at > _LATE,
        beyond=as_of is not None and row.occurred_at > as_of,
        claimed=_instant(claims.get("claimed_at")),
        method=claims.get("method"),
        actor=claims.get("actor"),
        notice=claims.get("notice"),
        ends=row.ends_at,
        confirms=row.confirms,
        evidence=evidence.shown(claims.get("evidence", {})) if evidence_seen else None,
        child=row.child_without_authority,
        index=row.idx,
        examined=examined,
    )


def _instant(stated: str | None) -> datetime | None:
    return None if stated is None else datetime.fromisoformat(stated)
