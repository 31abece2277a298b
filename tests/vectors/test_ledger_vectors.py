"""Answers that others computed: Go's sumdb, transparency-dev/merkle, C2SP, Sunlight."""

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from consent.ledger.checkpoint import (
    BadSignatureError,
    Checkpoint,
    MalformedNoteError,
    NoteError,
    SignatureType,
    UnverifiedNoteError,
    open_checkpoint,
    open_note,
    parse_vkey,
    sign_note,
    vkey,
)
from consent.ledger.proofs import (
    consistency_proof,
    inclusion_proof,
    root_at,
    verify_consistency,
    verify_inclusion,
)
from consent.ledger.tiles import TilePath, tile_reader, tiles_of
from consent.ledger.tree import EMPTY_ROOT, Frontier, leaf_hash, node_hash, root_of
from tests.fakes.memory_log import MemoryTree, signer_of

HERE = Path(__file__).parent
UPSTREAM = HERE.parents[2] / "shared" / "vectors" / "ledger"

needs_upstream = pytest.mark.skipif(
    not UPSTREAM.is_dir(), reason=f"other people's vectors are not at {UPSTREAM}"
)


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def cases(name: str) -> list[Any]:
    path = UPSTREAM / name
    return load(path)["cases"] if path.is_file() else []


@cache
def generated() -> Any:
    return load(HERE / "known_answers" / "rfc6962_generated_300.json")


@cache
def generated_tree() -> MemoryTree:
    return MemoryTree([leaf_hash(b"leaf %d" % index) for index in range(300)])


def hashes(encoded: list[str]) -> list[bytes]:
    return [base64.b64decode(item) for item in encoded]


@needs_upstream
def test_hashes_are_those_of_transparency_dev() -> None:
    vectors = load(UPSTREAM / "rfc6962_hashes.json")
    leaves = [leaf_hash(bytes.fromhex(item)) for item in vectors["leaf_inputs_hex"]]
    rows = MemoryTree(leaves).rows
    assert EMPTY_ROOT.hex() == vectors["empty_root_hex"]
    assert [[item.hex() for item in row] for row in rows] == vectors["node_hashes_hex_by_level"]
    roots = [root_of(leaves[:size]).hex() for size in range(9)]
    assert roots == vectors["root_hashes_hex_by_size"]


@needs_upstream
@pytest.mark.parametrize("case", cases("rfc6962_hashes.json"), ids=lambda case: case["op"])
def test_single_hashes_are_those_of_transparency_dev(case: dict[str, str]) -> None:
    match case:
        case {"op": "leaf", "input_hex": data}:
            computed: bytes = leaf_hash(bytes.fromhex(data))
        case {"op": "node", "left_hex": left, "right_hex": right}:
            computed = node_hash(bytes.fromhex(left), bytes.fromhex(right))
        case _:
            computed = root_of([])
    assert computed.hex() == case["want_hex"]


def test_every_root_up_to_300_is_that_of_go() -> None:
    roots = hashes(generated()["roots_by_size"])
    tree = generated_tree()
    frontier = Frontier()
    for size, root in enumerate(roots):
        assert frontier.root == root
        assert root_at(size, tree.read) == root
        frontier = frontier.append(tree.rows[0][size : size + 1])


def test_inclusion_proofs_are_those_of_go() -> None:
    roots = hashes(generated()["roots_by_size"])
    tree = generated_tree()
    for case in generated()["inclusion"]:
        index, size, proof = case["leaf_index"], case["tree_size"], hashes(case["proof"])
        assert inclusion_proof(index, size, tree.read) == proof
        verify_inclusion(tree.rows[0][index], index, size, proof, roots[size])


def test_consistency_proofs_are_those_of_go() -> None:
    roots = hashes(generated()["roots_by_size"])
    for case in generated()["consistency"]:
        old, new, proof = case["old_size"], case["new_size"], hashes(case["proof"])
        assert consistency_proof(old, new, generated_tree().read) == proof
        verify_consistency(old, new, roots[old], roots[new], proof)


def test_tile_paths_are_those_of_go_without_the_height() -> None:
    for case in generated()["partial_tiles"]:
        path = case["sumdb_path"].replace("tile/8/", "tile/", 1)
        tile = TilePath(case["level"], case["n"], case["width"])
        assert tile.path() == path
        assert TilePath.parse(path) == tile
        if case["tree_size"] <= 70_000:
            assert tile in set(tiles_of(case["tree_size"]))


REASON: dict[str, type[NoteError]] = {
    "no verifiable signature": UnverifiedNoteError,
    "unknown key": UnverifiedNoteError,
    "invalid signature": BadSignatureError,
    "invalid signature for known key": BadSignatureError,
    "malformed": MalformedNoteError,
    "malformed (Go limit is 100; C2SP requires accepting >=16)": MalformedNoteError,
}


@needs_upstream
@pytest.mark.parametrize("case", cases("signed_note.json"), ids=lambda case: case["id"])
def test_notes_open_exactly_where_go_and_c2sp_open_them(case: dict[str, Any]) -> None:
    note = base64.b64decode(case["note_b64"])
    verifiers = [parse_vkey(text) for text in case["vkeys"]]
    if case["valid"]:
        opened = open_note(note, verifiers)
        assert opened.text == case["text"]
        assert list(opened.verified) == case["verified_by"]
    else:
        with pytest.raises(REASON[case["error"]]):
            open_note(note, verifiers)


@needs_upstream
@pytest.mark.parametrize("case", cases("signed_note.json"), ids=lambda case: case["id"])
def test_verifier_keys_read_and_write_the_same(case: dict[str, Any]) -> None:
    for text in case["vkeys"]:
        verifier = parse_vkey(text)
        assert vkey(verifier.name, verifier.public_key) == text


@needs_upstream
def test_signing_gives_the_published_note_byte_for_byte() -> None:
    signing = load(UPSTREAM / "signed_note.json")["signing"]
    assert sign_note(signing["text"], signer_of(signing["skey"])) == signing["want"]


@needs_upstream
def test_a_published_tile_tree_hashes_to_its_cosigned_checkpoint() -> None:
    log = UPSTREAM / "tlog_tiles_tree300"
    witness = parse_vkey(load(log / "mirror.v0.json")["verifier_keys"][0])
    assert witness.kind is SignatureType.COSIGNATURE_V1
    checkpoint = Checkpoint.parse(open_note((log / "checkpoint").read_bytes(), [witness]).text)
    present = {
        (path.level, path.n): (log / path.path()).read_bytes()
        for path in tiles_of(checkpoint.size)
        if path.level != "entries"  # upstream's fixture has none
    }
    read = tile_reader(lambda level, n: present[level, n])
    assert (checkpoint.origin, checkpoint.size) == ("rome2026h1.example.org", 300)
    assert root_at(checkpoint.size, read) == checkpoint.root
    for index in (0, 255, 256, 299):
        proof = inclusion_proof(index, 300, read)
        verify_inclusion(read(0, index), index, 300, proof, checkpoint.root)


@needs_upstream
def test_a_witness_alone_does_not_make_a_checkpoint() -> None:
    log = UPSTREAM / "tlog_tiles_tree300"
    witness = parse_vkey(load(log / "mirror.v0.json")["verifier_keys"][0])
    with pytest.raises(UnverifiedNoteError, match="named as its origin"):
        open_checkpoint((log / "checkpoint").read_bytes(), [witness])
