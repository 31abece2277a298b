"""One identifier, one person: whoever asks, however often, and at the same moment."""

import multiprocessing
import secrets
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from consent.errors import InvalidSubjectError, UnknownSubjectError
from consent.subjects import (
    Identifier,
    SubjectRef,
    email,
    external_id,
    new_subject_ref,
    phone,
    ref,
)
from governance.errors import DecryptionError
from governance.keys.models import IndexKeyState, data_key, index_key
from governance.vault.identify import Directory, mask
from governance.vault.models import vault_identifier, vault_person
from tests.fakes.keys import KeyKit

ALICE = email("alice@example.org")
BOB = email("bob@example.org")
ALL_KINDS = [ALICE, phone("+4930123456"), external_id("hubspot", "101")]


@pytest.fixture
def kit(database_url: str, tmp_path: Path) -> Iterator[KeyKit]:
    kit = KeyKit(database_url, tmp_path / "keys")
    yield kit
    kit.close()


def ensure(kit: KeyKit, *identifiers: Identifier) -> list[SubjectRef]:
    with kit.database.begin() as session:
        return kit.directory.ensure(session, identifiers, kit.clock())


def link(kit: KeyKit, owner: SubjectRef, identifier: Identifier) -> SubjectRef:
    with kit.database.begin() as session:
        return kit.directory.link(session, owner, identifier, kit.clock())


def find(kit: KeyKit, *identifiers: Identifier) -> list[SubjectRef | None]:
    with kit.database.read() as connection:
        return kit.directory.find(connection, identifiers)


def located(kit: KeyKit, identifier: Identifier) -> str | None:
    statement = select(kit.directory.locator(identifier.kind))
    with kit.database.read() as connection:
        found = connection.execute(statement, kit.directory.locator_values(identifier))
        owner: str | None = found.scalar_one()
        return owner


def identifiers(kit: KeyKit, *refs: SubjectRef) -> dict[SubjectRef, list[Identifier]]:
    with kit.database.read() as connection:
        return kit.directory.identifiers_of(connection, refs)


# --- finding and making ------------------------------------------------------------------------


def test_a_person_is_made_once_and_found_by_every_identifier(kit: KeyKit) -> None:
    assert find(kit, *ALL_KINDS) == [None, None, None]
    (alice,) = ensure(kit, ALICE)
    assert [link(kit, alice, other) for other in ALL_KINDS] == [alice] * 3
    assert find(kit, *ALL_KINDS, ref(alice)) == [alice] * 4
    assert [located(kit, each) for each in (*ALL_KINDS, ref(alice))] == [alice] * 4
    assert ensure(kit, *reversed(ALL_KINDS), ref(alice)) == [alice] * 4
    assert kit.count("vault_person") == kit.count("data_key") == 1
    assert kit.count("vault_identifier") == 3


def test_the_unknown_is_nobody(kit: KeyKit) -> None:
    ensure(kit, ALICE)
    stranger = ref(new_subject_ref())
    assert find(kit, BOB, ALICE, stranger)[::2] == [None, None]
    assert located(kit, BOB) is None
    assert located(kit, stranger) is None
    with pytest.raises(UnknownSubjectError):
        ensure(kit, BOB, stranger)
    assert find(kit, BOB) == [None]


def test_answers_stand_in_the_order_of_the_questions(kit: KeyKit) -> None:
    people = [email(f"person{number}@example.org") for number in range(700)]
    refs = ensure(kit, *people, people[3], people[0])
    assert len(set(refs)) == 700
    assert refs[-2:] == [refs[3], refs[0]]
    assert find(kit, *people[::-1], BOB) == [*refs[:700][::-1], None]


def test_an_identifier_is_found_however_it_is_written(kit: KeyKit) -> None:
    (alice,) = ensure(kit, email("Alice@Example.ORG"))
    link(kit, alice, phone("+49 (0)30 123 456"))
    assert find(kit, ALICE, phone("+4930123456"), phone("+49030123456")) == [alice] * 3


def test_kinds_and_systems_do_not_share_values(kit: KeyKit) -> None:
    same = "1234567"
    made = ensure(
        kit,
        external_id("hubspot", same),
        external_id("salesforce", same),
        external_id("hubspot", f"{same}8"),
    )
    assert len(set(made)) == 3


def test_nothing_is_looked_up_for_nobody(kit: KeyKit) -> None:
    assert ensure(kit) == find(kit) == []
    assert identifiers(kit) == {}


def test_a_malformed_identifier_is_refused_without_being_shown(kit: KeyKit) -> None:
    with pytest.raises(InvalidSubjectError) as caught:
        find(kit, Identifier("email", "alice at example.org"))
    assert "alice" not in str(caught.value)


def test_a_unit_of_work_that_rolls_back_leaves_nobody(kit: KeyKit) -> None:
    def make_and_fail() -> None:
        with kit.database.begin() as session:
            kit.directory.ensure(session, [ALICE], kit.clock())
            kit.directory.ensure(session, [ref(new_subject_ref())], kit.clock())

    with pytest.raises(UnknownSubjectError):
        make_and_fail()
    assert [kit.count(t) for t in ("vault_person", "vault_identifier", "data_key")] == [0, 0, 0]
    (alice,) = ensure(kit, ALICE)
    assert identifiers(kit, alice) == {alice: [ALICE]}


# --- linking -----------------------------------------------------------------------------------


def test_an_identifier_that_is_taken_stays_where_it_is(kit: KeyKit) -> None:
    alice, bob = ensure(kit, ALICE, BOB)
    assert link(kit, bob, ALICE) == alice
    assert find(kit, ALICE, BOB) == [alice, bob]


def test_many_links_are_one_look_up_and_the_first_wins(kit: KeyKit) -> None:
    alice, bob = ensure(kit, ALICE, BOB)
    shared, own = phone("+4930123456"), phone("+4930654321")
    with kit.database.begin() as session:
        pairs = [(alice, shared), (bob, shared), (bob, own), (bob, ALICE)]
        assert kit.directory.link_many(session, pairs, kit.clock()) == [alice, alice, bob, alice]
    assert set(identifiers(kit, bob)[bob]) == {BOB, own}


def test_nobody_and_references_cannot_be_linked(kit: KeyKit) -> None:
    (alice,) = ensure(kit, ALICE)
    with pytest.raises(UnknownSubjectError):
        link(kit, new_subject_ref(), BOB)
    with pytest.raises(UnknownSubjectError):
        link(kit, alice, ref(new_subject_ref()))
    assert kit.count("data_key") == 1


# --- reading back ------------------------------------------------------------------------------


def test_identifiers_come_back_as_they_were_given_and_in_that_order(kit: KeyKit) -> None:
    given = [email("Zoë@example.org"), phone("+49030123456"), external_id("crm", "Ab-1")]
    (zoe, bob) = ensure(kit, given[0], BOB)
    for other in given[1:]:
        kit.clock.advance(timedelta(seconds=1))
        link(kit, zoe, other)
    stranger = new_subject_ref()
    found = identifiers(kit, zoe, bob, stranger)
    assert found[zoe] == given
    assert found[bob] == [BOB]
    assert found[stranger] == []


def test_identifiers_of_a_destroyed_key_are_gone(kit: KeyKit) -> None:
    alice, bob = ensure(kit, ALICE, BOB)
    with kit.database.begin() as session:
        session.execute(delete(data_key).where(data_key.c.subject_ref == alice))
    kit.keyring.evict([alice])
    assert identifiers(kit, alice, bob) == {alice: [], bob: [BOB]}


def test_a_row_moved_to_another_person_or_identifier_is_noticed(kit: KeyKit) -> None:
    alice, bob = ensure(kit, ALICE, BOB)
    link(kit, alice, email("alice@example.com"))
    column = vault_identifier.c
    with kit.database.begin() as session:
        rows = session.execute(
            select(column.blind_index, column.sealed).where(column.subject_ref == alice)
        ).all()
        for row, other in zip(rows, reversed(rows), strict=True):
            session.execute(
                update(vault_identifier)
                .where(column.blind_index == row.blind_index)
                .values(sealed=other.sealed)
            )
    with pytest.raises(DecryptionError):
        identifiers(kit, alice)
    with kit.database.begin() as session:
        session.execute(update(vault_identifier).values(subject_ref=bob))
    with pytest.raises(DecryptionError):
        identifiers(kit, bob)


def test_no_identifier_is_in_the_database_in_clear(kit: KeyKit) -> None:
    (alice,) = ensure(kit, ALICE)
    for other in ALL_KINDS[1:]:
        link(kit, alice, other)
    with kit.database.read() as connection:
        stored = repr(
            [connection.execute(select(t)).all() for t in (vault_identifier, vault_person)]
        )
    for secret in ("alice", "example", "30123456", "hubspot", "101"):
        assert secret not in stored.replace(repr(alice), "")


# --- what may be shown -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifier", "shown"),
    [
        (email("alice@example.com"), "a•••@e•••.com"),
        (email("a@example.co.uk"), "•••@e•••.uk"),
        (phone("+4930123456"), "+•••56"),
        (external_id("hubspot", "000101"), "hubspot:•••01"),
        (external_id("hubspot", "101"), "hubspot:•••"),
        (ref("a" * 26), "a" * 26),
    ],
)
def test_a_mask_is_enough_to_recognise_and_too_little_to_use(
    identifier: Identifier, shown: str
) -> None:
    assert mask(identifier) == shown


# --- concurrency -------------------------------------------------------------------------------

PEOPLE = [email(f"person{number}@example.org") for number in range(50)]


def meet(kit: KeyKit, start: Any, rounds: int = 10) -> list[SubjectRef]:
    """Make the same fifty people in groups, as an import and a busy API would."""
    start.wait()
    order = list(range(rounds))
    secrets.SystemRandom().shuffle(order)
    refs: dict[int, list[SubjectRef]] = {}
    for number in order:
        group = PEOPLE[number::rounds]
        with kit.database.begin() as session:
            refs[number] = kit.directory.ensure(session, group, kit.clock())
            items = [(owner, "event", b"evidence") for owner in refs[number]]
            kit.cipher.seal(session, items, kit.clock())
    return [refs[number % rounds][number // rounds] for number in range(len(PEOPLE))]


def assert_fifty_people(kit: KeyKit, answers: list[list[SubjectRef]]) -> None:
    assert len({tuple(answer) for answer in answers}) == 1
    assert len(set(answers[0])) == 50
    assert find(kit, *PEOPLE) == answers[0]
    assert [kit.count(t) for t in ("vault_person", "vault_identifier", "data_key")] == [50] * 3
    assert identifiers(kit, *answers[0]) == {
        owner: [person] for owner, person in zip(answers[0], PEOPLE, strict=True)
    }


def test_sixteen_threads_that_meet_the_same_people_make_each_once(kit: KeyKit) -> None:
    answers: list[list[SubjectRef]] = []
    start = threading.Barrier(16)
    threads = [threading.Thread(target=lambda: answers.append(meet(kit, start))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 16
    assert_fifty_people(kit, answers)


def in_another_process(url: str, folder: Path, start: Any, answers: Any) -> None:
    kit = KeyKit(url, folder)
    answers.put(meet(kit, start))
    kit.close()


def test_processes_that_meet_the_same_people_make_each_once(kit: KeyKit) -> None:
    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=in_another_process, args=(kit.url, kit.folder, start, answers))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert_fifty_people(kit, found)


# --- rotation of the index key -----------------------------------------------------------------


def test_people_are_found_and_not_doubled_while_the_index_key_is_rotated(kit: KeyKit) -> None:
    (alice,) = ensure(kit, ALICE)
    key_ref = kit.provider.root("index")
    with kit.database.begin() as session:
        session.execute(update(index_key).values(state=IndexKeyState.READ))
        session.execute(
            insert(index_key).values(
                version=2,
                provider="local",
                key_ref=key_ref,
                wrapped=kit.provider.wrap(key_ref, bytes(range(32)), b"tutela/k1/index/2"),
                state=IndexKeyState.READ_WRITE,
                created_at=kit.clock(),
            )
        )
    kit.keyring.prepare(kit.database, kit.clock())
    assert find(kit, ALICE) == [alice]
    assert located(kit, ALICE) == alice
    alice_again, bob = ensure(kit, ALICE, BOB)
    assert alice_again == alice
    assert located(kit, BOB) == bob
    with kit.database.read() as connection:
        versions = connection.scalars(select(vault_identifier.c.index_version)).all()
    assert sorted(versions) == [1, 2]
    assert identifiers(kit, alice, bob) == {alice: [ALICE], bob: [BOB]}
    with kit.database.begin() as session:
        old = update(index_key).where(index_key.c.version == 1)
        session.execute(old.values(state=IndexKeyState.DEAD))
    kit.keyring.prepare(kit.database, kit.clock())
    assert find(kit, BOB, ALICE) == [bob, None]


def test_a_directory_needs_no_more_than_a_keyring(kit: KeyKit) -> None:
    (alice,) = ensure(kit, ALICE)
    again = Directory(kit.keyring)
    with kit.database.read() as connection:
        assert again.find(connection, [ALICE]) == [alice]
