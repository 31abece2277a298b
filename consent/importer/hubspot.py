"""What a row of a HubSpot contacts export says. Pure: headings, cells and a policy in, words out.

Rules (docs/import-hubspot.md has them as a table): an opt-out always counts, in whatever column,
also if it cannot be read, and also in a damaged row. An opt-in counts only with a consent basis, a
date, a source and words, and if nothing in the row denies it; HubSpot's default "Opted in" is
nothing. Who is undecided stays unknown, which denies.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Final

from consent.errors import InvalidSubjectError
from consent.importer import wording
from consent.importer.outcomes import ImportReason
from consent.importer.rows import Row, UnreadableFileError
from consent.importer.statements import Denial, OptIn, Statement
from consent.subjects import Identifier, external_id
from consent.subjects import email as email_address
from policies.model import PolicySet, Purpose
from policies.vocabulary import ANY, Channel, LegalBasis

SYSTEM: Final = "hubspot"

_EMAIL: Final = Channel.EMAIL.value
_CONSENT: Final = "freely given consent from contact"

_ROLES: Final = {
    "record id": "record",
    "hs_object_id": "record",
    "email": "email",
    "unsubscribed from all email": "unsubscribed",
    "hs_email_optout": "unsubscribed",
    "legal basis for processing contact's data": "basis",
    "hs_legal_basis": "basis",
    "legal basis explanation": "explanation",
    "notes": "notes",
}
_TYPE_OPT_OUT: Final = re.compile(
    r"opted out of email\s*[:\u2013\u2014-]\s*(.+)|hs_email_optout_(.+)"
)
_TYPE_STATUS: Final = re.compile(r"(.+) subscription status")
_DOUBTFUL: Final = re.compile(
    r"unsubscri|opt(?:ed)?[ _-]*out|do[ _-]*not|abgemeldet|suppress", re.IGNORECASE
)

# fmt: off
_YES: Final = frozenset({
    "true", "yes", "y", "1", "x", "t", "on", "ja", "wahr", "oui", "vrai", "si", "sí", "verdadero",
    "sim", "sì", "vero",
})
_NO: Final = frozenset({
    "", "false", "no", "n", "0", "f", "off", "nein", "falsch", "non", "faux", "falso", "não", "nao",
})
# fmt: on
_OPTED_IN: Final = frozenset({"opted in", "opted_in", "opted-in", "subscribed"})
_OPTED_OUT: Final = frozenset(
    {"opted out", "opted_out", "opted-out", "unsubscribed", "not_subscribed", "not subscribed"}
)
_UNDECIDED: Final = frozenset({"", "not opted in or out", "not_opted", "not specified"})
# In a row whose cells may have moved, these say no wherever they stand.
_NO_ANYWHERE: Final = frozenset({"true", "yes", "ja", "wahr", "oui", "vrai"}) | _OPTED_OUT
# What spreadsheets make of a number: 100000.0 is still it, 1E+05 and 100,000 may be another.
_DECIMAL: Final = re.compile(r"^(\d+)\.0+$")
_MANGLED: Final = re.compile(r"\d+(?:[.,]\d+)?e\+?\d+|\d+(?:[.,' ]\d+)+|=.*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Column:
    index: int
    name: str
    purpose: Purpose | None = None
    """What the column's subscription type is for; None if no purpose claims it by e-mail."""
    type: str = ""


@dataclass(slots=True)
class _Columns:
    record: list[_Column] = field(default_factory=list)
    email: list[_Column] = field(default_factory=list)
    unsubscribed: list[_Column] = field(default_factory=list)
    type_opt_outs: list[_Column] = field(default_factory=list)
    statuses: list[_Column] = field(default_factory=list)
    basis: list[_Column] = field(default_factory=list)
    explanation: list[_Column] = field(default_factory=list)
    notes: list[_Column] = field(default_factory=list)


class HubSpotMapping:
    """Reads the rows under one header by one policy."""

    def __init__(self, header: Sequence[str], policies: PolicySet) -> None:
        """Find the columns.

        Raises:
            UnreadableFileError: neither `Record ID` nor `Email` is there, or a heading is there
                twice.
        """
        self.ignored: list[str] = []
        self._columns = _Columns()
        # Each row is read twice, and many have the same note.
        self._objection_in = lru_cache(maxsize=4096)(wording.objection_in)
        headings = [_plain(name) for name in header]
        for index, (name, heading) in enumerate(zip(header, headings, strict=True)):
            self._place(_Column(index, printable(name)), heading, policies)
        if not self._columns.record and not self._columns.email:
            raise UnreadableFileError(
                f"None of the {len(header)} columns is called 'Record ID' or 'Email', so that "
                "nobody can be told from the file. Nothing was imported."
            )
        twice = [name for name, times in Counter(filter(None, headings)).items() if times > 1]
        if twice:
            raise UnreadableFileError(
                f"The heading {printable(twice[0])!r} stands over more than one column. Rename or "
                "remove one of them. Nothing was imported."
            )

    @property
    def doubtful(self) -> list[str]:
        """Columns that are not read, and whose names suggest opt-outs."""
        return [name for name in self.ignored if _DOUBTFUL.search(name)]

    @property
    def unmapped(self) -> list[str]:
        """Columns of a subscription type that no purpose claims."""
        typed = self._columns.type_opt_outs + self._columns.statuses
        return [column.name for column in typed if column.purpose is None]

    @property
    def tells_unsubscribes(self) -> bool:
        """Whether the column for opt-outs from all e-mail is there."""
        return bool(self._columns.unsubscribed)

    def read(self, row: Row, today: date) -> Statement:
        """What the row says. A consent of a later day than `today` is none."""
        reasons: list[ImportReason] = []
        cells = row.cells
        if row.damage is not None:
            reasons.append(ImportReason(row.damage.value))
        email = self._email(row, reasons)
        # Where cells have moved, one identifier is found at best: two may be two people's.
        record = None if email is not None and row.is_shifted else self._record(cells, reasons)
        denials = _merged(list(self._denials(row, reasons)))
        opt_in = None
        if row.damage is None:
            opt_in = self._opt_in(cells, today, email, denials, reasons)
        if email is None and record is None:
            reasons.append(ImportReason.NO_IDENTITY)
            if denials:
                reasons.append(ImportReason.OPT_OUT_WITHOUT_PERSON)
        if not reasons and opt_in is None:
            reasons.append(ImportReason.NOTHING_STATED)
        unique = tuple(dict.fromkeys(reasons))
        return Statement(row.line, email, record, denials, opt_in, unique, row.damage)

    # --- columns -----------------------------------------------------------------------------

    def _place(self, column: _Column, heading: str, policies: PolicySet) -> None:
        role = _ROLES.get(heading)
        opt_out, status = _TYPE_OPT_OUT.fullmatch(heading), _TYPE_STATUS.fullmatch(heading)
        if role is not None:
            getattr(self._columns, role).append(column)
        elif opt_out is not None:
            self._columns.type_opt_outs.append(_typed(column, opt_out[1] or opt_out[2], policies))
        elif status is not None:
            self._columns.statuses.append(_typed(column, status[1], policies))
        elif heading:
            self.ignored.append(column.name)

    # --- whom --------------------------------------------------------------------------------

    def _email(self, row: Row, reasons: list[ImportReason]) -> Identifier | None:
        own = " ".join(self._texts(row.cells, self._columns.email))
        address = _address(own) if own else None
        if address is None and row.is_shifted:
            others = {found for cell in row.cells if (found := _address(cell)) is not None}
            address = others.pop() if len(others) == 1 else None
        if address is None and own:
            reasons.append(ImportReason.EMAIL_MALFORMED)
        return address

    def _record(self, cells: Sequence[str], reasons: list[ImportReason]) -> Identifier | None:
        for cell in self._texts(cells, self._columns.record):
            number = cell if cell.isalnum() else _DECIMAL.sub(r"\1", cell)
            if number.isdecimal() or not _MANGLED.fullmatch(number):
                try:
                    return external_id(SYSTEM, number)
                except InvalidSubjectError:
                    pass
            reasons.append(ImportReason.RECORD_ID_MALFORMED)
        return None

    # --- no ----------------------------------------------------------------------------------

    def _denials(self, row: Row, reasons: list[ImportReason]) -> Iterator[Denial]:
        cells = row.cells
        for column in self._columns.unsubscribed:
            if (reason := _opt_out(cells[column.index])) is not None:
                reasons += (ImportReason.UNSUBSCRIBED, *reason)
                yield _denial(ANY, column, cells)
        for column in self._columns.type_opt_outs:
            if (reason := _opt_out(cells[column.index])) is not None:
                reasons += (ImportReason.TYPE_OPT_OUT, *reason)
                yield self._typed_denial(column, cells, reasons)
        for column in self._columns.statuses:
            if (reason := _opted_out(cells[column.index])) is not None:
                reasons += (ImportReason.TYPE_OPT_OUT, *reason)
                yield self._typed_denial(column, cells, reasons)
        for column in self._columns.notes:
            if (found := self._objection_in(cells[column.index])) is not None:
                reasons.append(ImportReason.NOTE_OPT_OUT)
                channel, phrase = found
                yield Denial(ANY, channel, ((column.name, phrase),))
        if row.is_shifted:
            for cell in cells:
                if _plain(cell) in _NO_ANYWHERE or wording.objection_in(cell):
                    reasons.append(ImportReason.DAMAGED_OPT_OUT)
                    yield Denial(ANY, _EMAIL, (("", "a cell of a damaged row"),))

    def _typed_denial(
        self, column: _Column, cells: Sequence[str], reasons: list[ImportReason]
    ) -> Denial:
        if column.purpose is None:
            reasons.append(ImportReason.UNMAPPED_TYPE)
            return _denial(ANY, column, cells)
        return _denial(column.purpose.key, column, cells)

    # --- yes ---------------------------------------------------------------------------------

    def _opt_in(
        self,
        cells: Sequence[str],
        today: date,
        email: Identifier | None,
        denials: Sequence[Denial],
        reasons: list[ImportReason],
    ) -> OptIn | None:
        """The opt-in that the row gives evidence of, or None and the reason."""
        opted_in = [
            column for column in self._columns.statuses if _plain(cells[column.index]) in _OPTED_IN
        ]
        explanation = " ".join(self._texts(cells, self._columns.explanation))
        bases = {
            basis.strip()
            for cell in self._texts(cells, self._columns.basis)
            for basis in _plain(cell).split(";")
        }
        flaws = list(_flaws(opted_in, explanation, bases))
        if flaws:
            reasons += flaws
            return None
        if not opted_in:
            return None
        said = wording.read_explanation(explanation, today)
        if said.given_on is None or said.source is None or said.words is None:
            reasons += [
                reason
                for part, reason in (
                    (said.given_on, ImportReason.NO_DATE),
                    (said.source, ImportReason.NO_SOURCE),
                    (said.words, ImportReason.NO_WORDS),
                )
                if part is None
            ]
            return None
        column = _meant(opted_in, said.words)
        if column is None:
            reasons.append(ImportReason.WORDS_NAME_NO_TYPE)
            return None
        purpose = column.purpose
        if purpose is None:
            reasons.append(ImportReason.UNMAPPED_TYPE)
        elif purpose.legal_basis is not LegalBasis.CONSENT:
            reasons.append(ImportReason.NOT_A_CONSENT_PURPOSE)
        elif any(denial.purpose in (purpose.key, ANY) for denial in denials):
            reasons.append(ImportReason.CONTRADICTED)
        elif email is None:
            reasons.append(ImportReason.NO_ADDRESS)
        else:
            notes = " ".join(self._texts(cells, self._columns.notes))
            return OptIn(
                purpose.key,
                said.given_on,
                wording.notice_of(said.words),
                said.source,
                said.words,
                wording.confirmed_at(notes),
            )
        return None

    def _texts(self, cells: Sequence[str], columns: Sequence[_Column]) -> list[str]:
        """What stands in these columns, where anything does."""
        return [text for column in columns if (text := cells[column.index].strip())]


def printable(text: str) -> str:
    """A heading or a cell as it may be shown or kept as evidence: short, and without surprises."""
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in text.strip())
    return shown if len(shown) <= 80 else shown[:79] + "…"


def _typed(column: _Column, type_name: str, policies: PolicySet) -> _Column:
    purpose = policies.purpose_called(SYSTEM, type_name)
    covered = purpose if purpose is not None and Channel.EMAIL in purpose.channels else None
    return _Column(column.index, column.name, covered, type_name.strip())


def _flaws(
    opted_in: Sequence[_Column], explanation: str, bases: set[str]
) -> Iterator[ImportReason]:
    """Why a row without enough claims no consent at all."""
    if not opted_in:
        if _CONSENT in bases or explanation:
            yield ImportReason.NOT_OPTED_IN
    elif _CONSENT not in bases:
        yield ImportReason.NO_CONSENT_BASIS if explanation else ImportReason.DEFAULT_OPTED_IN


def _meant(opted_in: Sequence[_Column], words: str) -> _Column | None:
    """The type that the words are about: the only one, or the only one that they name.

    HubSpot keeps one explanation a contact. Words about one type are none about the others, whose
    "Opted in" may be the default.
    """
    if len(opted_in) == 1:
        return opted_in[0]
    said = words.casefold()
    named = [
        column
        for column in opted_in
        if any(
            name.casefold() in said
            for name in (
                column.type,
                *((column.purpose.key, column.purpose.name) if column.purpose else ()),
            )
        )
    ]
    return named[0] if len(named) == 1 else None


def _opt_out(cell: str) -> tuple[ImportReason, ...] | None:
    """None if the cell of an opt-out column says no opt-out; else what there is to say of it."""
    value = _plain(cell)
    if value in _NO:
        return None
    return () if value in _YES or value in _OPTED_OUT else (ImportReason.UNREADABLE_OPT_OUT,)


def _opted_out(cell: str) -> tuple[ImportReason, ...] | None:
    """The same of a subscription status."""
    value = _plain(cell)
    if value in _UNDECIDED or value in _OPTED_IN:
        return None
    return () if value in _OPTED_OUT else (ImportReason.UNREADABLE_OPT_OUT,)


def _denial(purpose: str, column: _Column, cells: Sequence[str]) -> Denial:
    return Denial(purpose, _EMAIL, ((column.name, printable(cells[column.index])),))


def _merged(denials: Sequence[Denial]) -> tuple[Denial, ...]:
    """One denial a purpose and channel, with all that says it."""
    if len(denials) < 2:
        return tuple(denials)
    said: dict[tuple[str, str], dict[tuple[str, str], None]] = {}
    for denial in denials:
        said.setdefault((denial.purpose, denial.channel), {}).update(dict.fromkeys(denial.said_in))
    return tuple(
        Denial(purpose, channel, tuple(where)) for (purpose, channel), where in said.items()
    )


def _address(cell: str) -> Identifier | None:
    try:
        return email_address(cell)
    except InvalidSubjectError:
        return None


@lru_cache(maxsize=1024)
def _plain(text: str) -> str:
    """Case, width, kinds of apostrophes and spaces made alike. Most cells are one of few words."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
    return " ".join(text.casefold().split())
