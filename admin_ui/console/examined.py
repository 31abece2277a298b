"""Events together with what the ledger says of them, checked while somebody looks.

For each event this recomputes, from the disclosures up: that the sealed disclosures open, hash to
the digests of the leaf and say what the row says; that the leaf says what the row says and hashes
to the entry's hash; and, with a checkpoint, that the entry is in the tree that was signed.
Whoever changed a row, an entry or a disclosure alone is noticed here, at the person concerned.

Non-goals: verifying the whole ledger (`tutela ledger verify`), and deciding who may see claims.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, select

from consent.errors import LedgerError
from consent.ledger.checkpoint import Checkpoint
from consent.ledger.leaf import open_disclosures, read_leaf, timestamp
from consent.ledger.log import MerkleLog
from consent.ledger.proofs import inclusion_proof, verify_inclusion
from consent.ledger.tree import leaf_hash
from consent.models import ledger
from consent.subjects import EvidenceCipher, Reader, SubjectRef
from governance.errors import DecryptionError


class Verdict(StrEnum):
    """What recomputing one event came to."""

    MATCHES = "matches"
    ERASED = "erased"
    """The person's key was destroyed: the leaf stands, and what it commits to is gone."""
    MISMATCH = "mismatch"


@dataclass(frozen=True, slots=True)
class Examined:
    """One event, checked."""

    verdict: Verdict
    claims: Mapping[str, Any]
    """What the disclosures say; empty where they cannot be trusted or read."""
    leaf_hash: bytes | None
    flaw: str | None = None
    """On a mismatch, what does not match."""


class Examiner:
    """Checks events against the ledger."""

    def __init__(self, log: MerkleLog, cipher: EvidenceCipher) -> None:
        self._log = log
        self._cipher = cipher

    def examine(
        self, reader: Reader, events: Sequence[Row[Any]], signed: Checkpoint | None = None
    ) -> dict[str, Examined]:
        """Check rows of `consent_event`; by event id.

        Args:
            reader: a snapshot, taken after `signed` was.
            events: the rows.
            signed: the checkpoint in whose tree the entries have to be; None leaves that out.
        """
        entries = self._entries(reader, [event.idx for event in events])
        opened = self._opened(reader, events)
        read = self._log.hash_reader(reader)
        found = {}
        for event in events:
            entry: Any = entries.get(event.idx)
            try:
                claims = _claims(event, entry, opened[event.id])
                if signed is not None and event.idx < signed.size:
                    proof = inclusion_proof(event.idx, signed.size, read)
                    verify_inclusion(entry.leaf_hash, event.idx, signed.size, proof, signed.root)
            except LedgerError as error:
                stated = None if entry is None else entry.leaf_hash
                found[event.id] = Examined(Verdict.MISMATCH, {}, stated, str(error))
            else:
                verdict = Verdict.ERASED if claims is None else Verdict.MATCHES
                found[event.id] = Examined(verdict, claims or {}, entry.leaf_hash)
        return found

    def _entries(self, reader: Reader, indexes: Sequence[int]) -> dict[int, Any]:
        entry = ledger.entry.c
        rows = reader.execute(
            select(entry.idx, entry.id, entry.leaf, entry.leaf_hash).where(entry.idx.in_(indexes))
        )
        return {row.idx: row for row in rows.all()}

    def _opened(
        self, reader: Reader, events: Sequence[Row[Any]]
    ) -> dict[str, bytes | DecryptionError | None]:
        items = [(SubjectRef(event.subject_ref), event.id, event.sealed) for event in events]
        try:
            return dict(
                zip((item[1] for item in items), self._cipher.open(reader, items), strict=True)
            )
        except DecryptionError:
            # One of them does not open: find out which, so that the others can still be read.
            return {item[1]: self._alone(reader, item) for item in items}

    def _alone(
        self, reader: Reader, item: tuple[SubjectRef, str, bytes]
    ) -> bytes | DecryptionError | None:
        try:
            return self._cipher.open(reader, [item])[0]
        except DecryptionError as error:
            return error


def _claims(
    event: Row[Any], entry: Any, opened: bytes | DecryptionError | None
) -> Mapping[str, Any] | None:
    """The claims of an event that matches its entry; None where its key was destroyed."""
    if entry is None or entry.id != event.id:
        raise LedgerError("the ledger has no such entry at this position")
    if leaf_hash(entry.leaf) != entry.leaf_hash:
        raise LedgerError("the ledger's entry does not hash to its recorded hash")
    leaf = read_leaf(entry.leaf)
    for name, value in (
        ("id", event.id),
        ("type", event.type),
        ("purpose", event.purpose),
        ("channel", event.channel),
        ("state", event.state),
        ("ts", timestamp(event.recorded_at)),
    ):
        if leaf.get(name) != value:
            raise LedgerError(f"the stored event differs from the ledger's entry in {name!r}")
    if opened is None:
        return None
    if isinstance(opened, DecryptionError):
        raise LedgerError("the sealed disclosures were changed or moved")
    if not isinstance(leaf.get("_sd"), list):
        raise LedgerError("the ledger's entry commits to nothing")
    claims = open_disclosures(leaf, opened.decode("ascii").split("\n"))
    notice = claims.get("notice") or {}
    for name, disclosed, value in (
        ("subject", claims.get("subject"), event.subject_ref),
        ("occurred_at", claims.get("occurred_at"), timestamp(event.occurred_at)),
        ("notice", (notice.get("id"), notice.get("version")), (event.notice, event.notice_version)),
        ("ends_at", claims.get("ends_at"), _instant(event.ends_at)),
        ("confirms", claims.get("confirms"), event.confirms),
        ("confirmed_at", claims.get("confirmed_at"), _instant(event.confirmed_at)),
        ("child", claims.get("child_without_authority", False), event.child_without_authority),
    ):
        if disclosed != value:
            raise LedgerError(f"the stored event differs from its disclosures in {name!r}")
    return claims


def _instant(value: datetime | None) -> str | None:
    return None if value is None else timestamp(value)
