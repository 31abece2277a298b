"""Signed checkpoints, and the memory that makes a restored or forked database noticed.

The last checkpoint that was ever signed is kept in a store of its own, apart from the ledger's
database and its backups. Trust: whoever can rewrite that store *and* the database *and* holds
the signing key can rewrite history unnoticed by us; witnesses, receipts and copies of checkpoints
still tell. Signing happens only after commit, and only over a log that extends what was signed:
on anything else the notary refuses, and the service stops writing.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from sqlalchemy import BigInteger, Column, Connection, MetaData, Table, Text, bindparam, select
from sqlalchemy import insert as insert_into
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from consent.bulk import run
from consent.columns import Bytes, UtcDateTime
from consent.errors import LedgerError, LedgerRolledBackError
from consent.ledger.checkpoint import Checkpoint, NoteSigner, sign_note
from consent.ledger.log import MerkleLog
from consent.ledger.proofs import root_at
from consent.ledger.tree import Frontier
from consent.subjects import Reader

KEEP_EVERY = timedelta(minutes=1)
"""Of the checkpoints that were signed, one a minute is remembered for verification."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint that was signed: what it says, and the note that says it."""

    size: int
    root: bytes
    note: str


class CheckpointStore(Protocol):
    """Remembers what was signed. Must be durable, and apart from the log's own database.

    `swap` is atomic and durable before it returns: of two callers with the same `expected`, one
    gets True.
    """

    def last(self, origin: str) -> Signed | None:
        """The newest checkpoint signed under this origin, or None."""

    def swap(self, origin: str, expected: Signed | None, new: Signed, now: datetime) -> bool:
        """Replace `expected` by `new`; False, and nothing done, if it is not the newest."""

    def remembered(self, origin: str, above: int = -1, limit: int = 1000) -> list[Signed]:
        """Past checkpoints larger than `above`, smallest first, `limit` at most.

        Enough of them are kept to notice a rewritten past: in a year there may be half a million.
        """


_metadata = MetaData()
_last = Table(
    "last_signed",
    _metadata,
    Column("origin", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("root", Bytes, nullable=False),
    Column("note", Text, nullable=False),
)
_kept = Table(
    "signed_checkpoint",
    _metadata,
    Column("origin", Text, primary_key=True),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", Bytes, nullable=False),
    Column("note", Text, nullable=False),
    Column("signed_at", UtcDateTime, nullable=False),
)


_NEWEST = select(_last.c.size, _last.c.root, _last.c.note).where(
    _last.c.origin == bindparam("origin")
)
_REPLACE = (
    "UPDATE last_signed SET size = {mark}, root = {mark}, note = {mark} "
    "WHERE origin = {mark} AND size = {mark} AND root = {mark} RETURNING size"
)


class SqlCheckpointStore:
    """The store in a database of its own: a small SQLite file, or one that several nodes share.

    Args:
        begin: opens a durable unit of work there.
        at_once: opens a connection there on which each statement is durable when it returns.
        read: opens a connection for one statement there.
    """

    def __init__(
        self,
        begin: Callable[[], AbstractContextManager[Session]],
        at_once: Callable[[], AbstractContextManager[Connection]],
        read: Callable[[], AbstractContextManager[Reader]],
    ) -> None:
        self._begin = begin
        self._at_once = at_once
        self._read = read
        self._kept_at: dict[str, datetime] = {}
        with begin() as session:
            _metadata.create_all(session.connection())

    def last(self, origin: str) -> Signed | None:
        """The newest checkpoint signed under this origin."""
        with self._read() as reader:
            row = reader.execute(_NEWEST, {"origin": origin}).one_or_none()
        return None if row is None else Signed(*row)

    def swap(self, origin: str, expected: Signed | None, new: Signed, now: datetime) -> bool:
        """Replace `expected` by `new` if nobody did meanwhile."""
        keeps = self._due(origin, now) and (expected is None or expected.size < new.size)
        if expected is not None and not keeps:
            with self._at_once() as connection:
                return _replaced(connection, origin, expected, new)
        try:
            with self._begin() as session:
                connection = session.connection()
                values = {"origin": origin, "size": new.size, "root": new.root, "note": new.note}
                if expected is None:
                    connection.execute(insert_into(_last).values(**values))
                elif not _replaced(connection, origin, expected, new):
                    return False
                if keeps:
                    connection.execute(insert_into(_kept).values(**values, signed_at=now))
                return True
        except IntegrityError:
            if expected is not None:
                raise  # the store contradicts itself; to try again would never end
            return False  # another node was first of all

    def _due(self, origin: str, now: datetime) -> bool:
        kept_at = self._kept_at.get(origin)
        if kept_at is not None and now - kept_at < KEEP_EVERY:
            return False
        self._kept_at[origin] = now
        return True

    def remembered(self, origin: str, above: int = -1, limit: int = 1000) -> list[Signed]:
        """Past checkpoints, of each minute one at most, smallest first."""
        with self._read() as reader:
            rows = reader.execute(
                select(_kept.c.size, _kept.c.root, _kept.c.note)
                .where(_kept.c.origin == origin, _kept.c.size > above)
                .order_by(_kept.c.size)
                .limit(limit)
            ).all()
        return [Signed(*row) for row in rows]


def _replaced(connection: Connection, origin: str, expected: Signed, new: Signed) -> bool:
    sql = _REPLACE.format(mark="?" if connection.dialect.name == "sqlite" else "%s")
    values = (new.size, new.root, new.note, origin, expected.size, expected.root)
    return bool(run(connection, sql, values))


class Notary:
    """Signs the log's checkpoints, never below or beside what it has signed."""

    def __init__(
        self,
        log: MerkleLog,
        signer: NoteSigner,
        store: CheckpointStore,
        read: Callable[[], AbstractContextManager[Reader]],
        clock: Callable[[], datetime],
    ) -> None:
        self._log = log
        self.signer: Final = signer
        self._store = store
        self._read = read
        self._clock = clock
        self._known: Signed | None = None
        self._trouble = ""
        self._lock = threading.Lock()

    @property
    def origin(self) -> str:
        """The log's name: the first line of its checkpoints and the name of its key."""
        return self.signer.name

    def admit(self, head: Frontier) -> None:
        """Refuse to extend a head that lies behind what was signed. Costs no I/O.

        What another node signed meanwhile is only compared by `certify`. So of a log that was
        rolled back and is ahead of what this node knows, one group is written, and nothing more.

        Raises:
            LedgerRolledBackError: the database was restored from a backup, or forked.
        """
        if self._trouble:
            raise LedgerRolledBackError(self._trouble)
        known = self._known
        if known is None:
            return
        if head.size < known.size or (head.size == known.size and head.root != known.root):
            raise _rolled_back(head.size, known.size)

    def certify(self, before: Frontier | None = None, after: Frontier | None = None) -> str:
        """A signed checkpoint that covers `after` (else: the log as committed), as a note.

        `before` is the committed head that this process itself extended to `after`: where it is
        what was signed last, no proof has to be recomputed.

        Raises:
            LedgerRolledBackError: the log does not extend what was signed last.
        """
        with self._lock:
            try:
                self._known = self._signed(before, after)
            except LedgerRolledBackError as error:
                self._trouble = str(error)
                raise
            self._trouble = ""
            return self._known.note

    def _signed(self, before: Frontier | None, after: Frontier | None) -> Signed:
        last = self._known
        if last is None or before is None or not _same(last, before):
            last = self._store.last(self.origin)
        while True:
            signed = self._extend(last, before, after)
            if signed is last or self._store.swap(self.origin, last, signed, self._clock()):
                return signed
            last = self._store.last(self.origin)

    def _extend(
        self, last: Signed | None, before: Frontier | None, after: Frontier | None
    ) -> Signed:
        """The checkpoint to sign next; `last` itself where that covers the head already."""
        if after is not None and last is not None and before is not None and _same(last, before):
            return self._sign(after)
        with self._read() as reader:
            head = self._log.frontier(reader)
            if last is not None:
                if head.size < last.size:
                    raise _rolled_back(head.size, last.size)
                if root_at(last.size, self._log.hash_reader(reader)) != last.root:
                    raise _rolled_back(head.size, last.size)
                if head.size == last.size:
                    return last
        return self._sign(head)

    def _sign(self, head: Frontier) -> Signed:
        root = head.root
        text = Checkpoint(self.origin, head.size, root).text()
        return Signed(head.size, root, sign_note(text, self.signer))


def _same(signed: Signed, head: Frontier) -> bool:
    return signed.size == head.size and signed.root == head.root


def _rolled_back(size: int, signed: int) -> LedgerError:
    return LedgerRolledBackError(
        f"the ledger has {size} entries that do not extend the {signed} already signed: the "
        "database was restored from a backup, truncated or forked; see docs/operations.md"
    )
