"""The keys of people: made, opened, kept for a minute.

Guarantees:
- A person has at most one active key, also when two writers make it at once.
- A key that a transaction made is used by that transaction alone until it has committed: what is
  rolled back leaves nothing sealed under a key that does not exist.
- The provider is asked in `prepare` and when another process began a new epoch; never per value.
- Opened keys leave no trace in reprs and cannot be pickled; a forked child starts with none.

Non-goals: rotation and erasure, which change the tables and then call `evict`.
"""

import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn, TypeAlias

from sqlalchemy import Row, select
from sqlalchemy.orm import Session, SessionTransaction

from consent import bulk
from consent.bulk import array_literal, connection_of, select_by_keys
from consent.subjects import Reader, SubjectRef
from governance.database import Database, insert_if_absent
from governance.errors import KeyringError
from governance.keys.blind_index import IndexRoot
from governance.keys.cache import KeyCache
from governance.keys.envelope import PersonKey
from governance.keys.models import (
    DataKeyState,
    EpochState,
    IndexKeyState,
    data_key,
    index_key,
    key_epoch,
)
from governance.keys.providers import KeyProvider
from governance.keys.wrapping import KEY_BYTES, EpochKey

_AHEAD: Final = timedelta(days=7)
"""The next month's epoch is made this long before, so that no writer has to."""

_CHOICE_SECONDS: Final = 60.0
"""How long a process goes on with the epoch it found."""


KeyRow: TypeAlias = tuple[bytes, SubjectRef, int, str, bytes]
"""A stored key, still wrapped, in the order of `KEY_COLUMNS`."""

KEY_COLUMNS: Final = "k.kid, k.subject_ref, k.generation, k.epoch, k.wrapped"
JOIN_ACTIVE_KEY: Final = (
    "LEFT JOIN data_key AS k ON k.subject_ref = {subject_ref} AND k.state = 'active'"
)
"""Reads a person's active key along with something else: see `Keyring.foresee`."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that is not stored yet."""

    key: PersonKey
    epoch: str
    wrapped: bytes = field(repr=False)


@dataclass(slots=True)
class _Unit:
    """What one transaction made and read. Held by its session and gone with it."""

    transaction: weakref.ref[SessionTransaction]
    keys: dict[SubjectRef, PersonKey] = field(default_factory=dict)
    made: set[bytes] = field(default_factory=set)
    read: dict[SubjectRef, KeyRow] = field(default_factory=dict)


class Keyring:
    """Opens what `governance.keys.models` stores, with a provider. Shared by threads."""

    def __init__(
        self,
        provider: KeyProvider,
        *,
        cache_seconds: float = 60.0,
        cache_size: int = 10_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._monotonic = monotonic
        self._cache = KeyCache(cache_seconds, cache_size, monotonic)
        self._epochs: dict[str, EpochKey] = {}
        self._opening = threading.Lock()
        self._choice: tuple[str, float, EpochKey] | None = None
        self._index_roots: tuple[IndexRoot, ...] = ()
        _keyrings.add(self)

    def __repr__(self) -> str:
        return f"<Keyring of {self._provider.name}, redacted>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a keyring must not be pickled")

    # --- start -------------------------------------------------------------------------------

    def prepare(self, database: Database, now: datetime) -> None:
        """Open all epochs and index keys, and make those that are due.

        Call it at start and once a day; several processes may do so at once. It proves that the
        provider's root keys belong to this database before anything new is made.

        Raises:
            RootKeyError: a root key is missing, damaged, or not this database's.
            KeyringError: the keys were wrapped by another provider.
        """
        self._index_roots = self._open_index_roots(database)
        with database.read() as connection:
            live = select(key_epoch.c.epoch).where(key_epoch.c.state != EpochState.DESTROYED)
            for epoch in connection.scalars(live).all():
                self._epoch(connection, epoch)
        if not self._index_roots:
            self._make_index_root(database, now)
            self._index_roots = self._open_index_roots(database)
        for epoch in sorted({_month(now), _month(now + _AHEAD)} - self._epochs.keys()):
            self._make_epoch(database, epoch, now)
        self._choice = None

    @property
    def index_roots(self) -> tuple[IndexRoot, ...]:
        """The roots of blind indexes that may be searched, the newest first.

        Raises:
            KeyringError: `prepare` was not called.
        """
        if not self._index_roots:
            raise KeyringError("the keyring was not prepared")
        return self._index_roots

    # --- people's keys -------------------------------------------------------------------------

    def active(
        self, session: Session, subjects: Collection[SubjectRef], now: datetime
    ) -> dict[SubjectRef, PersonKey]:
        """The keys to seal with, made for those who have none."""
        unit = _unit(session)
        keys = {subject: unit.keys[subject] for subject in subjects if subject in unit.keys}
        wanted = dict.fromkeys(subject for subject in subjects if subject not in keys)
        if wanted:

            def load(names: list[SubjectRef]) -> dict[SubjectRef, PersonKey]:
                rows = [unit.read[name] for name in names if name in unit.read]
                rest = [name for name in names if name not in unit.read]
                return self._by_subject(session, rest) | _by_subject(self._open(session, rows))

            keys |= self._cache.get(wanted, load, unit.made)
        missing = [subject for subject in wanted if subject not in keys]
        if missing:
            keys |= self.keep(session, self.make(session, missing, now), now)
        return keys

    def foresee(self, session: Session, rows: Iterable[KeyRow]) -> None:
        """Take rows of active keys that were read on the way, so that `active` need not ask."""
        _unit(session).read.update((row[1], row) for row in rows)

    def by_id(self, reader: Reader, kids: Collection[bytes]) -> dict[bytes, PersonKey]:
        """The keys to open with, active or retired. Those that were destroyed are left out."""
        private = _unit(reader).made if isinstance(reader, Session) else ()

        def load(names: list[bytes]) -> dict[bytes, PersonKey]:
            rows = select_by_keys(reader, _SELECT_KID, names)
            return {key.kid: key for key in self._open(reader, rows)}

        return self._cache.get(dict.fromkeys(kids), load, private)

    def passing(self, reader: Reader, kids: Sequence[bytes]) -> dict[bytes, PersonKey]:
        """The same for whoever passes by everybody: read for this one use, and not kept."""
        return {
            key.kid: key for key in self._open(reader, select_by_keys(reader, _SELECT_KID, kids))
        }

    def make(self, reader: Reader, subjects: Collection[SubjectRef], now: datetime) -> list[NewKey]:
        """First keys for people who have none, in the order of their refs. Not stored: `keep`."""
        epoch = self._current_epoch(reader, now)
        made = []
        for subject in sorted(subjects):
            key, wrapped = epoch.make(subject, generation=1)
            made.append(NewKey(key, epoch.epoch, wrapped))
        return made

    def keep(
        self, session: Session, new: Sequence[NewKey], now: datetime
    ) -> dict[SubjectRef, PersonKey]:
        """Store new keys. Gives everyone's active key: another writer's, where that was first."""
        if not new:
            return {}
        unit = _unit(session)
        stored = _insert(session, new, now)
        unit.made |= stored
        keys = {item.key.subject: item.key for item in new if item.key.kid in stored}
        if session.get_nested_transaction() is None:
            # Inside a savepoint they could be undone while the transaction goes on.
            unit.keys |= keys
        if len(stored) < len(new):
            beaten = [item.key.subject for item in new if item.key.kid not in stored]
            keys |= self._by_subject(session, beaten)
        return keys

    def evict(self, subjects: Collection[SubjectRef]) -> None:
        """Forget the opened keys of these people, after the tables were changed and committed."""
        self._cache.evict(frozenset(subjects))

    def _by_subject(
        self, reader: Reader, subjects: Sequence[SubjectRef]
    ) -> dict[SubjectRef, PersonKey]:
        return _by_subject(self._open(reader, select_by_keys(reader, _SELECT_SUBJECT, subjects)))

    def _open(self, reader: Reader, rows: Iterable[tuple[Any, ...] | KeyRow]) -> list[PersonKey]:
        keys = []
        for kid, subject, generation, name, wrapped in rows:
            epoch = self._epochs.get(name) or self._epoch(reader, name)
            if epoch is not None:
                keys.append(epoch.open(wrapped, subject, kid, generation))
        return keys

    # --- epochs and roots ----------------------------------------------------------------------

    def _current_epoch(self, reader: Reader, now: datetime) -> EpochKey:
        """The newest epoch that has begun.

        An epoch is never made here, inside somebody's transaction: a rollback would take the row
        and leave keys wrapped under it. Where `prepare` is late, last month's serves on.
        """
        month = _month(now)
        choice = self._choice
        if choice is not None and choice[0] == month and choice[1] > self._monotonic():
            return choice[2]
        active = select(key_epoch.c.epoch).where(key_epoch.c.state == EpochState.ACTIVE)
        names = sorted(connection_of(reader).scalars(active))
        begun = [name for name in names if name <= month] or names[:1]
        epoch = self._epoch(reader, begun[-1]) if begun else None
        if epoch is None:
            raise KeyringError("there is no epoch to make keys in; prepare the keyring first")
        self._choice = (month, self._monotonic() + _CHOICE_SECONDS, epoch)
        return epoch

    def _epoch(self, reader: Reader, epoch: str) -> EpochKey | None:
        """An epoch's key, or None if it was destroyed. Opened by one thread, once a process."""
        with self._opening:
            if epoch not in self._epochs:
                query = select(key_epoch).where(key_epoch.c.epoch == epoch)
                row = connection_of(reader).execute(query).one_or_none()
                if row is None:
                    raise KeyringError(f"the key of epoch {epoch} is missing; restore key_epoch")
                if row.state == EpochState.DESTROYED:
                    return None
                key = self._unwrap(row, f"epoch/{epoch}")
                self._epochs[epoch] = EpochKey(epoch, key)
            return self._epochs[epoch]

    def _make_epoch(self, database: Database, epoch: str, now: datetime) -> None:
        values = self._wrapped(label=epoch, context=f"epoch/{epoch}")
        with database.begin() as session:
            insert_if_absent(
                session,
                key_epoch,
                epoch=epoch,
                state=EpochState.ACTIVE,
                created_at=now,
                **values,
            )
        with database.read() as connection:
            self._epoch(connection, epoch)

    def _make_index_root(self, database: Database, now: datetime) -> None:
        values = self._wrapped(label="index", context="index/1")
        with database.begin() as session:
            insert_if_absent(
                session,
                index_key,
                version=1,
                state=IndexKeyState.READ_WRITE,
                created_at=now,
                **values,
            )

    def _open_index_roots(self, database: Database) -> tuple[IndexRoot, ...]:
        with database.read() as connection:
            query = select(index_key).where(index_key.c.state != IndexKeyState.DEAD)
            rows = connection.execute(query.order_by(index_key.c.version.desc())).all()
        return tuple(
            IndexRoot(
                version=row.version,
                key=self._unwrap(row, f"index/{row.version}"),
                writable=row.state == IndexKeyState.READ_WRITE,
            )
            for row in rows
        )

    def _wrapped(self, label: str, context: str) -> dict[str, object]:
        key_ref = self._provider.root(label)
        key = secrets.token_bytes(KEY_BYTES)
        wrapped = self._provider.wrap(key_ref, key, context_of(context))
        return {"provider": self._provider.name, "key_ref": key_ref, "wrapped": wrapped}

    def _unwrap(self, row: Row[*tuple[Any, ...]], context: str) -> bytes:
        return unwrap(self._provider, row, context)

    def _after_fork(self) -> None:
        self._cache.reset()
        self._opening = threading.Lock()


def unwrap(provider: KeyProvider, row: Row[*tuple[Any, ...]], context: str) -> bytes:
    """The key of a row that has `provider`, `key_ref` and `wrapped`.

    Raises:
        KeyringError: another provider wrapped it.
        RootKeyError: the provider cannot open it.
    """
    if row.provider != provider.name:
        raise KeyringError(
            f"the keys of this database were wrapped by the provider {row.provider}, "
            f"and {provider.name} is configured"
        )
    return provider.unwrap(row.key_ref, row.wrapped, context_of(context))


def context_of(purpose: str) -> bytes:
    """What a wrapped key is for, as the provider authenticates it."""
    return f"tutela/k1/{purpose}".encode()


def _month(now: datetime) -> str:
    return f"{now:%Y-%m}"


# --- statements --------------------------------------------------------------------------------

_SELECT: Final = f"SELECT {KEY_COLUMNS} FROM data_key AS k"  # noqa: S608 - constants alone
_SELECT_KID: Final = f"{_SELECT} WHERE k.kid {{keys}}"
_SELECT_SUBJECT: Final = f"{_SELECT} WHERE k.subject_ref {{keys}} AND k.state = 'active'"
_INSERT_ARRAYS: Final = """
    INSERT INTO data_key (kid, subject_ref, generation, epoch, wrapped, state, created_at)
    SELECT kid, subject_ref, 1, %s, wrapped, %s, %s
    FROM unnest(%s::bytea[], %s::text[], %s::bytea[]) AS new (kid, subject_ref, wrapped)
    ON CONFLICT DO NOTHING
    RETURNING kid
"""


def _by_subject(keys: Iterable[PersonKey]) -> dict[SubjectRef, PersonKey]:
    return {key.subject: key for key in keys}


def _insert(session: Session, new: Sequence[NewKey], now: datetime) -> set[bytes]:
    """Store keys of people who have none yet. The ids of those that are stored."""
    if session.get_bind().dialect.name == "sqlite":
        # Nobody else writes during a unit of work, and whoever has no key was looked up in it.
        bulk.insert(
            session,
            data_key,
            [
                (
                    item.key.kid,
                    item.key.subject,
                    item.key.generation,
                    item.epoch,
                    item.wrapped,
                    DataKeyState.ACTIVE.value,
                    now,
                )
                for item in new
            ],
        )
        return {item.key.kid for item in new}
    rows = session.connection().exec_driver_sql(
        _INSERT_ARRAYS,
        (
            new[0].epoch,
            DataKeyState.ACTIVE.value,
            now,
            array_literal([item.key.kid for item in new]),
            array_literal([item.key.subject for item in new]),
            array_literal([item.wrapped for item in new]),
        ),
    )
    return {row[0] for row in rows.fetchall()}


# --- transactions and forks --------------------------------------------------------------------

_UNIT: Final = "tutela.keys"


def _unit(session: Session) -> _Unit:
    unit = session.info.get(_UNIT)
    transaction = session.get_transaction() or session.begin()
    if not isinstance(unit, _Unit) or unit.transaction() is not transaction:
        unit = session.info[_UNIT] = _Unit(weakref.ref(transaction))
    return unit


_keyrings: weakref.WeakSet[Keyring] = weakref.WeakSet()


def _forget_inherited_keys() -> None:
    for keyring in list(_keyrings):
        keyring._after_fork()  # noqa: SLF001 - this module's own class


os.register_at_fork(after_in_child=_forget_inherited_keys)
