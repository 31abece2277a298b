"""Two accounts of one log, and which of them to believe. Pure.

Of every entry there is what it hashes to, and what stands elsewhere: the hash beside it, its hash
in a tile, the hashes of whole tiles in the tiles above. The first is the account of the entries,
the rest is the account of the hashes. Both trees are grown side by side. Where they differ, the
account that leads to a signed root is right, and what is wrong with the other gets its name; where
nothing was signed, the head row decides, and failing that the majority.

Memory: the hashes of the tiles that are not full yet, one tile a level, twice.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations, product
from typing import Any, Final, Self, TypeAlias

from consent.ledger.findings import Findings, Kind
from consent.ledger.tiles import TILE_HEIGHT, TILE_WIDTH
from consent.ledger.tree import HASH_SIZE, Frontier, join_subtrees, root_of

TileReader: TypeAlias = Callable[[int, int], bytes | None]
"""(level, n) → the stored tile, or None if there is none of the right length."""

NO_HASH: Final = bytes(HASH_SIZE)
"""Stands for what cannot be hashed: an entry that is gone, a leaf or hash of a wrong form."""

_MAX_SUSPECTS: Final = 1000


@dataclass(frozen=True, slots=True)
class _Suspect:
    """An entry that the two accounts tell apart."""

    index: int
    entry: bytes
    """What the leaf hashes to as it stands."""
    stored: bytes
    """The hash that stands beside the leaf."""
    filed: bytes
    """The hash in the tile; in the tail, where there is none, the stored one again."""


@dataclass(frozen=True, slots=True)
class _Span:
    """A subtree of 256**level entries that the tile above it tells apart."""

    level: int
    n: int

    @property
    def start(self) -> int:
        return self.n << TILE_HEIGHT * self.level

    @property
    def stop(self) -> int:
        return (self.n + 1) << TILE_HEIGHT * self.level


@dataclass(frozen=True, slots=True)
class _Misfit:
    """A perfect subtree of which the head row says that its root is another."""

    start: int
    stop: int
    root: bytes


class _Account:
    """One account of the tree: roots of full tiles, in rows that await the tile above them."""

    def __init__(self, rows: Sequence[Sequence[bytes]] = (), leaves: Sequence[bytes] = ()) -> None:
        self.rows = [list(row) for row in rows]
        self.leaves = list(leaves)
        """The leaf hashes behind the last full tile."""
        self._roots: list[bytes] | None = None

    def push(self, level: int, root: bytes) -> list[bytes]:
        """Add the root of a full tile of `level`; gives the row that it stands in."""
        if level == len(self.rows):
            self.rows.append([])
        self._roots = None
        self.rows[level].append(root)
        return self.rows[level]

    def clear(self, level: int) -> None:
        """The row is a full tile itself, and goes up."""
        self.rows[level] = []
        self._roots = None

    def adopt(self, other: "_Account", count: int) -> None:
        """Believe the other account of all full tiles and of so many leaves behind them."""
        self.rows = [list(row) for row in other.rows]
        self._roots = None
        self.leaves[:count] = other.leaves[:count]

    def roots(self, count: int) -> list[bytes]:
        """The roots of the perfect subtrees, with so many leaves behind the full tiles."""
        if self._roots is None:
            self._roots = [
                root for row in reversed(self.rows) for root in Frontier().append(row).roots
            ]
        return [*self._roots, *Frontier().append(self.leaves[:count]).roots]

    def root(self, count: int) -> bytes:
        """The root of that tree."""
        return join_subtrees(self.roots(count))


class Accounts:
    """Grows both accounts tile by tile, holds them to what was signed, names what is wrong.

    For each tile: `note` every entry in doubt, `lay` the hashes, `hold_to` the checkpoints that end
    in it, `file` it if it is full. At the end: `finish`.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._entries = _Account()
        self._hashes = _Account()
        self._filed = 0
        """Full tiles so far."""
        self._matched = 0
        """Size of the last checkpoint that one of the accounts led to."""
        self._broken: tuple[int, int] | None = None
        """The last good and the first bad checkpoint, to which neither led."""
        self._gone = False
        """Entries are missing that left no hash: no root is to be expected any more."""
        self._suspects: list[_Suspect] = []
        self._spans: list[_Span] = []
        self._altered: list[_Suspect] = []

    @property
    def size(self) -> int:
        """Entries so far."""
        return self._filed * TILE_WIDTH + len(self._entries.leaves)

    @property
    def root(self) -> bytes:
        """The root by the entries, or by their hashes where these were right."""
        return self._entries.root(TILE_WIDTH)

    # --- growing ---------------------------------------------------------------------------

    def note(
        self, index: int, entry: bytes, stored: bytes, filed: bytes | None
    ) -> tuple[bytes, bytes]:
        """An entry's hash by each account, from what it hashes to and what stands elsewhere.

        Two witnesses against one need no signed root to decide.
        """
        one = _Suspect(index, entry, stored, stored if filed is None else filed)
        if one.entry == one.filed:
            if one.stored != one.filed:
                self._blame_stored_hash(index)
            return one.entry, one.entry
        if len(self._suspects) + len(self._altered) >= _MAX_SUSPECTS:
            self._findings.omitted += 1
        elif filed is not None and one.stored == filed:
            self._altered.append(one)
            return filed, filed
        else:
            self._suspects.append(one)
        return one.entry, one.filed

    def note_missing(self, index: int, filed: bytes | None) -> tuple[bytes, bytes]:
        """The same of an entry that is gone."""
        self._findings.add(Kind.MISSING_ENTRY, index, f"Entry {index} is gone.")
        self._gone |= filed is None
        hashed = NO_HASH if filed is None else filed
        return hashed, hashed

    def lay(self, by_entries: list[bytes], by_hashes: list[bytes]) -> None:
        """Take the next leaf hashes by both accounts: 256, or fewer where the log ends."""
        self._entries.leaves, self._hashes.leaves = by_entries, by_hashes

    def file(self, read_tile: TileReader) -> None:
        """Make a full tile of what was laid, and fill the tiles above."""
        one, other = self._entries.leaves, self._hashes.leaves
        self._entries.leaves, self._hashes.leaves = [], []
        n = self._filed
        self._filed += 1
        self._push(0, n, one, other, read_tile)

    def _push(
        self,
        level: int,
        n: int,
        by_entries: list[bytes],
        by_hashes: list[bytes],
        read_tile: TileReader,
    ) -> None:
        root = _perfect_root(by_entries)
        same = by_hashes is by_entries or by_hashes == by_entries
        entries = self._entries.push(level, root)
        hashes = self._hashes.push(level, root if same else _perfect_root(by_hashes))
        if len(entries) < TILE_WIDTH:
            return
        above, upper = level + 1, n // TILE_WIDTH
        data = read_tile(above, upper)
        filed = entries if data is None else split(data)
        if filed != entries:
            self._spans += [
                _Span(above, upper * TILE_WIDTH + k)
                for k, (one, other, told) in enumerate(zip(entries, hashes, filed, strict=True))
                if told not in (one, other) and len(self._spans) < _MAX_SUSPECTS
            ]
            hashes = filed
        self._entries.clear(level)
        self._hashes.clear(level)
        self._push(above, upper, entries, hashes, read_tile)

    # --- what was signed -------------------------------------------------------------------

    def hold_to(self, size: int, root: bytes) -> None:
        """Compare with a checkpoint that ends within what was laid last."""
        count = size - self._filed * TILE_WIDTH
        if self._entries.root(count) == root:
            self._settle(size, entries_right=True)
        elif self._hashes.root(count) == root:
            self._settle(size, entries_right=False)
        else:
            self._broken = self._broken or (self._matched, size)
            return
        self._matched = size

    def _settle(self, size: int, *, entries_right: bool) -> None:
        """Name what differs among the first `size` entries, now that one account is right."""
        if not self._suspects and not self._spans:
            return
        right, wrong = self._entries, self._hashes
        if not entries_right:
            right, wrong = wrong, right
        wrong.adopt(right, size - self._filed * TILE_WIDTH)
        suspects = [one for one in self._suspects if one.index < size]
        spans = [one for one in self._spans if one.stop <= size]
        self._suspects = [one for one in self._suspects if one.index >= size]
        self._spans = [one for one in self._spans if one.stop > size]
        if entries_right:
            self._blame_hashes(suspects, spans)
            return
        self._altered += suspects
        for span in spans:
            self._blame_entries(span.start, span.stop)
            if self._broken and span.start < self._broken[1] and self._broken[0] < span.stop:
                self._broken = None  # that checkpoint ended before the tile that tells was full

    # --- the end ---------------------------------------------------------------------------

    def finish(self, head: Frontier | None, signed: int) -> None:
        """Compare with the head row, and name what is left. `signed`: the last checkpoint's size.

        A head of another size than what was walked is not compared; it has a finding already.
        """
        if head is not None and head.size != self.size:
            head = None
        undecided = {one.index for one in self._suspects}
        self._settle_the_rest(head)
        self._take_back_from_the_tail()
        if not self._gone:
            misfits = [
                one
                for one in self._misfits(head)
                if not any(one.start <= index < one.stop for index in undecided)
            ]
            self._name_what_broke(misfits, signed, undecided)
        self._name_altered()

    def _settle_the_rest(self, head: Frontier | None) -> None:
        by_entries, by_hashes = (one.root(TILE_WIDTH) for one in (self._entries, self._hashes))
        if head is not None and head.root in (by_entries, by_hashes):
            entries_right = head.root == by_entries
        else:
            entries_right = self._broken is None
        self._settle(self.size, entries_right=entries_right)

    def _misfits(self, head: Frontier | None) -> list[_Misfit]:
        misfits: list[_Misfit] = []
        start = 0
        if head is None:
            return misfits
        for level, root, told in zip(
            _levels(head.size), self._entries.roots(TILE_WIDTH), head.roots, strict=True
        ):
            stop = start + (1 << level)
            if root != told:
                misfits.append(_Misfit(start, stop, told))
            start = stop
        return misfits

    def _take_back_from_the_tail(self) -> None:
        """Name entries that were exchanged with one behind the last full tile, and change back."""
        leaves = self._entries.leaves
        places = {hashed: k for k, hashed in enumerate(leaves)}
        for one in list(self._altered):
            k = places.get(one.filed)
            if k is not None and one.entry == one.stored:
                leaves[k] = one.entry
                self._altered.remove(one)
                self._blame_order(one.index, self._filed * TILE_WIDTH + k)

    def _name_what_broke(
        self, misfits: Sequence[_Misfit], signed: int, undecided: Collection[int]
    ) -> None:
        """Why a checkpoint or the head does not fit, unless entries in doubt are reason enough."""
        if self._broken is None:
            if misfits:
                self._blame_head(misfits, signed)
            return
        low, high = self._broken
        parts = [(max(one.start, low), min(one.stop, high)) for one in misfits]
        parts = [(start, stop) for start, stop in parts if start < stop]
        if exchange := self._exchange(misfits):
            self._blame_order(*exchange)
        elif parts:
            for start, stop in parts:
                self._blame_entries(start, stop)
        elif not any(low <= index < high for index in undecided):
            self._findings.add(
                Kind.FORKED,
                low,
                f"The entries {low} to {high - 1} are not those of the checkpoint that was signed "
                f"at size {high}: this is another history.",
            )

    def _exchange(self, misfits: Sequence[_Misfit]) -> tuple[int, int] | None:
        """Two entries behind the last full tile whose exchange makes all fit, if there are such."""
        row = list(self._entries.leaves)
        at = self._filed * TILE_WIDTH
        if not 1 <= len(misfits) <= 2 or misfits[0].start < at:
            return None
        parts = [(slice(one.start - at, one.stop - at), one.root) for one in misfits]
        places = [range(one.start - at, one.stop - at) for one in misfits]
        pairs = combinations(places[0], 2) if len(places) == 1 else product(*places)
        for i, j in pairs:
            row[i], row[j] = row[j], row[i]
            if all(root_of(row[part]) == root for part, root in parts):
                return at + i, at + j
            row[i], row[j] = row[j], row[i]
        return None

    def _name_altered(self) -> None:
        """Edited entries; but those that stand in each other's place were moved."""
        belongs = {one.filed: one for one in self._altered if one.filed != NO_HASH}
        for one in sorted(self._altered, key=lambda one: one.index):
            other = belongs.get(one.entry)
            if other is None:
                self._blame_entries(one.index, one.index + 1)
            elif other.entry == one.filed and other.index < one.index:
                continue  # the other half of an exchange that has its name already
            elif one.entry == one.stored:
                self._blame_order(one.index, other.index)
            else:
                self._findings.add(
                    Kind.SWAPPED_ROW,
                    one.index,
                    f"The row of entry {one.index} holds entry {other.index}.",
                )

    # --- names -----------------------------------------------------------------------------

    def _blame_hashes(self, suspects: Sequence[_Suspect], spans: Sequence[_Span]) -> None:
        damaged: dict[str, int] = {}
        for one in suspects:
            if one.filed == one.stored:
                self._blame_stored_hash(one.index)
            else:
                damaged.setdefault(name_of_tile(0, one.index // TILE_WIDTH), one.index)
        for span in spans:
            damaged.setdefault(name_of_tile(span.level, span.n // TILE_WIDTH), span.start)
        for tile, index in damaged.items():
            self._findings.add(
                Kind.TILE_DAMAGED, index, f"The {tile} is not what the entries hash to."
            )

    def _blame_stored_hash(self, index: int) -> None:
        self._findings.add(Kind.EDITED, index, f"The stored hash of entry {index} was altered.")

    def _blame_entries(self, start: int, stop: int) -> None:
        self._findings.add(
            Kind.EDITED,
            start,
            f"Entry {start} was altered."
            if stop == start + 1
            else f"At least one of the entries {start} to {stop - 1} was altered.",
        )

    def _blame_order(self, one: int, other: int) -> None:
        self._findings.add(
            Kind.REORDERED, one, f"The entries {one} and {other} have changed places."
        )

    def _blame_head(self, misfits: Sequence[_Misfit], signed: int) -> None:
        """All checkpoints fit and the head does not: behind the last of them, it may be right."""
        start, stop = misfits[0].start, misfits[-1].stop
        if signed >= stop:
            self._findings.add(
                Kind.HEAD_DAMAGED,
                None,
                "The head row is not that of the entries, which are those that were signed.",
            )
        elif exchange := self._exchange(misfits):
            self._blame_order(*exchange)
        else:
            self._findings.add(
                Kind.HEAD_DAMAGED,
                start,
                f"The head row and the entries {start} to {stop - 1} do not belong together.",
            )

    # --- resuming --------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "filed": self._filed,
            "matched": self._matched,
            "broken": self._broken,
            "gone": self._gone,
            "suspects": [_suspect_to_json(one) for one in self._suspects],
            "altered": [_suspect_to_json(one) for one in self._altered],
            "spans": [[one.level, one.n] for one in self._spans],
            "entries": _account_to_json(self._entries),
            "hashes": _account_to_json(self._hashes),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], findings: Findings) -> Self:
        """Read what `to_json` wrote."""
        accounts = cls(findings)
        accounts._filed = value["filed"]
        accounts._matched = value["matched"]
        accounts._broken = tuple(value["broken"]) if value["broken"] else None
        accounts._gone = value["gone"]
        accounts._suspects = [_suspect_from_json(one) for one in value["suspects"]]
        accounts._altered = [_suspect_from_json(one) for one in value["altered"]]
        accounts._spans = [_Span(*one) for one in value["spans"]]
        accounts._entries = _account_from_json(value["entries"])
        accounts._hashes = _account_from_json(value["hashes"])
        return accounts


def name_of_tile(level: int, n: int) -> str:
    """How a sentence names a tile."""
    return f"tile {n} of level {level}"


def split(data: bytes) -> list[bytes]:
    """The hashes that stand end to end."""
    return [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]


def _levels(size: int) -> list[int]:
    """The heights of the perfect subtrees of a tree of this size, largest first."""
    return [level for level in reversed(range(size.bit_length())) if size >> level & 1]


def _suspect_to_json(one: _Suspect) -> list[Any]:
    return [one.index, one.entry.hex(), one.stored.hex(), one.filed.hex()]


def _suspect_from_json(value: Sequence[Any]) -> _Suspect:
    return _Suspect(value[0], *(bytes.fromhex(one) for one in value[1:]))


def _account_to_json(account: _Account) -> list[str]:
    return [b"".join(row).hex() for row in (account.leaves, *account.rows)]


def _account_from_json(value: Sequence[str]) -> _Account:
    leaves, *rows = (split(bytes.fromhex(row)) for row in value)
    return _Account(rows, leaves)


# These two loops are most of what a verification costs. To copy a hash that has its prefix already
# is cheaper than to put the prefix before the data (RFC 6962 section 2.1).
_LEAF: Final = sha256(b"\x00")
_NODE: Final = sha256(b"\x01")


def leaf_hashes(leaves: Sequence[bytes]) -> list[bytes]:
    """The hashes of many leaves.

    Raises:
        TypeError: one of them is not bytes.
    """
    hashes: list[bytes] = []
    copy, append = _LEAF.copy, hashes.append
    for leaf in leaves:
        hashed = copy()
        hashed.update(leaf)
        append(hashed.digest())
    return hashes


def _perfect_root(row: Sequence[bytes]) -> bytes:
    """The root over a full tile of hashes."""
    copy = _NODE.copy
    while len(row) > 1:
        data = b"".join(row)
        above: list[bytes] = []
        append = above.append
        for i in range(0, len(data), 2 * HASH_SIZE):
            hashed = copy()
            hashed.update(data[i : i + 2 * HASH_SIZE])
            append(hashed.digest())
        row = above
    return row[0]
