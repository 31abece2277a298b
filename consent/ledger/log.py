"""A Merkle log in a database: append under one lock, read hashes, tiles and entries.

Guarantees: entries are appended in the order of their index, without gaps, in the caller's
transaction: with it they are durable, or they never were. Full tiles are stored as they fill;
the tail is rebuilt from leaf hashes. Nothing is ever updated but the one head row.

Not here: signing (`consent.ledger.notary`), checking (`consent.ledger.verify`), and the meaning
of an entry.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from consent.bulk import Rows, run, write
from consent.errors import LedgerError
from consent.ledger.proofs import HashReader
from consent.ledger.tiles import TILE_HEIGHT, TILE_WIDTH, TilePath, bundle, new_full_tiles
from consent.ledger.tree import Frontier, leaf_hash, root_of
from consent.models import LogTables
from consent.subjects import Reader

_EMPTY = Frontier()
_HASH = 32
_MOST_ENTRIES = (1 << 63) - 1 - TILE_WIDTH
"""What an index can count to in either engine."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What one append did. `before` and `after` are the log's frontiers around it."""

    before: Frontier
    after: Frontier
    leaf_hashes: list[bytes]


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the log."""

    idx: int
    id: str
    leaf: bytes
    leaf_hash: bytes


class MerkleLog:
    """One RFC 6962 tree over one set of tables."""

    def __init__(self, tables: LogTables) -> None:
        self.tables = tables
        head = tables.head.c
        self._head = select(head.size, head.frontier).where(head.id == 1)
        self._read_head = f"SELECT size, frontier FROM {tables.head.name} WHERE id = 1"  # noqa: S608 - our own table
        self._first_head = text(
            f"INSERT INTO {tables.head.name} (id, size, frontier) VALUES (1, 0, :frontier) "  # noqa: S608 - our own table
            "ON CONFLICT DO NOTHING"
        )
        self._move_head = (
            f"UPDATE {tables.head.name} SET size = {{mark}}, frontier = {{mark}} "  # noqa: S608 - our own table
            "WHERE id = 1 AND size = {mark} RETURNING size"
        )

    def lock(self, session: Session) -> Frontier:
        """Take the log for this transaction. Others wait until it ends; take it last."""
        connection = session.connection()
        # A unit of work on SQLite has the database to itself from its start.
        lock = "" if connection.dialect.name == "sqlite" else " FOR UPDATE"
        rows = run(connection, self._read_head + lock, ())
        if not rows:  # the first append of all; two of them may meet here
            connection.execute(self._first_head, {"frontier": _EMPTY.to_bytes()})
            rows = run(connection, self._read_head + lock, ())
        ((size, frontier),) = rows
        return Frontier.from_bytes(size, frontier)

    def frontier(self, reader: Reader) -> Frontier:
        """The log as it stands: its size and root."""
        row = reader.execute(self._head).one_or_none()
        return _EMPTY if row is None else Frontier.from_bytes(row.size, row.frontier)

    def append(
        self,
        session: Session,
        before: Frontier,
        entries: Sequence[tuple[str, bytes]],
        also: Sequence[Rows] = (),
    ) -> Appended:
        """Add (id, leaf bytes) pairs behind `before`, which `lock` returned in this transaction.

        `also` goes with them in the same round trip.

        Raises:
            LedgerError: the head moved since it was locked.
            sqlalchemy.exc.IntegrityError: an id is in the log already.
        """
        hashes: list[bytes] = [leaf_hash(leaf) for _, leaf in entries]
        after = before.append(hashes)
        ids, leaves = zip(*entries, strict=True) if entries else ((), ())
        rows = (range(before.size, after.size), ids, leaves, hashes)
        tiles = self._full_tiles(session, before.size, hashes)
        moved = write(
            session,
            [Rows(self.tables.entry, rows), Rows.of(self.tables.tile, tiles), *also],
            self._move_head,
            (after.size, after.to_bytes(), before.size),
        )
        if not moved:
            raise LedgerError("the ledger's head moved while it was locked")
        return Appended(before, after, hashes)

    def _full_tiles(
        self, session: Session, size: int, hashes: Sequence[bytes]
    ) -> list[tuple[int, int, bytes]]:
        full = new_full_tiles(size, size + len(hashes))
        if not full:
            return []
        tail = size % TILE_WIDTH
        known = self._leaf_hashes(session, size - tail, size) if tail else []
        row = [*known, *hashes]
        first = size - tail
        made: dict[tuple[int, int], bytes] = {}
        for level, n in full:
            if level == 0:
                start = n * TILE_WIDTH - first
                made[level, n] = b"".join(row[start : start + TILE_WIDTH])
            else:
                below = range(n * TILE_WIDTH, (n + 1) * TILE_WIDTH)
                stored = self._stored_tiles(session, level - 1, below.start, below.stop)
                made[level, n] = b"".join(
                    _tile_root(made.get((level - 1, k)) or stored[k]) for k in below
                )
        return [(level, n, data) for (level, n), data in made.items()]

    def entries(self, reader: Reader, start: int, stop: int) -> Iterator[Entry]:
        """The entries of a range of indexes, in order."""
        table = self.tables.entry
        rows = reader.execute(
            select(table.c.idx, table.c.id, table.c.leaf, table.c.leaf_hash)
            .where(table.c.idx >= start, table.c.idx < stop)
            .order_by(table.c.idx)
        )
        return (Entry(*row) for row in rows)

    def hash_reader(self, reader: Reader) -> HashReader:
        """Read hashes of perfect subtrees from tiles. Tiles are kept for the reader's life."""
        tiles: dict[tuple[int, int], bytes] = {}

        def read(level: int, index: int) -> bytes:
            tile_level, inner = divmod(level, TILE_HEIGHT)
            first = index << inner
            n, offset = divmod(first, TILE_WIDTH)
            count = 1 << inner
            data = tiles.get((tile_level, n), b"")
            if len(data) < (offset + count) * _HASH:
                data = tiles[tile_level, n] = self._tile(reader, tile_level, n)
            part = data[offset * _HASH : (offset + count) * _HASH]
            if len(part) != count * _HASH:
                raise LedgerError(f"the hashes of tile level {tile_level} number {n} are missing")
            return part if count == 1 else _tile_root(part)

        return read

    def tile_data(self, reader: Reader, path: TilePath) -> bytes | None:
        """The bytes that C2SP tlog-tiles serves at `path`, or None if the log is not that long."""
        start = path.n * TILE_WIDTH
        if start > _MOST_ENTRIES:
            return None
        if path.level == "entries":
            leaves = [entry.leaf for entry in self.entries(reader, start, start + path.width)]
            return bundle(leaves) if len(leaves) == path.width else None
        data = self._tile(reader, path.level, path.n)[: path.width * _HASH]
        return data if len(data) == path.width * _HASH else None

    def _tile(self, reader: Reader, level: int, n: int) -> bytes:
        """A tile as full as it is: stored if full, else put together from what is below it."""
        stored = self._stored_tiles(reader, level, n, n + 1)
        if n in stored:
            return stored[n]
        start, stop = n * TILE_WIDTH, (n + 1) * TILE_WIDTH
        if level == 0:
            return b"".join(self._leaf_hashes(reader, start, stop))
        below = self._stored_tiles(reader, level - 1, start, stop)
        return b"".join(_tile_root(below[k]) for k in sorted(below))

    def _stored_tiles(self, reader: Reader, level: int, start: int, stop: int) -> dict[int, bytes]:
        table = self.tables.tile
        rows = reader.execute(
            select(table.c.n, table.c.data).where(
                table.c.level == level, table.c.n >= start, table.c.n < stop
            )
        )
        return {row.n: row.data for row in rows}

    def _leaf_hashes(self, reader: Reader, start: int, stop: int) -> list[bytes]:
        table = self.tables.entry
        rows = reader.execute(
            select(table.c.leaf_hash)
            .where(table.c.idx >= start, table.c.idx < stop)
            .order_by(table.c.idx)
        )
        return list(rows.scalars())


def _tile_root(data: bytes) -> bytes:
    return root_of([data[i : i + _HASH] for i in range(0, len(data), _HASH)])
