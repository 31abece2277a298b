"""May this happen now? One statement to the database, one pure decision.

Nothing that can change is cached: once a withdrawal is committed, the next check reads it, in this
process and in every other. The same statement reads the number of the newest published notice, so
that a process which has not seen that one yet reads it then, and the do-not-call lists where the
purpose names any. Reading writes nothing.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Dialect, and_, bindparam, literal_column, select

from consent import do_not_call
from consent.bulk import run
from consent.choices import fact_of
from consent.do_not_call import DoNotCallLists
from consent.errors import InvalidInstantError
from consent.models import event as event_table
from consent.models import state as state_table
from consent.notice_history import NoticeHistory
from consent.notices import Notices, newest_publication
from consent.registers import Key, Register, bears_on, facts_of, fold
from consent.states import parsed, read_bearing, read_registers
from consent.subjects import Identifier, IdentifierKind, Reader, SubjectDirectory, SubjectRef
from policies.decisions import NOBODY, Decision, Facts, Listing, decide
from policies.model import PolicySet, Purpose, Registry
from policies.vocabulary import ANY, Channel

CLOCK_SKEW: Final = timedelta(seconds=60)
"""How far ahead of ours a caller's clock may run before its `as_of` is refused."""
SILENT: Final = Facts(known=True)
"""Somebody whom we know, and who said nothing that bears on the question."""

_Shape: TypeAlias = tuple[IdentifierKind, tuple[str, ...], int, int, Dialect]
"""What a check's statement depends on: kind of identifier, names of its binds, signals, lists."""
_Lists: TypeAlias = Sequence[Registry]


@dataclass(frozen=True, slots=True)
class _Question:
    """A statement compiled once, as text: compiling it anew would cost as much as asking it."""

    sql: str
    order: Sequence[str] | None
    """The names of its parameters in their order, where the driver goes by position."""

    def parameters(self, named: dict[str, Any]) -> Any:
        """Its parameters as the driver takes them."""
        return named if self.order is None else tuple(named[name] for name in self.order)


class Checker:
    """Answers checks from the registers, and past ones from the events."""

    def __init__(
        self,
        read: Callable[[], AbstractContextManager[Connection]],
        directory: SubjectDirectory,
        policies: Callable[[], PolicySet],
        clock: Callable[[], datetime],
        notices: Notices,
        lists: DoNotCallLists,
    ) -> None:
        self._read = read
        self._directory = directory
        self._policies = policies
        self._clock = clock
        self._notices = notices
        self._lists = lists
        self._question = lru_cache(maxsize=64)(self._build_question)

    def check(
        self, subject: Identifier, purpose: str, channel: Channel, as_of: datetime | None = None
    ) -> Decision:
        """Decide for one person, now or as of a past instant.

        As of an instant: with all that is known today of what had occurred by then, and under the
        notices that stood then.

        Raises:
            InvalidInstantError: `as_of` lies in the future.
        """
        now = self._clock()
        policies = self._policies()
        rule = policies.purpose(purpose)
        if rule is None:
            return decide(policies, purpose, channel, NOBODY, min(as_of or now, now))
        with self._read() as connection:
            lists = policies.washed_against(rule, channel)
            if as_of is None:
                facts = self._facts(connection, subject, rule, channel, lists)
            else:
                now = self._past(as_of, now)
                facts = self._past_facts(connection, subject, rule, channel, now, lists)
        return decide(policies, purpose, channel, facts, now)

    def check_many(
        self, subjects: Sequence[Identifier], purpose: str, channel: Channel
    ) -> list[Decision]:
        """Decide for many people, in their order."""
        now = self._clock()
        policies = self._policies()
        rule = policies.purpose(purpose)
        if rule is None:
            return [decide(policies, purpose, channel, NOBODY, now)] * len(subjects)
        with self._read() as connection:
            refs = self._directory.find(connection, subjects)
            known = list({ref for ref in refs if ref is not None})
            facts = self.facts_about(connection, known, rule, channel)
        silent = decide(policies, purpose, channel, SILENT, now)
        nobody = decide(policies, purpose, channel, NOBODY, now)
        answers = {ref: decide(policies, purpose, channel, one, now) for ref, one in facts.items()}
        return [nobody if ref is None else answers.get(ref, silent) for ref in refs]

    def facts_about(
        self, connection: Connection, people: Sequence[SubjectRef], rule: Purpose, channel: Channel
    ) -> dict[SubjectRef, Facts]:
        """What bears on one purpose and channel, of known people. Those left out are `SILENT`."""
        heeded = rule.heeded(channel)
        registers = read_bearing(
            connection, people, [rule.key, ANY, *sorted(heeded)], [channel.value, ANY]
        )
        notices = self._notices.history(connection)
        lists = self._policies().washed_against(rule, channel)
        listings = self.listings(connection, people, lists)
        facts = {}
        for ref in registers.keys() | listings.keys():
            known = facts_of(registers.get(ref, ()), heeded, notices)
            facts[ref] = replace(known, listings=listings.get(ref)) if lists else known
        return facts

    def rules(self, reader: Reader, cells: Iterable[tuple[str, Channel]]) -> list[Any]:
        """What decisions rest on beside what is known of single people, as JSON.

        As long as it stays the same, only what happens to a person changes decisions about them.
        """
        policies = self._policies()
        washed = {
            one.key
            for purpose, channel in cells
            if (rule := policies.purpose(purpose)) is not None
            for one in policies.washed_against(rule, channel)
        }
        copies = self._lists.copies(reader) if washed else []
        return [
            policies.hash,
            reader.execute(select(newest_publication())).scalar(),
            sorted(
                [one.registry, one.current_from.isoformat()]
                for one in copies
                if one.registry in washed
            ),
        ]

    def matrix(
        self, reader: Reader, subject: SubjectRef, as_of: datetime | None = None
    ) -> dict[tuple[str, Channel], Decision]:
        """Every decision about one known person: purpose by channel."""
        now = self._clock()
        policies = self._policies()
        notices = self._notices.history(reader)
        if as_of is None:
            held = [(key, one) for (_, key), one in read_registers(reader, [subject]).items()]
        else:
            now = self._past(as_of, now)
            held = list(_folded(reader, subject, now).items())
            notices = notices.known_at(now)
        lists = policies.registries_in_use
        listings = self.listings(reader, [subject], lists, as_of and now).get(subject)
        decisions = {}
        for rule in policies.purposes.values():
            for channel in sorted(rule.channels, key=list(Channel).index):
                facts = _facts_about(held, rule, channel, notices)
                if rule.do_not_call:
                    facts = replace(facts, listings=listings)
                decisions[rule.key, channel] = decide(policies, rule.key, channel, facts, now)
        return decisions

    def listings(
        self,
        reader: Reader,
        people: Collection[SubjectRef],
        lists: _Lists,
        as_of: datetime | None = None,
    ) -> dict[SubjectRef, dict[str, Listing]]:
        """What do-not-call lists say of people. Without lists, nothing is asked."""
        if not lists:
            return {}
        return self._lists.listings(reader, people, [one.key for one in lists], as_of)

    def _past(self, as_of: datetime, now: datetime) -> datetime:
        if as_of > now + CLOCK_SKEW:
            raise InvalidInstantError("as_of lies in the future")
        return min(as_of, now)

    def _facts(
        self,
        connection: Connection,
        subject: Identifier,
        rule: Purpose,
        channel: Channel,
        lists: _Lists,
    ) -> Facts:
        located = self._directory.locator_values(subject)
        heeded = rule.heeded(channel)
        shape = (subject.kind, tuple(located), len(heeded), len(lists), connection.dialect)
        question = self._question(shape)
        asked = {**located, "purpose": rule.key, "channel": channel.value}
        asked |= {f"signal_{n}": name for n, name in enumerate(sorted(heeded))}
        asked |= {f"registry_{n}": one.key for n, one in enumerate(lists)}
        rows = run(connection, question.sql, question.parameters(asked))
        ref, published, *listed = rows[0][: 2 + do_not_call.COLUMNS * len(lists)]
        if ref is None:
            return NOBODY
        first = 2 + len(listed)
        held = [row[first:] for row in rows if row[first] is not None]
        notices = self._notices.history_up_to(connection, published)
        registers = ((key, one) for _, key, one in parsed(connection, held))
        facts = facts_of(registers, heeded, notices)
        return replace(facts, listings=_listings(lists, listed)) if lists else facts

    def _build_question(self, shape: _Shape) -> "_Question":
        """The statement that asks for one person by one kind of identifier.

        It gives one row at least: the person's ref or NULL, the number of the newest publication,
        what the lists say, and the registers that bear on the purpose and channel.
        """
        kind, _, signals, lists, dialect = shape
        person = select(self._directory.locator(kind).label("ref")).subquery("person")
        held = state_table.c
        heeded: list[Any] = [bindparam(f"signal_{n}") for n in range(signals)]
        listed = self._lists.columns(person.c.ref, lists)
        statement = select(person.c.ref, newest_publication(), *listed, *held).select_from(
            person.outerjoin(
                state_table,
                and_(
                    held.subject_ref == person.c.ref,
                    held.purpose.in_([bindparam("purpose"), *heeded, literal_column(f"'{ANY}'")]),
                    held.channel.in_([bindparam("channel"), literal_column(f"'{ANY}'")]),
                ),
            )
        )
        compiled = statement.compile(dialect=dialect)
        return _Question(str(compiled), compiled.positiontup)

    def _past_facts(
        self,
        reader: Reader,
        subject: Identifier,
        rule: Purpose,
        channel: Channel,
        now: datetime,
        lists: _Lists,
    ) -> Facts:
        (ref,) = self._directory.find(reader, [subject])
        if ref is None:
            return NOBODY
        notices = self._notices.history(reader).known_at(now)
        facts = _facts_about(_folded(reader, ref, now).items(), rule, channel, notices)
        return replace(facts, listings=self.listings(reader, [ref], lists, now).get(ref))


def _listings(lists: _Lists, columns: Sequence[Any]) -> dict[str, Listing]:
    size = do_not_call.COLUMNS
    return {
        one.key: do_not_call.listing(columns[n * size : (n + 1) * size])
        for n, one in enumerate(lists)
    }


def _facts_about(
    registers: Iterable[tuple[Key, Register]],
    rule: Purpose,
    channel: Channel,
    notices: NoticeHistory,
) -> Facts:
    heeded = rule.heeded(channel)
    bearing = [
        (key, register)
        for key, register in registers
        if bears_on(key, rule.key, channel.value, heeded)
    ]
    return facts_of(bearing, heeded, notices)


def _folded(reader: Reader, subject: SubjectRef, until: datetime) -> dict[Key, Register]:
    said = event_table.c
    told = [column for column in event_table.columns if column is not said.sealed]
    rows = reader.execute(
        select(*told).where(said.subject_ref == subject, said.occurred_at <= until)
    )
    return fold(fact_of(row) for row in rows)
