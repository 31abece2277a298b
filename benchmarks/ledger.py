"""The ledger against raw INSERTs, and its verification against a bare hashlib loop."""

import hashlib
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Column, LargeBinary, MetaData, String, Table
from uuid_utils import uuid7

from benchmarks.engines import Databases
from consent import bulk
from consent.group_commit import GroupCommit
from consent.ledger.checkpoint import parse_vkey, vkey
from consent.ledger.log import MerkleLog
from consent.ledger.notary import Notary, SqlCheckpointStore
from consent.ledger.verify import verify_log
from consent.models import log_tables
from governance.database import Database, utcnow
from governance.keys.signer import Ed25519Signer

LEAF = b"x" * 475
"""As long as the leaf of a consent event."""
BULK = 5_000

_metadata = MetaData()
_log = MerkleLog(log_tables("bench", _metadata))
_raw = Table(
    "raw_entry",
    _metadata,
    Column("id", String(36), primary_key=True),
    Column("leaf", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
)

_SIGNER = Ed25519Signer("example.com/bench", Ed25519PrivateKey.from_private_bytes(bytes(32)))

Write = Callable[[Sequence[str]], list[bool]]


def append(databases: Databases, *, one: int, many: int, bulk_rows: int) -> dict[str, Any]:
    """Entries a second against rows a second, in turns: one a transaction, 16 writers, bulk."""
    database = Database.open(databases.new(), pool_size=20)
    with database.begin() as session:
        _metadata.create_all(session.connection())
    ways: dict[str, tuple[Callable[[Write], float], Write, Write]] = {
        "one_writer": (lambda write: _alone(write, one), _raw_rows(database), _entries(database)),
        "sixteen_writers": (
            lambda write: _together(write, many),
            _raw_rows(database),
            _grouped(database),
        ),
        "bulk": (
            lambda write: _in_bulk(write, bulk_rows),
            _raw_rows(database),
            _entries(database),
        ),
    }
    try:
        return {name: _ratio(*way) for name, way in ways.items()}
    finally:
        database.dispose()


def _ratio(drive: Callable[[Write], float], raw: Write, ledger: Write) -> dict[str, float]:
    rounds = [(drive(raw), drive(ledger)) for _ in range(3)]
    return {
        "raw_per_second": round(statistics.median(rate for rate, _ in rounds)),
        "ledger_per_second": round(statistics.median(rate for _, rate in rounds)),
        "ledger_to_raw": round(statistics.median(own / base for base, own in rounds), 3),
    }


def _raw_rows(database: Database) -> Write:
    def write(ids: Sequence[str]) -> list[bool]:
        with database.begin() as session:
            bulk.insert(session, _raw, [(one, LEAF, LEAF[:32]) for one in ids])
        return [True] * len(ids)

    return write


def _entries(database: Database) -> Write:
    def write(ids: Sequence[str]) -> list[bool]:
        with database.begin() as session:
            _log.append(session, _log.lock(session), [(one, LEAF) for one in ids])
        return [True] * len(ids)

    return write


def _grouped(database: Database) -> Write:
    write = _entries(database)
    group = GroupCommit[str, list[bool], bool](
        write, lambda done: done, lambda one: write([one])[0], lambda _: None
    )
    return lambda ids: [group.submit(one) for one in ids]


def _alone(write: Write, count: int) -> float:
    started = time.perf_counter()
    for one in _ids(count):
        write([one])
    return count / (time.perf_counter() - started)


def _together(write: Write, count: int) -> float:
    with ThreadPoolExecutor(16) as pool:
        started = time.perf_counter()
        for _ in pool.map(lambda one: write([one]), _ids(count)):
            pass
        return count / (time.perf_counter() - started)


def _in_bulk(write: Write, count: int) -> float:
    started = time.perf_counter()
    for _ in range(0, count, BULK):
        write(list(_ids(BULK)))
    return count / (time.perf_counter() - started)


def _ids(count: int) -> Iterator[str]:
    return (str(uuid7()) for _ in range(count))


def verify(databases: Databases, folder: Path, entries: int) -> dict[str, Any]:
    """Full verification of a log against hashing the same bytes in a loop, each in a process."""
    url = databases.new()
    store_url = f"sqlite:///{folder / 'checkpoints.sqlite'}"
    database = Database.open(url)
    with database.begin() as session:
        _metadata.create_all(session.connection())
    write = _entries(database)
    for start in range(0, entries, BULK):
        write(list(_ids(min(BULK, entries - start))))
    _sign(database, store_url)
    database.dispose()
    loops = sorted(_apart(_hash_loop, url, store_url)["seconds"] for _ in range(3))
    checks = sorted(
        (_apart(_verify, url, store_url) for _ in range(3)), key=lambda one: one["seconds"]
    )
    return {
        "entries": entries,
        "hashlib_seconds": round(loops[1], 2),
        "verify_seconds": round(checks[1]["seconds"], 2),
        "verify_to_hashlib": round(checks[1]["seconds"] / loops[1], 2),
        "verify_megabytes": round(checks[1]["megabytes"], 1),
    }


def _apart(work: Callable[[str, str], None], url: str, store_url: str) -> dict[str, float]:
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_timed, (work, url, store_url))


def _timed(work: Callable[[str, str], None], url: str, store_url: str) -> dict[str, float]:
    started = time.perf_counter()
    work(url, store_url)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {"seconds": seconds, "megabytes": peak}


def _hash_loop(url: str, _: str) -> None:
    """What anyone would do first: read the leaves and hash them, and no more."""
    database = Database.open(url)
    with database.read() as reader:
        size = _log.frontier(reader).size
        for start in range(0, size, BULK):
            for entry in _log.entries(reader, start, start + BULK):
                hashlib.sha256(entry.leaf).digest()
    database.dispose()


def _verify(url: str, store_url: str) -> None:
    database, store = Database.open(url), _checkpoints(store_url)
    verifier = parse_vkey(vkey(_SIGNER.name, _SIGNER.public_key))
    report = verify_log(_log, verifier, store, database.snapshot, utcnow)
    database.dispose()
    if report.findings:
        raise RuntimeError("the log of the measurement does not verify")


def _sign(database: Database, store_url: str) -> None:
    Notary(_log, _SIGNER, _checkpoints(store_url), database.read, utcnow).certify()


def _checkpoints(url: str) -> SqlCheckpointStore:
    store = Database.open(url)
    return SqlCheckpointStore(store.begin, store.at_once, store.read)
