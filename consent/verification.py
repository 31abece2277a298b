"""Verify the consent ledger: the tree, and all that hangs on it, down to the registers.

Beyond `consent.ledger.verify`: each event's columns are those of its leaf; its disclosures, opened,
are exactly those that the leaf commits to, and say what the columns say; each register is the fold
of the person's events. Whoever changes a row that decides over an answer is found, and the row is
named.

Erased evidence is no fault where its erasure is on record. Evidence that is gone without one is:
else to destroy it would be the way to hide what was changed.

Guarantees and non-goals are those of `consent.ledger.verify`.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Select, Table, func, select
from sqlalchemy.exc import DBAPIError

from consent.choices import fact_of
from consent.columns import UtcDateTime
from consent.errors import LedgerError
from consent.ledger.checkpoint import Verifier
from consent.ledger.findings import Findings, Kind, Report
from consent.ledger.leaf import open_disclosures, read_leaf
from consent.ledger.log import MerkleLog
from consent.ledger.notary import CheckpointStore
from consent.ledger.verify import (
    DamageNoted,
    Page,
    Phase,
    Progress,
    Snapshot,
    TreeCheck,
    fetch_raw,
)
from consent.models import event as event_table
from consent.models import state as state_table
from consent.registers import Key, Register, fold
from consent.subjects import EvidenceCipher

Erased: TypeAlias = Callable[[Connection, int, int], Collection[int]]
"""(reader, start, stop) → the ledger indexes in that range whose erasure is on record."""

_Row: TypeAlias = dict[str, Any]

_EVENTS_AT_A_TIME: Final = 1024
_IN_LEAF: Final = ("id", "type", "purpose", "channel", "state")
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_WORD: Final = re.compile(r"[a-z0-9_.:*-]{1,64}")


def nothing_erased(reader: Connection, start: int, stop: int) -> Collection[int]:  # noqa: ARG001 - signature of `Erased`
    """The record of erasures where nobody was erased yet."""
    return ()


def verify_ledger(
    log: MerkleLog,
    verifier: Verifier,
    store: CheckpointStore,
    cipher: EvidenceCipher,
    snapshot: Snapshot,
    clock: Callable[[], datetime],
    *,
    erased: Erased = nothing_erased,
    progress: Callable[[Progress], None] = lambda _: None,
    resume: Mapping[str, Any] | None = None,
) -> Report:
    """Verify the consent ledger, its events and its registers. See `verify_log`."""
    findings = Findings.from_json(resume["findings"]) if resume else Findings()
    started_at = datetime.fromisoformat(resume["started_at"]) if resume else clock()
    tree = TreeCheck(log, verifier, store, findings, with_ids=True)
    events = _EventCheck(cipher, erased, findings)
    registers = _RegisterCheck(findings)

    def cursor() -> dict[str, Any]:
        return {
            "started_at": started_at.isoformat(),
            "findings": findings.to_json(),
            "tree": tree.to_json(),
            "events": [events.checked, events.erased],
            "registers": [registers.after, registers.folded, registers.finished],
        }

    if resume:
        tree.restore(resume["tree"])
        events.checked, events.erased = resume["events"]
        registers.after, registers.folded, registers.finished = resume["registers"]
    else:
        with DamageNoted(findings, None, "its ends"), snapshot() as reader:
            tree.begin(reader)
            events.look_outside(reader, tree.size)
    for page in tree.pages(snapshot):
        with DamageNoted(findings, page.start, "events"), snapshot() as reader:
            events.check(reader, page)
        progress(Progress(Phase.ENTRIES, page.stop, tree.size, cursor))
    for folded in registers.pages(snapshot):
        progress(Progress(Phase.REGISTERS, folded, max(folded, tree.size), cursor))
    tree.finish()
    return tree.report(
        started_at=started_at, finished_at=clock(), events=events.checked, erased=events.erased
    )


class _EventCheck:
    """Holds rows of `consent_event` to their entries and to what they have sealed."""

    def __init__(self, cipher: EvidenceCipher, erased: Erased, findings: Findings) -> None:
        self._cipher = cipher
        self._erased = erased
        self._findings = findings
        self.checked = 0
        self.erased = 0

    def look_outside(self, reader: Connection, size: int) -> None:
        """Events where the ledger has no entry for them."""
        idx = event_table.c.idx
        outside = select(func.count(), func.min(idx)).where((idx < 0) | (idx >= size))
        ((count, first),) = fetch_raw(reader, outside)
        if count:
            self._findings.add(
                Kind.SURPLUS_EVENT,
                first if isinstance(first, int) else None,
                f"There are {count} events outside the {size} entries of the ledger.",
            )

    def check(self, reader: Connection, page: Page) -> None:
        """Check the events of a page of entries. Entries in doubt have a finding of their own."""
        for start in range(page.start, page.stop, _EVENTS_AT_A_TIME):
            self._check(reader, page, start, min(start + _EVENTS_AT_A_TIME, page.stop))

    def _check(self, reader: Connection, page: Page, start: int, stop: int) -> None:
        idx = event_table.c.idx
        query = _select(reader, event_table).where(idx >= start, idx < stop)
        rows = {row["idx"]: row for row in _rows(reader, event_table, query)}
        erased = frozenset(self._erased(reader, start, stop))
        sound: list[tuple[_Row, _Row]] = []
        for index in range(start, stop):
            if index in page.doubtful:
                continue
            entry_id, data = page.entries[index - page.start]
            leaf = self._leaf(index, entry_id, data)
            event = rows.get(index)
            if leaf is None:
                continue
            if event is None:
                self._miss(index, erased)
            elif self._fits_leaf(reader, event, leaf):
                sound.append((event, leaf))
        self.checked += len(sound)
        for (event, leaf), plain in zip(
            sound, self._open(reader, [event for event, _ in sound]), strict=True
        ):
            self._check_evidence(event, leaf, plain, erased)

    def _leaf(self, index: int, entry_id: object, data: bytes) -> _Row | None:
        try:
            leaf = read_leaf(data)
        except (LedgerError, RecursionError):
            self._findings.add(Kind.EDITED, index, f"Entry {index} is no leaf of a known version.")
            return None
        if leaf.get("id") != entry_id:
            self._findings.add(
                Kind.EDITED, index, f"The id beside entry {index} is not that of its leaf."
            )
        return leaf

    def _miss(self, index: int, erased: Collection[int]) -> None:
        if index in erased:
            self.erased += 1
            return
        self._findings.add(
            Kind.MISSING_EVENT,
            index,
            f"The event of entry {index} is gone, and no erasure of it is on record.",
        )

    def _fits_leaf(self, reader: Connection, event: _Row, leaf: _Row) -> bool:
        index = event["idx"]
        altered = [name for name in _IN_LEAF if event[name] != leaf.get(name)]
        if event["recorded_at"] != leaf.get("ts"):
            altered.append("recorded_at")
        if "id" in altered and (elsewhere := _place_of(reader, leaf.get("id"))) is not None:
            self._findings.add(
                Kind.SWAPPED_ROW,
                index,
                f"The event of entry {index} stands in the place of entry {elsewhere}.",
            )
        elif altered:
            self._blame(index, altered)
        return not altered

    def _open(self, reader: Connection, events: Sequence[_Row]) -> list[bytes | Exception | None]:
        """What is sealed; for what does not open, the error. One forged row spoils only itself."""
        items = [(event["subject_ref"], event["id"], event["sealed"]) for event in events]
        opened = self._try(reader, items)
        if not isinstance(opened, Exception):
            return [*opened]
        singly = [self._try(reader, [item]) for item in items]
        return [one if isinstance(one, Exception) else one[0] for one in singly]

    def _try(self, reader: Connection, items: Sequence[Any]) -> list[bytes | None] | Exception:
        try:
            return self._cipher.open(reader, items)
        except DBAPIError:
            raise
        except Exception as error:  # noqa: BLE001 - ciphers refuse forged bytes each in its own way
            return error

    def _check_evidence(
        self,
        event: _Row,
        leaf: _Row,
        plain: bytes | Exception | None,
        erased: Collection[int],
    ) -> None:
        index = event["idx"]
        if plain is None:
            if index in erased:
                self.erased += 1
            else:
                self._findings.add(
                    Kind.EVIDENCE_LOST,
                    index,
                    f"The evidence of entry {index} has lost its key, and no erasure of it is on "
                    "record.",
                )
        elif isinstance(plain, Exception):
            self._findings.add(
                Kind.ALTERED_EVENT,
                index,
                f"The evidence of entry {index} does not open as that of its person and event "
                f"({type(plain).__name__}).",
            )
        else:
            self._check_disclosures(event, leaf, plain)

    def _check_disclosures(self, event: _Row, leaf: _Row, plain: bytes) -> None:
        index = event["idx"]
        try:
            claims = open_disclosures(leaf, plain.decode("ascii").split("\n"))
        except (LedgerError, KeyError, TypeError, ValueError):
            self._findings.add(
                Kind.DISCLOSURE_MISMATCH,
                index,
                f"The disclosures of entry {index} are not those that it commits to.",
            )
            return
        told = _columns_of(claims)
        altered = [name for name, value in told.items() if event[name] != value]
        if altered:
            self._blame(index, altered)

    def _blame(self, index: int, columns: Sequence[str]) -> None:
        self._findings.add(
            Kind.ALTERED_EVENT,
            index,
            f"The event of entry {index} was altered: {', '.join(columns)}.",
        )


class _RegisterCheck:
    """Holds `consent_state` to the fold of the events, person by person in the order of refs."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.after: str | None = None
        """The last person who was checked."""
        self.folded = 0
        self.finished = False

    def pages(self, snapshot: Snapshot) -> Iterator[int]:
        """Check everyone; yields how many events were folded so far."""
        while not self.finished:
            self.finished = True
            with DamageNoted(self._findings, None, "the registers"), snapshot() as reader:
                self.finished = not self._check_page(reader)
            yield self.folded

    def _check_page(self, reader: Connection) -> bool:
        """Check the people of one page; False after the last. Events and registers are of one
        snapshot, so that a choice made meanwhile is in both or in neither.
        """
        said = event_table.c.subject_ref
        bound = fetch_raw(
            reader,
            self._beyond(select(said), event_table)
            .order_by(said, event_table.c.idx)
            .offset(_EVENTS_AT_A_TIME - 1)
            .limit(1),
        )
        last = bound[0][0] if bound and isinstance(bound[0][0], str) else None
        told = self._read(reader, event_table, last)
        held = self._read(reader, state_table, last)
        for subject in told.keys() | held.keys():
            self._check_person(subject, told.get(subject, []), held.get(subject, []))
        self.folded += sum(len(events) for events in told.values())
        self.after = last
        return last is not None

    def _beyond(self, query: Select[Any], table: Table) -> Select[Any]:
        return query if self.after is None else query.where(table.c.subject_ref > self.after)

    def _read(self, reader: Connection, table: Table, last: str | None) -> dict[Any, list[_Row]]:
        query = self._beyond(_select(reader, table), table)
        if last is not None:
            query = query.where(table.c.subject_ref <= last)
        rows = _rows(reader, table, query.order_by(table.c.subject_ref))
        return {ref: list(own) for ref, own in groupby(rows, lambda row: row["subject_ref"])}

    def _check_person(self, subject: object, told: list[_Row], held: list[_Row]) -> None:
        try:
            expected = fold(fact_of(SimpleNamespace(**_with_instants(row))) for row in told)
            found = dict(_register(_with_instants(row)) for row in held)
        except (TypeError, ValueError):
            self._findings.add(
                Kind.ALTERED_PROJECTION,
                None,
                f"The events or registers of person {_shown(subject)} are malformed.",
            )
            return
        if expected == found:
            return
        for key in sorted(expected.keys() | found.keys(), key=str):
            if expected.get(key) != found.get(key):
                idx: object = (found.get(key) or expected[key]).idx
                purpose, channel, kind = (_shown(part) for part in key)
                self._findings.add(
                    Kind.ALTERED_PROJECTION,
                    idx if isinstance(idx, int) else None,
                    f"The register of person {_shown(subject)} for {purpose} on {channel} ({kind}) "
                    "is not what the events amount to.",
                )


def _columns_of(claims: Mapping[str, Any]) -> _Row:
    """The columns of an event as its disclosures have them."""
    notice = claims.get("notice") or {}
    return {
        "subject_ref": claims.get("subject"),
        "occurred_at": claims.get("occurred_at"),
        "notice": notice.get("id"),
        "notice_version": notice.get("version"),
        "ends_at": claims.get("ends_at"),
        "confirms": claims.get("confirms"),
        "confirmed_at": claims.get("confirmed_at"),
        "child_without_authority": claims.get("child_without_authority", False),
    }


def _register(row: _Row) -> tuple[Key, Register]:
    values = {name: row[name] for name in Register.__dataclass_fields__}
    if values["child_without_authority"] not in {False, True}:
        raise ValueError("a flag is neither set nor clear")
    values["child_without_authority"] = bool(values["child_without_authority"])
    return (row["purpose"], row["channel"], row["type"]), Register(**values)


def _place_of(reader: Connection, event_id: object) -> object:
    if not isinstance(event_id, str):
        return None
    query = select(event_table.c.idx).where(event_table.c.id == event_id).limit(1)
    return next((row[0] for row in fetch_raw(reader, query)), None)


# --- reading whatever stands there --------------------------------------------------------------


def _select(reader: Connection, table: Table) -> Select[Any]:
    """All columns as they are stored, with instants as text in the spelling of leaves.

    PostgreSQL's driver cannot read every instant that its columns can hold. Infinity becomes NULL.
    """
    if reader.dialect.name == "sqlite":
        return select(table)
    return select(
        *(
            func.rtrim(
                func.to_char(func.timezone("UTC", column), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"BC'),
                "AD",
            )
            if isinstance(column.type, UtcDateTime)
            else column
            for column in table.columns
        )
    )


def _rows(reader: Connection, table: Table, query: Select[Any]) -> Iterator[_Row]:
    names = table.columns.keys()
    return (dict(zip(names, row, strict=True)) for row in fetch_raw(reader, query))


def _with_instants(row: _Row) -> _Row:
    """Instants as values again. Raises TypeError or ValueError where they are none."""
    for name in _INSTANTS & row.keys():
        row[name] = _instant(row[name])
    if row["occurred_at"] is None:
        raise ValueError("an event or register has no time")
    return row


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    if _INSTANT.fullmatch(text) is None:
        raise ValueError("an instant is not spelled as it was written")
    return datetime.fromisoformat(text)


_INSTANTS: Final = frozenset(
    column.name
    for table in (event_table, state_table)
    for column in table.columns
    if isinstance(column.type, UtcDateTime)
)


def _shown(value: object) -> str:
    """A value as it may stand in a sentence: a word of ours, or nothing of what was put there."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else "?"
