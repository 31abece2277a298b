"""What single cells say, whatever export they stand in. Pure.

A yes in an opt-out column is recognised in six languages; what is neither yes nor no there counts
as a yes, and is told of. A cell is text, whatever a spreadsheet would make of it.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final

from consent.errors import InvalidSubjectError
from consent.importer.outcomes import ImportReason
from consent.importer.rows import Row, UnreadableFileError
from consent.importer.statements import Denial
from consent.subjects import Identifier, external_id
from consent.subjects import email as email_address

# fmt: off
YES: Final = frozenset({
    "true", "yes", "y", "1", "x", "t", "on", "ja", "wahr", "oui", "vrai", "si", "sí", "verdadero",
    "sim", "sì", "vero",
})
NO: Final = frozenset({
    "", "false", "no", "n", "0", "f", "off", "nein", "falsch", "non", "faux", "falso", "não", "nao",
})
# fmt: on
OPTED_IN: Final = frozenset({"opted in", "opted_in", "opted-in", "subscribed"})
OPTED_OUT: Final = frozenset(
    {"opted out", "opted_out", "opted-out", "unsubscribed", "not_subscribed", "not subscribed"}
)
# In a row whose cells may have moved, these say no wherever they stand.
NO_ANYWHERE: Final = frozenset({"true", "yes", "ja", "wahr", "oui", "vrai"}) | OPTED_OUT

DOUBTFUL: Final = re.compile(
    r"unsubscri|opt(?:ed)?[ _-]*out|do[ _-]*not|abgemeldet|suppress", re.IGNORECASE
)
"""Headings that suggest opt-outs."""

_EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
"""Before it lie the zero days of spreadsheets and computers (1899, 1900, 1904, 1970)."""
_SOON: Final = timedelta(minutes=5)
"""How far another system's clock may run ahead of ours."""

# What spreadsheets make of a number: 100000.0 is still it, 1E+05 and 100,000 may be another.
_DECIMAL: Final = re.compile(r"^(\d+)\.0+$")
_MANGLED: Final = re.compile(r"\d+(?:[.,]\d+)?e\+?\d+|\d+(?:[.,' ]\d+)+|=.*", re.IGNORECASE)


@lru_cache(maxsize=1024)
def plain(text: str) -> str:
    """Case, width, kinds of apostrophes and spaces made alike. Most cells are one of few words."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
    return " ".join(text.casefold().split())


def printable(text: str) -> str:
    """A heading or a cell as it may be shown or kept as evidence: short, and without surprises."""
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in text.strip())
    return shown if len(shown) <= 80 else shown[:79] + "…"


def once_each(header: Sequence[str]) -> list[str]:
    """The headings, made alike for comparison.

    Raises:
        UnreadableFileError: a heading stands over more than one column, so that nobody can say
            which of them is meant.
    """
    headings = [plain(name) for name in header]
    twice = [name for name, times in Counter(filter(None, headings)).items() if times > 1]
    if twice:
        raise UnreadableFileError(
            f"The heading {printable(twice[0])!r} stands over more than one column. Rename or "
            "remove one of them. Nothing was imported."
        )
    return headings


def opt_out(cell: str) -> tuple[ImportReason, ...] | None:
    """None if the cell of an opt-out column says no opt-out; else what there is to say of it."""
    value = plain(cell)
    if value in NO:
        return None
    return () if value in YES or value in OPTED_OUT else (ImportReason.UNREADABLE_OPT_OUT,)


def merged(denials: Sequence[Denial]) -> tuple[Denial, ...]:
    """One denial a purpose, channel and time, with all that says it."""
    if len(denials) < 2:
        return tuple(denials)
    said: dict[Denial, dict[tuple[str, str], None]] = {}
    for denial in denials:
        said.setdefault(denial.silent(), {}).update(dict.fromkeys(denial.said_in))
    return tuple(denial.said(tuple(where)) for denial, where in said.items())


def address(cell: str) -> Identifier | None:
    """The e-mail address in a cell; None if it is none."""
    try:
        return email_address(cell)
    except InvalidSubjectError:
        return None


def address_of(row: Row, columns: Sequence[int], reasons: list[ImportReason]) -> Identifier | None:
    """The row's own address; in a row whose cells may have moved, the only one in it."""
    own = " ".join(texts(row.cells, columns))
    found = address(own) if own else None
    if found is None and row.is_shifted:
        others = {one for cell in row.cells if (one := address(cell)) is not None}
        found = others.pop() if len(others) == 1 else None
    if found is None and own:
        reasons.append(ImportReason.EMAIL_MALFORMED)
    return found


def record_id(system: str, cell: str) -> Identifier | None:
    """The id in a cell; None if a spreadsheet has made another number of it."""
    number = cell if cell.isalnum() else _DECIMAL.sub(r"\1", cell)
    if number.isdecimal() or not _MANGLED.fullmatch(number):
        try:
            return external_id(system, number)
        except InvalidSubjectError:
            pass
    return None


def texts(cells: Sequence[str], columns: Sequence[int]) -> list[str]:
    """What stands in these columns, where anything does."""
    return [text for column in columns if (text := cells[column].strip())]


def instant(cell: str, zone: tzinfo = UTC) -> datetime | None:
    """The instant that an ISO 8601 cell states, in `zone` unless it names one; of a day the first.

    None if it states none, or one before 1990.
    """
    try:
        stated = datetime.fromisoformat(cell.strip())
    except ValueError:
        return None
    try:
        stated = (stated.replace(tzinfo=zone) if stated.tzinfo is None else stated).astimezone(UTC)
    except OverflowError:
        return None
    return stated if is_plausible(stated) else None


def is_plausible(stated: datetime) -> bool:
    """Whether an instant may be one at which somebody said something."""
    return stated >= _EARLIEST


def has_come(stated: datetime, now: datetime) -> bool:
    """Whether an instant lies in the past, give or take what clocks differ by."""
    return stated <= now + _SOON
