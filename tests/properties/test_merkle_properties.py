"""The tree and its proofs hold at every small size, at every tile edge, and under tampering."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.errors import LedgerError
from consent.ledger.proofs import (
    ProofError,
    consistency_proof,
    inclusion_proof,
    root_at,
    verify_consistency,
    verify_inclusion,
)
from consent.ledger.tiles import TILE_WIDTH, TilePath, new_full_tiles, tile_reader, tiles_of
from consent.ledger.tree import EMPTY_ROOT, Frontier, FrontierError, leaf_hash, node_hash, root_of
from tests.fakes.memory_log import MemoryTree

LARGEST = 65_538
EDGES = (255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537)

sizes = st.one_of(st.integers(0, 300), st.sampled_from(EDGES), st.integers(0, LARGEST))


@cache
def tree() -> MemoryTree:
    return MemoryTree([leaf_hash(b"entry %d" % index) for index in range(LARGEST)])


@cache
def root(size: int) -> bytes:
    return root_at(size, tree().read)


def merkle_tree_hash(hashes: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word: the definition that everything else is held to."""
    if not hashes:
        return EMPTY_ROOT
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return node_hash(merkle_tree_hash(hashes[:k]), merkle_tree_hash(hashes[k:]))


def frontier_at(size: int) -> Frontier:
    return Frontier().append(tree().rows[0][:size])


def flipped(hashes: list[bytes], position: int, bit: int) -> list[bytes]:
    changed = bytearray(hashes[position])
    changed[bit // 8] ^= 1 << bit % 8
    return [*hashes[:position], bytes(changed), *hashes[position + 1 :]]


@pytest.mark.parametrize("size", [*range(301), *EDGES])
def test_root_is_the_rfc_definition_however_it_is_reached(size: int) -> None:
    leaves = tree().rows[0][:size]
    expected = merkle_tree_hash(leaves)
    assert root_of(leaves) == expected
    assert root(size) == expected
    assert Frontier().append(leaves[: size // 3]).append(leaves[size // 3 :]).root == expected


@given(st.lists(st.integers(0, 700), max_size=6))
def test_batches_of_any_length_build_the_same_tree_as_single_leaves(batches: list[int]) -> None:
    frontier = Frontier()
    for length in batches:
        leaves = tree().rows[0][frontier.size : frontier.size + length]
        frontier = frontier.append(leaves)
    assert frontier == frontier_at(sum(batches))
    assert len(frontier.roots) == frontier.size.bit_count()
    assert Frontier.from_bytes(frontier.size, frontier.to_bytes()) == frontier


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 255))
def test_whole_tiles_may_be_appended_by_their_roots(before: int, tiles: int, tail: int) -> None:
    start, end = before * TILE_WIDTH, (before + tiles) * TILE_WIDTH
    frontier = frontier_at(start).append(tree().rows[8][before : before + tiles], level=8)
    assert frontier.append(tree().rows[0][end : end + tail]) == frontier_at(end + tail)


def test_subtrees_do_not_follow_a_ragged_edge() -> None:
    with pytest.raises(FrontierError):
        frontier_at(257).append(tree().rows[8][:1], level=8)


@given(sizes, st.integers(-33, 33).filter(bool))
def test_frontier_bytes_of_another_length_are_refused(size: int, difference: int) -> None:
    data = frontier_at(size).to_bytes()
    wrong = data[:difference] if difference < 0 else data + bytes(difference)
    if wrong != data:
        with pytest.raises(FrontierError):
            Frontier.from_bytes(size, wrong)


@pytest.mark.parametrize("size", range(1, 301))
def test_every_entry_of_every_small_tree_is_proven(size: int) -> None:
    for index in range(size):
        proof = inclusion_proof(index, size, tree().read)
        verify_inclusion(tree().rows[0][index], index, size, proof, root(size))


@pytest.mark.parametrize("new", range(1, 301))
def test_every_small_tree_is_proven_to_grow_from_its_past(new: int) -> None:
    for old in range(new + 1):
        proof = consistency_proof(old, new, tree().read)
        verify_consistency(old, new, root(old), root(new), proof)


@pytest.mark.parametrize("size", EDGES)
def test_proofs_hold_at_tile_edges(size: int) -> None:
    for place in {0, 1, 254, 255, 256, 257, size // 2, size - 2, size - 1} & set(range(size)):
        proof = inclusion_proof(place, size, tree().read)
        verify_inclusion(tree().rows[0][place], place, size, proof, root(size))
        growth = consistency_proof(place, size, tree().read)
        verify_consistency(place, size, root(place), root(size), growth)


@given(st.data())
def test_a_tampered_inclusion_proof_is_rejected(data: st.DataObject) -> None:
    size = data.draw(sizes.filter(lambda size: size > 1))
    index = data.draw(st.integers(0, size - 1))
    leaf = tree().rows[0][index]
    proof = inclusion_proof(index, size, tree().read)
    position = data.draw(st.integers(0, len(proof) - 1))
    bit = data.draw(st.integers(0, 255))
    other_index = data.draw(st.integers(0, size - 1).filter(lambda other: other != index))
    attempts = [
        (leaf, index, size, flipped(proof, position, bit), root(size)),
        (leaf, index, size, proof[:-1], root(size)),
        (leaf, index, size, [*proof, proof[position]], root(size)),
        (leaf, index, size, [*proof[:position], *proof[position + 1 :]], root(size)),
        (leaf, index, size, [*proof[:position], proof[position] + b"\0"], root(size)),
        (leaf, other_index, size, proof, root(size)),
        (leaf, index + size, size, proof, root(size)),
        (leaf, -1, size, proof, root(size)),
        (leaf, index, 0, proof, root(size)),
        (flipped([leaf], 0, bit)[0], index, size, proof, root(size)),
        (leaf[:31], index, size, proof, root(size)),
        (leaf, index, size, proof, flipped([root(size)], 0, bit)[0]),
    ]
    for attempt in attempts:
        with pytest.raises(ProofError):
            verify_inclusion(*attempt)


@given(st.data())
def test_a_tampered_consistency_proof_is_rejected(data: st.DataObject) -> None:
    new = data.draw(sizes.filter(lambda size: size > 1))
    old = data.draw(st.integers(1, new - 1))
    proof = consistency_proof(old, new, tree().read)
    position = data.draw(st.integers(0, len(proof) - 1))
    bit = data.draw(st.integers(0, 255))
    attempts = [
        (old, new, root(old), root(new), flipped(proof, position, bit)),
        (old, new, root(old), root(new), proof[:-1]),
        (old, new, root(old), root(new), [*proof, proof[position]]),
        (old, new, root(old), root(new), []),
        (old, new, root(old), root(new), [item[:31] for item in proof]),
        (old, new, flipped([root(old)], 0, bit)[0], root(new), proof),
        (old, new, root(old), flipped([root(new)], 0, bit)[0], proof),
        (old, new, root(new), root(old), proof),
        (new, old, root(new), root(old), proof),
        (-old, new, root(old), root(new), proof),
        (0, new, root(old), root(new), []),
        (0, new, EMPTY_ROOT, root(new), proof),
        (new, new, root(old), root(new), []),
        (new, new, root(new), root(new), proof),
    ]
    for attempt in attempts:
        with pytest.raises(ProofError):
            verify_consistency(*attempt)


@given(st.data())
def test_a_fork_is_not_consistent(data: st.DataObject) -> None:
    """A log that rewrote one entry cannot prove growth from what it signed before."""
    new = data.draw(st.integers(2, 300))
    old = data.draw(st.integers(1, new - 1))
    changed = data.draw(st.integers(0, old - 1))
    leaves = flipped(tree().rows[0][:new], changed, 0)
    proof = consistency_proof(old, new, MemoryTree(leaves).read)
    with pytest.raises(ProofError):
        verify_consistency(old, new, root(old), root_of(leaves), proof)


def test_an_empty_tree_grows_into_any_and_has_one_root() -> None:
    verify_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
    verify_consistency(0, 5, EMPTY_ROOT, root(5), [])
    for other in (root(1), bytes(32)):
        with pytest.raises(ProofError):
            verify_consistency(0, 0, EMPTY_ROOT, other, [])
        with pytest.raises(ProofError):
            verify_consistency(0, 0, other, other, [])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (6, 5), (-1, 5)])
def test_no_proof_is_made_for_an_entry_that_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ProofError):
        inclusion_proof(index, size, tree().read)


@pytest.mark.parametrize(("old", "new"), [(6, 5), (-1, 5)])
def test_no_proof_is_made_of_shrinking(old: int, new: int) -> None:
    with pytest.raises(ProofError):
        consistency_proof(old, new, tree().read)


@given(sizes)
def test_tiles_hold_every_hash_that_a_tree_of_their_size_needs(size: int) -> None:
    held = {
        (path.level, path.n): tree().tile(path)
        for path in tiles_of(size)
        if path.level != "entries"
    }
    read = tile_reader(lambda level, n: held.get((level, n), b""))
    assert root_at(size, read) == root(size)
    if size:
        index = size * 2 // 3
        assert inclusion_proof(index, size, read) == inclusion_proof(index, size, tree().read)
    with pytest.raises(LedgerError):
        read(0, size)


@given(sizes, sizes)
def test_tiles_fill_once_as_a_tree_grows(one: int, other: int) -> None:
    old, new = sorted((one, other))

    def full(size: int) -> list[TilePath]:
        return [
            path for path in tiles_of(size) if path.width == TILE_WIDTH and path.level != "entries"
        ]

    fresh = [TilePath(level, n) for level, n in new_full_tiles(old, new)]
    assert fresh == [path for path in full(new) if path not in set(full(old))]


@given(sizes)
def test_entry_bundles_cover_every_entry_once(size: int) -> None:
    bundles = [path for path in tiles_of(size) if path.level == "entries"]
    assert sum(path.width for path in bundles) == size
    assert [path.n for path in bundles] == list(range(len(bundles)))
