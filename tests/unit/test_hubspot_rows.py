"""Reading a CSV file row by row: whatever is wrong with one row costs that row alone."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.importer.rows import MAX_CELL, MAX_LINE, Damage, Row, UnreadableFileError, open_csv

HEADER = b"Record ID,Email,Notes\n"


def read(folder: Path, content: bytes) -> list[Row]:
    path = folder / "export.csv"
    path.write_bytes(content)
    with open_csv(path) as table:
        first, second = list(table.rows()), list(table.rows())
    assert first == second
    return first


def cells(rows: list[Row]) -> list[list[str]]:
    assert {row.damage for row in rows} <= {None}
    return [row.cells for row in rows]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("delimiter", [b",", b";", b"\t"])
def test_the_usual_dialects_say_the_same(
    tmp_path: Path, mark: bytes, end: bytes, delimiter: bytes
) -> None:
    lines = [b'"Record ID",Email,Notes', b"1,a@example.com,", b'2,b@example.com,"x ""y"" z"', b""]
    content = mark + end.join(line.replace(b",", delimiter) for line in lines)
    path = tmp_path / "export.csv"
    path.write_bytes(content)
    with open_csv(path) as table:
        assert table.header == ["Record ID", "Email", "Notes"]
        assert cells(list(table.rows())) == [
            ["1", "a@example.com", ""],
            ["2", "b@example.com", 'x "y" z'],
        ]


def test_line_breaks_and_delimiters_in_quotes_are_text(tmp_path: Path) -> None:
    rows = read(tmp_path, HEADER + b'1,a@example.com,"one,\ntwo\r\nthree"\n2,b@example.com,x\n')
    assert cells(rows)[0][2] == "one,\ntwo\r\nthree"
    assert [row.line for row in rows] == [2, 5]


def test_formulas_are_text(tmp_path: Path) -> None:
    assert cells(read(tmp_path, HEADER + b'1,,"=HYPERLINK(""http://x"",""y"")"\n')) == [
        ["1", "", '=HYPERLINK("http://x","y")']
    ]


def test_empty_lines_are_no_rows(tmp_path: Path) -> None:
    assert [row.line for row in read(tmp_path, b"\n" + HEADER + b"\n1,,\n\n\n2,,\n\n")] == [4, 7]


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\n", b",,\n1,2,3\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableFileError, match="empty"):
        read(tmp_path, content)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf16_is_refused_with_a_remedy(tmp_path: Path, encoding: str) -> None:
    mark = b"" if encoding == "utf-16" else b"\xfe\xff"
    with pytest.raises(UnreadableFileError, match="UTF-16"):
        read(tmp_path, mark + HEADER.decode().encode(encoding))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="cannot be read"), open_csv(tmp_path / "none"):
        pass
    with pytest.raises(UnreadableFileError, match="cannot be read"), open_csv(tmp_path):
        pass


@pytest.mark.parametrize(
    ("line", "damage"),
    [
        (b"1,a@example.com,J\xfcrgen", Damage.NOT_UTF8),
        (b"1,a@example.com,\xed\xa0\x80", Damage.NOT_UTF8),
        (b"1,a@example.com,x\x00y", Damage.NUL_BYTE),
        (b"1,a@example.com", Damage.RAGGED_ROW),
        (b"1,Smith, Ann,a@example.com,x", Damage.RAGGED_ROW),
        (b"1,a@example.com," + b"x" * (MAX_CELL + 1), Damage.CELL_TOO_LONG),
        (b"1,a@example.com," + b"x" * 200_000, Damage.LINE_TOO_LONG),
        (b"1,a@example.com," + b"x" * (3 * MAX_LINE), Damage.LINE_TOO_LONG),
        (b'1,a@example.com,"never closed', Damage.BROKEN_QUOTES),
        (b'1,"never closed,a@example.com', Damage.BROKEN_QUOTES),
    ],
)
def test_a_damaged_row_says_so_and_harms_no_other(
    tmp_path: Path, line: bytes, damage: Damage
) -> None:
    before, after = b"8,c@example.com,before\n", b'9,b@example.com,"after, ""all"""\n'
    rows = read(tmp_path, HEADER + before + line + b"\n" + after * 2)
    assert [row.damage for row in rows] == [None, damage, None, None]
    assert [row.line for row in rows] == [2, 3, 4, 5]
    assert rows[1].cells[0] == "1"
    assert any("a@example.com" in cell for cell in rows[1].cells)
    assert rows[0].cells == ["8", "c@example.com", "before"]
    assert rows[2].cells == rows[3].cells == ["9", "b@example.com", 'after, "all"']


def test_what_hangs_over_is_kept(tmp_path: Path) -> None:
    (row,) = read(tmp_path, HEADER + b"1,a@example.com,x,y,TRUE\n")
    assert row.cells == ["1", "a@example.com", "x", "y", "TRUE"]
    assert row.is_shifted


def test_a_ragged_row_of_several_lines_stays_one(tmp_path: Path) -> None:
    (row,) = read(tmp_path, HEADER + b'1,a@example.com,"x\ny",TRUE\n')
    assert row.cells == ["1", "a@example.com", "x\ny", "TRUE"]


def test_a_line_too_long_behind_an_open_quote_is_not_skipped_twice(tmp_path: Path) -> None:
    content = HEADER + b'1,"open,x\n' + b"2,a," + b"y" * MAX_LINE + b"\n3,c@example.com,z\n"
    assert [(row.line, row.damage) for row in read(tmp_path, content)] == [
        (2, Damage.BROKEN_QUOTES),
        (3, Damage.LINE_TOO_LONG),
        (4, None),
    ]


@given(st.binary(max_size=400))
def test_no_content_stops_the_reading(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes
) -> None:
    rows = read(tmp_path_factory.mktemp("rows"), HEADER + tail)
    assert all(len(row.cells) == 3 or row.is_shifted for row in rows)
    lines = [row.line for row in rows]
    assert lines == sorted(set(lines))
    # Nothing is lost: what can be read of the file stands in some row.
    kept = "".join(cell for row in rows for cell in row.cells)
    assert sum(map(str.isalnum, kept)) >= sum(
        map(str.isalnum, tail.decode(errors="surrogateescape"))
    )
