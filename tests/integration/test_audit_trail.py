import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import delete, insert, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from consent.ledger.canonical import CanonicalError
from consent.ledger.log import MerkleLog
from consent.ledger.tree import Frontier
from governance.audit.models import audit_log
from governance.audit.trail import (
    CLI,
    INSTALLED,
    SYSTEM,
    Actor,
    ActorKind,
    InvalidRecordError,
    Trail,
)
from governance.database import Database, metadata
from tests.fakes.clock import FrozenClock

OFFICER = Actor(ActorKind.ACCOUNT, "0198-alice", "admin officer")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database.open(database_url)
    with database.begin() as session:
        metadata.create_all(session.connection(), tables=[*audit_log.append_only, audit_log.head])
    yield database
    database.dispose()


@pytest.fixture
def trail() -> Trail:
    return Trail(MerkleLog(audit_log))


def test_first_record_is_the_installation_whoever_comes_first(
    database: Database, trail: Trail, clock: FrozenClock
) -> None:
    with database.begin() as session:
        index = trail.record(
            session, actor=CLI, action="account.created", object="account:1", now=clock()
        )
    with database.read() as connection:
        newest, oldest = trail.read(connection)
    assert (index, newest.index, newest.action) == (1, 1, "account.created")
    assert (oldest.index, oldest.action, oldest.actor) == (0, INSTALLED, "system:service")


def test_installation_is_recorded_once_with_its_version(
    database: Database, trail: Trail, clock: FrozenClock
) -> None:
    with database.begin() as session:
        assert trail.install(session, version="0.1.0", now=clock())
    with database.begin() as session:
        assert not trail.install(session, version="0.2.0", now=clock())
    with database.read() as connection:
        (record,) = trail.read(connection)
    assert record.details == {"version": "0.1.0"}


def test_record_says_who_what_to_what_why_and_when(
    database: Database, trail: Trail, clock: FrozenClock
) -> None:
    with database.begin() as session:
        trail.record(
            session,
            actor=OFFICER,
            action="person.unmasked",
            object="person:mzxw6ytboi",
            reason="Case 14: the caller asked for a copy",
            details={"field": "email", "before": None, "count": 1},
            now=clock(),
        )
    with database.read() as connection:
        record = trail.read(connection)[0]
        leaf = next(iter(trail.log.entries(connection, record.index, record.index + 1))).leaf
    assert record.at == clock()
    assert (record.actor, record.actor_role) == ("account:0198-alice", "admin officer")
    assert (record.action, record.object) == ("person.unmasked", "person:mzxw6ytboi")
    assert record.reason == "Case 14: the caller asked for a copy"
    assert record.details == {"field": "email", "before": None, "count": 1}
    assert (
        leaf
        == (
            '{"action":"person.unmasked","actor":"account:0198-alice","actor_role":"admin officer",'
            '"at":"2026-03-01T09:00:00.000000Z","details":{"before":null,"count":1,"field":"email"},'
            f'"id":"{record.id}","object":"person:mzxw6ytboi",'
            '"reason":"Case 14: the caller asked for a copy","v":1}'
        ).encode()
    )


def test_act_and_record_are_kept_together_or_not_at_all(
    database: Database, trail: Trail, clock: FrozenClock
) -> None:
    def act_that_fails() -> None:
        with database.begin() as session:
            trail.record(session, actor=CLI, action="key.made", object="key:1", now=clock())
            session.execute(insert(audit_log.head).values(id=1, size=0, frontier=b""))

    with pytest.raises(IntegrityError):
        act_that_fails()
    with database.read() as connection:
        assert trail.read(connection) == []


def test_records_are_read_newest_first_page_by_page(
    database: Database, trail: Trail, clock: FrozenClock
) -> None:
    with database.begin() as session:
        for number in range(7):
            trail.record(
                session, actor=CLI, action="thing.done", object=f"thing:{number}", now=clock()
            )
    with database.read() as connection:
        first = trail.read(connection, limit=3)
        second = trail.read(connection, before=first[-1].index, limit=3)
        third = trail.read(connection, before=second[-1].index, limit=3)
    assert [record.object for record in first + second + third] == [
        *(f"thing:{number}" for number in reversed(range(7))),
        "service",
    ]
    with database.read() as connection:
        assert trail.read(connection, before=0) == []


@pytest.mark.parametrize(
    ("actor", "action", "target"),
    [
        (CLI, "created", "account:1"),
        (CLI, "account.Created", "account:1"),
        (CLI, "account.created", "alice@example.com"),
        (CLI, "account.created", "account:alice@example.com"),
        (CLI, "account.created", "account:+49301234567 "),
        (Actor(ActorKind.ACCOUNT, "alice@example.com", "officer"), "account.created", "account:1"),
    ],
)
def test_what_could_name_a_person_is_refused(
    database: Database, trail: Trail, clock: FrozenClock, actor: Actor, action: str, target: str
) -> None:
    with pytest.raises(InvalidRecordError) as caught, database.begin() as session:
        trail.record(session, actor=actor, action=action, object=target, now=clock())
    assert "@" not in str(caught.value)


def test_what_has_no_canonical_form_is_refused(
    database: Database, trail: Trail, clock: FrozenClock
) -> None:
    with pytest.raises(CanonicalError), database.begin() as session:
        trail.record(
            session,
            actor=CLI,
            action="thing.done",
            object="thing:1",
            details={"rate": 0.5},  # type: ignore[dict-item] # the fault
            now=clock(),
        )
    with pytest.raises(InvalidRecordError), database.begin() as session:
        trail.record(
            session,
            actor=CLI,
            action="thing.done",
            object="thing:1",
            reason="x" * 501,
            now=clock(),
        )


def test_database_refuses_to_rewrite_the_operator_log(
    database: Database, trail: Trail, clock: FrozenClock
) -> None:
    with database.begin() as session:
        trail.record(session, actor=SYSTEM, action="thing.done", object="thing", now=clock())
    for statement in (update(audit_log.entry).values(leaf=b"{}"), delete(audit_log.entry)):
        with pytest.raises(DBAPIError, match="append-only"), database.begin() as session:
            session.execute(statement)


def test_concurrent_records_have_one_order_and_one_tree(
    database: Database, trail: Trail, clock: FrozenClock
) -> None:
    with database.begin() as session:
        trail.install(session, version="0.1.0", now=clock())

    def write(writer: int) -> None:
        for number in range(5):
            with database.begin() as session:
                trail.record(
                    session,
                    actor=CLI,
                    action="thing.done",
                    object=f"thing:{writer}.{number}",
                    now=clock(),
                )

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    with database.read() as connection:
        entries = list(trail.log.entries(connection, 0, 100))
        frontier = trail.log.frontier(connection)
    assert [entry.idx for entry in entries] == list(range(21))
    assert Frontier().append([entry.leaf_hash for entry in entries]) == frontier
