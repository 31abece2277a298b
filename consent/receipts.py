"""Receipts: evidence of one event that whoever holds it can check without us.

A receipt carries the ledger's leaf, the disclosures that its reader may see, and a C2SP tlog-proof
that leads from the leaf to a signed checkpoint. The ISO/IEC TS 27560 form is JSON-LD, signed by
the ledger's key as a detached JWS (RFC 7515 appendix F, algorithm Ed25519 of RFC 9864): the payload
is the RFC 8785 form of the document without its `tutela:signature`.

Guarantees: nothing is issued that does not verify: disclosures are held to the leaf and the leaf
to the checkpoint first. No identifier is in a receipt, and the subject ref only where its reader
may see it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import select

from consent.errors import EvidenceErasedError, UnknownEventError
from consent.ledger.checkpoint import NoteSigner, Verifier, open_checkpoint, vkey
from consent.ledger.leaf import disclosed, open_disclosures, read_leaf
from consent.ledger.log import Entry, MerkleLog
from consent.ledger.notary import CheckpointStore, Notary
from consent.ledger.proofs import inclusion_proof, verify_inclusion
from consent.ledger.tlog_proof import TlogProof
from consent.ledger.tree import leaf_hash
from consent.models import event as event_table
from consent.receipt_forms import Facts, status_of, to_dpv, to_kantara
from consent.signed_documents import as_text, signed
from consent.subjects import EvidenceCipher, Reader
from policies.model import PolicySet


class ReceiptFormat(StrEnum):
    """The forms that a receipt can have."""

    TS27560 = "ts27560"
    """ISO/IEC TS 27560 as DPV JSON-LD, with proof and signature."""
    KANTARA = "kantara"
    """Kantara Consent Receipt 1.1: for those who read nothing else. No proof, no signature."""
    TLOG_PROOF = "tlog-proof"
    """The bare proof, with the leaf in its `extra`. Of an erased event this is what remains."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One event, proved: its entry, what it says, and what of that may be disclosed."""

    index: int
    leaf: bytes
    claims: Mapping[str, Any]
    """All of them, also those that may not be disclosed."""
    shown: Mapping[str, Any]
    """Those that are disclosed."""
    disclosures: tuple[str, ...]
    proof: TlogProof


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt, ready to be sent."""

    media_type: str
    body: str


class Receipts:
    """Issues receipts. Shared by threads."""

    def __init__(
        self,
        log: MerkleLog,
        cipher: EvidenceCipher,
        notary: Notary,
        store: CheckpointStore,
        signer: NoteSigner,
        policies: Callable[[], PolicySet],
    ) -> None:
        self._log = log
        self._cipher = cipher
        self._notary = notary
        self._store = store
        self._signer = signer
        self._policies = policies

    def issue(
        self, reader: Reader, event_id: str, receipt_format: str, may_see: frozenset[str]
    ) -> Receipt:
        """A receipt of one event.

        Args:
            reader: a snapshot, so that event, entry and tree belong together.
            event_id: the id that recording gave.
            receipt_format: a `ReceiptFormat`.
            may_see: the names of the claims that the reader of the receipt may see.

        Raises:
            UnknownEventError: no event has this id.
            EvidenceErasedError: the person's key was destroyed, or the event's row with it.
            LedgerError: the event, its entry and the tree do not belong together, or are not
                covered by a checkpoint yet that `reader` can see; the latter passes by itself.
        """
        # Before the reader's first statement: its snapshot then covers what was signed.
        last = self._store.last(self._notary.origin)
        entry = self._entry(reader, event_id)
        note = last.note if last is not None and last.size > entry.idx else None
        proof = self._prove(reader, entry, note or self._notary.certify())
        if receipt_format == ReceiptFormat.TLOG_PROOF:
            return Receipt("text/plain; charset=utf-8", proof.format())
        leaf = read_leaf(entry.leaf)
        disclosures = self._disclosures(reader, entry)
        claims = open_disclosures(leaf, disclosures)
        policies = self._policies()
        facts = Facts(
            origin=self._notary.origin,
            index=entry.idx,
            leaf=leaf,
            claims={name: value for name, value in claims.items() if name in may_see},
            status=status_of(leaf, claims, policies),
            policies=policies,
        )
        if receipt_format == ReceiptFormat.KANTARA:
            key = vkey(self._signer.name, self._signer.public_key)
            return Receipt("application/json", as_text(to_kantara(facts, key)))
        document = to_dpv(facts) | {
            "tutela:ledgerEntry": {
                "tutela:index": entry.idx,
                "tutela:leaf": entry.leaf.decode(),
                "tutela:disclosures": list(disclosed(disclosures, may_see)),
                "tutela:tlogProof": proof.format(),
            }
        }
        return Receipt("application/ld+json", as_text(signed(document, self._signer)))

    def newest_note(self) -> str:
        """The last signed checkpoint, to be asked for before a reader's first statement."""
        last = self._store.last(self._notary.origin)
        return last.note if last is not None else self._notary.certify()

    def evidence(
        self,
        reader: Reader,
        event_ids: Sequence[str],
        note: str,
        may_see: Callable[[Mapping[str, Any]], frozenset[str]],
    ) -> list[Evidence]:
        """Events with their proofs, all under one checkpoint, in the order of the ledger.

        Args:
            reader: a snapshot that covers `note`.
            event_ids: the events.
            note: a checkpoint of `newest_note`. One that an event is younger than makes way for
                one that covers it.
            may_see: of the claims of one event, the names of those that may be disclosed.

        Raises:
            UnknownEventError, EvidenceErasedError, LedgerError: as `issue`.
        """
        entries = sorted((self._entry(reader, one) for one in event_ids), key=lambda one: one.idx)
        own = Verifier(self._signer.name, self._signer.public_key)
        if entries and open_checkpoint(note, [own]).size <= entries[-1].idx:
            note = self._notary.certify()
        found = []
        for entry in entries:
            proof = self._prove(reader, entry, note)
            disclosures = self._disclosures(reader, entry)
            claims = open_disclosures(read_leaf(entry.leaf), disclosures)
            names = may_see(claims)
            found.append(
                Evidence(
                    index=entry.idx,
                    leaf=entry.leaf,
                    claims=claims,
                    shown={name: value for name, value in claims.items() if name in names},
                    disclosures=disclosed(disclosures, names),
                    proof=proof,
                )
            )
        return found

    def _entry(self, reader: Reader, event_id: str) -> Entry:
        table = self._log.tables.entry.c
        row = reader.execute(
            select(table.idx, table.id, table.leaf, table.leaf_hash).where(table.id == event_id)
        ).one_or_none()
        if row is None:
            raise UnknownEventError("no event has this id")
        return Entry(*row)

    def _prove(self, reader: Reader, entry: Entry, note: str) -> TlogProof:
        own = Verifier(self._signer.name, self._signer.public_key)
        checkpoint = open_checkpoint(note, [own])
        hashes = inclusion_proof(entry.idx, checkpoint.size, self._log.hash_reader(reader))
        verify_inclusion(leaf_hash(entry.leaf), entry.idx, checkpoint.size, hashes, checkpoint.root)
        return TlogProof(entry.idx, tuple(hashes), note, extra=entry.leaf)

    def _disclosures(self, reader: Reader, entry: Entry) -> tuple[str, ...]:
        said = event_table.c
        row = reader.execute(
            select(said.subject_ref, said.id, said.sealed).where(
                said.idx == entry.idx, said.id == entry.id
            )
        ).one_or_none()
        opened = None if row is None else self._cipher.open(reader, [tuple(row)])[0]
        if opened is None:
            raise EvidenceErasedError("what this event disclosed was erased")
        return tuple(opened.decode("ascii").split("\n"))
