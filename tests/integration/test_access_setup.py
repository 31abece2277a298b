import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select

from governance.access.errors import InvalidAccountError, PasswordRefusedError, SetupLinkError
from governance.access.models import setup_link
from governance.database import Database
from policies.permissions import Role
from tests.fakes.access import PASSWORD, AccessKit
from tests.fakes.clock import FrozenClock


@pytest.fixture
def kit(database_url: str, clock: FrozenClock) -> Iterator[AccessKit]:
    database = Database.open(database_url)
    kit = AccessKit(database, clock)
    kit.make_tables()
    yield kit
    database.dispose()


def link(kit: AccessKit) -> str:
    token = kit.setup.new_link()
    assert token is not None
    return token


def complete(kit: AccessKit, token: str, login: str = "alice") -> None:
    kit.setup.complete(token, login=login, display_name="Alice", password=PASSWORD)


def test_link_makes_the_first_account_and_is_used_up(kit: AccessKit) -> None:
    token = link(kit)
    assert kit.setup.is_usable(token)
    complete(kit, token)
    alice = kit.accounts.authenticate("alice", PASSWORD)
    assert alice.roles == {Role.ADMIN, Role.OFFICER}
    assert not kit.setup.is_usable(token)
    with pytest.raises(SetupLinkError):
        complete(kit, token, "mallory")
    assert kit.actions() == ["service.installed", "setup.link_created", "account.created"]
    assert kit.records()[-1].actor == "system:setup_link"


def test_there_is_no_link_once_there_is_an_account(kit: AccessKit) -> None:
    token = link(kit)
    kit.account("alice")
    assert kit.setup.new_link() is None
    assert not kit.setup.is_usable(token)
    with pytest.raises(SetupLinkError):
        complete(kit, token, "mallory")


def test_new_link_replaces_the_old_one(kit: AccessKit) -> None:
    old, new = link(kit), link(kit)
    with pytest.raises(SetupLinkError, match="setup-link"):
        complete(kit, old)
    complete(kit, new)


def test_link_works_for_a_day(kit: AccessKit, clock: FrozenClock) -> None:
    token = link(kit)
    clock.advance(timedelta(hours=24) - timedelta(microseconds=1))
    assert kit.setup.is_usable(token)
    clock.advance(timedelta(microseconds=1))
    with pytest.raises(SetupLinkError):
        complete(kit, token)


def test_refused_account_leaves_the_link_usable(kit: AccessKit) -> None:
    token = link(kit)
    with pytest.raises(PasswordRefusedError):
        kit.setup.complete(token, login="alice", display_name="Alice", password="short")
    with pytest.raises(InvalidAccountError):
        kit.setup.complete(token, login="a", display_name="Alice", password=PASSWORD)
    complete(kit, token)


def test_link_is_stored_as_a_digest(kit: AccessKit) -> None:
    token = link(kit)
    with kit.database.read() as connection:
        (row,) = connection.execute(select(setup_link)).all()
    assert token not in repr(row)


@pytest.mark.parametrize("token", ["", "\0", "\ud800", "x" * 100_000])
def test_nonsense_is_no_link(kit: AccessKit, token: str) -> None:
    link(kit)
    assert not kit.setup.is_usable(token)


def test_many_visitors_at_once_make_one_account(kit: AccessKit) -> None:
    token = link(kit)
    ready = threading.Barrier(6)
    outcomes: list[str] = []

    def visit(number: int) -> None:
        ready.wait()
        try:
            complete(kit, token, f"visitor{number}")
        except SetupLinkError:
            outcomes.append("refused")
        else:
            outcomes.append("made")

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made", *["refused"] * 5]
    with kit.database.read() as connection:
        assert len(kit.accounts.all(connection)) == 1


def test_links_and_visitors_at_once_make_one_account(kit: AccessKit) -> None:
    first = link(kit)
    made: list[str] = []
    ready = threading.Barrier(4)

    def visit(token: str | None) -> None:
        ready.wait()
        token = token or kit.setup.new_link()
        if token is None:
            return
        try:
            complete(kit, token, f"visitor-{token[:4]}")
        except SetupLinkError:
            return
        made.append(token)

    threads = [threading.Thread(target=visit, args=(token,)) for token in (first, None, None, None)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    with kit.database.read() as connection:
        assert len(kit.accounts.all(connection)) == 1
