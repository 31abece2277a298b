"""Recompute a log from its entries up, and hold it to everything that was ever signed.

Checks: entries → leaf hashes (the stored ones too) → tiles → root, gap-free indexes, the head row,
the last signed checkpoint and every remembered one, each under the pinned key. What is at fault
where these differ is reasoned out in `consent.ledger.accounts`; here is what is read. Entries that
follow the last checkpoint are held to the head alone.

Guarantees: streams in pages, with memory for one page and O(log n) hashes; damaged data becomes a
finding, never an exception; can be stopped after any page and resumed from a cursor (plain
values). A log may grow meanwhile: what is verified is the log as it stood at the start.

Non-goals: what entries mean (`consent.verification` does that for consent's ledger), and what no
log can show of itself: entries that were never written, and history rewritten together with the
database, the checkpoint store and the signing key. Copies of checkpoints kept elsewhere show that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Executable, func, select
from sqlalchemy.exc import (
    DatabaseError,
    DataError,
    DBAPIError,
    InternalError,
    OperationalError,
)

from consent.ledger.accounts import NO_HASH, Accounts, leaf_hashes, name_of_tile, split
from consent.ledger.checkpoint import Checkpoint, NoteError, Verifier, open_checkpoint
from consent.ledger.findings import Findings, Kind, Report
from consent.ledger.log import MerkleLog
from consent.ledger.notary import CheckpointStore, Signed
from consent.ledger.tiles import TILE_HEIGHT, TILE_WIDTH
from consent.ledger.tree import HASH_SIZE, Frontier, FrontierError

PAGE: Final = 16 * TILE_WIDTH
"""Entries read at a time."""

Snapshot: TypeAlias = Callable[[], AbstractContextManager[Connection]]

_Row: TypeAlias = Sequence[Any]
"""Index, leaf, stored hash and perhaps id, as the driver gave them: any value may be damaged."""

_LIMIT: Final = 1 << 62
_TILE_BYTES: Final = TILE_WIDTH * HASH_SIZE
_GONE: Final[_Row] = (None, None, None, None)


class Phase(StrEnum):
    """What a verification is at."""

    ENTRIES = "entries"
    REGISTERS = "registers"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a verification is. `cursor()` gives plain values from which it can be resumed."""

    phase: Phase
    done: int
    total: int
    cursor: Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Page:
    """Entries from index `start` on, as the database gave them: any value may be damaged."""

    start: int
    stop: int
    entries: Sequence[tuple[Any, Any]]
    """Id and leaf, unless they were not asked for."""
    doubtful: frozenset[int]
    """Indexes of entries that are gone, or are not, or may not be, what was logged."""


def verify_log(
    log: MerkleLog,
    verifier: Verifier,
    store: CheckpointStore,
    snapshot: Snapshot,
    clock: Callable[[], datetime],
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    resume: Mapping[str, Any] | None = None,
) -> Report:
    """Verify a log whose entries need no further check, such as the operator log.

    `verifier` is the pinned key; its name is the log's origin. `snapshot` opens a read-only
    transaction, a new one for each page. `progress` is called after each page, and what it raises
    ends the verification; `resume` is a cursor that it was given.
    """
    findings = Findings.from_json(resume["findings"]) if resume else Findings()
    started_at = datetime.fromisoformat(resume["started_at"]) if resume else clock()
    check = TreeCheck(log, verifier, store, findings)

    def cursor() -> dict[str, Any]:
        return {
            "started_at": started_at.isoformat(),
            "findings": findings.to_json(),
            "tree": check.to_json(),
        }

    if resume:
        check.restore(resume["tree"])
    else:
        with DamageNoted(findings, None, "its ends"), snapshot() as reader:
            check.begin(reader)
    for page in check.pages(snapshot):
        progress(Progress(Phase.ENTRIES, page.stop, check.size, cursor))
    check.finish()
    return check.report(started_at=started_at, finished_at=clock())


class TreeCheck:
    """One walk over a log. `begin` or `restore`, then all `pages`, then `finish`."""

    def __init__(
        self,
        log: MerkleLog,
        verifier: Verifier,
        store: CheckpointStore,
        findings: Findings,
        *,
        with_ids: bool = False,
    ) -> None:
        self._log = log
        self._with_ids = with_ids
        self._verifier = verifier
        self._findings = findings
        self._checkpoints = _Checkpoints(store, verifier, findings)
        self._accounts = Accounts(findings)
        self._head: Frontier | None = None
        self._signed: tuple[int, bytes] | None = None
        self._done = 0
        self._readable = True
        self.size = 0
        """How many entries are walked."""
        # What was signed is read before the head: a head that is read later covers it.
        self._last = store.last(verifier.name)

    # --- the ends --------------------------------------------------------------------------

    def begin(self, reader: Connection) -> None:
        """Find out how long the log is, by its head, its rows and its last checkpoint."""
        if self._last is not None:
            checkpoint = self._checkpoints.open(self._last, "last")
            self._signed = (checkpoint.size, checkpoint.root) if checkpoint else None
        counted = self._read_head(reader)
        entry = self._log.tables.entry.c
        inside = select(func.max(entry.idx)).where(entry.idx >= 0, entry.idx < _LIMIT)
        ((last,),) = fetch_raw(reader, inside)
        rows = 0 if last is None else int(last) + 1
        self._compare_sizes(counted, rows)
        self.size = min(rows, max(counted, self._signed_size))
        if self._last is None and self.size:
            self._findings.add(
                Kind.UNSIGNED, 0, "The log has entries, and no checkpoint of it was ever signed."
            )
        self._look_outside(reader, max(counted, self.size))

    @property
    def _signed_size(self) -> int:
        return self._signed[0] if self._signed else 0

    def _read_head(self, reader: Connection) -> int:
        """What the head counts; where it is damaged, what was signed or as many as there are."""
        head, entry = self._log.tables.head.c, self._log.tables.entry
        ((rows,),) = fetch_raw(reader, select(func.count()).select_from(entry))
        found = fetch_raw(reader, select(head.size, head.frontier).where(head.id == 1))
        if not found:
            if rows:
                self._findings.add(Kind.HEAD_DAMAGED, None, "The head row is gone.")
            return self._signed_size or int(rows)
        size, frontier = found[0]
        if isinstance(size, int) and isinstance(frontier, bytes):
            try:
                self._head = Frontier.from_bytes(size, frontier)
            except FrontierError:
                pass
            else:
                return size
        self._findings.add(Kind.HEAD_DAMAGED, None, "The head row is malformed.")
        return self._signed_size or int(rows)

    def _compare_sizes(self, counted: int, rows: int) -> None:
        signed, add = self._signed_size, self._findings.add
        if signed > max(counted, rows):
            add(
                Kind.ROLLED_BACK,
                rows,
                f"The database holds {max(counted, rows)} entries, and {signed} were signed: it "
                "was restored from an older copy, or cut back.",
            )
        if rows < counted:
            add(
                Kind.TRUNCATED,
                rows,
                f"The log ends after {rows} entries, and its head counts {counted}.",
            )
        if counted < min(rows, signed):
            add(
                Kind.HEAD_DAMAGED,
                counted,
                f"The head counts {counted} entries, and {signed} were signed.",
            )
        if rows > max(counted, signed):
            add(
                Kind.SURPLUS_ENTRY,
                max(counted, signed),
                f"There are rows from {max(counted, signed)} on, where the log has ended.",
            )

    def _look_outside(self, reader: Connection, size: int) -> None:
        """Rows where the log has no place for them."""
        entry, tile = self._log.tables.entry.c, self._log.tables.tile.c
        outside = select(entry.idx).where((entry.idx < 0) | (entry.idx >= _LIMIT)).limit(1)
        if fetch_raw(reader, outside):
            self._findings.add(
                Kind.SURPLUS_ENTRY, None, "There are rows whose index no entry can have."
            )
        levels = select(tile.level, func.min(tile.n), func.max(tile.n)).group_by(tile.level)
        for level, first, last in fetch_raw(reader, levels):
            full = size >> TILE_HEIGHT * (level + 1) if _is_level(level) else 0
            if not (isinstance(first, int) and isinstance(last, int) and 0 <= first <= last < full):
                self._findings.add(
                    Kind.TILE_DAMAGED,
                    None,
                    "A tile is stored for which the log is not long enough.",
                )

    def finish(self) -> None:
        """Compare with the head, and name what is left."""
        self._accounts.finish(self._head if self._readable else None, self._signed_size)

    def report(
        self, *, started_at: datetime, finished_at: datetime, events: int = 0, erased: int = 0
    ) -> Report:
        """What came out of it."""
        return Report(
            origin=self._verifier.name,
            size=self._done,
            root=self._accounts.root,
            signed_size=self._signed[0] if self._signed else None,
            findings=tuple(self._findings.kept),
            omitted=self._findings.omitted,
            entries_checked=self._done,
            events_checked=events,
            erased=erased,
            started_at=started_at,
            finished_at=finished_at,
        )

    # --- the walk --------------------------------------------------------------------------

    def pages(self, snapshot: Snapshot) -> Iterator[Page]:
        """Check all entries, page by page; each page comes when it was checked."""
        while self._done < self.size and self._readable:
            start, stop = self._done, min(self._done + PAGE, self.size)
            self._readable = False
            page: Page | None = None
            with DamageNoted(self._findings, start, "entries"), snapshot() as reader:
                page = self._check_page(reader, start, stop)
            if page is not None:
                self._readable, self._done = True, stop
                yield page

    def _check_page(self, reader: Connection, start: int, stop: int) -> Page:
        tiles = self._read_tiles(reader, 0, start // TILE_WIDTH, stop // TILE_WIDTH)
        entries: list[tuple[Any, Any]] = []
        doubtful: set[int] = set()

        def read_tile(level: int, n: int) -> bytes | None:
            return self._read_tiles(reader, level, n, n + 1).get(n)

        for at, rows in self._read_rows(reader, start, stop):
            end = at + len(rows)
            filed = tiles.get(at // TILE_WIDTH)
            self._accounts.lay(*self._hash(at, rows, filed, doubtful))
            if len(rows) == TILE_WIDTH:
                self._hold_to_checkpoints(end - 1)
                self._accounts.file(read_tile)
            self._hold_to_checkpoints(end)
            if self._with_ids:
                entries += [(row[3], row[1]) for row in rows]
        return Page(start, stop, entries, frozenset(doubtful))

    def _hold_to_checkpoints(self, size: int) -> None:
        """Compare with every checkpoint that comes next, up to this size."""
        for checkpoint_size, root in self._checkpoints.up_to(size, self._signed):
            self._accounts.hold_to(checkpoint_size, root)

    def _hash(
        self, at: int, rows: Sequence[_Row], filed: bytes | None, doubtful: set[int]
    ) -> tuple[list[bytes], list[bytes]]:
        """The leaf hashes of up to a tile by both accounts; one list where they agree."""
        try:
            hashes = leaf_hashes([row[1] for row in rows])
        except TypeError:
            pass  # a row is gone, or a leaf is not bytes: below it gets its name
        else:
            full = len(rows) == TILE_WIDTH
            if [row[2] for row in rows] == hashes and (not full or b"".join(hashes) == filed):
                return hashes, hashes
        return self._hash_singly(at, rows, split(filed) if filed else None, doubtful)

    def _hash_singly(
        self, at: int, rows: Sequence[_Row], filed: list[bytes] | None, doubtful: set[int]
    ) -> tuple[list[bytes], list[bytes]]:
        """The same entry by entry, noting which to doubt."""
        by_entries, by_hashes = [], []
        for k, row in enumerate(rows):
            told = filed[k] if filed is not None else None
            if row is _GONE:
                pair = self._accounts.note_missing(at + k, told)
                doubtful.add(at + k)
            else:
                entry, stored = _hash_or_nothing(row[1]), _hash_as_stored(row[2])
                pair = self._accounts.note(at + k, entry, stored, told)
                if entry != stored or told not in (None, entry):
                    doubtful.add(at + k)
            by_entries.append(pair[0])
            by_hashes.append(pair[1])
        return by_entries, by_hashes

    def _read_rows(
        self, reader: Connection, start: int, stop: int
    ) -> Iterator[tuple[int, Sequence[_Row]]]:
        """The rows of a page, tile by tile, with `_GONE` for each that is not there."""
        entry = self._log.tables.entry.c
        query = (
            select(entry.idx, entry.leaf, entry.leaf_hash, *([entry.id] if self._with_ids else []))
            .where(entry.idx >= start, entry.idx < stop)
            .order_by(entry.idx)
        )
        # As the driver gives them, and no more at a time than the processor's cache holds.
        cursor = reader.execute(query).cursor
        refused = reader.dialect.loaded_dbapi.Error
        at = start
        while at < stop:
            wanted = min(TILE_WIDTH, stop - at)
            try:
                rows = cursor.fetchmany(wanted)
            except refused:
                break
            # As many distinct integers as there are between two bounds are all of them.
            if len(rows) != wanted or rows[-1][0] != at + wanted - 1:
                break
            yield at, rows
            at += wanted
        cursor.close()
        found = {row[0]: row for row in fetch_raw(reader, query)} if at < stop else {}
        for here in range(at, stop, TILE_WIDTH):
            until = min(here + TILE_WIDTH, stop)
            yield here, [found.get(index, _GONE) for index in range(here, until)]

    def _read_tiles(self, reader: Connection, level: int, first: int, end: int) -> dict[int, bytes]:
        """The stored tiles of a range; of those only that are whole."""
        tile = self._log.tables.tile.c
        rows = fetch_raw(
            reader,
            select(tile.n, tile.data).where(tile.level == level, tile.n >= first, tile.n < end),
        )
        found = {n: data for n, data in rows if _is_tile(data)}
        for n in range(first, end):
            if n not in found:
                self._findings.add(
                    Kind.TILE_DAMAGED,
                    n << TILE_HEIGHT * (level + 1),
                    f"The {name_of_tile(level, n)} is missing, or not {_TILE_BYTES} bytes long.",
                )
        return found

    # --- resuming --------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Where the walk stands, as plain values."""
        return {
            "size": self.size,
            "done": self._done,
            "head": [self._head.size, self._head.to_bytes().hex()] if self._head else None,
            "signed": [self._signed[0], self._signed[1].hex()] if self._signed else None,
            "readable": self._readable,
            "accounts": self._accounts.to_json(),
        }

    def restore(self, value: Mapping[str, Any]) -> None:
        """Stand where `to_json` was written."""
        head, signed = value["head"], value["signed"]
        self.size = value["size"]
        self._done = value["done"]
        self._head = Frontier.from_bytes(head[0], bytes.fromhex(head[1])) if head else None
        self._signed = (signed[0], bytes.fromhex(signed[1])) if signed else None
        self._readable = value["readable"]
        self._accounts = Accounts.from_json(value["accounts"], self._findings)
        self._checkpoints.skip(self._done)


class _Checkpoints:
    """Every checkpoint that was remembered, opened under the pinned key, by size."""

    def __init__(self, store: CheckpointStore, verifier: Verifier, findings: Findings) -> None:
        self._store = store
        self._verifier = verifier
        self._findings = findings
        self._above = -1
        self._waiting: list[Signed] = []
        self._more = True

    def skip(self, size: int) -> None:
        """Those up to this size were compared already."""
        self._above = size

    def up_to(self, size: int, last: tuple[int, bytes] | None) -> Iterator[tuple[int, bytes]]:
        """Size and root of those that come next, the last signed one among them."""
        above = self._above
        while (signed := self._next()) is not None and _order(signed) <= size:
            self._waiting.pop()
            self._above = max(self._above, _order(signed))
            checkpoint = self.open(signed, "remembered")
            if checkpoint is not None:
                yield checkpoint.size, checkpoint.root
        if last is not None and above < last[0] <= size:
            yield last
        self._above = max(self._above, size)

    def _next(self) -> Signed | None:
        if not self._waiting and self._more:
            found = self._store.remembered(self._verifier.name, above=self._above)
            self._more = bool(found)
            self._waiting = found[::-1]
        return self._waiting[-1] if self._waiting else None

    def open(self, signed: Signed, which: str) -> Checkpoint | None:
        """What the note says, if our key signed it and it says what its row says."""
        try:
            checkpoint = open_checkpoint(str(signed.note), [self._verifier])
        except NoteError:
            checkpoint = None
        if checkpoint is not None and (checkpoint.size, checkpoint.root) == (
            signed.size,
            signed.root,
        ):
            return checkpoint
        self._findings.add(
            Kind.BAD_SIGNATURE,
            _order(signed),
            f"The {which} checkpoint of size {_order(signed)} is not one that our key signed.",
        )
        return None


def _order(signed: Signed) -> int:
    """The size by its row, whatever stands there: SQLite keeps what it is given."""
    size: object = signed.size
    return size if isinstance(size, int) else _LIMIT


def fetch_raw(reader: Connection, statement: Executable) -> list[Any]:
    """All rows as the driver gives them: no processing, which damaged values could make fail.

    SQLite keeps text that is not UTF-8, and its driver then refuses the row; here it comes out
    with surrogates, equal to nothing that was written.
    """
    try:
        return _fetch_all(reader, statement)
    except OperationalError:
        if reader.dialect.name != "sqlite":
            raise
    driver: Any = reader.connection.driver_connection
    driver.text_factory = lambda data: data.decode(errors="surrogateescape")
    try:
        return _fetch_all(reader, statement)
    finally:
        driver.text_factory = str


def _fetch_all(reader: Connection, statement: Executable) -> list[Any]:
    with reader.execute(statement) as result, _driver_errors(reader):
        return list(result.cursor.fetchall())


@contextmanager
def _driver_errors(reader: Connection) -> Iterator[None]:
    """Raise the driver's errors as SQLAlchemy does, which does not see what a cursor is asked."""
    base = reader.dialect.loaded_dbapi.Error
    try:
        yield
    except base as error:
        raise DBAPIError.instance(None, None, error, base, True, dialect=reader.dialect) from error


class DamageNoted:
    """Turns the database's word that its own files are damaged into a finding.

    That it is busy, away or without these tables is no finding, and passes.
    """

    def __init__(self, findings: Findings, index: int | None, what: str) -> None:
        self._findings = findings
        self._index = index
        self._what = what

    def __enter__(self) -> None:
        """Nothing yet."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        """Whether the error was such a word."""
        if kind not in {DatabaseError, DataError, InternalError}:
            return False
        self._findings.add(
            Kind.UNREADABLE,
            self._index,
            f"The database file is damaged: {self._what} cannot be read.",
        )
        return True


def _is_level(level: object) -> bool:
    return isinstance(level, int) and 0 <= level < 64 // TILE_HEIGHT


def _is_tile(data: object) -> bool:
    return isinstance(data, bytes) and len(data) == _TILE_BYTES


def _hash_or_nothing(leaf: object) -> bytes:
    return leaf_hashes([leaf])[0] if isinstance(leaf, bytes) else NO_HASH


def _hash_as_stored(stored: object) -> bytes:
    return stored if isinstance(stored, bytes) and len(stored) == HASH_SIZE else NO_HASH
