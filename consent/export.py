"""Write a log out as files that an auditor can check without us: C2SP tlog-tiles, and a README.

The directory holds `checkpoint`, `tile/…` (hash tiles and entry bundles, the partial ones of the
signed size included), `vkey`, `README.txt` and, for the consent ledger, `disclosures.jsonl`.

Guarantees: the directory appears whole or not at all; what is there already is never touched. Of
disclosures only the named claims are written: by default none that points at a person. Memory does
not grow with the log.

Non-goals: checking (`consent.ledger.verify` does, and so must whoever receives this: a log that is
damaged is exported as it is), and archives: pack the directory as you like.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from sqlalchemy import Connection, select

from consent.errors import ConsentError, LedgerError
from consent.ledger.checkpoint import Checkpoint, open_checkpoint, parse_vkey
from consent.ledger.leaf import disclosed
from consent.ledger.log import MerkleLog
from consent.ledger.tiles import tiles_of
from consent.ledger.verify import Snapshot
from consent.models import event as event_table
from consent.subjects import EvidenceCipher

IMPERSONAL: Final = frozenset({"method"})
"""Claims that point at nobody. All others name a person, or help to find one by time or words."""

_EVENTS_A_PAGE: Final = 2048


class ExportError(ConsentError):
    """The export cannot be written there."""

    code = "EXPORT_REFUSED"


@dataclass(frozen=True, slots=True)
class Disclosures:
    """What of the evidence goes with the consent ledger: these claims, opened by this cipher."""

    cipher: EvidenceCipher
    may_see: frozenset[str] = IMPERSONAL


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    size: int
    root: bytes
    tiles: int
    disclosures: int
    """Entries of which something was disclosed."""


def export(
    directory: Path,
    *,
    log: MerkleLog,
    snapshot: Snapshot,
    checkpoint: str,
    vkey: str,
    disclosures: Disclosures | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Exported:
    """Write the log as of a signed checkpoint.

    Args:
        directory: where to; must not exist yet, or be empty.
        log: the consent ledger, or another log (then without `disclosures`).
        snapshot: opens a read-only transaction; all is read in one.
        checkpoint: the signed note. The log may have grown since.
        vkey: the verifier key that signed it.
        disclosures: which claims to disclose; none at all if None.
        progress: called with the number of tiles done and to do. What it raises ends the export.

    Raises:
        ExportError: something is there already, or it cannot be written.
        LedgerError: the checkpoint is not signed by that key, or the log is shorter than it says.
    """
    if directory.is_dir() and any(directory.iterdir()):
        raise ExportError(f"{directory} is not empty; name a directory that does not exist yet")
    if directory.exists() and not directory.is_dir():
        raise ExportError(f"{directory} exists and is not a directory")
    head = open_checkpoint(checkpoint, [parse_vkey(vkey)])
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    except OSError as error:
        raise ExportError(f"{directory} cannot be written: {error.strerror}") from error
    try:
        with snapshot() as reader:
            tiles = _write_tiles(draft, reader, log, head.size, progress)
            told = _write_disclosures(draft, reader, head.size, disclosures) if disclosures else 0
        (draft / "checkpoint").write_text(checkpoint, encoding="utf-8")
        (draft / "vkey").write_text(f"{vkey}\n", encoding="utf-8")
        (draft / "README.txt").write_text(_readme(head, vkey, disclosures), encoding="utf-8")
        draft.rename(directory)
    except OSError as error:
        raise ExportError(f"{directory} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Exported(head.size, head.root, tiles, told)


def _write_tiles(
    draft: Path,
    reader: Connection,
    log: MerkleLog,
    size: int,
    progress: Callable[[int, int], None],
) -> int:
    total = sum(1 for _ in tiles_of(size))
    for done, tile in enumerate(tiles_of(size), 1):
        data = log.tile_data(reader, tile)
        if data is None:
            raise LedgerError(f"{tile.path()} is missing: the log is shorter than was signed")
        file = draft / tile.path()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        progress(done, total)
    return total


def _write_disclosures(draft: Path, reader: Connection, size: int, wanted: Disclosures) -> int:
    count = 0
    with (draft / "disclosures.jsonl").open("w", encoding="ascii") as file:
        for index, shown in _disclosed(reader, size, wanted):
            file.write(json.dumps({"index": index, "disclosures": shown}) + "\n")
            count += 1
    return count


def _disclosed(
    reader: Connection, size: int, wanted: Disclosures
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The wanted disclosures of each event that has any. Erased people's events have none."""
    said = event_table.c
    for start in range(0, size, _EVENTS_A_PAGE):
        stop = min(start + _EVENTS_A_PAGE, size)
        rows = reader.execute(
            select(said.idx, said.subject_ref, said.id, said.sealed)
            .where(said.idx >= start, said.idx < stop)
            .order_by(said.idx)
        ).all()
        opened = wanted.cipher.open(
            reader, [(ref, event_id, data) for _, ref, event_id, data in rows]
        )
        for row, plain in zip(rows, opened, strict=True):
            all_of_them = plain.decode("ascii").split("\n") if plain is not None else []
            shown = disclosed(all_of_them, wanted.may_see)
            if shown:
                yield row.idx, shown


def _readme(head: Checkpoint, vkey: str, disclosures: Disclosures | None) -> str:
    if disclosures is None:
        told = "There is no disclosures.jsonl in this export."
    else:
        claims = ", ".join(sorted(disclosures.may_see)) or "none"
        told = f"Claims disclosed in this export: {claims}."
    return _README.substitute(
        origin=head.origin, size=f"{head.size:,}", root=head.root.hex(), vkey=vkey, told=told
    )


_README: Final = Template(
    """\
A TRANSPARENCY LOG, TO BE CHECKED BY YOU

Log      $origin
Entries  $size
Root     $root
Key      $vkey

What this is
    A copy of an append-only log. Its entries are the leaves of a Merkle tree
    (RFC 6962); the root above commits to every one of them and to their order,
    and the log's operator has signed it.

    checkpoint           origin, number of entries, root; signed
    vkey                 the public key that signed it
    tile/entries/...     the entries, up to 256 in a file
    tile/0/..., tile/1/  the hashes of the tree (C2SP tlog-tiles)
    disclosures.jsonl    what was disclosed to you of single entries, if anything

How to check it
    1. Get the key from somewhere else than this directory, and compare it with
       the one above. Whoever gave you a forged log can give you its key as well.
    2. Run a checker that you trust. With Go's own packages for its checksum
       database (golang.org/x/mod/sumdb), as our small program tlogcheck does:

           tlogcheck VKEY-FILE THIS-DIRECTORY [OLD-CHECKPOINT ...]

       Its source and how to build it are in tools/tlogcheck of the program that
       wrote this. Any other verifier of C2SP tlog-tiles will do as well.
    3. Give it every older checkpoint of this log that you have, and keep this
       one: only old checkpoints show that history was not rewritten.

What a consent entry says
    What was chosen, for which purpose, on which channel, under which policy and
    legal basis, and when it was recorded. Never who: a person, the words, the
    time claimed and the evidence are only there as salted digests ("_sd",
    RFC 9901). A disclosure lets you check one of them: its SHA-256 in base64url
    is among the digests of the entry. An entry without disclosures was not
    disclosed to you, or the person has been erased since; it counts all the same.
    $told

What it proves
    That these entries, in this order, are what the key signed; and, for each
    older checkpoint you hold, that nothing up to it was changed, moved or taken
    away since.

What it does not prove
    That an entry is true: that a person really chose this. That everything that
    happened was recorded. That nobody else was shown another history under the
    same key: compare checkpoints with others who hold some.
"""
)
