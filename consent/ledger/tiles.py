"""Where a log's hashes and entries lie: C2SP tlog-tiles.

Guarantees: every path has one spelling, and a parsed path is that spelling. A full tile never
changes; a partial one belongs to the tree sizes that end in it.
Format: a hash tile is up to 256 hashes of 32 bytes, of the subtrees of 256**level leaves; an entry
bundle is up to 256 entries, each after its length in two bytes, big-endian.
Non-goals: reading and writing. Callers do, with files, HTTP or a database.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeAlias

from consent.errors import LedgerError
from consent.ledger.proofs import HashReader
from consent.ledger.tree import HASH_SIZE, root_of

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
MAX_ENTRY: Final = 0xFFFF
"""The longest entry a bundle can hold, in bytes."""

Level: TypeAlias = int | Literal["entries"]


class TileError(LedgerError):
    """A tile that cannot be: entries that fit no bundle, bytes that are none, hashes not there."""

    code = "TILE_INVALID"


class TilePathError(TileError):
    """The path is not that of a tile, or not in its one spelling."""

    code = "TILE_PATH_INVALID"


@dataclass(frozen=True, slots=True)
class TilePath:
    """One tile: a level of the tree or "entries", its number there, and how far it is filled."""

    level: Level
    n: int
    width: int = TILE_WIDTH

    def path(self) -> str:
        """The tile's path below the log's prefix, such as `tile/0/x001/x234/067.p/112`."""
        low, groups = self.n % 1000, self.n // 1000
        number = f"{low:03d}"
        while groups:
            number = f"x{groups % 1000:03d}/{number}"
            groups //= 1000
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{self.level}/{number}{partial}"

    @classmethod
    def parse(cls, path: str) -> Self:
        """Read a path.

        Raises:
            TilePathError: it is no tile's, or spelt otherwise than `path` would.
        """
        match = _PATH.fullmatch(path)
        if match is None:
            raise TilePathError("the path is not that of a tile")
        tile = cls(
            level="entries" if match["level"] == "entries" else int(match["level"]),
            n=int(match["n"].replace("x", "").replace("/", "")),
            width=int(match["width"] or TILE_WIDTH),
        )
        if tile.path() != path or tile.width > TILE_WIDTH or tile.level in _NO_LEVELS:
            raise TilePathError("the tile's path is not in its canonical spelling")
        return tile

    def __lt__(self, other: Self) -> bool:
        return self._order < other._order

    @property
    def _order(self) -> tuple[int, int, int]:
        return -1 if self.level == "entries" else self.level, self.n, self.width


_PATH: Final = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)"
    r"/(?P<n>(?:x[0-9]{3}/){0,5}[0-9]{3})"  # up to 18 digits: 63 bits hold them
    r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)
_NO_LEVELS: Final = range(64, 100)


def new_full_tiles(old_size: int, new_size: int) -> list[tuple[int, int]]:
    """(level, n) of the tiles that become full when the tree grows, the lowest level first."""
    tiles = []
    level = 0
    while span := new_size >> TILE_HEIGHT * (level + 1):
        tiles += [(level, n) for n in range(old_size >> TILE_HEIGHT * (level + 1), span)]
        level += 1
    return tiles


def tiles_of(size: int) -> Iterator[TilePath]:
    """Every tile of a tree, full and partial: all entry bundles, then hash tiles level by level."""
    yield from _tiles_in("entries", size)
    level = 0
    while count := size >> TILE_HEIGHT * level:
        yield from _tiles_in(level, count)
        level += 1


def _tiles_in(level: Level, count: int) -> Iterator[TilePath]:
    full, rest = divmod(count, TILE_WIDTH)
    yield from (TilePath(level, n) for n in range(full))
    if rest:
        yield TilePath(level, full, rest)


def tile_reader(read_tile: Callable[[int, int], bytes]) -> HashReader:
    """The hashes that proofs need, out of tiles.

    Args:
        read_tile: (level, n) → the tile's bytes as far as it is filled.

    The reader raises TileError where a tile is not filled far enough.
    """

    def read(level: int, index: int) -> bytes:
        tile_level, height = divmod(level, TILE_HEIGHT)
        n, place = divmod(index << height, TILE_WIDTH)
        tile = read_tile(tile_level, n)
        end = place + (1 << height)
        if len(tile) < end * HASH_SIZE:
            raise TileError(f"{TilePath(tile_level, n, end).path()} is not in the log")
        return root_of([tile[i * HASH_SIZE : (i + 1) * HASH_SIZE] for i in range(place, end)])

    return read


def bundle(entries: Iterable[bytes]) -> bytes:
    """The bytes of an entry bundle.

    Raises:
        TileError: an entry is longer than 65,535 bytes.
    """
    try:
        return b"".join(len(entry).to_bytes(2) + entry for entry in entries)
    except OverflowError as error:
        raise TileError(f"an entry is longer than {MAX_ENTRY} bytes") from error


def unbundle(data: bytes) -> list[bytes]:
    """The entries of a bundle.

    Raises:
        TileError: the bytes end within an entry.
    """
    entries, at = [], 0
    while at < len(data):
        start = at + 2
        at = start + int.from_bytes(data[at:start])
        entries.append(data[start:at])
    if at > len(data):
        raise TileError("the bundle ends within an entry")
    return entries
