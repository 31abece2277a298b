"""A CSV file as an export leaves it, row by row, and never refused for one bad row.

UTF-8 with or without a byte order mark, or another encoding that was declared; comma, semicolon,
tab or bar, told from the header; quotes and line breaks in cells as RFC 4180 has them. A cell is
text, whatever a spreadsheet would make of it.

Guarantees: every record of the file becomes exactly one `Row`, or several where an unclosed quote
swallowed rows that can still be told apart. A row that is not whole says what is wrong with it,
and whether its cells still stand under their headings.

Non-goals: what the cells mean.
"""

import codecs
import csv
import io
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum, unique
from pathlib import Path
from typing import BinaryIO, Final, TextIO

from consent.errors import ConsentError

MAX_CELL: Final = 65_536
"""Characters in a cell: the limit of HubSpot's own text properties."""
MAX_LINE: Final = 1_048_576
"""Characters in a line. The rest of a longer one is skipped."""

_DELIMITERS: Final = ",;\t|"
_ENDS: Final = ("\n", "\r")


class UnreadableFileError(ConsentError):
    """The file as a whole cannot be imported. Nothing was read from it or written."""

    code = "IMPORT_FILE_UNREADABLE"


@unique
class Damage(StrEnum):
    """What is wrong with a row itself, whatever it says."""

    NOT_UTF8 = "NOT_UTF8"
    NUL_BYTE = "NUL_BYTE"
    CELL_TOO_LONG = "CELL_TOO_LONG"
    LINE_TOO_LONG = "LINE_TOO_LONG"
    RAGGED_ROW = "RAGGED_ROW"
    BROKEN_QUOTES = "BROKEN_QUOTES"


_SHIFTING: Final = frozenset({Damage.LINE_TOO_LONG, Damage.RAGGED_ROW, Damage.BROKEN_QUOTES})


@dataclass(frozen=True, slots=True)
class Row:
    """One record of the file."""

    line: int
    """The line that it begins on, counted from 1."""
    cells: list[str] = field(repr=False)
    """As many as the header has, in a ragged row perhaps more.

    Bytes that are not UTF-8 stand in them as lone surrogates.
    """
    damage: Damage | None = None

    @property
    def is_shifted(self) -> bool:
        """Whether a cell may stand under another column's heading."""
        return self.damage in _SHIFTING


class CsvTable:
    """An open CSV file. Its header has at least one heading."""

    def __init__(self, file: TextIO, delimiter: str | None = None) -> None:
        self._file = file
        self._delimiter, self.header = self._read_header(delimiter or _DELIMITERS)

    def rows(self) -> Iterator[Row]:
        """All rows, from the first on; may be asked for again."""
        self._file.seek(0)
        lines = _Lines(self._file)
        records = _records(lines, self._delimiter, len(self.header))
        next(records, None)
        return records

    def _read_header(self, delimiters: str) -> tuple[str, list[str]]:
        """The delimiter that makes most of the first record, and what it makes of it."""
        headers = {}
        for delimiter in delimiters:
            self._file.seek(0)
            reader = csv.reader(_Lines(self._file), delimiter=delimiter)
            try:
                headers[delimiter] = next((cells for cells in reader if cells), [])
            except (csv.Error, _TooLongError) as error:
                raise UnreadableFileError("The first line is not a CSV header.") from error
        delimiter = max(headers, key=lambda one: len(headers[one]))
        header = [name.strip() for name in headers[delimiter]]
        if not any(header):
            raise UnreadableFileError("The file is empty: it has no header.")
        return delimiter, header


@contextmanager
def open_csv(
    source: Path | BinaryIO,
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    only_text: bool = False,
) -> Iterator[CsvTable]:
    """The table in a file, open as long as the context lasts.

    Args:
        source: a regular file, or one that is open and can be read again from its beginning; it
            stays open.
        encoding: as Python calls it; None: UTF-8, of which bytes that are none stay in their row.
        delimiter: None: told from the header.
        only_text: where no encoding is declared, refuse a file that is not all UTF-8.

    Raises:
        UnreadableFileError: there is no such file, it is empty, or not text in that encoding.
    """
    if isinstance(source, Path):
        try:
            with (
                source.open("rb") as file,
                open_csv(
                    file, encoding=encoding, delimiter=delimiter, only_text=only_text
                ) as table,
            ):
                yield table
        except OSError as error:
            raise UnreadableFileError(f"The file cannot be read: {error.strerror}.") from error
        return
    if source.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise UnreadableFileError("The file is not in UTF-8 but in UTF-16: export it anew.")
    if encoding is None and only_text:
        _require_utf8(source)
    source.seek(0)
    text = io.TextIOWrapper(
        source, encoding=encoding or "utf-8-sig", errors="surrogateescape", newline=""
    )
    try:
        yield CsvTable(text, delimiter)
    finally:
        text.detach()


def _require_utf8(file: BinaryIO) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    file.seek(0)
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), start=1):
        try:
            decoder.decode(line)
        except UnicodeDecodeError as error:
            raise UnreadableFileError(
                f"Line {number} is not in UTF-8. Export the file again in UTF-8, or say in which "
                "encoding it is, such as windows-1252. Nothing was imported."
            ) from error


class _TooLongError(Exception):
    """A line is longer than `MAX_LINE`."""


class _Lines:
    """The lines of a file, numbered, of which some may be given back to be read again."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._given_back: deque[str] = deque()
        self.taken: list[str] = []
        """The lines of the record that is being read."""
        self._next = 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        fresh = not self._given_back
        line = self._file.readline(MAX_LINE) if fresh else self._given_back.popleft()
        if not line:
            raise StopIteration
        self.taken.append(line)
        if len(line) == MAX_LINE and not line.endswith(_ENDS):
            if fresh:
                self._skip_the_rest()
            raise _TooLongError
        return line

    def begin_record(self) -> int:
        """Forget the lines of the last record; the number of the line that comes next."""
        self._next += len(self.taken)
        self.taken = []
        return self._next

    def give_back_all_but_one(self) -> None:
        """Make the record end with its first line."""
        self._given_back.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]

    def _skip_the_rest(self) -> None:
        while (rest := self._file.readline(MAX_LINE)) and not rest.endswith(_ENDS):
            pass


def _records(lines: _Lines, delimiter: str, width: int) -> Iterator[Row]:
    reader = csv.reader(lines, delimiter=delimiter)
    while True:
        number = lines.begin_record()
        damage = None
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (_TooLongError, csv.Error):  # csv has a limit of its own to the length of a cell
            cells, damage = [], Damage.LINE_TOO_LONG
        if damage is None and len(lines.taken) > 1 and _swallowed(lines.taken, delimiter, width):
            damage = Damage.BROKEN_QUOTES
        if damage is not None:
            if len(lines.taken) > 1:
                lines.give_back_all_but_one()
                damage = Damage.BROKEN_QUOTES
            cells = [cell.strip(' "\r\n') for cell in lines.taken[0].split(delimiter)]
        if cells:  # an empty line is no record
            yield _row(number, cells, damage, width)


def _swallowed(taken: list[str], delimiter: str, width: int) -> bool:
    """Whether a record of several lines is broken, so that a line in it may be a row of its own.

    Leniently read, an unclosed quote takes in what follows up to the next quote or the end.
    """
    try:
        (cells,) = csv.reader(taken, delimiter=delimiter, strict=True)
    except csv.Error:
        return True
    return len(cells) != width and any(
        len(alone) == width
        for line in taken[1:]
        for alone in csv.reader([line], delimiter=delimiter)
    )


def _row(line: int, cells: list[str], damage: Damage | None, width: int) -> Row:
    if damage is None:
        damage = _damage_of(cells, width)
    cells += [""] * (width - len(cells))
    return Row(line, cells, damage)


def _damage_of(cells: list[str], width: int) -> Damage | None:
    if len(cells) != width:
        return Damage.RAGGED_ROW
    if max(map(len, cells)) > MAX_CELL:
        return Damage.CELL_TOO_LONG
    text = "".join(cells)
    if "\0" in text:
        return Damage.NUL_BYTE
    try:
        text.encode()
    except UnicodeEncodeError:
        return Damage.NOT_UTF8
    return None
