import os
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest
from sqlalchemy import delete, select, update

from consent import bulk
from consent.subjects import SubjectRef, new_subject_ref
from governance.errors import DecryptionError, KeyringError, RootKeyError
from governance.keys.keyring import Keyring
from governance.keys.models import EpochState, data_key, index_key, key_epoch
from governance.keys.providers import LocalKeyring
from governance.keys.signer import Ed25519Signer, open_signer
from tests.fakes.keys import KeyKit

ALICE = new_subject_ref()
BOB = new_subject_ref()


@pytest.fixture
def kit(database_url: str, tmp_path: Path) -> Iterator[KeyKit]:
    kit = KeyKit(database_url, tmp_path / "keys")
    yield kit
    kit.close()


@pytest.fixture
def other(kit: KeyKit) -> Iterator[KeyKit]:
    other = KeyKit(kit.url, kit.folder)
    yield other
    other.close()


def seal(kit: KeyKit, subject: SubjectRef, event: str = "event", plain: bytes = b"ip") -> bytes:
    with kit.database.begin() as session:
        return kit.cipher.seal(session, [(subject, event, plain)], kit.clock())[0]


def opened(kit: KeyKit, subject: SubjectRef, sealed: bytes, event: str = "event") -> bytes | None:
    with kit.database.read() as connection:
        return kit.cipher.open(connection, [(subject, event, sealed)])[0]


def epochs(kit: KeyKit) -> list[str]:
    with kit.database.read() as connection:
        return sorted(connection.scalars(select(key_epoch.c.epoch)))


# --- evidence ----------------------------------------------------------------------------------


def test_evidence_opens_in_every_process_and_for_its_own_event_alone(
    kit: KeyKit, other: KeyKit
) -> None:
    sealed = seal(kit, ALICE)
    assert opened(kit, ALICE, sealed) == opened(other, ALICE, sealed) == b"ip"
    for subject, moment in ((BOB, "event"), (ALICE, "other")):
        with pytest.raises(DecryptionError):
            opened(kit, subject, sealed, moment)


def test_a_person_has_one_key_however_often_something_is_sealed(kit: KeyKit) -> None:
    with kit.database.begin() as session:
        items = [(ref, str(number), b"x") for number in range(5) for ref in (ALICE, BOB)]
        sealed = kit.cipher.seal(session, items, kit.clock())
    sealed.append(seal(kit, ALICE))
    assert kit.count("data_key") == 2
    assert len({envelope[3:19] for envelope in sealed}) == 2


def test_evidence_of_a_destroyed_key_is_gone_and_the_rest_stays(kit: KeyKit) -> None:
    hers, his = seal(kit, ALICE), seal(kit, BOB)
    with kit.database.begin() as session:
        session.execute(delete(data_key).where(data_key.c.subject_ref == ALICE))
    kit.keyring.evict([ALICE])
    with kit.database.read() as connection:
        items = [(ALICE, "event", hers), (BOB, "event", his)]
        assert kit.cipher.open(connection, items) == [None, b"ip"]


def test_what_is_not_evidence_is_refused(kit: KeyKit) -> None:
    with pytest.raises(DecryptionError):
        opened(kit, ALICE, b"alice@example.org, 192.0.2.1, and so on and on and on")


# --- transactions and concurrency --------------------------------------------------------------


class RolledBackError(Exception):
    pass


def test_a_key_of_a_unit_of_work_that_rolls_back_is_never_used_again(kit: KeyKit) -> None:
    sealed = b""

    def seal_and_fail() -> None:
        nonlocal sealed
        with kit.database.begin() as session:
            (sealed,) = kit.cipher.seal(session, [(ALICE, "event", b"x")], kit.clock())
            assert kit.cipher.open(session, [(ALICE, "event", sealed)]) == [b"x"]
            raise RolledBackError

    with pytest.raises(RolledBackError):
        seal_and_fail()
    assert kit.count("data_key") == 0
    again = seal(kit, ALICE)
    assert again[3:19] != sealed[3:19]
    assert opened(kit, ALICE, again) == b"ip"


def test_a_key_of_a_savepoint_that_rolls_back_is_never_used_again(
    kit: KeyKit, other: KeyKit
) -> None:
    with kit.database.begin() as session:
        savepoint = session.begin_nested()
        kit.cipher.seal(session, [(ALICE, "event", b"x")], kit.clock())
        savepoint.rollback()
        (sealed,) = kit.cipher.seal(session, [(ALICE, "event", b"kept")], kit.clock())
    assert opened(other, ALICE, sealed) == b"kept"


def test_writers_who_meet_end_with_one_key(kit: KeyKit, other: KeyKit) -> None:
    people = [new_subject_ref() for _ in range(20)]
    start = threading.Barrier(8)
    sealed: list[tuple[SubjectRef, bytes]] = []

    def write(who: KeyKit) -> None:
        start.wait()
        for number in range(0, 20, 5):
            group = people[number : number + 5]
            with who.database.begin() as session:
                items = [(ref, "event", b"ip") for ref in group]
                sealed.extend(zip(group, who.cipher.seal(session, items, who.clock()), strict=True))

    threads = [threading.Thread(target=write, args=(who,)) for who in (kit, other) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kit.count("data_key") == 20
    assert len(sealed) == 160
    assert {opened(other, ref, envelope) for ref, envelope in sealed} == {b"ip"}


# --- the cache ---------------------------------------------------------------------------------


@contextmanager
def asking(note: Callable[[], None]) -> Iterator[None]:
    """Calls `note` before each statement that goes to the driver directly, as all of these do."""
    run = bulk.run

    def noted(*arguments: Any) -> list[tuple[Any, ...]]:
        note()
        return run(*arguments)

    with patch("consent.bulk.run", noted):
        yield


@pytest.fixture
def statements() -> Iterator[Mock]:
    """Counts what a process asks of its database."""
    with asking(counter := Mock()):
        yield counter


def test_a_key_is_read_once_a_minute(kit: KeyKit, statements: Mock) -> None:
    sealed = seal(kit, ALICE)
    kit.keyring.evict([ALICE])
    statements.reset_mock()
    for _ in range(3):
        opened(kit, ALICE, sealed)
    assert statements.call_count == 1
    kit.monotonic.seconds += 61
    opened(kit, ALICE, sealed)
    assert statements.call_count == 2


def test_another_process_notices_a_destroyed_key_within_a_minute(
    kit: KeyKit, other: KeyKit
) -> None:
    sealed = seal(kit, ALICE)
    assert opened(other, ALICE, sealed) == b"ip"
    with kit.database.begin() as session:
        session.execute(delete(data_key))
    other.monotonic.seconds += 61
    assert opened(other, ALICE, sealed) is None


def test_the_cache_is_bounded_and_forgets_the_oldest(
    database_url: str, tmp_path: Path, statements: Mock
) -> None:
    kit = KeyKit(database_url, tmp_path / "keys", cache_size=10)
    people = [new_subject_ref() for _ in range(25)]
    with kit.database.begin() as session:
        items = [(ref, "event", b"ip") for ref in people]
        envelopes = kit.cipher.seal(session, items, kit.clock())
    statements.reset_mock()
    for ref, sealed in zip(people, envelopes, strict=True):
        opened(kit, ref, sealed)
    assert statements.call_count == 25
    for ref, sealed in zip(people[-10:], envelopes[-10:], strict=True):
        opened(kit, ref, sealed)
    assert statements.call_count == 25
    assert len(kit.keyring._cache._keys) == 10
    kit.close()


def test_threads_that_miss_the_same_key_read_it_once(kit: KeyKit) -> None:
    sealed = seal(kit, ALICE)
    reading, go_on = threading.Event(), threading.Event()
    seen: list[bytes | None] = []

    asked = Mock()

    def hold() -> None:
        asked()
        reading.set()
        go_on.wait()

    def read() -> None:
        seen.append(opened(kit, ALICE, sealed))

    with asking(hold):
        threads = [threading.Thread(target=read) for _ in range(7)]
        threads[0].start()
        reading.wait()
        (flight,) = kit.keyring._cache._flights.values()
        for thread in threads[1:]:
            thread.start()
        while waiting_for(flight) < 6:
            os.sched_yield()
        go_on.set()
        for thread in threads:
            thread.join()
    assert seen == [b"ip"] * 7
    assert asked.call_count == 1


def waiting_for(flight: threading.Event) -> int:
    return len(flight._cond._waiters)  # type: ignore[attr-defined] # the library shows it to nobody


def test_a_read_that_began_before_an_eviction_is_not_kept(kit: KeyKit) -> None:
    sealed = seal(kit, ALICE)

    with asking(lambda: kit.keyring.evict([ALICE])):
        assert opened(kit, ALICE, sealed) == b"ip"
    assert kit.keyring._cache._keys == {}


def test_a_forked_child_starts_without_keys(kit: KeyKit) -> None:
    sealed = seal(kit, ALICE)
    assert opened(kit, ALICE, sealed) == b"ip"
    with kit.keyring._cache._lock, kit.keyring._opening:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                empty = not kit.keyring._cache._keys
                status = 0 if empty and opened(kit, ALICE, sealed) == b"ip" else 2
            finally:
                os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert opened(kit, ALICE, sealed) == b"ip"


# --- epochs ------------------------------------------------------------------------------------


def test_a_month_has_its_own_key_and_the_next_is_made_a_week_ahead(kit: KeyKit) -> None:
    assert epochs(kit) == ["2026-03"]
    old = seal(kit, ALICE)
    kit.clock.set(datetime(2026, 3, 26, tzinfo=UTC))
    kit.keyring.prepare(kit.database, kit.clock())
    assert epochs(kit) == ["2026-03", "2026-04"]
    seal(kit, BOB)
    kit.clock.set(datetime(2026, 4, 1, tzinfo=UTC))
    carol = new_subject_ref()
    seal(kit, carol)
    with kit.database.read() as connection:
        rows = connection.execute(select(data_key.c.subject_ref, data_key.c.epoch)).all()
    assert {row.subject_ref: row.epoch for row in rows} == {
        ALICE: "2026-03",
        BOB: "2026-03",
        carol: "2026-04",
    }
    assert opened(kit, ALICE, old) == b"ip"


def test_where_nobody_prepared_the_new_month_the_old_one_serves(kit: KeyKit) -> None:
    kit.clock.advance(timedelta(days=80))
    sealed = seal(kit, ALICE)
    assert epochs(kit) == ["2026-03"]
    assert opened(kit, ALICE, sealed) == b"ip"


def test_an_epoch_that_another_process_began_is_found(kit: KeyKit, other: KeyKit) -> None:
    kit.clock.set(datetime(2026, 4, 2, tzinfo=UTC))
    kit.keyring.prepare(kit.database, kit.clock())
    sealed = seal(kit, ALICE)
    assert opened(other, ALICE, sealed) == b"ip"
    other.clock.set(kit.clock())
    seal(other, BOB)
    with kit.database.read() as connection:
        assert set(connection.scalars(select(data_key.c.epoch))) == {"2026-04"}


def test_keys_of_a_destroyed_epoch_are_gone_and_no_new_ones_are_made_in_it(
    kit: KeyKit,
) -> None:
    sealed = seal(kit, ALICE)
    kit.keyring.prepare(kit.database, datetime(2026, 4, 2, tzinfo=UTC))
    with kit.database.begin() as session:
        session.execute(
            update(key_epoch)
            .where(key_epoch.c.epoch == "2026-03")
            .values(state=EpochState.DESTROYED, wrapped=b"")
        )
    (kit.folder / "2026-03.key").unlink()
    later = KeyKit(kit.url, kit.folder)
    assert opened(later, ALICE, sealed) is None
    seal(later, BOB)
    assert later.count("data_key") == 2
    later.close()


def test_the_provider_is_asked_at_start_and_not_for_values(kit: KeyKit) -> None:
    asked = kit.provider.unwrapped
    assert asked == 2
    for ref in (ALICE, BOB):
        kit.keyring.evict([ref])
        opened(kit, ref, seal(kit, ref))
    kit.monotonic.seconds += 3600
    seal(kit, ALICE)
    assert kit.provider.unwrapped == asked


def test_processes_that_start_at_once_agree_on_all_keys(database_url: str, tmp_path: Path) -> None:
    first = KeyKit(database_url, tmp_path / "keys")
    with first.database.begin() as session:
        session.execute(delete(key_epoch))
        session.execute(delete(index_key))
    start = threading.Barrier(6)
    roots: list[bytes] = []
    signers: list[bytes] = []

    def begin() -> None:
        keyring = Keyring(LocalKeyring(tmp_path / "keys"))
        start.wait()
        keyring.prepare(first.database, first.clock())
        roots.extend(root.key for root in keyring.index_roots)
        provider = LocalKeyring(tmp_path / "keys")
        signers.append(open_signer(first.database, provider, "x/log", first.clock()).public_key)

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(roots) == len(signers) == 6
    assert len(set(roots)) == len(set(signers)) == 1
    assert first.count("key_epoch") == first.count("index_key") == 1
    first.close()


def test_a_database_with_another_key_folder_does_not_start_and_makes_nothing(
    kit: KeyKit, tmp_path: Path
) -> None:
    seal(kit, ALICE)
    for folder in (tmp_path / "lost", tmp_path / "foreign"):
        provider = LocalKeyring(folder)
        if folder.name == "foreign":
            provider.root("index")
        with pytest.raises(RootKeyError, match="restore the key folder"):
            Keyring(provider).prepare(kit.database, datetime(2026, 8, 1, tzinfo=UTC))
    assert epochs(kit) == ["2026-03"]


def test_a_database_of_another_provider_does_not_start(kit: KeyKit) -> None:
    with kit.database.begin() as session:
        session.execute(update(key_epoch).values(provider="aws-kms"))
    with pytest.raises(KeyringError, match="aws-kms, and local is configured"):
        Keyring(LocalKeyring(kit.folder)).prepare(kit.database, kit.clock())


def test_a_damaged_or_swapped_key_row_is_noticed(kit: KeyKit) -> None:
    hers = seal(kit, ALICE)
    seal(kit, BOB)
    kit.keyring.evict([ALICE, BOB])
    with kit.database.begin() as session:
        his = session.execute(
            select(data_key.c.wrapped).where(data_key.c.subject_ref == BOB)
        ).scalar_one()
        session.execute(update(data_key).where(data_key.c.subject_ref == ALICE).values(wrapped=his))
    with pytest.raises(KeyringError, match="damaged"):
        opened(kit, ALICE, hers)


def test_an_unprepared_keyring_says_so(kit: KeyKit) -> None:
    with pytest.raises(KeyringError, match="not prepared"):
        Keyring(kit.provider).index_roots  # noqa: B018 - the property raises
    with kit.database.begin() as session:
        session.execute(delete(key_epoch))
    with (
        pytest.raises(KeyringError, match="prepare the keyring"),
        kit.database.begin() as session,
    ):
        Keyring(kit.provider).active(session, [ALICE], kit.clock())


def test_keyrings_show_nothing_and_cannot_be_pickled(kit: KeyKit) -> None:
    seal(kit, ALICE)
    for secret in (kit.keyring, kit.keyring._cache):
        assert "redacted" in repr(secret)
        with pytest.raises(TypeError):
            pickle.dumps(secret)


def test_no_key_is_in_the_database_in_clear(kit: KeyKit) -> None:
    seal(kit, ALICE)
    with kit.database.begin() as session:
        key = kit.keyring.active(session, [ALICE], kit.clock())[ALICE]
        rows = [
            row
            for table in (key_epoch, data_key, index_key)
            for row in session.execute(select(table)).all()
        ]
    for root in kit.keyring.index_roots:
        assert root.key not in {value for row in rows for value in row}
    assert all(len(row.wrapped) == 48 for row in rows)
    assert key.kid in {value for row in rows for value in row}


# --- the signer --------------------------------------------------------------------------------


def test_a_signer_is_made_once_and_opens_again(kit: KeyKit, other: KeyKit) -> None:
    first = open_signer(kit.database, kit.provider, "example.org/log", kit.clock())
    again = open_signer(other.database, other.provider, "example.org/log", kit.clock())
    apart = open_signer(kit.database, kit.provider, "example.org/audit", kit.clock())
    assert first.name == "example.org/log"
    assert first.sign(b"note") == again.sign(b"note") != apart.sign(b"note")
    assert len(first.sign(b"note")) == 64
    assert len(first.public_key) == 32


def test_a_signing_key_under_another_name_does_not_open(kit: KeyKit) -> None:
    open_signer(kit.database, kit.provider, "a", kit.clock())
    with kit.database.begin() as session:
        session.connection().exec_driver_sql("UPDATE signing_key SET name = 'b'")
    with pytest.raises(RootKeyError):
        open_signer(kit.database, kit.provider, "b", kit.clock())


def test_a_replaced_public_key_is_noticed(kit: KeyKit) -> None:
    open_signer(kit.database, kit.provider, "a", kit.clock())
    with kit.database.begin() as session:
        session.connection().exec_driver_sql("UPDATE signing_key SET public_key = wrapped")
    with pytest.raises(KeyringError, match="public key"):
        open_signer(kit.database, kit.provider, "a", kit.clock())


def test_a_signer_shows_nothing_and_cannot_be_pickled(kit: KeyKit) -> None:
    signer = open_signer(kit.database, kit.provider, "a", kit.clock())
    assert isinstance(signer, Ed25519Signer)
    assert repr(signer) == "<Ed25519Signer 'a', redacted>"
    with pytest.raises(TypeError):
        pickle.dumps(signer)
