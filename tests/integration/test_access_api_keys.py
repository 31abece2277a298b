import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.schema import DropTable
from structlog.testing import capture_logs

from governance.access.api_keys import REMEMBERED, ApiKeys
from governance.access.errors import (
    InvalidApiKeyError,
    NotAuthenticatedError,
    UnknownApiKeyError,
)
from governance.access.models import api_key as table
from governance.access.principal import Principal, PrincipalKind
from governance.audit.trail import CLI
from governance.database import Database
from policies.permissions import Permission
from tests.fakes.access import AccessKit, AtOnce
from tests.fakes.clock import FrozenClock

CHECK = Permission.CONSENT_CHECK


@pytest.fixture
def kit(database_url: str, clock: FrozenClock) -> Iterator[AccessKit]:
    database = Database.open(database_url)
    kit = AccessKit(database, clock)
    kit.make_tables()
    yield kit
    database.dispose()


@pytest.fixture
def other_process(kit: AccessKit, database_url: str) -> Iterator[AccessKit]:
    database = Database.open(database_url)
    yield AccessKit(database, kit.clock)
    database.dispose()


def issue(kit: AccessKit, *scopes: Permission, days: int | None = None) -> tuple[str, str]:
    """The new key's id and the header it is sent in."""
    expires = None if days is None else kit.clock() + timedelta(days=days)
    issued = kit.api_keys.create(
        name="shop", scopes=scopes or (CHECK,), actor=CLI, expires_at=expires
    )
    return issued.id, f"Bearer {issued.key}"


def refused(keys: ApiKeys, header: str | None) -> bool:
    try:
        keys.authenticate(header)
    except NotAuthenticatedError as error:
        return header is None or len(header) < 8 or header[7:] not in str(error)
    return False


def last_used(kit: AccessKit, key_id: str) -> object:
    with kit.database.read() as connection:
        return connection.scalar(select(table.c.last_used_at).where(table.c.id == key_id))


def test_key_opens_what_its_scopes_say(kit: AccessKit) -> None:
    key_id, header = issue(kit, CHECK, Permission.CONSENT_WRITE)
    assert re.fullmatch(r"Bearer tutela_[a-z2-7]{8}_[A-Za-z0-9_-]{43}", header)
    assert kit.api_keys.authenticate(header) == Principal(
        PrincipalKind.API_KEY,
        key_id,
        frozenset({CHECK, Permission.CONSENT_WRITE}),
        "shop",
        "api_key",
    )
    assert kit.api_keys.authenticate(header.replace("Bearer", "bearer")).id == key_id


def test_secret_is_nowhere_but_in_the_answer(kit: AccessKit) -> None:
    issued = kit.api_keys.create(name="shop", scopes=(CHECK,), actor=CLI)
    secret = issued.key[-43:]
    assert secret not in repr(issued)
    with kit.database.read() as connection:
        (row,) = connection.execute(select(table)).all()
        leaves = [entry.leaf for entry in kit.trail.log.entries(connection, 0, 10)]
    assert secret not in repr(row)
    assert secret.encode() not in b"".join(leaves)


@pytest.mark.parametrize(
    "change",
    [
        lambda key: None,
        lambda key: "",
        lambda key: "Bearer",
        lambda key: key,
        lambda key: f"Basic {key}",
        lambda key: f"Bearer {key[:-1]}",
        lambda key: f"Bearer {key}x",
        lambda key: f"Bearer {key[:-1]}{'A' if key[-1] != 'A' else 'B'}",
        lambda key: f"Bearer tutela_{'a' * 8}_{key[-43:]}",
        lambda key: f"Bearer tutela_{'a' * 7}\0_{key[-43:]}",
        lambda key: f"Bearer tutela_{'%' * 8}_{key[-43:]}",
        lambda key: f"Bearer {key[:20]}é{key[21:]}",
        lambda key: f"Bearer {key[:20]}\ud800{key[21:]}",
        lambda key: "Bearer " + "x" * 1_000_000,
    ],
)
def test_anything_else_is_refused(kit: AccessKit, change: object) -> None:
    _, header = issue(kit)
    kit.api_keys.authenticate(header)
    assert callable(change)
    assert refused(kit.api_keys, change(header.removeprefix("Bearer ")))


def test_key_is_looked_up_once_a_second(kit: AccessKit) -> None:
    _, header = issue(kit)
    principal = kit.api_keys.authenticate(header)
    with kit.database.begin() as session:
        session.execute(DropTable(table))
    kit.monotonic.seconds += REMEMBERED - 0.001
    assert kit.api_keys.authenticate(header) is principal


def test_revoked_key_is_refused_at_once_here_and_within_a_second_elsewhere(
    kit: AccessKit, other_process: AccessKit
) -> None:
    key_id, header = issue(kit)
    for process in (kit, other_process):
        process.api_keys.authenticate(header)
    kit.api_keys.revoke(key_id, actor=CLI, reason="leaked")
    assert refused(kit.api_keys, header)
    other_process.monotonic.seconds += REMEMBERED
    assert refused(other_process.api_keys, header)
    with pytest.raises(UnknownApiKeyError):
        kit.api_keys.revoke(key_id, actor=CLI)
    record = kit.records()[-1]
    assert (record.action, record.object, record.reason) == (
        "api_key.revoked",
        f"api_key:{key_id}",
        "leaked",
    )


def test_key_revoked_while_it_is_looked_up_is_not_remembered(kit: AccessKit) -> None:
    key_id, header = issue(kit)

    class RevokedMeanwhile(ApiKeys):
        def _read(self, header: str) -> object:  # type: ignore[override]
            row = super()._read(header)
            self.revoke(key_id, actor=CLI)
            return row

    keys = RevokedMeanwhile(kit.database, kit.trail, kit.clock, AtOnce(), kit.monotonic)
    keys.authenticate(header)
    assert not keys._remembered


def test_key_expires_at_its_instant_even_when_remembered(
    kit: AccessKit, clock: FrozenClock
) -> None:
    _, header = issue(kit, days=1)
    clock.advance(timedelta(days=1) - timedelta(milliseconds=300))
    kit.api_keys.authenticate(header)
    kit.monotonic.seconds += 0.299
    kit.api_keys.authenticate(header)
    kit.monotonic.seconds += 0.001
    clock.advance(timedelta(milliseconds=300))
    assert refused(kit.api_keys, header)


def test_rotation_lets_both_keys_work_for_the_overlap(kit: AccessKit, clock: FrozenClock) -> None:
    old_id, old = issue(kit, CHECK, Permission.CONSENT_WRITE)
    kit.api_keys.authenticate(old)
    issued = kit.api_keys.rotate(old_id, overlap=timedelta(hours=1), actor=CLI)
    new = f"Bearer {issued.key}"
    clock.advance(timedelta(minutes=59))
    assert kit.api_keys.authenticate(new).permissions == kit.api_keys.authenticate(old).permissions
    clock.advance(timedelta(minutes=1))
    kit.monotonic.seconds += REMEMBERED
    assert refused(kit.api_keys, old)
    kit.api_keys.authenticate(new)
    assert kit.actions()[-2:] == ["api_key.created", "api_key.rotated"]
    with pytest.raises(UnknownApiKeyError):
        kit.api_keys.rotate(old_id, overlap=timedelta(hours=1), actor=CLI)


def test_rotation_does_not_lengthen_a_life(kit: AccessKit, clock: FrozenClock) -> None:
    old_id, old = issue(kit, days=1)
    kit.api_keys.rotate(old_id, overlap=timedelta(days=7), actor=CLI)
    clock.advance(timedelta(days=1))
    assert refused(kit.api_keys, old)


def test_rotation_without_overlap_ends_the_old_key_at_once(kit: AccessKit) -> None:
    old_id, old = issue(kit)
    kit.api_keys.authenticate(old)
    kit.api_keys.rotate(old_id, overlap=timedelta(0), actor=CLI)
    assert refused(kit.api_keys, old)
    with pytest.raises(InvalidApiKeyError):
        kit.api_keys.rotate(old_id, overlap=timedelta(seconds=-1), actor=CLI)


def test_use_is_noted_at_most_once_a_minute(kit: AccessKit, clock: FrozenClock) -> None:
    key_id, header = issue(kit)
    first = clock()
    kit.api_keys.authenticate(header)
    assert last_used(kit, key_id) == first
    for _ in range(2):
        clock.advance(timedelta(seconds=29))
        kit.monotonic.seconds += 29
        kit.api_keys.authenticate(header)
    assert last_used(kit, key_id) == first
    clock.advance(timedelta(seconds=2))
    kit.monotonic.seconds += 2
    kit.api_keys.authenticate(header)
    assert last_used(kit, key_id) == clock()
    with kit.database.read() as connection:
        assert kit.api_keys.all(connection)[0].last_used_at == clock()


def test_use_that_cannot_be_noted_refuses_nobody_and_is_logged(kit: AccessKit) -> None:
    _, header = issue(kit)

    class DropsTheTable(AtOnce):
        def submit(self, fn: object, /, *args: object, **kwargs: object) -> object:  # type: ignore[override]
            with kit.database.begin() as session:
                session.execute(DropTable(table))
            return super().submit(fn, *args, **kwargs)

    keys = ApiKeys(kit.database, kit.trail, kit.clock, DropsTheTable(), kit.monotonic)
    with capture_logs() as logged:
        keys.authenticate(header)
    assert [line["event"] for line in logged] == ["api key use not noted"]
    assert header[-43:] not in str(logged)


@pytest.mark.parametrize(
    "fault",
    [
        {"name": " "},
        {"name": "x" * 81},
        {"scopes": ()},
        {"scopes": (Permission.PEOPLE_UNMASK,)},
        {"scopes": (CHECK, Permission.ACCOUNTS_MANAGE)},
    ],
)
def test_malformed_keys_are_not_made(kit: AccessKit, fault: dict[str, object]) -> None:
    with pytest.raises(InvalidApiKeyError):
        kit.api_keys.create(**{"name": "shop", "scopes": (CHECK,), "actor": CLI, **fault})  # type: ignore[arg-type]
    with pytest.raises(InvalidApiKeyError):
        kit.api_keys.create(name="shop", scopes=(CHECK,), actor=CLI, expires_at=kit.clock())
    assert kit.actions() == []


def test_list_shows_what_is_in_force(kit: AccessKit, clock: FrozenClock) -> None:
    revoked, _ = issue(kit)
    clock.advance(timedelta(seconds=1))
    issue(kit, days=1)
    kit.api_keys.revoke(revoked, actor=CLI)
    clock.advance(timedelta(seconds=1))
    issue(kit)
    with kit.database.read() as connection:
        listed = kit.api_keys.all(connection)
    assert [key.in_force(clock()) for key in listed] == [True, True, False]
    assert [key.in_force(clock() + timedelta(days=1)) for key in listed] == [True, False, False]
    assert {key.created_by for key in listed} == {"cli:host"}


def test_memory_of_good_keys_is_bounded(kit: AccessKit) -> None:
    _, header = issue(kit)
    for spaces in range(1, 1100):
        kit.api_keys.authenticate(header.replace(" ", " " * spaces))
    assert len(kit.api_keys._remembered) <= 1024
