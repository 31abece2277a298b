"""Proofs that an entry is in a tree, and that a tree is a prefix of a larger one.

Guarantees: proofs are those of RFC 9162 sections 2.1.3.1 and 2.1.4.1, whose trees and proofs are
those of RFC 6962; verification follows sections 2.1.3.2 and 2.1.4.2 step by step and accepts a
proof of exactly the right length only. Making a proof reads O(log n) hashes.
Non-goals: trust in a root. That comes from a signed checkpoint.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from consent.errors import LedgerError
from consent.ledger.tree import EMPTY_ROOT, HASH_SIZE, join_subtrees, node_hash

HashReader: TypeAlias = Callable[[int, int], bytes]
"""(level, index) → root of the perfect subtree over leaves index * 2**level … + 2**level - 1."""


class ProofError(LedgerError):
    """A proof was asked for that cannot exist, or does not prove what it claims."""

    code = "PROOF_INVALID"


def inclusion_proof(index: int, size: int, read: HashReader) -> list[bytes]:
    """PATH(index, D[size]) of RFC 9162 section 2.1.3.1, from the leaf upwards.

    Raises:
        ProofError: a tree of that size has no such entry.
    """
    if not 0 <= index < size:
        raise ProofError(f"a tree of {size} entries has no entry {index}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_root_between(middle, end, read))
            end = middle
        else:
            path.append(_root_between(start, middle, read))
            start = middle
    return path[::-1]


def consistency_proof(old: int, new: int, read: HashReader) -> list[bytes]:
    """PROOF(old, D[new]) of RFC 9162 section 2.1.4.1; empty where old is 0.

    Raises:
        ProofError: the old size is negative or larger than the new one.
    """
    if not 0 <= old <= new:
        raise ProofError(f"a tree of {new} entries did not grow from one of {old}")
    if old == 0:
        return []
    path: list[bytes] = []
    start, end = 0, new
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_root_between(middle, end, read))
            end = middle
        else:
            path.append(_root_between(start, middle, read))
            start = middle
    if start > 0:  # else the common part is the old tree itself, whose root the verifier has
        path.append(_root_between(start, end, read))
    return path[::-1]


def root_at(size: int, read: HashReader) -> bytes:
    """The root that the tree had, or has, at this size: MTH(D[size])."""
    return _root_between(0, size, read)


def verify_inclusion(
    leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that the leaf is entry `index` of the tree: RFC 9162 section 2.1.3.2.

    Raises:
        ProofError: it is not shown to be.
    """
    _require_hashes((leaf_hash, root, *proof))
    if not 0 <= index < size:
        raise ProofError(f"a tree of {size} entries has no entry {index}")
    fn, sn, computed = index, size - 1, leaf_hash
    for sibling in proof:
        if sn == 0:
            raise ProofError("the inclusion proof is too long")
        if fn & 1 or fn == sn:
            computed = node_hash(sibling, computed)
            shift = _trailing_zeros(fn)
            fn, sn = fn >> shift, sn >> shift
        else:
            computed = node_hash(computed, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise ProofError("the inclusion proof is too short")
    if computed != root:
        raise ProofError(f"the proof does not lead from entry {index} to the root")


def verify_consistency(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the new tree begins with the old one: RFC 9162 section 2.1.4.2.

    Nothing needs proving of an empty old tree: C2SP tlog-witness, where its proof is empty.

    Raises:
        ProofError: it is not shown to.
    """
    _require_hashes((old_root, new_root, *proof))
    if not 0 <= old_size <= new_size:
        raise ProofError(f"a tree of {new_size} entries did not grow from one of {old_size}")
    if old_size in {0, new_size}:
        _verify_without_proof(old_size, new_size, old_root, new_root, proof)
        return
    if not proof:
        raise ProofError("the consistency proof is too short")
    # A perfect old tree is itself the first hash of the path, so the proof leaves it out.
    path = [old_root, *proof] if old_size.bit_count() == 1 else list(proof)
    shift = _trailing_zeros(old_size)  # the ones that end old_size - 1
    fn, sn = old_size - 1 >> shift, new_size - 1 >> shift
    old_computed = new_computed = path[0]
    for node in path[1:]:
        if sn == 0:
            raise ProofError("the consistency proof is too long")
        if fn & 1 or fn == sn:
            old_computed = node_hash(node, old_computed)
            new_computed = node_hash(node, new_computed)
            shift = _trailing_zeros(fn)
            fn, sn = fn >> shift, sn >> shift
        else:
            new_computed = node_hash(new_computed, node)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise ProofError("the consistency proof is too short")
    if old_computed != old_root:
        raise ProofError(f"the proof does not lead to the root at {old_size}")
    if new_computed != new_root:
        raise ProofError(f"the proof does not lead to the root at {new_size}")


def _verify_without_proof(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    if proof:
        raise ProofError("the consistency proof is too long")
    if old_size == 0 and old_root != EMPTY_ROOT:
        raise ProofError("the root at 0 is not that of the empty tree")
    if old_size == new_size and old_root != new_root:
        raise ProofError(f"two roots are claimed for the tree at {new_size}")


def _root_between(start: int, end: int, read: HashReader) -> bytes:
    """MTH(D[start:end]), where `start` is a multiple of a power of 2 not below the length."""
    roots = []
    while start < end:
        level = (end - start).bit_length() - 1
        roots.append(read(level, start >> level))
        start += 1 << level
    return join_subtrees(roots)


def _split(count: int) -> int:
    """The largest power of 2 below `count`: RFC 9162 section 2.1.1."""
    return 1 << (count - 1).bit_length() - 1


def _trailing_zeros(number: int) -> int:
    """How often a positive number can be shifted right before its last bit is set."""
    return (number & -number).bit_length() - 1


def _require_hashes(hashes: Iterable[bytes]) -> None:
    # Two wrong lengths could make up for each other: a node hashes its children end to end.
    if any(len(item) != HASH_SIZE for item in hashes):
        raise ProofError(f"a hash is not {HASH_SIZE} bytes long")
