"""Verification names what was done to a ledger behind the triggers' back, on both engines."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, text

from consent.ledger.checkpoint import Checkpoint, sign_note
from consent.ledger.findings import MAX_FINDINGS, Findings, Kind, Report
from consent.ledger.log import MerkleLog
from consent.ledger.notary import Notary, Signed, SqlCheckpointStore
from consent.ledger.tree import Frontier, leaf_hash, root_of
from consent.ledger.verify import PAGE, Progress, verify_log
from consent.models import log_tables
from governance.database import Database
from tests.fakes.clock import FrozenClock
from tests.fakes.databases import Engine
from tests.fakes.memory_log import SeedSigner
from tests.fakes.tampering import drop_triggers

SIGNER = SeedSigner("example.com/sample")
SIZES = (3, 9, 20)
"""A log that fits into one unfinished tile."""
LONG = (250, 300, 600, 1000)
"""A log with three full tiles and a tail."""


@dataclass
class Lab:
    """A log that was signed at several sizes, and the means to spoil it."""

    database: Database
    store: SqlCheckpointStore
    memory: Database
    log: MerkleLog
    clock: FrozenClock
    notary: Notary

    def grow(self, *sizes: int, first: str = "leaf", sign: bool = True) -> None:
        for size in sizes:
            with self.database.begin() as session:
                head = self.log.lock(session)
                leaves = [(f"{first}-{i}", entry(i, first)) for i in range(head.size, size)]
                self.log.append(session, head, leaves)
            if sign:
                self.clock.advance(timedelta(minutes=2))
                self.notary.certify()

    def forget(self) -> None:
        """A new process: what was signed is known from the store alone."""
        self.notary = Notary(self.log, SIGNER, self.store, self.database.read, self.clock)

    def spoil(self, *statements: str, **values: Any) -> None:
        """Run statements as an attacker who owns the database."""
        with self.database.begin() as session:
            drop_triggers(session.connection(), self.log.tables)
            for statement in statements:
                session.execute(text(statement), values)

    def spoil_store(self, statement: str, **values: Any) -> None:
        with self.memory.begin() as session:
            session.execute(text(statement), values)

    def leaf(self, index: int) -> bytes:
        with self.database.read() as reader:
            (found,) = self.log.entries(reader, index, index + 1)
        return found.leaf

    def tile(self, level: int, n: int) -> bytes:
        with self.database.read() as reader:
            return self.log._stored_tiles(reader, level, n, n + 1)[n]

    def rewrite(self, hashes: Sequence[bytes]) -> None:
        """Make stored hashes, tiles and head those of other leaf hashes."""
        for i, hashed in enumerate(hashes):
            self.spoil("UPDATE sample_entry SET leaf_hash = :h WHERE idx = :i", h=hashed, i=i)
        for n in range(len(hashes) // 256):
            data = b"".join(hashes[n * 256 : (n + 1) * 256])
            self.spoil("UPDATE sample_tile SET data = :d WHERE level = 0 AND n = :n", d=data, n=n)
        frontier = Frontier().append(hashes)
        self.spoil("UPDATE sample_head SET frontier = :f", f=frontier.to_bytes())

    def verify(self, **options: Any) -> Report:
        return verify_log(
            self.log, SIGNER.verifier, self.store, self.database.snapshot, self.clock, **options
        )

    def found(self) -> list[tuple[str, int | None]]:
        report = self.verify()
        assert all(finding.sentence.endswith(".") for finding in report.findings)
        return [(finding.kind.value, finding.index) for finding in report.findings]


def entry(index: int, first: str = "leaf") -> bytes:
    return f"{first} {index}".encode()


def hashes_of(size: int, **other: bytes) -> list[bytes]:
    changed = {int(name[1:]): leaf for name, leaf in other.items()}
    return [leaf_hash(changed.get(i, entry(i))) for i in range(size)]


@pytest.fixture
def lab(database_url: str, tmp_path: Path, clock: FrozenClock) -> Iterator[Lab]:
    metadata = MetaData()
    log = MerkleLog(log_tables("sample", metadata))
    database = Database.open(database_url)
    with database.begin() as session:
        metadata.create_all(session.connection())
    memory = Database.open(f"sqlite:///{tmp_path / 'store.db'}", pool_size=2)
    store = SqlCheckpointStore(memory.begin, memory.at_once, memory.read)
    notary = Notary(log, SIGNER, store, database.read, clock)
    yield Lab(database, store, memory, log, clock, notary)
    database.dispose()
    memory.dispose()


@pytest.fixture
def short(lab: Lab) -> Lab:
    lab.grow(*SIZES)
    return lab


@pytest.fixture
def long(lab: Lab) -> Lab:
    lab.grow(*LONG)
    return lab


# --- what is sound ------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(), (1,), (255, 256, 257), SIZES, LONG])
def test_sound_log_has_no_findings(lab: Lab, sizes: tuple[int, ...]) -> None:
    lab.grow(*sizes)
    report = lab.verify()
    size = max(sizes, default=0)
    assert report.ok, report.findings
    assert (report.size, report.entries_checked) == (size, size)
    assert report.root == root_of(hashes_of(size))
    assert report.signed_size == (size or None)
    assert report.started_at == report.finished_at == lab.clock()


def test_entries_behind_the_last_checkpoint_are_no_fault(short: Lab) -> None:
    short.grow(25, sign=False)
    report = short.verify()
    assert report.ok
    assert (report.size, report.signed_size) == (25, 20)


def test_log_that_grows_meanwhile_is_verified_as_it_stood(long: Lab) -> None:
    def grow(_: Progress) -> None:
        long.grow(1300)

    report = long.verify(progress=grow)
    assert report.ok, report.findings
    assert report.size == 1000


# --- edited -------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 3, 19])
def test_flipped_bit_in_an_entry_of_the_tail(short: Lab, index: int) -> None:
    leaf = bytearray(short.leaf(index))
    leaf[0] ^= 1
    short.spoil("UPDATE sample_entry SET leaf = :x WHERE idx = :i", x=bytes(leaf), i=index)
    assert short.found() == [("EDITED", index)]


@pytest.mark.parametrize("index", [0, 255, 256, 700, 999])
def test_flipped_bit_in_an_entry_of_a_long_log(long: Lab, index: int) -> None:
    leaf = bytearray(long.leaf(index))
    leaf[-1] ^= 0x80
    long.spoil("UPDATE sample_entry SET leaf = :x WHERE idx = :i", x=bytes(leaf), i=index)
    assert long.found() == [("EDITED", index)]


@pytest.mark.parametrize("index", [5, 300, 999])
def test_altered_stored_hash(long: Lab, index: int) -> None:
    long.spoil("UPDATE sample_entry SET leaf_hash = :x WHERE idx = :i", x=b"x" * 32, i=index)
    assert long.found() == [("EDITED", index)]


@pytest.mark.parametrize("index", [2, 300])
def test_entry_replaced_together_with_its_hash(long: Lab, index: int) -> None:
    long.spoil(
        "UPDATE sample_entry SET leaf = :x, leaf_hash = :h WHERE idx = :i",
        x=b"other",
        h=leaf_hash(b"other"),
        i=index,
    )
    assert long.found() == [("EDITED", index)]


def test_entry_of_the_tail_replaced_together_with_its_hash(short: Lab) -> None:
    short.spoil(
        "UPDATE sample_entry SET leaf = :x, leaf_hash = :h WHERE idx = 17",
        x=b"other",
        h=leaf_hash(b"other"),
    )
    # The head tells which subtree it is in, 16 to 19, and the checkpoint at 9 nothing more.
    assert short.found() == [("EDITED", 16)]


def test_several_faults_are_all_named(long: Lab) -> None:
    for index in (1, 400, 998):
        long.spoil("UPDATE sample_entry SET leaf = :x WHERE idx = :i", x=b"other", i=index)
    tile = bytearray(long.tile(0, 2))
    tile[100] ^= 1
    long.spoil("UPDATE sample_tile SET data = :x WHERE n = 2", x=bytes(tile))
    assert sorted(long.found()) == [
        ("EDITED", 1),
        ("EDITED", 400),
        ("EDITED", 998),
        ("TILE_DAMAGED", 515),
    ]


def test_entry_replaced_together_with_hash_tile_and_head(long: Lab) -> None:
    other = entry(400, "other")
    long.rewrite(hashes_of(1000, i400=other))
    long.spoil("UPDATE sample_entry SET leaf = :x WHERE idx = 400", x=other)
    # Between the checkpoints at 300 and 600; nothing that is stored says where.
    assert long.found() == [("FORKED", 300)]


def test_entry_replaced_together_with_hash_and_tile(long: Lab) -> None:
    other = entry(400, "other")
    with long.database.read() as reader:
        head = long.log.frontier(reader)
    long.rewrite(hashes_of(1000, i400=other))
    long.spoil("UPDATE sample_entry SET leaf = :x WHERE idx = 400", x=other)
    long.spoil("UPDATE sample_head SET frontier = :f", f=head.to_bytes())
    assert long.found() == [("EDITED", 300)]


# --- order --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), [(3, 5), (0, 19), (16, 17), (15, 16)])
def test_swapped_content_in_the_tail(short: Lab, one: int, other: int) -> None:
    swap(short, "leaf", one, other)
    assert short.found() == [("SWAPPED_ROW", one)]


@pytest.mark.parametrize(("one", "other"), [(3, 5), (255, 256), (10, 700), (300, 998)])
def test_swapped_content_in_a_long_log(long: Lab, one: int, other: int) -> None:
    swap(long, "leaf", one, other)
    assert long.found() == [("SWAPPED_ROW", one)]


@pytest.mark.parametrize(("one", "other"), [(3, 5), (0, 19), (16, 17), (15, 16)])
def test_reordered_rows_in_the_tail(short: Lab, one: int, other: int) -> None:
    swap_places(short, one, other)
    assert short.found() == [("REORDERED", one)]


@pytest.mark.parametrize(("one", "other"), [(3, 5), (255, 256), (10, 700)])
def test_reordered_rows_in_a_long_log(long: Lab, one: int, other: int) -> None:
    swap_places(long, one, other)
    assert long.found() == [("REORDERED", one)]


def test_reordered_rows_behind_the_last_checkpoint(short: Lab) -> None:
    short.grow(25, sign=False)
    swap_places(short, 21, 23)
    assert short.found() == [("REORDERED", 21)]


def swap(lab: Lab, column: str, one: int, other: int) -> None:
    first, second = lab.leaf(one), lab.leaf(other)
    change = f"UPDATE sample_entry SET {column} = :x WHERE idx = :i"
    lab.spoil(change, x=second, i=one)
    lab.spoil(change, x=first, i=other)


def swap_places(lab: Lab, one: int, other: int) -> None:
    for source, target in ((one, 10**6), (other, one), (10**6, other)):
        lab.spoil("UPDATE sample_entry SET idx = :t WHERE idx = :s", s=source, t=target)


# --- missing and surplus ------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 300, 998])
def test_missing_entry(long: Lab, index: int) -> None:
    long.spoil("DELETE FROM sample_entry WHERE idx = :i", i=index)
    assert long.found() == [("MISSING_ENTRY", index)]


@pytest.mark.parametrize("left", [0, 5, 19])
def test_truncated_log(short: Lab, left: int) -> None:
    short.spoil("DELETE FROM sample_entry WHERE idx >= :i", i=left)
    assert short.found() == [("TRUNCATED", left)]


def test_truncated_long_log(long: Lab) -> None:
    long.spoil("DELETE FROM sample_entry WHERE idx >= 500")
    assert long.found() == [("TRUNCATED", 500)]


def test_log_cut_back_together_with_its_head(long: Lab) -> None:
    frontier = Frontier().append(hashes_of(600)).to_bytes()
    long.spoil(
        "DELETE FROM sample_entry WHERE idx >= 600",
        "DELETE FROM sample_tile WHERE n >= 2",
        "UPDATE sample_head SET size = 600, frontier = :f",
        f=frontier,
    )
    assert long.found() == [("ROLLED_BACK", 600)]


def test_rows_behind_the_end(short: Lab) -> None:
    short.spoil(
        "INSERT INTO sample_entry (idx, id, leaf, leaf_hash) VALUES (20, 'x', :x, :h), "
        "(-1, 'y', :x, :h)",
        x=b"x",
        h=leaf_hash(b"x"),
    )
    assert short.found() == [("SURPLUS_ENTRY", 20), ("SURPLUS_ENTRY", None)]


# --- tiles and head -----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2])
def test_flipped_bit_in_a_tile(long: Lab, n: int) -> None:
    tile = bytearray(long.tile(0, n))
    tile[40] ^= 4
    long.spoil("UPDATE sample_tile SET data = :x WHERE n = :n", x=bytes(tile), n=n)
    assert long.found() == [("TILE_DAMAGED", n * 256 + 1)]


@pytest.mark.parametrize("data", [b"", b"x" * 8191, b"x" * 8193])
def test_tile_of_a_wrong_length(long: Lab, data: bytes) -> None:
    long.spoil("UPDATE sample_tile SET data = :x WHERE n = 1", x=data)
    assert long.found() == [("TILE_DAMAGED", 256)]


def test_missing_and_surplus_tiles(long: Lab) -> None:
    long.spoil(
        "DELETE FROM sample_tile WHERE n = 1",
        "INSERT INTO sample_tile (level, n, data) VALUES (0, 3, :x), (9, 0, :x)",
        x=b"x" * 8192,
    )
    assert sorted(long.found(), key=str) == [
        ("TILE_DAMAGED", 256),
        ("TILE_DAMAGED", None),
        ("TILE_DAMAGED", None),
    ]


@pytest.mark.parametrize(
    "change",
    [
        "frontier = :x",
        "size = -1",
        "size = 19",
        "size = 21",
    ],
)
def test_malformed_head(short: Lab, change: str) -> None:
    short.spoil(f"UPDATE sample_head SET {change}", x=b"short")
    assert short.found() == [("HEAD_DAMAGED", None)]


def test_missing_head(short: Lab) -> None:
    short.spoil("DELETE FROM sample_head")
    assert short.found() == [("HEAD_DAMAGED", None)]


def test_head_of_another_tree(short: Lab) -> None:
    frontier = Frontier().append(hashes_of(20, i3=b"x")).to_bytes()
    short.spoil("UPDATE sample_head SET frontier = :x", x=frontier)
    assert short.found() == [("HEAD_DAMAGED", None)]


def test_head_that_counts_less_than_was_signed(short: Lab) -> None:
    frontier = Frontier().append(hashes_of(12)).to_bytes()
    short.spoil("UPDATE sample_head SET size = 12, frontier = :x", x=frontier)
    assert short.found() == [("HEAD_DAMAGED", 12)]


# --- what was signed ----------------------------------------------------------------------------


def test_database_restored_from_an_older_copy(
    lab: Lab, engine_name: Engine, tmp_path: Path
) -> None:
    lab.grow(3, 9)
    if engine_name == "sqlite":
        lab.database.dispose()
        file = Path(lab.database.engine.url.database or "")
        shutil.copyfile(file, tmp_path / "backup.db")
        lab.grow(20)
        lab.database.dispose()
        for old in file.parent.glob(f"{file.name}*"):
            old.unlink()
        shutil.copyfile(tmp_path / "backup.db", file)
    else:
        tables = ("sample_entry", "sample_head")
        lab.spoil(*(f"CREATE TABLE backup_{table} AS SELECT * FROM {table}" for table in tables))
        lab.grow(20)
        for table in tables:
            lab.spoil(f"DELETE FROM {table}", f"INSERT INTO {table} SELECT * FROM backup_{table}")
    assert lab.found() == [("ROLLED_BACK", 9)]


def test_database_restored_and_written_to_again(lab: Lab) -> None:
    lab.grow(3, 9, 20)
    lab.spoil("DELETE FROM sample_entry WHERE idx >= 9")
    frontier = Frontier().append(hashes_of(9))
    lab.spoil("UPDATE sample_head SET size = 9, frontier = :f", f=frontier.to_bytes())
    lab.grow(30, first="other", sign=False)
    assert lab.found() == [("FORKED", 9)]


def test_fork_that_was_signed_again_contradicts_what_is_remembered(lab: Lab) -> None:
    """The attacker has the signing key and the last-signed row, and rewrites history from 9 on."""
    lab.grow(3, 9, 20)
    lab.spoil("DELETE FROM sample_entry WHERE idx >= 9")
    frontier = Frontier().append(hashes_of(9))
    lab.spoil("UPDATE sample_head SET size = 9, frontier = :f", f=frontier.to_bytes())
    lab.grow(30, first="other", sign=False)
    with lab.database.read() as reader:
        head = lab.log.frontier(reader)
    note = sign_note(Checkpoint(SIGNER.name, 30, head.root).text(), SIGNER)
    lab.spoil_store(
        "UPDATE last_signed SET size = 30, root = :root, note = :note", root=head.root, note=note
    )
    assert lab.found() == [("FORKED", 9)]


@pytest.mark.parametrize(
    ("change", "size"),
    [
        ("note = 'nonsense'", 20),
        ("note = ''", 20),
        ("root = x'00'", 20),
        ("size = 19", 19),
        ("size = 'many'", 1 << 62),
        ("note = x'ff00'", 20),
    ],
)
def test_forged_last_checkpoint(short: Lab, change: str, size: int) -> None:
    short.spoil_store(f"UPDATE last_signed SET {change}")
    assert ("BAD_SIGNATURE", size) in short.found()


def test_checkpoint_signed_by_another_key(short: Lab) -> None:
    stranger = SeedSigner(SIGNER.name, b"\x08" * 32)
    root = root_of(hashes_of(9, i2=b"x"))
    note = sign_note(Checkpoint(SIGNER.name, 9, root).text(), stranger)
    short.spoil_store(
        "UPDATE signed_checkpoint SET root = :root, note = :note WHERE size = 9",
        root=root,
        note=note,
    )
    assert short.found() == [("BAD_SIGNATURE", 9)]


def test_checkpoint_of_another_log(short: Lab) -> None:
    other = SeedSigner("example.com/other")
    note = sign_note(Checkpoint(other.name, 9, root_of(hashes_of(9))).text(), other)
    short.spoil_store("UPDATE signed_checkpoint SET note = :note WHERE size = 9", note=note)
    assert short.found() == [("BAD_SIGNATURE", 9)]


def test_log_whose_checkpoints_are_gone(short: Lab) -> None:
    short.spoil_store("DELETE FROM last_signed")
    assert short.found() == [("UNSIGNED", 0)]


# --- damaged data is a finding, never a crash ---------------------------------------------------


def test_values_of_wrong_types_are_findings(short: Lab, engine_name: Engine) -> None:
    if engine_name != "sqlite":
        pytest.skip("PostgreSQL keeps the types of its columns")
    short.spoil("UPDATE sample_entry SET leaf = 'text' WHERE idx = 1")
    short.spoil("UPDATE sample_entry SET leaf_hash = 7 WHERE idx = 2")
    short.spoil("UPDATE sample_head SET size = 'many'")
    assert short.found() == [("HEAD_DAMAGED", None), ("EDITED", 1), ("EDITED", 2)]


def test_index_that_is_no_number_is_a_finding(long: Lab, engine_name: Engine) -> None:
    if engine_name != "sqlite":
        pytest.skip("PostgreSQL keeps the types of its columns")
    long.spoil("UPDATE sample_entry SET idx = 'three' WHERE idx = 3")
    assert ("MISSING_ENTRY", 3) in long.found()


@pytest.mark.parametrize("of_the_table", ["root", "last page"])
def test_damaged_database_file_is_a_finding(
    long: Lab, engine_name: Engine, of_the_table: str
) -> None:
    if engine_name != "sqlite":
        pytest.skip("a damaged cluster does not start")
    long.database.dispose()
    file = Path(long.database.engine.url.database or "")
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'sample_entry'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    data = bytearray(file.read_bytes())
    if of_the_table == "last page":
        # The right-most pointer of an interior page: SQLite's file format, section 1.6.
        page = int.from_bytes(data[(page - 1) * size + 8 :][:4])
    data[(page - 1) * size : page * size] = b"\xff" * size
    file.write_bytes(data)
    assert [kind for kind, _ in long.found()] == ["UNREADABLE"]


def test_a_flood_of_findings_is_counted_not_listed(long: Lab) -> None:
    long.spoil("UPDATE sample_entry SET leaf_hash = :x", x=b"x" * 32)
    report = long.verify()
    assert len(report.findings) == MAX_FINDINGS
    assert report.omitted >= 600
    assert not report.ok


# --- progress and resuming ----------------------------------------------------------------------


class StopError(Exception):
    """The job was told to end."""


def test_verification_resumes_where_it_stopped(lab: Lab) -> None:
    size = 2 * PAGE + 300
    lab.grow(700, PAGE + 5, size)
    swap_places(lab, 100, PAGE + 10)
    lab.spoil("UPDATE sample_entry SET leaf = :x WHERE idx = 5", x=b"other")
    whole = lab.verify()
    seen: list[int] = []
    cursor: dict[str, Any] | None = None
    report = None
    while report is None:

        def stop(progress: Progress) -> None:
            nonlocal cursor
            seen.append(progress.done)
            assert progress.total == size
            cursor = json.loads(json.dumps(progress.cursor()))
            raise StopError

        try:
            report = lab.verify(progress=stop, resume=cursor)
        except StopError:
            lab.clock.advance(timedelta(minutes=1))
    assert seen == [PAGE, 2 * PAGE, size]
    assert report.findings == whole.findings
    assert [finding.kind for finding in report.findings] == [Kind.EDITED, Kind.REORDERED]
    assert report.root == whole.root
    assert report.finished_at - report.started_at == timedelta(minutes=3)


def test_findings_survive_being_written_down() -> None:
    findings = Findings()
    findings.add(Kind.EDITED, 4, "Entry 4 was altered.")
    findings.omitted = 2
    read = Findings.from_json(json.loads(json.dumps(findings.to_json())))
    assert (read.kept, read.omitted) == (findings.kept, 2)


# --- tiles of the second level ------------------------------------------------------------------


SECOND = 65_536 + 300


@pytest.fixture
def deep(lab: Lab) -> Lab:
    lab.grow(1000, 65_000, SECOND)
    return lab


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda lab: None, []),
        (lambda lab: flip(lab, 1, 0, 32 * 7), [("TILE_DAMAGED", 7 * 256)]),
        (lambda lab: flip(lab, 0, 9, 32 * 3), [("TILE_DAMAGED", 9 * 256 + 3)]),
        (lambda lab: replace_quietly(lab, 30_000), [("EDITED", 30_000 // 256 * 256)]),
    ],
    ids=["sound", "upper tile", "lower tile", "entry, hash and lower tile"],
)
def test_log_with_tiles_of_two_levels(
    deep: Lab, spoil: Callable[[Lab], None], found: list[tuple[str, int]]
) -> None:
    spoil(deep)
    assert deep.found() == found


def flip(lab: Lab, level: int, n: int, at: int) -> None:
    tile = bytearray(lab.tile(level, n))
    tile[at] ^= 1
    lab.spoil(
        "UPDATE sample_tile SET data = :x WHERE level = :level AND n = :n",
        x=bytes(tile),
        level=level,
        n=n,
    )


def replace_quietly(lab: Lab, index: int) -> None:
    """Replace an entry, its hash and its hash in the tile; the tile above still tells."""
    hashed = leaf_hash(b"other")
    lab.spoil(
        "UPDATE sample_entry SET leaf = :x, leaf_hash = :h WHERE idx = :i",
        x=b"other",
        h=hashed,
        i=index,
    )
    n, k = divmod(index, 256)
    tile = bytearray(lab.tile(0, n))
    tile[k * 32 : (k + 1) * 32] = hashed
    lab.spoil("UPDATE sample_tile SET data = :x WHERE level = 0 AND n = :n", x=bytes(tile), n=n)


def test_remembered_checkpoints_are_read_in_pages(lab: Lab) -> None:
    lab.grow(*range(1, 12))
    pages: list[int] = []

    class InPagesOfThree(SqlCheckpointStore):
        def remembered(self, origin: str, above: int = -1, limit: int = 1000) -> list[Signed]:
            found = super().remembered(origin, above, 3)
            pages.append(len(found))
            return found

    store = InPagesOfThree(lab.memory.begin, lab.memory.at_once, lab.memory.read)
    lab.spoil(
        "UPDATE sample_entry SET leaf = :x, leaf_hash = :h WHERE idx = 7", x=b"x", h=b"x" * 32
    )
    report = verify_log(lab.log, SIGNER.verifier, store, lab.database.snapshot, lab.clock)
    assert [finding.kind for finding in report.findings] == [Kind.EDITED]
    assert sum(pages) == 11
