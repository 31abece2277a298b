from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from governance.access.errors import UnknownAccountError
from governance.access.models import session as session_table
from governance.access.principal import PrincipalKind
from governance.audit.trail import CLI
from governance.database import Database
from policies.permissions import ROLE_PERMISSIONS, Permission, Role
from tests.fakes.access import AccessKit
from tests.fakes.clock import FrozenClock

MINUTE = timedelta(minutes=1)


@pytest.fixture
def kit(database_url: str, clock: FrozenClock) -> Iterator[AccessKit]:
    database = Database.open(database_url)
    kit = AccessKit(database, clock)
    kit.make_tables()
    yield kit
    database.dispose()


def rows(kit: AccessKit) -> int:
    with kit.database.read() as connection:
        return connection.execute(select(func.count()).select_from(session_table)).scalar_one()


def test_session_says_who_and_what_they_may(kit: AccessKit) -> None:
    alice = kit.account("alice", Role.AGENT, Role.AUDITOR)
    opened = kit.sessions.open(alice.id)
    principal = kit.sessions.find(opened.token)
    assert principal is not None
    assert (principal.kind, principal.id) == (PrincipalKind.ACCOUNT, alice.id)
    assert principal.session_id == opened.id
    assert principal.permissions == ROLE_PERMISSIONS[Role.AGENT] | ROLE_PERMISSIONS[Role.AUDITOR]
    assert principal.may(Permission.AUDIT_READ)
    assert not principal.may(Permission.ACCOUNTS_MANAGE)
    assert principal.actor == alice.actor


def test_table_and_reprs_do_not_hold_the_token(kit: AccessKit) -> None:
    opened = kit.sessions.open(kit.account("alice").id)
    assert opened.token not in repr(opened)
    assert len(opened.token) == 43
    with kit.database.read() as connection:
        (row,) = connection.execute(select(session_table)).all()
    assert opened.token not in repr(row)
    assert kit.sessions.find(row.token_hash.hex()) is None


@pytest.mark.parametrize("token", ["", "x", "\0", "\ud800", "x" * 100_000, "' OR 1=1 --"])
def test_nonsense_is_nobody(kit: AccessKit, token: str) -> None:
    kit.sessions.open(kit.account("alice").id)
    assert kit.sessions.find(token) is None


def test_idle_session_is_over(kit: AccessKit, clock: FrozenClock) -> None:
    opened = kit.sessions.open(kit.account("alice").id)
    for _ in range(4):
        clock.advance(29 * MINUTE)
        assert kit.sessions.find(opened.token) is not None
    clock.advance(30 * MINUTE)
    assert kit.sessions.find(opened.token) is None


def test_session_is_over_after_its_time_however_busy(kit: AccessKit, clock: FrozenClock) -> None:
    opened = kit.sessions.open(kit.account("alice").id)
    assert opened.expires_at == clock() + timedelta(hours=12)
    for _ in range(36):
        clock.advance(20 * MINUTE - timedelta(microseconds=1))
        assert kit.sessions.find(opened.token) is not None
    clock.set(opened.expires_at)
    assert kit.sessions.find(opened.token) is None


def test_use_is_written_once_a_minute(kit: AccessKit, clock: FrozenClock) -> None:
    opened = kit.sessions.open(kit.account("alice").id)
    seen = []
    for _ in range(5):
        clock.advance(timedelta(seconds=25))
        kit.sessions.find(opened.token)
        with kit.database.read() as connection:
            seen.append(connection.scalar(select(session_table.c.last_seen_at)))
    assert len(set(seen)) == 2
    assert kit.actions()[-1] == "session.opened"


def test_login_makes_a_new_token_and_ends_the_one_brought_along(kit: AccessKit) -> None:
    alice = kit.account("alice")
    planted = kit.sessions.open(alice.id)
    opened = kit.sessions.open(alice.id, replacing=planted.token)
    assert opened.token != planted.token
    assert kit.sessions.find(planted.token) is None
    assert kit.actions()[-2:] == ["session.ended", "session.opened"]


def test_ended_session_is_over_in_every_process(kit: AccessKit, database_url: str) -> None:
    alice = kit.account("alice")
    opened, other = kit.sessions.open(alice.id), kit.sessions.open(alice.id)
    elsewhere = AccessKit(Database.open(database_url), kit.clock)
    assert elsewhere.sessions.find(opened.token) is not None
    assert kit.sessions.end(opened.id, actor=alice.actor)
    assert elsewhere.sessions.find(opened.token) is None
    assert elsewhere.sessions.find(other.token) is not None
    assert not kit.sessions.end(opened.id, actor=alice.actor)
    elsewhere.database.dispose()
    record = kit.records()[-1]
    assert (record.action, record.object) == ("session.ended", f"session:{opened.id}")


def test_account_sees_its_sessions(kit: AccessKit, clock: FrozenClock) -> None:
    alice, bob = kit.account("alice"), kit.account("bobby")
    kit.sessions.open(alice.id)
    clock.advance(31 * MINUTE)
    fresh = kit.sessions.open(alice.id)
    kit.sessions.open(bob.id)
    with kit.database.read() as connection:
        assert [one.id for one in kit.sessions.of_account(connection, alice.id)] == [fresh.id]


def test_all_sessions_of_an_account_end_but_one(kit: AccessKit, clock: FrozenClock) -> None:
    alice, bob = kit.account("alice"), kit.account("bobby")
    kept, *_ = [kit.sessions.open(alice.id) for _ in range(3)]
    others = kit.sessions.open(bob.id)
    with kit.database.begin() as session:
        ended = kit.sessions.end_all(session, alice.id, keep=kept.id, actor=CLI, now=clock())
    assert ended == 2
    assert kit.sessions.find(kept.token) is not None
    assert kit.sessions.find(others.token) is not None


def test_what_is_over_is_swept(kit: AccessKit, clock: FrozenClock) -> None:
    alice = kit.account("alice")
    kit.sessions.open(alice.id)
    clock.advance(30 * MINUTE)
    fresh = kit.sessions.open(alice.id)
    with kit.database.begin() as session:
        assert kit.sessions.remove_expired(session, clock()) == 1
    assert rows(kit) == 1
    assert kit.sessions.find(fresh.token) is not None


def test_nobody_unknown_gets_a_session(kit: AccessKit) -> None:
    with pytest.raises(UnknownAccountError):
        kit.sessions.open("nobody")
    assert rows(kit) == 0
