from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.ledger.checkpoint import (
    BadSignatureError,
    Checkpoint,
    NoteError,
    UnverifiedNoteError,
    sign_note,
)
from consent.ledger.proofs import ProofError, inclusion_proof
from consent.ledger.tlog_proof import TlogProof
from consent.ledger.tree import leaf_hash
from tests.fakes.memory_log import MemoryTree, SeedSigner

SIGNER = SeedSigner("example.com/consent")
ENTRIES = [b"entry %d" % index for index in range(11)]
HASHES = [leaf_hash(entry) for entry in ENTRIES]


def proof_of(index: int, size: int = 11, extra: bytes | None = None) -> TlogProof:
    tree = MemoryTree(HASHES[:size])
    note = sign_note(Checkpoint(SIGNER.name, size, tree.root).text(), SIGNER)
    return TlogProof(index, tuple(inclusion_proof(index, size, tree.read)), note, extra)


@pytest.mark.parametrize("extra", [None, b"", b"\x00\xffdisclosures"])
@pytest.mark.parametrize(("index", "size"), [(0, 1), (0, 11), (7, 11), (10, 11)])
def test_a_proof_reads_back_as_written_and_verifies(
    index: int, size: int, extra: bytes | None
) -> None:
    proof = TlogProof.parse(proof_of(index, size, extra).format())
    assert proof == proof_of(index, size, extra)
    assert proof.verify(ENTRIES[index], [SIGNER.verifier]).size == size


def test_the_text_is_that_of_the_specification() -> None:
    lines = proof_of(10, extra=b"age").format().split("\n")
    assert lines[:3] == ["c2sp.org/tlog-proof@v1", "extra YWdl", "index 10"]
    assert lines[5:8] == ["", SIGNER.name, "11"]


def test_another_entry_or_index_does_not_verify() -> None:
    proof = proof_of(3)
    with pytest.raises(ProofError):
        proof.verify(ENTRIES[4], [SIGNER.verifier])
    with pytest.raises(ProofError):
        replace(proof, index=4).verify(ENTRIES[3], [SIGNER.verifier])


def test_a_proof_is_worth_its_signature() -> None:
    proof = proof_of(3)
    forged = replace(proof, checkpoint_note=proof.checkpoint_note.replace("\n11\n", "\n12\n"))
    with pytest.raises(BadSignatureError):
        forged.verify(ENTRIES[3], [SIGNER.verifier])
    with pytest.raises(UnverifiedNoteError):
        proof.verify(ENTRIES[3], [SeedSigner(SIGNER.name, b"\x08" * 32).verifier])


@given(st.data())
def test_no_byte_of_a_proof_can_change_unnoticed(data: st.DataObject) -> None:
    text = proof_of(7).format()
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.characters(codec="ascii").filter(lambda new: new != text[place]))
    with pytest.raises((ProofError, NoteError)):
        TlogProof.parse(text[:place] + letter + text[place + 1 :]).verify(
            ENTRIES[7], [SIGNER.verifier]
        )


WHOLE = proof_of(7).format()


@pytest.mark.parametrize(
    "text",
    [
        "",
        WHOLE.replace("@v1", "@v2"),
        WHOLE.replace("index 7", "index 07"),
        WHOLE.replace("index 7", "index -7"),
        WHOLE.replace("index 7\n", ""),
        WHOLE.replace("index 7", "index 7\nextra YWdl"),
        WHOLE.replace("index 7", "extra ?\nindex 7"),
        WHOLE.replace("index 7", "extra YWd\nindex 7"),
        WHOLE.replace("index 7\n", "index 7\nshort=\n"),
        WHOLE.partition("\n\n")[0],
        WHOLE.partition("\n\n")[0] + "\n\n",
    ],
)
def test_what_is_not_a_proof_is_refused(text: str) -> None:
    with pytest.raises(ProofError):
        TlogProof.parse(text)
