"""Copies of do-not-call lists: replaced as a whole or not at all, and compared in one statement."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, bindparam, event, func, literal, select

from consent import bulk, checks
from consent.checks import Checker
from consent.do_not_call import COLUMNS, InvalidListError, Replaced, listing
from consent.subjects import Identifier, SubjectRef, email, phone
from governance.keys.models import IndexKeyState, index_key
from governance.vault.do_not_call import DoNotCallLists
from governance.vault.models import ListState, vault_dnc_list, vault_dnc_number
from policies.decisions import Listing
from policies.model import Registry
from policies.periods import Period
from policies.vocabulary import Channel, ChoiceState, Reason
from tests.fakes.core import MARKETING, Core
from tests.fakes.keys import KeyKit

TPS = Registry("uk_tps", "TPS", "GB", frozenset({Channel.PHONE}), Period.parse("P28D"), True)
ALICE = phone("+44 1632 960001")
BOB = phone("+44 1632 960002")
LISTED = ["Number", "01632 960001", "01632960003", "", "+441632960004", "01632 960005"]


@pytest.fixture
def today(core: Core) -> date:
    return core.clock().date()


@pytest.fixture
def lists(core: Core) -> DoNotCallLists:
    return DoNotCallLists(core.directory, core.database.begin, core.clock, batch=2)


def known(core: Core, *identifiers: Any) -> list[SubjectRef]:
    with core.database.begin() as session:
        return core.directory.ensure(session, identifiers, core.clock())


def asked(
    core: Core, lists: DoNotCallLists, ref: SubjectRef, as_of: datetime | None = None
) -> Listing | None:
    """What both ways of asking say, which must be the same."""
    with core.database.read() as reader:
        found = lists.listings(reader, [ref], ["uk_tps"], as_of)[ref].get("uk_tps")
        if as_of is None:
            columns = lists.columns(bindparam("ref"), 1)
            row = reader.execute(select(*columns), {"ref": ref, "registry_0": "uk_tps"}).one()
            assert len(row) == COLUMNS
            told = listing(row)
            assert told == (found or replace(told, listed_on=None, since=None))
    return found


def stored(core: Core, state: ListState) -> list[int]:
    """How many numbers each copy of a state has."""
    count = func.count(vault_dnc_number.c.token)
    with core.database.read() as reader:
        return list(
            reader.scalars(
                select(count)
                .select_from(vault_dnc_list)
                .outerjoin(vault_dnc_number, vault_dnc_number.c.list == vault_dnc_list.c.id)
                .where(vault_dnc_list.c.state == state)
                .group_by(vault_dnc_list.c.id)
            )
        )


def test_a_listed_number_is_found_and_another_is_not(
    core: Core, lists: DoNotCallLists, today: date
) -> None:
    alice, bob = known(core, ALICE, BOB)
    assert asked(core, lists, alice) is None
    replaced = lists.replace(TPS, today, LISTED)
    assert replaced == Replaced("uk_tps", today, numbers=4, before=0, malformed=0)
    assert asked(core, lists, alice) == Listing(today, since=today)
    assert asked(core, lists, bob) == Listing(today)


def test_nobody_without_a_number_was_compared(
    core: Core, lists: DoNotCallLists, today: date
) -> None:
    (carol,) = known(core, email("carol@example.com"))
    lists.replace(TPS, today, LISTED)
    assert asked(core, lists, carol) == Listing(today, compared=False)


def test_any_number_of_a_person_counts(core: Core, lists: DoNotCallLists, today: date) -> None:
    (carol,) = known(core, email("carol@example.com"))
    with core.database.begin() as session:
        core.directory.link(session, carol, BOB, core.clock())
        core.directory.link(session, carol, ALICE, core.clock())
    lists.replace(TPS, today, LISTED)
    assert asked(core, lists, carol) == Listing(today, since=today)


def test_no_number_is_stored_in_clear(core: Core, lists: DoNotCallLists, today: date) -> None:
    lists.replace(TPS, today, LISTED)
    with core.database.read() as reader:
        rows = [*reader.execute(select(vault_dnc_number)), *reader.execute(select(vault_dnc_list))]
    assert "1632960" not in repr([tuple(row) for row in rows])


def test_the_next_copy_replaces_the_whole_and_remembers_since_when(
    core: Core, lists: DoNotCallLists, today: date
) -> None:
    alice, bob = known(core, ALICE, BOB)
    lists.replace(TPS, today, LISTED)
    core.clock.advance(timedelta(days=7))
    later = today + timedelta(days=7)
    replaced = lists.replace(TPS, later, ["01632 960001", "01632 960002"])
    assert (replaced.numbers, replaced.before) == (2, 4)
    assert asked(core, lists, alice) == Listing(later, since=today)
    assert asked(core, lists, bob) == Listing(later, since=later)
    assert stored(core, ListState.CURRENT) == [2]
    assert stored(core, ListState.PAST) == [0]
    # Who left the list and comes back has been on it since then.
    core.clock.advance(timedelta(days=7))
    lists.replace(TPS, later + timedelta(days=1), ["01632 960002"])
    lists.replace(TPS, later + timedelta(days=2), ["01632 960001", "01632 960002"])
    assert asked(core, lists, alice) == Listing(
        later + timedelta(days=2), since=later + timedelta(days=2)
    )


def test_the_past_is_told_by_the_copy_of_then(
    core: Core, lists: DoNotCallLists, today: date
) -> None:
    (alice,) = known(core, ALICE)
    before = core.clock()
    core.clock.advance(timedelta(hours=1))
    lists.replace(TPS, today, ["01632 960002"])
    then = core.clock()
    core.clock.advance(timedelta(days=7))
    later = today + timedelta(days=7)
    lists.replace(TPS, later, LISTED)
    assert asked(core, lists, alice, as_of=before) is None
    assert asked(core, lists, alice, as_of=then) == Listing(today)
    assert asked(core, lists, alice, as_of=core.clock()) == Listing(later, since=later)


# --- what never becomes current ----------------------------------------------------------------


@pytest.fixture
def current(core: Core, lists: DoNotCallLists, today: date) -> Iterator[SubjectRef]:
    """Alice is on the copy in use, whatever the test tries."""
    (alice,) = known(core, ALICE)
    lists.replace(TPS, today, LISTED)
    yield alice
    assert asked(core, lists, alice) == Listing(today, since=today)
    assert stored(core, ListState.CURRENT) == [4]
    lists.clean()
    assert not any(stored(core, ListState.ABANDONED))


def test_a_list_that_breaks_off_changes_nothing(
    core: Core, lists: DoNotCallLists, today: date, current: SubjectRef
) -> None:
    def broken() -> Iterator[str]:
        yield from ("01632 960002", "01632 960006", "01632 960007")
        raise ConnectionError("the line broke")

    with pytest.raises(ConnectionError):
        lists.replace(TPS, today, broken())
    assert stored(core, ListState.LOADING) == []


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "no number in the file"),
        (["Number", "", "  "], "no number in the file"),
        (["01632 960001"], "cut off"),
        (["01632 960001", "hello", "01632 960003", "01632 960004"], "no telephone number"),
        (["<html>", "<body>"], "no telephone number"),
        (["x" * 100_000, "y"], "no telephone number"),
    ],
)
def test_a_file_that_is_no_whole_list_is_refused(
    lists: DoNotCallLists, today: date, current: SubjectRef, lines: list[str], why: str
) -> None:
    with pytest.raises(InvalidListError, match=why):
        lists.replace(TPS, today, lines)


@pytest.mark.parametrize(
    ("days", "why"), [(1, "in the future"), (-28, "too old"), (-1, "copy in use is newer")]
)
def test_a_list_of_the_wrong_day_is_refused(
    lists: DoNotCallLists, today: date, current: SubjectRef, days: int, why: str
) -> None:
    with pytest.raises(InvalidListError, match=why):
        lists.replace(TPS, today + timedelta(days=days), LISTED)


def test_an_import_that_was_overtaken_never_becomes_current(
    core: Core, lists: DoNotCallLists, today: date
) -> None:
    (alice,) = known(core, ALICE)

    def overtaken() -> Iterator[str]:
        yield "01632 960007"
        lists.replace(TPS, today, LISTED)
        yield from ("01632 960008", "01632 960009", "01632 960010")

    with pytest.raises(InvalidListError, match="another import"):
        lists.replace(TPS, today, overtaken())
    assert asked(core, lists, alice) == Listing(today, since=today)


def test_what_a_killed_import_left_is_removed_by_the_next(
    core: Core, lists: DoNotCallLists, today: date
) -> None:
    begun = lists._begun("uk_tps", today)
    lists._add(begun, {b"1" * 16, b"2" * 16})
    assert stored(core, ListState.LOADING) == [2]
    lists.replace(TPS, today, LISTED)
    assert stored(core, ListState.LOADING) == []
    assert stored(core, ListState.ABANDONED) == [0]


def test_what_cannot_be_recorded_does_not_become_current(
    lists: DoNotCallLists, today: date, current: SubjectRef
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("the operator log is away")

    with pytest.raises(RuntimeError):
        lists.replace(TPS, today, LISTED, recorded=refuse)


def test_a_list_may_shrink_when_somebody_says_so(
    core: Core, lists: DoNotCallLists, today: date
) -> None:
    (alice,) = known(core, ALICE)
    lists.replace(TPS, today, LISTED)
    lists.replace(TPS, today, ["01632 960002"], smaller=True)
    assert asked(core, lists, alice) == Listing(today)
    with core.database.read() as reader:
        (copy,) = lists.copies(reader)
    assert (copy.registry, copy.numbers, copy.listed_on) == ("uk_tps", 1, today)


def test_one_line_in_a_hundred_may_be_no_number_and_is_counted(
    lists: DoNotCallLists, today: date
) -> None:
    lines = [f"01632 960{number:03}" for number in range(99)] + ["withdrawn"]
    assert lists.replace(TPS, today, lines).malformed == 1


def test_after_a_rotation_of_the_index_key_nothing_is_free_until_the_next_import(
    database_url: str, tmp_path: Any
) -> None:
    kit = KeyKit(database_url, tmp_path / "keys")
    with kit.database.begin() as session:
        for table in (vault_dnc_list, vault_dnc_number):
            table.create(session.connection())
    lists = DoNotCallLists(kit.directory, kit.database.begin, kit.clock)
    today = kit.clock().date()
    with kit.database.begin() as session:
        (bob,) = kit.directory.ensure(session, [BOB], kit.clock())
    lists.replace(TPS, today, LISTED)

    def told(ref: SubjectRef) -> Listing:
        columns = lists.columns(literal(ref), 1)
        with kit.database.read() as reader:
            found = lists.listings(reader, [ref], ["uk_tps"])[ref]["uk_tps"]
            assert (
                listing(reader.execute(select(*columns), {"registry_0": "uk_tps"}).one()) == found
            )
        return found

    assert told(bob) == Listing(today)
    rotate_index_key(kit)
    with kit.database.begin() as session:
        (alice,) = kit.directory.ensure(session, [ALICE], kit.clock())
    # Alice is listed, and her token cannot show it: she must not look free.
    assert told(alice) == Listing(today, compared=False)
    assert told(bob) == Listing(today)
    lists.replace(TPS, today, LISTED)
    assert told(alice) == Listing(today, since=today)
    assert told(bob) == Listing(today, compared=False)
    kit.close()


def rotate_index_key(kit: KeyKit) -> None:
    """A second index key, under which everything new is written."""
    with kit.database.begin() as session:
        values = kit.keyring._wrapped(label="index", context="index/2")
        session.execute(
            index_key.insert().values(
                version=2, state=IndexKeyState.READ_WRITE, created_at=kit.clock(), **values
            )
        )
    kit.keyring.prepare(kit.database, kit.clock())


# --- in a check --------------------------------------------------------------------------------

CALLS = "existing_customer_offers"
DECLARED = {"uk_tps": TPS, "it_rpo": replace(TPS, key="it_rpo", country="IT")}


@pytest.fixture
def washing(core: Core, lists: DoNotCallLists) -> Checker:
    """Checks under a policy whose offers to customers may be made by telephone, but for a list."""
    rule = core.policies.purposes[CALLS]
    channels = rule.channels | {Channel.PHONE, Channel.SMS}
    purposes = dict(core.policies.purposes) | {
        CALLS: replace(rule, channels=channels, do_not_call=frozenset({"uk_tps"})),
        MARKETING: replace(
            core.policies.purposes[MARKETING], do_not_call=frozenset({"uk_tps", "it_rpo"})
        ),
    }
    policies = replace(core.policies, purposes=purposes, registries=DECLARED)
    return Checker(
        core.database.read, core.directory, lambda: policies, core.clock, core.notices, lists
    )


def answers(
    core: Core, checker: Checker, who: Identifier, purpose: str = CALLS
) -> tuple[bool, Reason]:
    """What all ways of asking say, which must be the same."""
    one = checker.check(who, purpose, Channel.PHONE)
    (many,) = checker.check_many([who], purpose, Channel.PHONE)
    with core.database.read() as reader:
        (ref,) = core.directory.find(reader, [who])
        assert ref is not None
        cell = checker.matrix(reader, ref)[purpose, Channel.PHONE]
    assert one == many == cell
    return one.allow, one.reason


def test_every_way_of_asking_heeds_the_list(
    core: Core, lists: DoNotCallLists, washing: Checker, today: date
) -> None:
    carol = email("carol@example.com")
    known(core, ALICE, BOB, carol)
    assert answers(core, washing, BOB) == (False, Reason.DNC_STALE)
    lists.replace(TPS, today, LISTED)
    assert answers(core, washing, ALICE) == (False, Reason.DNC_LISTED)
    assert answers(core, washing, BOB) == (True, Reason.LEGITIMATE_INTERESTS)
    assert answers(core, washing, carol) == (False, Reason.DNC_NUMBER_UNKNOWN)
    # Text messages and letters are not what this list is about.
    assert washing.check(ALICE, CALLS, Channel.SMS).allow
    assert washing.check(ALICE, CALLS, Channel.POST).allow
    core.clock.advance(timedelta(days=27, hours=14, minutes=59))
    assert answers(core, washing, BOB)[0]
    core.clock.advance(timedelta(minutes=1))
    assert core.clock().time() == time(0, 0)
    assert answers(core, washing, BOB) == (False, Reason.DNC_STALE)
    assert answers(core, washing, ALICE) == (False, Reason.DNC_LISTED)


def test_the_past_is_answered_by_the_copy_of_then(
    core: Core, lists: DoNotCallLists, washing: Checker, today: date
) -> None:
    known(core, ALICE)
    before = core.clock()
    core.clock.advance(timedelta(minutes=1))
    lists.replace(TPS, today, LISTED)
    assert washing.check(ALICE, CALLS, Channel.PHONE, before).reason is Reason.DNC_STALE
    now = core.clock()
    core.clock.advance(timedelta(days=300))
    assert washing.check(ALICE, CALLS, Channel.PHONE, now).reason is Reason.DNC_LISTED
    assert washing.check(ALICE, CALLS, Channel.PHONE).reason is Reason.DNC_LISTED


def test_consent_on_a_later_day_beats_the_list_where_its_law_says_so(
    core: Core, lists: DoNotCallLists, washing: Checker, today: date
) -> None:
    yes = core.said(ChoiceState.GRANTED, channel="phone")
    core.record(ALICE, yes)
    lists.replace(TPS, today, LISTED)
    lists.replace(DECLARED["it_rpo"], today, ["06 12345678"])
    assert answers(core, washing, ALICE, MARKETING) == (False, Reason.DNC_LISTED)
    core.clock.advance(timedelta(days=1))
    core.record(ALICE, core.said(ChoiceState.GRANTED, channel="phone"))
    assert answers(core, washing, ALICE, MARKETING) == (True, Reason.RENEWED)


def test_a_check_asks_once_whether_or_not_there_are_lists(
    core: Core, lists: DoNotCallLists, washing: Checker, today: date
) -> None:
    known(core, ALICE)
    lists.replace(TPS, today, LISTED)
    for purpose, channel in ((CALLS, Channel.PHONE), (CALLS, Channel.POST)):
        washing.check(ALICE, purpose, channel)
        with counted(core) as statements:
            washing.check(ALICE, purpose, channel)
        assert len(statements) == 1, statements
        assert ("vault_dnc" in statements[0]) == (channel is Channel.PHONE)


@contextmanager
def counted(core: Core) -> Iterator[list[str]]:
    """The statements that reach the driver meanwhile."""
    seen: list[str] = []
    inner = bulk.run

    def run(connection: Any, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
        seen.append(sql)
        return inner(connection, sql, parameters)

    def execute(*arguments: Any) -> None:
        seen.append(arguments[2])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "run", run)
        event.listen(Engine, "before_cursor_execute", execute)
        try:
            yield seen
        finally:
            event.remove(Engine, "before_cursor_execute", execute)


def test_a_copy_that_is_swapped_in_the_midst_of_checks_never_looks_empty(
    core: Core, lists: DoNotCallLists, washing: Checker, today: date
) -> None:
    known(core, ALICE)
    lists.replace(TPS, today, LISTED)
    done = threading.Event()
    wrong: list[Reason] = []

    def ask() -> None:
        while not done.is_set():
            reasons = {
                washing.check(ALICE, CALLS, Channel.PHONE).reason,
                washing.check_many([ALICE], CALLS, Channel.PHONE)[0].reason,
            }
            wrong.extend(reasons - {Reason.DNC_LISTED})

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    for _ in range(15):
        lists.replace(TPS, today, LISTED)
    done.set()
    for asker in askers:
        asker.join()
    assert wrong == []
