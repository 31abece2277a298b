"""Whatever single thing is changed in a log, verification finds it; unchanged, it finds nothing."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData, text

from consent.ledger.findings import Report
from consent.ledger.log import MerkleLog
from consent.ledger.notary import Notary, SqlCheckpointStore
from consent.ledger.verify import verify_log
from consent.models import log_tables
from governance.database import Database
from tests.fakes.clock import FrozenClock
from tests.fakes.memory_log import SeedSigner
from tests.fakes.tampering import drop_triggers

SIGNER = SeedSigner("example.com/sample")

metadata = MetaData()
log = MerkleLog(log_tables("sample", metadata))


@contextmanager
def grown(sizes: list[int]) -> Iterator[tuple[Database, SqlCheckpointStore]]:
    """A log that was signed at each of these sizes."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{Path(folder) / 'log.db'}", pool_size=2)
        memory = Database.open(f"sqlite:///{Path(folder) / 'store.db'}", pool_size=2)
        with database.begin() as session:
            metadata.create_all(session.connection())
        store = SqlCheckpointStore(memory.begin, memory.at_once, memory.read)
        clock = FrozenClock()
        notary = Notary(log, SIGNER, store, database.read, clock)
        for size in sizes:
            with database.begin() as session:
                head = log.lock(session)
                log.append(session, head, [(f"{i}", b"%d" % i) for i in range(head.size, size)])
            notary.certify()
        yield database, store
        database.dispose()
        memory.dispose()


def verify(database: Database, store: SqlCheckpointStore) -> Report:
    return verify_log(log, SIGNER.verifier, store, database.snapshot, FrozenClock())


def spoil(database: Database, statement: str, **values: Any) -> None:
    with database.begin() as session:
        drop_triggers(session.connection(), log.tables)
        session.execute(text(statement), values)


@st.composite
def histories(draw: st.DrawFn) -> list[int]:
    steps = draw(st.lists(st.integers(1, 300), min_size=1, max_size=4))
    return [sum(steps[: i + 1]) for i in range(len(steps))]


@settings(max_examples=30)
@given(histories(), st.data())
def test_any_flipped_bit_is_found(sizes: list[int], data: st.DataObject) -> None:
    size = sizes[-1]
    cells = [("entry", "leaf", "idx"), ("entry", "leaf_hash", "idx"), ("head", "frontier", "id")]
    if size >= 256:
        cells.append(("tile", "data", "n"))
    with grown(sizes) as (database, store):
        assert verify(database, store).ok
        table, column, key = data.draw(st.sampled_from(cells))
        with database.read() as reader:
            query = f"SELECT {key}, {column} FROM sample_{table}"
            rows = reader.exec_driver_sql(query).all()
        row, value = data.draw(st.sampled_from(rows))
        bit = data.draw(st.integers(0, len(value) * 8 - 1))
        changed = bytearray(value)
        changed[bit // 8] ^= 1 << bit % 8
        statement = f"UPDATE sample_{table} SET {column} = :x WHERE {key} = :k"
        spoil(database, statement, x=bytes(changed), k=row)
        (finding,) = verify(database, store).findings
        expected = {"entry": "EDITED", "tile": "TILE_DAMAGED", "head": "HEAD_DAMAGED"}[table]
        assert finding.kind == expected
        if table == "entry":
            assert finding.index == row


@settings(max_examples=30)
@given(histories(), st.data())
def test_any_two_rows_that_change_places_are_found(sizes: list[int], data: st.DataObject) -> None:
    size = sizes[-1]
    if size < 2:
        return
    places = st.lists(st.integers(0, size - 1), min_size=2, max_size=2, unique=True)
    one, other = sorted(data.draw(places))
    with grown(sizes) as (database, store):
        for source, target in ((one, 10**6), (other, one), (10**6, other)):
            spoil(database, "UPDATE sample_entry SET idx = :t WHERE idx = :s", s=source, t=target)
        findings = verify(database, store).findings
        assert ("REORDERED", one) in [(finding.kind, finding.index) for finding in findings]


@settings(max_examples=20)
@given(histories(), st.data())
def test_any_lost_end_is_found(sizes: list[int], data: st.DataObject) -> None:
    left = data.draw(st.integers(0, sizes[-1] - 1))
    with grown(sizes) as (database, store):
        spoil(database, "DELETE FROM sample_entry WHERE idx >= :i", i=left)
        assert [finding.kind for finding in verify(database, store).findings] == ["TRUNCATED"]
