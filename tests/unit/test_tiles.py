import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.ledger.tiles import TileError, TilePath, TilePathError, bundle, tiles_of, unbundle


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (TilePath(0, 0), "tile/0/000"),
        (TilePath(0, 1_234_067, 112), "tile/0/x001/x234/067.p/112"),
        (TilePath(63, 999, 1), "tile/63/999.p/1"),
        (TilePath("entries", 1000), "tile/entries/x001/000"),
        (TilePath("entries", 5, 255), "tile/entries/005.p/255"),
    ],
)
def test_a_tile_has_one_path(tile: TilePath, path: str) -> None:
    assert tile.path() == path
    assert TilePath.parse(path) == tile


@given(st.integers(0, 63), st.integers(0, 10**18 - 1), st.integers(1, 256))
def test_paths_read_back_as_written(level: int, n: int, width: int) -> None:
    assert TilePath.parse(TilePath(level, n, width).path()) == TilePath(level, n, width)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "/tile/0/000",
        "tile/0/000/",
        "tile/0/000\n",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/00/000",
        "tile/01/000",
        "tile/-1/000",
        "tile/64/000",
        "tile/100/000",
        "tile/data/000",
        "tile/8/0/000",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/999",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/\u0660\u0660\u0660",
        "tile/0/../000",
        "tile/0/x" + "/x".join(["001"] * 40) + "/000",
    ],
)
def test_any_other_spelling_is_refused(path: str) -> None:
    with pytest.raises(TilePathError):
        TilePath.parse(path)


def test_a_tree_of_70000_has_the_tiles_that_the_specification_counts() -> None:
    tiles = [tile for tile in tiles_of(70_000) if tile.level != "entries"]
    assert sum(tile.level == 0 and tile.width == 256 for tile in tiles) == 273
    assert [tile for tile in tiles if tile.level != 0 or tile.width != 256] == [
        TilePath(0, 273, 112),
        TilePath(1, 0),
        TilePath(1, 1, 17),
        TilePath(2, 0, 1),
    ]


def test_an_empty_tree_has_no_tiles() -> None:
    assert list(tiles_of(0)) == []


def test_tiles_sort_with_entries_first() -> None:
    tiles = list(tiles_of(70_000))
    assert sorted(set(tiles)) == tiles


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_bundles_read_back_as_written(entries: list[bytes]) -> None:
    assert unbundle(bundle(entries)) == entries


def test_a_bundle_is_lengths_and_entries() -> None:
    assert bundle([b"", b"ab", b"x" * 0xFFFF]) == b"\0\0" + b"\0\2ab" + b"\xff\xff" + b"x" * 0xFFFF


def test_an_entry_too_long_for_a_bundle_is_refused() -> None:
    with pytest.raises(TileError, match="65535"):
        bundle([b"x" * 0x10000])


@pytest.mark.parametrize("data", [b"\0", b"\0\1", b"\0\2a", b"\0\0\0", b"\0\1a\xff"])
def test_a_cut_bundle_is_refused(data: bytes) -> None:
    with pytest.raises(TileError):
        unbundle(data)
