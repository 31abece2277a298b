"""Proof that an entry was logged, in one file that needs no network: C2SP tlog-proof.

Guarantees: what verifies is an entry at an index of a log whose checkpoint a known key signed.
Non-goals: `extra` is carried, not trusted, as the specification says.
"""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from consent.ledger.checkpoint import (
    Checkpoint,
    NoteError,
    Verifier,
    decode_base64,
    open_checkpoint,
)
from consent.ledger.proofs import ProofError, verify_inclusion
from consent.ledger.tree import leaf_hash


@dataclass(frozen=True, slots=True)
class TlogProof:
    """An entry's index, its inclusion proof, the checkpoint it leads to, and opaque extra data."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint_note: str
    extra: bytes | None = None

    def format(self) -> str:
        """The text of the proof. Its file extension is `.tlog-proof`."""
        extra = [] if self.extra is None else [f"extra {_base64(self.extra)}"]
        hashes = [_base64(item) for item in self.hashes]
        head = [_MAGIC, *extra, f"index {self.index}", *hashes]
        return "\n".join(head) + "\n\n" + self.checkpoint_note

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a proof, without believing it.

        Raises:
            ProofError: it has not the form of one.
        """
        match = _PROOF.fullmatch(text)
        if match is None:
            raise ProofError("the text is not a tlog-proof")
        try:
            hashes = tuple(decode_base64(line) for line in match["hashes"].split())
            extra = None if match["extra"] is None else decode_base64(match["extra"])
        except NoteError as error:
            raise ProofError("the tlog-proof holds malformed base64") from error
        return cls(int(match["index"]), hashes, match["checkpoint"], extra)

    def verify(self, leaf: bytes, verifiers: Iterable[Verifier]) -> Checkpoint:
        """Check that the log which signed the checkpoint holds this entry. Returns the checkpoint.

        Raises:
            NoteError: the checkpoint is not signed as it must be (`open_checkpoint`).
            ProofError: the entry is not shown to be in that tree at that index.
        """
        checkpoint = open_checkpoint(self.checkpoint_note, verifiers)
        verify_inclusion(leaf_hash(leaf), self.index, checkpoint.size, self.hashes, checkpoint.root)
        return checkpoint


_MAGIC: Final = "c2sp.org/tlog-proof@v1"
_PROOF: Final = re.compile(
    re.escape(_MAGIC) + r"\n"
    r"(?:extra (?P<extra>[A-Za-z0-9+/=]*)\n)?"
    r"index (?P<index>0|[1-9][0-9]{0,17})\n"
    r"(?P<hashes>(?:[A-Za-z0-9+/]{43}=\n){0,63})"
    r"\n(?P<checkpoint>.+)",
    re.DOTALL,
)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
