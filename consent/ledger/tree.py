"""Merkle tree hashing: RFC 6962 section 2.1 (the same tree as RFC 9162 section 2.1.1).

Guarantees: the empty tree, leaves (prefix 0x00) and nodes (prefix 0x01) hash apart, so no leaf
passes for a node. A tree grows from its `Frontier` alone: O(log n) memory, whatever its size.
Non-goals: storing hashes (`tiles` names where they go) and proving anything (`proofs`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from hashlib import sha256
from typing import Final, NewType, Self

from consent.errors import LedgerError

LeafHash = NewType("LeafHash", bytes)
"""SHA-256 of 0x00 and an entry."""

HASH_SIZE: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()


class FrontierError(LedgerError):
    """Subtree roots that do not fit the size of their tree."""

    code = "FRONTIER_MISFIT"


def leaf_hash(data: bytes) -> LeafHash:
    """The hash of an entry."""
    return LeafHash(sha256(b"\x00" + data).digest())


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node over its two children."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree: all that is needed to grow it.

    `roots` are those of the perfect subtrees that `size` leaves fall into, largest first: one for
    each bit set in `size`.
    """

    size: int = 0
    roots: tuple[bytes, ...] = ()

    def append(self, hashes: Sequence[bytes], *, level: int = 0) -> Self:
        """The frontier after more leaves, or after more perfect subtrees of 2**level leaves.

        Works row by row: pair up a level, set an odd last one aside, go on with the parents.

        Args:
            hashes: Leaf hashes, or subtree roots, in order.
            level: Height of those subtrees; 0 for leaves.

        Raises:
            FrontierError: subtrees of that height cannot follow a tree of this size.
        """
        if self.size % (1 << level):
            raise FrontierError(f"subtrees of height {level} cannot follow {self.size} leaves")
        size = self.size + (len(hashes) << level)
        older, row = list(self.roots), list(hashes)
        newer: list[bytes] = []
        while row:
            if self.size >> level & 1:
                row.insert(0, older.pop())
            if len(row) % 2:
                newer.append(row.pop())
            row = parents(row)
            level += 1
        return type(self)(size, (*older, *reversed(newer)))

    @property
    def root(self) -> bytes:
        """The root of the tree: its Merkle Tree Hash."""
        return join_subtrees(self.roots)

    def to_bytes(self) -> bytes:
        """The roots end to end, 32 bytes each."""
        return b"".join(self.roots)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Self:
        """Read what `to_bytes` wrote for a tree of `size` leaves.

        Raises:
            FrontierError: the length does not fit the size.
        """
        if size < 0 or len(data) != HASH_SIZE * size.bit_count():
            raise FrontierError(f"{len(data)} bytes are not the frontier of {size} leaves")
        steps = range(0, len(data), HASH_SIZE)
        return cls(size, tuple(data[step : step + HASH_SIZE] for step in steps))


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The root of a tree over these leaf hashes, or over equal perfect subtrees' roots."""
    return Frontier().append(hashes).root


def parents(row: Sequence[bytes]) -> list[bytes]:
    """The nodes above a row of hashes. A last one without a partner has no parent yet."""
    return [node_hash(left, right) for left, right in zip(row[::2], row[1::2], strict=False)]


def join_subtrees(roots: Sequence[bytes]) -> bytes:
    """The root of a tree from the roots of its perfect subtrees, largest first."""
    if not roots:
        return EMPTY_ROOT
    return reduce(lambda right, left: node_hash(left, right), reversed(roots))
