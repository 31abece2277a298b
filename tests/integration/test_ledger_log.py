"""The Merkle log in a real database: appended in pieces, it equals the tree over all leaves."""

from collections.abc import Iterator

import pytest
from sqlalchemy import MetaData, delete, text, update
from sqlalchemy.exc import DBAPIError

from consent.errors import LedgerError
from consent.ledger.log import MerkleLog
from consent.ledger.proofs import (
    consistency_proof,
    inclusion_proof,
    root_at,
    verify_consistency,
    verify_inclusion,
)
from consent.ledger.tiles import tiles_of, unbundle
from consent.ledger.tree import EMPTY_ROOT, Frontier, leaf_hash, root_of
from consent.models import log_tables
from governance.database import Database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database.open(database_url)
    yield database
    database.dispose()


@pytest.fixture
def log(database: Database) -> MerkleLog:
    metadata = MetaData()
    tables = log_tables("sample", metadata)
    with database.begin() as session:
        metadata.create_all(session.connection())
    return MerkleLog(tables)


def leaves(start: int, stop: int) -> list[tuple[str, bytes]]:
    return [(f"id-{i}", f"leaf {i}".encode()) for i in range(start, stop)]


def grow(database: Database, log: MerkleLog, *sizes: int) -> None:
    for size in sizes:
        with database.begin() as session:
            head = log.lock(session)
            log.append(session, head, leaves(head.size, size))


def test_an_empty_log_has_the_empty_root(database: Database, log: MerkleLog) -> None:
    with database.read() as reader:
        assert log.frontier(reader).root == EMPTY_ROOT


@pytest.mark.parametrize("sizes", [(1, 2, 300), (255, 256, 257), (250, 770), (512,)])
def test_a_log_grown_in_pieces_equals_the_whole_tree(
    database: Database, log: MerkleLog, sizes: tuple[int, ...]
) -> None:
    grow(database, log, *sizes)
    size = sizes[-1]
    hashes = [leaf_hash(leaf) for _, leaf in leaves(0, size)]
    with database.read() as reader:
        assert log.frontier(reader) == Frontier().append(hashes)
        read = log.hash_reader(reader)
        assert root_at(size, read) == root_of(hashes)
        for index in {0, size // 2, size - 1}:
            proof = inclusion_proof(index, size, read)
            verify_inclusion(hashes[index], index, size, proof, root_of(hashes))
        for old in {1, size // 3 + 1, size}:
            proof = consistency_proof(old, size, read)
            verify_consistency(old, size, root_of(hashes[:old]), root_of(hashes), proof)


def test_tiles_of_the_second_level_are_kept_when_they_fill(
    database: Database, log: MerkleLog
) -> None:
    grow(database, log, 65_535, 65_536, 65_537)
    hashes = [leaf_hash(leaf) for _, leaf in leaves(0, 65_537)]
    with database.read() as reader:
        assert log.frontier(reader).root == root_of(hashes)
        for size in (65_535, 65_536, 65_537):
            assert root_at(size, log.hash_reader(reader)) == root_of(hashes[:size])


def test_every_tile_of_an_export_can_be_read_and_says_the_same(
    database: Database, log: MerkleLog
) -> None:
    grow(database, log, 600)
    with database.read() as reader:
        served = {path: log.tile_data(reader, path) for path in tiles_of(600)}
    entries = [
        leaf
        for path in sorted((one for one in served if one.level == "entries"), key=lambda p: p.n)
        for leaf in unbundle(served[path] or b"")
    ]
    assert entries == [leaf for _, leaf in leaves(0, 600)]
    assert all(data for data in served.values())


def test_a_transaction_that_fails_leaves_no_entry_and_no_gap(
    database: Database, log: MerkleLog
) -> None:
    grow(database, log, 10)

    def fail() -> None:
        with database.begin() as session:
            log.append(session, log.lock(session), leaves(10, 20))
            raise RuntimeError("the process died here")

    with pytest.raises(RuntimeError):
        fail()
    grow(database, log, 12)
    with database.read() as reader:
        assert [entry.idx for entry in log.entries(reader, 0, 100)] == list(range(12))


def test_an_append_behind_a_head_that_moved_is_refused(database: Database, log: MerkleLog) -> None:
    grow(database, log, 3)
    stale = Frontier()
    with pytest.raises((LedgerError, DBAPIError)), database.begin() as session:
        log.append(session, stale, [("other", b"other")])
    with database.read() as reader:
        assert log.frontier(reader).size == 3


def test_the_database_refuses_to_change_or_delete_an_entry(
    database: Database, log: MerkleLog
) -> None:
    grow(database, log, 300)

    def attempt(statement: object) -> None:
        with database.begin() as session:
            session.execute(statement)  # type: ignore[call-overload]

    for table in log.tables.append_only:
        first = next(iter(table.columns))
        with pytest.raises(DBAPIError, match="append-only"):
            attempt(update(table).values({first: 77}))
        with pytest.raises(DBAPIError, match="append-only"):
            attempt(delete(table))
    if database.dialect == "postgresql":
        with pytest.raises(DBAPIError, match="append-only"):
            attempt(text(f"TRUNCATE {log.tables.entry.name}"))


def test_two_writers_take_turns(database: Database, log: MerkleLog) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def write(writer: int) -> None:
        for n in range(10):
            with database.begin() as session:
                log.append(session, log.lock(session), [(f"{writer}-{n}", b"x")])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    with database.read() as reader:
        assert log.frontier(reader).size == 80
        assert [entry.idx for entry in log.entries(reader, 0, 100)] == list(range(80))
