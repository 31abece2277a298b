import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from governance.access import throttle
from governance.access.accounts import Accounts
from governance.access.errors import (
    AccessError,
    InvalidAccountError,
    LastHolderError,
    LoginRefusedError,
    PasswordRefusedError,
    UnknownAccountError,
)
from governance.access.models import AccountState
from governance.access.models import account as account_table
from governance.access.models import throttle as throttle_table
from governance.access.passwords import Passwords, Verdict
from governance.access.settings import AccessSettings, PasswordProfile
from governance.audit.trail import CLI
from governance.database import Database
from policies.permissions import Role
from tests.fakes.access import PASSWORD, AccessKit
from tests.fakes.clock import FrozenClock

NEW_PASSWORD = "lantern*gravel*seven"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database.open(database_url)
    yield database
    database.dispose()


@pytest.fixture
def kit(database: Database, clock: FrozenClock) -> AccessKit:
    kit = AccessKit(database, clock)
    kit.make_tables()
    return kit


def refusal(kit: AccessKit, login: str, password: str) -> str:
    with pytest.raises(LoginRefusedError) as caught:
        kit.accounts.authenticate(login, password)
    return str(caught.value)


def with_passwords(kit: AccessKit, passwords: Passwords) -> Accounts:
    return Accounts(kit.database, kit.trail, kit.clock, passwords, kit.sessions)


# --- logging in --------------------------------------------------------------------------------


def test_login_is_recognised_however_it_is_written(kit: AccessKit) -> None:
    alice = kit.account("alice@example.com")
    for spelling in ("alice@example.com", " Alice@Example.COM ", "\uff41lice@example.com"):
        assert kit.accounts.authenticate(spelling, PASSWORD).id == alice.id


def test_every_refusal_says_the_same(kit: AccessKit) -> None:
    kit.account("alice")
    bob = kit.account("bobby", Role.AGENT)
    kit.accounts.disable(bob.id, actor=CLI)
    said = {
        refusal(kit, "alice", "not the password"),
        refusal(kit, "nobody", PASSWORD),
        refusal(kit, "bobby", PASSWORD),
        refusal(kit, "bobby", "not the password"),
        refusal(kit, "", ""),
        refusal(kit, "al\0ice", PASSWORD),
        refusal(kit, "\ud800", PASSWORD),
        refusal(kit, "x" * 100_000, "y" * 100_000),
    }
    for _ in range(throttle.FREE_FAILURES):
        said.add(refusal(kit, "alice", "not the password"))
    said.add(refusal(kit, "alice", PASSWORD))
    assert len(said) == 1


def test_known_and_unknown_logins_are_locked_alike(kit: AccessKit, clock: FrozenClock) -> None:
    kit.account("alice")
    for login in ("alice", "nobody"):
        for _ in range(throttle.FREE_FAILURES):
            refusal(kit, login, "not the password")
    with kit.database.read() as connection:
        rows = connection.execute(
            select(throttle_table.c.failures, throttle_table.c.locked_until)
        ).all()
    assert rows[0] == rows[1] == (throttle.FREE_FAILURES, clock() + throttle.FIRST_LOCK)
    locks = [record for record in kit.records() if record.action == "login.locked"]
    assert [lock.details for lock in locks] == [{"seconds": 30}] * 2
    assert locks[1].object == "account:unknown"


def test_right_password_is_refused_while_locked_and_accepted_after(
    kit: AccessKit, clock: FrozenClock
) -> None:
    kit.account("alice")
    for _ in range(throttle.FREE_FAILURES):
        refusal(kit, "alice", "not the password")
    clock.advance(throttle.FIRST_LOCK - timedelta(microseconds=1))
    refusal(kit, "alice", PASSWORD)
    clock.advance(timedelta(microseconds=1))
    kit.accounts.authenticate("alice", PASSWORD)
    for _ in range(throttle.FREE_FAILURES - 1):
        refusal(kit, "alice", "not the password")
    kit.accounts.authenticate("alice", PASSWORD)


def test_a_locked_attempt_neither_counts_nor_prolongs(kit: AccessKit, clock: FrozenClock) -> None:
    kit.account("alice")
    for _ in range(50):
        refusal(kit, "alice", "not the password")
    clock.advance(throttle.FIRST_LOCK)
    kit.accounts.authenticate("alice", PASSWORD)


def test_guesses_at_the_same_time_are_counted_one_by_one(kit: AccessKit) -> None:
    kit.account("alice")
    guessed: list[str] = []

    class Counting(Passwords):
        def verify(self, stored: str | None, password: str) -> Verdict:
            guessed.append(password)
            return super().verify(stored, password)

    accounts = with_passwords(kit, Counting(PasswordProfile.FAST))

    def guess(number: int) -> None:
        with pytest.raises(LoginRefusedError):
            accounts.authenticate("alice", f"guess number {number}")

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(guessed) == throttle.FREE_FAILURES


def test_failures_are_forgotten_after_a_day(kit: AccessKit, clock: FrozenClock) -> None:
    kit.account("alice")
    for _ in range(throttle.FREE_FAILURES):
        refusal(kit, "alice", "not the password")
    clock.advance(throttle.FORGOTTEN_AFTER)
    for _ in range(throttle.FREE_FAILURES - 1):
        refusal(kit, "alice", "not the password")
    kit.accounts.authenticate("alice", PASSWORD)
    refusal(kit, "nobody", "not the password")
    clock.advance(throttle.FORGOTTEN_AFTER)
    with kit.database.begin() as session:
        assert throttle.remove_old(session, clock()) == 1
    with kit.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(throttle_table)) == 0


def test_operator_can_unlock(kit: AccessKit) -> None:
    alice = kit.account("alice")
    for _ in range(throttle.FREE_FAILURES):
        refusal(kit, "alice", "not the password")
    assert kit.accounts.unlock(alice.id, actor=CLI)
    assert not kit.accounts.unlock(alice.id, actor=CLI)
    kit.accounts.authenticate("alice", PASSWORD)
    assert kit.actions()[-1] == "account.unlocked"


def test_old_hash_is_replaced_at_login(kit: AccessKit, database: Database) -> None:
    kit.account("alice")
    today = AccessKit(
        database, kit.clock, settings=AccessSettings(passwords=PasswordProfile.STANDARD)
    )
    today.accounts.authenticate("alice", PASSWORD)
    with database.read() as connection:
        stored = connection.scalar(select(account_table.c.password_hash))
    assert stored is not None
    assert "m=65536,t=3" in stored
    kit.accounts.authenticate("alice", PASSWORD)


# --- making and changing -----------------------------------------------------------------------


@pytest.mark.parametrize("login", ["", "al", "al ice", "x" * 255, "al\nice", "al\0ice", "al\ud800"])
def test_malformed_logins_make_no_account(kit: AccessKit, login: str) -> None:
    with pytest.raises(InvalidAccountError):
        kit.account(login)
    assert kit.actions() == []


def test_login_name_is_taken_once(kit: AccessKit) -> None:
    kit.account("alice")
    with pytest.raises(InvalidAccountError, match="taken"):
        kit.account("Alice")
    assert kit.actions() == ["service.installed", "account.created"]


def test_account_needs_a_role_a_name_and_a_good_password(kit: AccessKit) -> None:
    good = {"login": "alice", "display_name": "Alice", "password": PASSWORD, "actor": CLI}
    for fault in ({"display_name": " "}, {"display_name": "x" * 101}, {"roles": ()}):
        with pytest.raises(InvalidAccountError):
            kit.accounts.create(**{"roles": {Role.AGENT}, **good, **fault})  # type: ignore[arg-type]
    with pytest.raises(PasswordRefusedError):
        kit.accounts.create(**{"roles": {Role.AGENT}, **good, "password": "short"})  # type: ignore[arg-type]


def test_changing_the_password_ends_all_other_sessions(kit: AccessKit) -> None:
    alice = kit.account("alice")
    here, there = kit.sessions.open(alice.id), kit.sessions.open(alice.id)
    kit.accounts.change_password(alice.id, PASSWORD, NEW_PASSWORD, keep_session=here.id)
    assert kit.sessions.find(here.token) is not None
    assert kit.sessions.find(there.token) is None
    refusal(kit, "alice", PASSWORD)
    kit.accounts.authenticate("alice", NEW_PASSWORD)
    assert kit.actions()[-2:] == ["account.password_changed", "session.ended"]


def test_changing_the_password_needs_the_current_one(kit: AccessKit) -> None:
    alice = kit.account("alice")
    with pytest.raises(LoginRefusedError):
        kit.accounts.change_password(alice.id, "not the password", NEW_PASSWORD)
    with pytest.raises(PasswordRefusedError):
        kit.accounts.change_password(alice.id, PASSWORD, "short")
    with pytest.raises(UnknownAccountError):
        kit.accounts.change_password("nobody", PASSWORD, NEW_PASSWORD)
    kit.accounts.authenticate("alice", PASSWORD)


def test_password_changed_during_a_login_makes_the_old_one_useless(kit: AccessKit) -> None:
    alice = kit.account("alice")

    class Slow(Passwords):
        def verify(self, stored: str | None, password: str) -> Verdict:
            kit.accounts.set_password(alice.id, NEW_PASSWORD, actor=CLI)
            return super().verify(stored, password)

    with pytest.raises(LoginRefusedError):
        with_passwords(kit, Slow(PasswordProfile.FAST)).authenticate("alice", PASSWORD)


def test_password_set_by_an_operator_ends_sessions_and_unlocks(kit: AccessKit) -> None:
    alice = kit.account("alice")
    opened = kit.sessions.open(alice.id)
    for _ in range(throttle.FREE_FAILURES):
        refusal(kit, "alice", "not the password")
    kit.accounts.set_password(alice.id, NEW_PASSWORD, actor=CLI, reason="lost it")
    assert kit.sessions.find(opened.token) is None
    kit.accounts.authenticate("alice", NEW_PASSWORD)


def test_roles_change_with_the_next_request(kit: AccessKit) -> None:
    alice = kit.account("alice")
    bob = kit.account("bobby", Role.AGENT)
    opened = kit.sessions.open(bob.id)
    kit.accounts.set_roles(bob.id, {Role.AUDITOR}, actor=alice.actor, reason="moved")
    principal = kit.sessions.find(opened.token)
    assert principal is not None
    assert principal.role == "auditor"
    record = kit.records()[-1]
    assert (record.action, record.actor) == ("account.roles_changed", f"account:{alice.id}")
    assert record.details == {"before": ["agent"], "after": ["auditor"]}
    with pytest.raises(InvalidAccountError):
        kit.accounts.set_roles(bob.id, (), actor=CLI)


def test_disabled_account_is_out_until_enabled(kit: AccessKit) -> None:
    kit.account("alice")
    bob = kit.account("bobby", Role.AGENT)
    opened = kit.sessions.open(bob.id)
    kit.accounts.disable(bob.id, actor=CLI)
    assert kit.sessions.find(opened.token) is None
    with pytest.raises(UnknownAccountError):
        kit.sessions.open(bob.id)
    kit.accounts.enable(bob.id, actor=CLI)
    assert kit.sessions.find(opened.token) is None
    assert kit.accounts.authenticate("bobby", PASSWORD).state is AccountState.ACTIVE
    assert kit.actions()[-3:] == ["account.disabled", "session.ended", "account.enabled"]


def test_last_officer_and_last_administrator_stay(kit: AccessKit) -> None:
    alice = kit.account("alice", Role.OFFICER, Role.ADMIN)
    bob = kit.account("bobby", Role.OFFICER)
    kit.accounts.disable(bob.id, actor=CLI)
    with pytest.raises(LastHolderError, match="officer"):
        kit.accounts.disable(alice.id, actor=CLI)
    with pytest.raises(LastHolderError, match="officer"):
        kit.accounts.set_roles(alice.id, {Role.ADMIN}, actor=CLI)
    kit.accounts.enable(bob.id, actor=CLI)
    with pytest.raises(LastHolderError, match="admin"):
        kit.accounts.set_roles(alice.id, {Role.OFFICER}, actor=CLI)
    kit.accounts.set_roles(alice.id, {Role.ADMIN}, actor=CLI)


def test_two_officers_who_remove_each_other_do_not_both_succeed(kit: AccessKit) -> None:
    kit.account("carol", Role.ADMIN)
    alice, bob = kit.account("alice", Role.OFFICER), kit.account("bobby", Role.OFFICER)
    refused: list[AccessError] = []
    ready = threading.Barrier(2)

    def remove(account_id: str) -> None:
        ready.wait()
        try:
            kit.accounts.disable(account_id, actor=CLI)
        except LastHolderError as error:
            refused.append(error)

    threads = [threading.Thread(target=remove, args=(one.id,)) for one in (alice, bob)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1


def test_accounts_are_listed_without_secrets(kit: AccessKit) -> None:
    kit.account("alice")
    kit.clock.advance(timedelta(seconds=1))
    kit.account("bobby", Role.AGENT)
    with kit.database.read() as connection:
        listed = kit.accounts.all(connection)
        assert kit.accounts.find(connection, "BOBBY") == listed[1]
        assert kit.accounts.find(connection, "nobody") is None
    assert [account.login for account in listed] == ["alice", "bobby"]
    assert "alice" not in repr(listed)
    with kit.database.read() as connection, pytest.raises(UnknownAccountError):
        kit.accounts.get(connection, "nobody")


def test_operator_log_holds_no_login_name_and_no_password(kit: AccessKit) -> None:
    alice = kit.account("alice@example.com")
    refusal(kit, "alice@example.com", "guessed-it-wrongly")
    opened = kit.sessions.open(alice.id)
    kit.accounts.change_password(alice.id, PASSWORD, NEW_PASSWORD)
    with kit.database.read() as connection:
        leaves = b"".join(entry.leaf for entry in kit.trail.log.entries(connection, 0, 100))
    for secret in ("alice@", "Alice", PASSWORD, NEW_PASSWORD, "guessed", opened.token):
        assert secret.encode() not in leaves
