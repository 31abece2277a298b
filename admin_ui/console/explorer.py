"""The consent explorer: what people chose, what applies now, and whether it can be proved.

A row is one register: the newest fact of a person, purpose, channel and type. Rows come newest
first by their place in the ledger, which is unique and never changes, so that a page is found
from a cursor by one range of one index, whatever the number of people.

Nothing is counted. Filters on columns look at the newest `EXAMINED` registers behind the cursor;
the effective status exists only by evaluation, so that a filter on it evaluates at most
`EVALUATED` of them. A page that ended there instead of being full says so (`Page.partial`), and
its cursor goes on where the search stopped.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Self, TypeAlias

from sqlalchemy import Row, Select, select

from admin_ui.console import wording
from admin_ui.console.examined import Examined, Examiner
from admin_ui.console.identifiers import best_first
from admin_ui.console.wording import EFFECTIVE, Tag
from consent.models import event as event_table
from consent.models import state as state_table
from consent.notice_history import NoticeHistory
from consent.notices import Notices
from consent.registers import Key, Register, bears_on, facts_of
from consent.states import read_registers
from consent.subjects import Reader, SubjectRef
from governance.errors import DecryptionError
from governance.vault.identify import Directory, mask
from policies.decisions import Decision, Listing, decide
from policies.model import PolicySet, Registry
from policies.vocabulary import (
    ANY,
    Channel,
    ChoiceState,
    ConsentStatus,
    EventType,
    MarkState,
    Reason,
)

PAGE: Final = 50
EXAMINED: Final = 200_000
EVALUATED: Final = 5_000

Listings: TypeAlias = Callable[
    [Reader, Collection[SubjectRef], Sequence[Registry]],
    Mapping[SubjectRef, Mapping[str, Listing]],
]
"""What do-not-call lists say of people, as `Checker.listings` does."""

_CHUNK: Final = 500
_KINDS: Final = {
    **{state.value: (EventType.CHOICE, state.value) for state in ChoiceState},
    "suppressed": (EventType.SUPPRESSION, MarkState.SET.value),
    "suppression_lifted": (EventType.SUPPRESSION, MarkState.LIFTED.value),
    "signal": (EventType.SIGNAL, MarkState.SET.value),
    "signal_lifted": (EventType.SIGNAL, MarkState.LIFTED.value),
}
STORED: Final = [(name, wording.stored(kind, state).word) for name, (kind, state) in _KINDS.items()]
"""What can be stored, by the value that asks for it."""

_ABOUT_ALL: Final = "Counts wherever it is the newest fact."
_held = state_table.c


@dataclass(frozen=True, slots=True)
class Filters:
    """What to show. Every value comes from a closed list."""

    purpose: str | None = None
    channel: Channel | None = None
    stored: str | None = None
    effective: Reason | None = None
    ignored: tuple[str, ...] = ()
    """Names of filters in the address whose value does not exist."""

    @classmethod
    def of(cls, asked: Mapping[str, str], policies: PolicySet) -> Self:
        """Read filters from a query string."""
        known: dict[str, Mapping[str, Any]] = {
            "purpose": {key: key for key in policies.purposes},
            "channel": {channel.value: channel for channel in Channel},
            "stored": {name: name for name in _KINDS},
            "effective": {reason.value.lower(): reason for reason in EFFECTIVE},
        }
        stated = {name: asked[name] for name in known if asked.get(name)}
        return cls(
            **{name: known[name].get(value) for name, value in stated.items()},
            ignored=tuple(name for name, value in stated.items() if value not in known[name]),
        )

    @property
    def any(self) -> bool:
        """Whether anything is left out."""
        return bool(self.query)

    @property
    def query(self) -> dict[str, str]:
        """These filters as a query string has them."""
        named = {
            "purpose": self.purpose,
            "channel": self.channel,
            "stored": self.stored,
            "effective": self.effective.value.lower() if self.effective else None,
        }
        return {name: str(value) for name, value in named.items() if value is not None}

    def applied(self, query: Select[Any]) -> Select[Any]:
        """The query, with those filters that are columns."""
        if self.purpose is not None:
            query = query.where(_held.purpose == self.purpose)
        if self.channel is not None:
            query = query.where(_held.channel == self.channel.value)
        if self.stored is not None:
            kind, state = _KINDS[self.stored]
            query = query.where(_held.type == kind.value, _held.state == state)
        return query


@dataclass(frozen=True, slots=True)
class Line:
    """One register, as the page shows it."""

    ref: SubjectRef
    person: str
    purpose: str
    channel: str
    stored: Tag
    effective: Tag | None
    """None for a fact about every purpose or channel: it has no status of its own."""
    reason: str
    captured: datetime
    method: str | None
    notice: str | None
    language: str | None
    expires: datetime | None
    event_id: str
    examined: Examined | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some lines, and where the next ones are."""

    lines: list[Line]
    next: int | None
    """The cursor of what is older; None at the end."""
    partial: bool
    """Whether the search stopped before it had a full page or reached the end."""
    searched: int
    """How many registers were looked at, at most."""


class Explorer:
    """Reads pages of registers."""

    def __init__(
        self,
        directory: Directory,
        examiner: Examiner,
        policies: Callable[[], PolicySet],
        clock: Callable[[], datetime],
        notices: Notices,
        listings: Listings,
    ) -> None:
        self._directory = directory
        self._examiner = examiner
        self._policies = policies
        self._clock = clock
        self._notices = notices
        self._listings = listings

    def page(
        self, reader: Reader, filters: Filters, before: int | None = None, *, names: bool
    ) -> Page:
        """The newest lines below the cursor.

        Args:
            reader: a snapshot.
            filters: what to show.
            before: the cursor of an earlier page; None for the newest.
            names: whether the caller may see masked identifiers; else lines carry refs.
        """
        policies, now = self._policies(), self._clock()
        notices = self._notices.history(reader)
        floor = _floor(reader, before) if filters.any else None
        chunk = PAGE + 1 if filters.effective is None else _CHUNK
        found: list[tuple[Row[Any], Decision | None]] = []
        evaluated, cursor, more = 0, before, True
        while more and len(found) <= PAGE and evaluated < EVALUATED:
            rows = _registers(reader, filters, cursor, floor, chunk)
            found += [
                (row, decision)
                for row, decision in zip(
                    rows, self._decisions(reader, rows, policies, notices, now), strict=True
                )
                if filters.effective is None or _reason(decision) is filters.effective
            ]
            evaluated += len(rows)
            more = len(rows) == chunk
            cursor = rows[-1].idx if rows else cursor
        lines = self._lines(reader, found[:PAGE], policies, names=names)
        if len(found) > PAGE:
            return Page(lines, found[PAGE - 1][0].idx, partial=False, searched=evaluated)
        if more:
            return Page(lines, cursor, partial=True, searched=evaluated)
        return Page(lines, floor, partial=floor is not None, searched=EXAMINED)

    def _lines(
        self,
        reader: Reader,
        found: Sequence[tuple[Row[Any], Decision | None]],
        policies: PolicySet,
        *,
        names: bool,
    ) -> list[Line]:
        events = reader.execute(
            select(event_table).where(event_table.c.idx.in_([row.idx for row, _ in found]))
        ).all()
        examined = self._examiner.examine(reader, events)
        people = self._people(reader, {SubjectRef(row.subject_ref) for row, _ in found}, names)
        return [
            _line(row, decision, people[row.subject_ref], examined.get(row.event_id), policies)
            for row, decision in found
        ]

    def _people(self, reader: Reader, refs: Collection[SubjectRef], names: bool) -> dict[str, str]:
        """How each person is shown: the first identifier, masked; else the ref."""
        shown: dict[str, str] = {ref: ref for ref in refs}
        if not names:
            return shown
        try:
            held = self._directory.identifiers_of(reader, refs)
        except DecryptionError:
            # One row was changed or moved; the person's own page says whose.
            return shown
        return shown | {ref: mask(best_first(found)[0]) for ref, found in held.items() if found}

    def _decisions(
        self,
        reader: Reader,
        rows: Sequence[Row[Any]],
        policies: PolicySet,
        notices: NoticeHistory,
        now: datetime,
    ) -> list[Decision | None]:
        """The decision that each register is about, from all that is known of its person."""
        by_person: dict[str, list[tuple[Key, Register]]] = {}
        refs = [SubjectRef(row.subject_ref) for row in rows]
        for (ref, key), register in read_registers(reader, refs).items():
            by_person.setdefault(ref, []).append((key, register))
        listings = self._listings(reader, refs, policies.registries_in_use)
        return [
            _decision(row, by_person[row.subject_ref], policies, notices, listings.get(ref), now)
            for row, ref in zip(rows, refs, strict=True)
        ]


def _floor(reader: Reader, before: int | None) -> int | None:
    """The index below which this page does not look; None where the end is nearer."""
    query = select(_held.idx).order_by(_held.idx.desc()).limit(1).offset(EXAMINED)
    if before is not None:
        query = query.where(_held.idx < before)
    return reader.execute(query).scalar()


def _registers(
    reader: Reader, filters: Filters, before: int | None, floor: int | None, limit: int
) -> Sequence[Row[Any]]:
    query = filters.applied(select(state_table)).order_by(_held.idx.desc()).limit(limit)
    if before is not None:
        query = query.where(_held.idx < before)
    if floor is not None:
        query = query.where(_held.idx >= floor)
    return reader.execute(query).all()


def _decision(
    row: Row[Any],
    held: Sequence[tuple[Key, Register]],
    policies: PolicySet,
    notices: NoticeHistory,
    listings: Mapping[str, Listing] | None,
    now: datetime,
) -> Decision | None:
    if row.type != EventType.CHOICE or ANY in (row.purpose, row.channel):
        return None
    rule = policies.purpose(row.purpose)
    signals = rule.heeded(row.channel) if rule is not None else frozenset()
    bearing = [one for one in held if bears_on(one[0], row.purpose, row.channel, signals)]
    try:
        facts = replace(facts_of(bearing, signals, notices), listings=listings)
        return decide(policies, row.purpose, Channel(row.channel), facts, now)
    except ValueError:
        # A word that is no state or channel: somebody wrote into the table. It decides as a no.
        return _unreadable(policies, row, now)


def _unreadable(policies: PolicySet, row: Row[Any], now: datetime) -> Decision:
    return Decision(
        allow=False,
        status=ConsentStatus.UNKNOWN,
        reason=Reason.STATE_UNREADABLE,
        record_id=row.event_id,
        as_of=now,
        expires_at=None,
        basis=None,
        policy=policies.hash,
    )


def _reason(decision: Decision | None) -> Reason | None:
    return None if decision is None else decision.reason


def _line(
    row: Row[Any],
    decision: Decision | None,
    person: str,
    examined: Examined | None,
    policies: PolicySet,
) -> Line:
    claims = examined.claims if examined is not None else {}
    notice = claims.get("notice") or {}
    return Line(
        ref=SubjectRef(row.subject_ref),
        person=person,
        purpose=wording.purpose_name(policies, row.purpose, row.type),
        channel=wording.channel_name(row.channel),
        stored=wording.stored(row.type, row.state),
        effective=None if decision is None else wording.effective(decision),
        reason=_ABOUT_ALL if decision is None else wording.why(decision),
        captured=row.occurred_at,
        method=claims.get("method"),
        notice=f"{row.notice} {row.notice_version}" if row.notice else None,
        language=notice.get("language"),
        expires=row.ends_at if decision is None else decision.expires_at,
        event_id=row.event_id,
        examined=examined,
    )
