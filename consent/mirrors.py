"""What a mirror keeps: decisions about everybody, for some purposes and channels, and what changes.

A mirror is a copy in another program, so that it need not ask for each check. It gets no facts and
no rules, but what will be decided if nothing else happens (`policies.outlook`); and no identifiers,
but tokens that it can compute itself from an identifier that it is asked about (`MirrorNames`).

Guarantees: every line says all there is to say of a person, so that a line that comes twice or late
with its page changes nothing; a page is read at one instant; pages are in the order of commits.
Whoever read everybody, beginning at some cursor, and then follows from that cursor until there is
no more, holds what this service would decide at that instant. What no line can say (other rules,
other keys, a database that was restored) is a `MirrorOutdatedError`: the copy is made anew.

Trusted for nothing here: the copy is the reader's. What its loss would tell is in the threat model.
"""

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeAlias

from sqlalchemy import Connection, func, select

from consent import subject_changes
from consent.checks import SILENT, Checker
from consent.errors import InvalidCursorError, MirrorOutdatedError
from consent.ledger.log import MerkleLog
from consent.models import event as event_table
from consent.models import ledger, subject_change
from consent.notices import newest_publication
from consent.outbox import parse_cursor
from consent.subjects import Reader, SubjectRef
from policies.decisions import NOBODY, Decision, Facts
from policies.model import PolicySet
from policies.outlook import outlook
from policies.vocabulary import Channel

FORMAT: Final = 1
MAX_PEOPLE: Final = 2000
"""On one page: more would keep other requests of the process waiting."""
AS_BEFORE: Final = "="
"""Stands for what is the same as in the decision before."""

Cell: TypeAlias = tuple[str, Channel]
"""A purpose on a channel."""

_STIRRED: Final = select(
    select(ledger.head.c.size).where(ledger.head.c.id == 1).scalar_subquery(),
    select(func.max(subject_change.c.seq)).scalar_subquery(),
    newest_publication(),
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one mirror holds, and whose it is."""

    cells: tuple[Cell, ...]
    kinds: tuple[str, ...]
    """By what it looks people up: `email`, `phone`, `ref`, `external_id`, or `external_id:SYSTEM`
    for those of one system alone."""
    audience: str
    """Whose copy it is, such as `api_key:k3f9`: tokens of two audiences cannot be matched."""


@dataclass(frozen=True, slots=True)
class Name:
    """What a mirror calls a person."""

    handle: bytes
    """The same for as long as the epoch lasts."""
    tokens: tuple[bytes, ...]
    """One for each identifier of the wanted kinds."""


class MirrorNames(Protocol):
    """Names for people that only their audience can compute. Implemented by who knows people.

    A token is a keyed hash of a normalised identifier. Without the audience's secret it says
    nothing; with it anyone can try out identifiers, as anyone can who may check.
    """

    def secret(self, audience: str) -> bytes:
        """The audience's key, the same until the index key of the service is rotated."""

    def version(self) -> str:
        """Changes with every secret."""

    def everybody(self, reader: Reader, after: str, limit: int) -> list[SubjectRef]:
        """People in the order of their refs, behind a ref (or from the first, if empty)."""

    def count(self, reader: Reader) -> int:
        """How many people there are."""

    def names(
        self, reader: Reader, people: Collection[SubjectRef], wanted: Wanted
    ) -> dict[SubjectRef, Name]:
        """The names of people. Those who are not known (any more) are left out."""

    def handle(self, subject: SubjectRef, wanted: Wanted) -> bytes:
        """The handle of anybody, known or not."""


@dataclass(frozen=True, slots=True)
class Line:
    """All there is to say of one person."""

    handle: bytes
    tokens: tuple[bytes, ...] = ()
    outlooks: tuple[Sequence[Decision] | None, ...] | None = None
    """For each cell what will be decided; None where nothing is known that bears on it. None for
    all: there is no such person (any more)."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some lines, and what holds for all of them."""

    epoch: str
    begins: str
    """The cursor that was asked for, or at which this page of everybody was read."""
    cursor: str
    """Where to go on, in what changes."""
    more: bool
    after: str | None
    """Where to go on, in everybody; None at the end."""
    now: datetime
    policy: str
    nobody: tuple[Sequence[Decision], ...]
    """For each cell, what is decided about people whom we do not know."""
    silent: tuple[Sequence[Decision], ...]
    """For each cell, what is decided about people of whom nothing is known that bears on it."""
    lines: Sequence[Line] = field(repr=False)


class Mirrors:
    """Reads what mirrors keep. Shared by threads."""

    def __init__(
        self,
        snapshot: Callable[[], AbstractContextManager[Connection]],
        read: Callable[[], AbstractContextManager[Connection]],
        checker: Checker,
        names: MirrorNames,
        policies: Callable[[], PolicySet],
        clock: Callable[[], datetime],
    ) -> None:
        self._snapshot = snapshot
        self._read = read
        self._checker = checker
        self._names = names
        self._policies = policies
        self._clock = clock
        self._log = MerkleLog(ledger)

    def secret(self, audience: str) -> bytes:
        """The key of the audience's tokens."""
        return self._names.secret(audience)

    def people(self) -> int:
        """How many people there are to read."""
        with self._snapshot() as reader:
            return self._names.count(reader)

    def stirred(self) -> tuple[Any, ...]:
        """Becomes another value when something happened that a mirror may have to learn. Cheap."""
        with self._read() as reader:
            return tuple(reader.execute(_STIRRED).one())

    def everybody(
        self, wanted: Wanted, epoch: str | None, after: str, limit: int = MAX_PEOPLE
    ) -> Page:
        """A page of everybody, in no order that says anything.

        Args:
            wanted: what is to be kept.
            epoch: of the pages before; None for the first.
            after: what the page before gave; empty for the first.
            limit: how many people at most.

        Raises:
            MirrorOutdatedError: the rules or the keys changed since the first page.
        """
        now = self._clock()
        with self._snapshot() as reader:
            present = self._epoch(reader, wanted, epoch)
            cursor = self._end(reader)
            people = self._names.everybody(reader, after, limit)
            lines = self._lines(reader, wanted, people, now)
        last = people[-1] if len(people) == limit else None
        return self._page(wanted, present, cursor, cursor, now, lines, after=last)

    def changes(self, wanted: Wanted, epoch: str, cursor: str, limit: int = MAX_PEOPLE) -> Page:
        """Everybody about whom something changed behind a cursor, as they are now.

        Raises:
            InvalidCursorError: the cursor is none of ours.
            MirrorOutdatedError: the rules, the keys or the history are others than those of the
                copy, or the cursor is too old.
        """
        now = self._clock()
        with self._snapshot() as reader:
            present = self._epoch(reader, wanted, epoch)
            index, number = self._place(reader, cursor)
            said = event_table.c
            size = self._log.frontier(reader).size
            events = reader.execute(
                select(said.idx, said.subject_ref)
                .where(said.idx >= index)
                .order_by(said.idx)
                .limit(limit)
            ).all()
            changed = subject_changes.read_after(reader, number, limit)
            if len(events) == limit:
                size = events[-1].idx + 1
            number = changed[-1].seq if changed else number
            people = dict.fromkeys(row.subject_ref for row in (*events, *changed))
            lines = self._lines(reader, wanted, list(people), now)
            after = self._mark(reader, size, number)
        more = len(events) == limit or len(changed) == limit
        return self._page(wanted, present, cursor, after, now, lines, more=more)

    def _page(
        self,
        wanted: Wanted,
        epoch: str,
        begins: str,
        cursor: str,
        now: datetime,
        lines: Sequence[Line],
        *,
        more: bool = False,
        after: str | None = None,
    ) -> Page:
        policies = self._policies()
        return Page(
            epoch=epoch,
            begins=begins,
            cursor=cursor,
            more=more,
            after=after,
            now=now,
            policy=policies.hash,
            nobody=tuple(outlook(policies, *cell, NOBODY, now) for cell in wanted.cells),
            silent=tuple(outlook(policies, *cell, SILENT, now) for cell in wanted.cells),
            lines=lines,
        )

    # --- people --------------------------------------------------------------------------------

    def _lines(
        self, reader: Connection, wanted: Wanted, people: Sequence[SubjectRef], now: datetime
    ) -> list[Line]:
        policies = self._policies()
        names = self._names.names(reader, people, wanted)
        known = list(names)
        facts = [self._facts(reader, policies, known, cell) for cell in wanted.cells]
        lines = []
        for subject in people:
            name = names.get(subject)
            if name is None:
                lines.append(Line(self._names.handle(subject, wanted)))
                continue
            outlooks = tuple(
                None if subject not in of else outlook(policies, *cell, of[subject], now)
                for cell, of in zip(wanted.cells, facts, strict=True)
            )
            lines.append(Line(name.handle, name.tokens, outlooks))
        return lines

    def _facts(
        self,
        reader: Connection,
        policies: PolicySet,
        people: Sequence[SubjectRef],
        cell: Cell,
    ) -> Mapping[SubjectRef, Facts]:
        purpose, channel = cell
        rule = policies.purpose(purpose)
        return {} if rule is None else self._checker.facts_about(reader, people, rule, channel)

    # --- epochs and cursors ----------------------------------------------------------------------

    def _epoch(self, reader: Connection, wanted: Wanted, stated: str | None) -> str:
        """Names all that lines rest on beside what people said: a copy holds within one epoch."""
        rests_on = [
            FORMAT,
            wanted.audience,
            wanted.cells,
            wanted.kinds,
            self._names.version(),
            self._checker.rules(reader, wanted.cells),
        ]
        epoch = hashlib.sha256(json.dumps(rests_on).encode()).hexdigest()[:32]
        if stated is not None and stated != epoch:
            raise MirrorOutdatedError(
                "the rules, the notices or the keys changed since this copy was begun; start over"
            )
        return epoch

    def _end(self, reader: Connection) -> str:
        size, number = self._log.frontier(reader).size, subject_changes.newest(reader)
        return self._mark(reader, size, number)

    def _mark(self, reader: Connection, index: int, number: int) -> str:
        """A cursor: how far both feeds were read, and what stands there.

        A database that was restored may have grown as long again, with other content.

        Raises:
            MirrorOutdatedError: there is nothing at these places (any more).
        """
        content = hashlib.sha256()
        if index:
            entry = next(iter(self._log.entries(reader, index - 1, index)), None)
            if entry is None:
                raise MirrorOutdatedError(_OTHER_HISTORY)
            content.update(entry.leaf_hash)
        if number:
            row = subject_changes.row_at(reader, number)
            if row is None:
                raise MirrorOutdatedError(_OTHER_HISTORY)
            content.update(f"{row.subject_ref} {row.changed_at.isoformat()}".encode())
        return f"{index}.{number}.{content.hexdigest()[:16]}"

    def _place(self, reader: Connection, cursor: str) -> tuple[int, int]:
        parts = cursor.split(".")
        if len(parts) != 3:
            raise InvalidCursorError("the cursor is not one that this feed gave out")
        index, number = parse_cursor(parts[0]), parse_cursor(parts[1])
        if self._mark(reader, index, number) != cursor:
            raise MirrorOutdatedError(_OTHER_HISTORY)
        return index, number


_OTHER_HISTORY: Final = (
    "the cursor is of another history, such as before a backup was restored, or older than what "
    "is kept; start over"
)


def encode(page: Page, wanted: Wanted, waited: float = 0.0, **more: Any) -> bytes:
    """A page as lines of JSON: a head, one line a person, and a foot that counts them.

    Args:
        page: the page.
        wanted: what was asked for.
        waited: seconds from the question until the page was read, or a little less.
        more: further members of the head.
    """
    encoder = _Encoder()
    cells = [
        {
            "purpose": purpose,
            "channel": channel.value,
            "basis": silent[0].basis,
            "nobody": encoder.spells(nobody),
            "silent": encoder.spells(silent),
        }
        for (purpose, channel), nobody, silent in zip(
            wanted.cells, page.nobody, page.silent, strict=True
        )
    ]
    people = [encoder.line(line) for line in page.lines]
    head = {
        "format": FORMAT,
        "epoch": page.epoch,
        "from": page.begins,
        "cursor": page.cursor,
        "more": page.more,
        "after": page.after,
        "now": _microseconds(page.now),
        "waited": waited,
        "policy": page.policy,
        "outcomes": encoder.outcomes,
        "cells": cells,
        **more,
    }
    lines = [head, *people, {"lines": len(people)}]
    return b"".join(_JSON(line).encode() + b"\n" for line in lines)


def text_of(value: bytes) -> str:
    """Bytes as a page has them: base64url without padding."""
    return urlsafe_b64encode(value).decode().rstrip("=")


class _Encoder:
    """Writes decisions short: what they say stands once a page, in a list of outcomes."""

    def __init__(self) -> None:
        self._codes: dict[tuple[bool, str, str], int] = {}

    @property
    def outcomes(self) -> list[tuple[bool, str, str]]:
        return list(self._codes)

    def line(self, line: Line) -> list[Any]:
        if line.outlooks is None:
            return [text_of(line.handle)]
        told: list[Any] = [text_of(line.handle), [text_of(token) for token in line.tokens]]
        if any(one is not None for one in line.outlooks):
            told.append([0 if one is None else self.spells(one) for one in line.outlooks])
        return told

    def spells(self, decisions: Sequence[Decision]) -> list[Any]:
        """Outcome, record and end of the first; of others the instant at which they begin, too."""
        told: list[Any] = []
        record: str | None = None
        end: int | None = None
        for one in decisions:
            outcome = (one.allow, one.status.value, one.reason.value)
            code = self._codes.setdefault(outcome, len(self._codes))
            ends = None if one.expires_at is None else _microseconds(one.expires_at)
            if not told:
                told.append([code, one.record_id, ends])
            else:
                own = AS_BEFORE if one.record_id == record else one.record_id
                new = AS_BEFORE if ends == end else ends
                told.append([_microseconds(one.as_of), code, own, new])
            record, end = one.record_id, ends
        return told


def _microseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // _MICROSECOND


_JSON: Final = json.JSONEncoder(separators=(",", ":")).encode
