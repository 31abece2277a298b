"""What a row of a HubSpot contacts export says. Pure: headings, cells and a policy in, words out.

Rules (docs/import-hubspot.md has them as a table): an opt-out always counts, in whatever column,
also if it cannot be read, and also in a damaged row. An opt-in counts only with a consent basis, a
date, a source and words, and if nothing in the row denies it; HubSpot's default "Opted in" is
nothing. Who is undecided stays unknown, which denies.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from functools import lru_cache
from typing import Final

from consent.importer import cells as cell_words
from consent.importer import wording
from consent.importer.cells import DOUBTFUL, NO_ANYWHERE, OPTED_IN, OPTED_OUT, plain, printable
from consent.importer.outcomes import ImportReason
from consent.importer.rows import Row, UnreadableFileError
from consent.importer.statements import NOTHING, Denial, OptIn, Statement, Supplied
from consent.subjects import Identifier
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
_UNDECIDED: Final = frozenset({"", "not opted in or out", "not_opted", "not specified"})


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
        self._policies = policies
        # Each row is read twice, and many have the same note.
        self._objection_in = lru_cache(maxsize=4096)(wording.objection_in)
        headings = [plain(name) for name in header]
        for index, (name, heading) in enumerate(zip(header, headings, strict=True)):
            self._place(_Column(index, printable(name)), heading, policies)
        if not self._columns.record and not self._columns.email:
            raise UnreadableFileError(
                f"None of the {len(header)} columns is called 'Record ID' or 'Email', so that "
                "nobody can be told from the file. Nothing was imported."
            )
        cell_words.once_each(header)

    @property
    def doubtful(self) -> list[str]:
        """Columns that are not read, and whose names suggest opt-outs."""
        return [name for name in self.ignored if DOUBTFUL.search(name)]

    @property
    def unmapped(self) -> list[str]:
        """Columns of a subscription type that no purpose claims."""
        typed = self._columns.type_opt_outs + self._columns.statuses
        return [column.name for column in typed if column.purpose is None]

    @property
    def tells_unsubscribes(self) -> bool:
        """Whether the column for opt-outs from all e-mail is there."""
        return bool(self._columns.unsubscribed)

    @property
    def warnings(self) -> list[str]:
        """What somebody should know of the header before the rows are believed."""
        told = [
            f"no purpose of the policy is called {name!r} in HubSpot (external_names). "
            "Whoever opted out there is denied every purpose by e-mail."
            for name in self.unmapped
        ]
        told += [
            f"the column {name!r} was not read, and may hold opt-outs." for name in self.doubtful
        ]
        if not self.tells_unsubscribes:
            told.append(
                "the file has no column 'Unsubscribed from all email'. Who opted out of "
                "everything cannot be told from it: export the file again with that column."
            )
        return told

    def read(self, row: Row, now: datetime, supplied: Supplied = NOTHING) -> Statement:
        """What the row says. A consent of a later day than today is none."""
        reasons: list[ImportReason] = []
        held: list[ImportReason] = []
        cells = row.cells
        if row.damage is not None:
            reasons.append(ImportReason(row.damage.value))
            held.append(reasons[0])
        email = cell_words.address_of(row, _indexes(self._columns.email), reasons)
        # Where cells have moved, one identifier is found at best: two may be two people's.
        record = None if email is not None and row.is_shifted else self._record(cells, reasons)
        denials = cell_words.merged(list(self._denials(row, reasons)))
        opt_in = None
        if row.damage is None:
            lacking: list[ImportReason] = []
            opt_in = self._opt_in(cells, now, email, denials, lacking, supplied)
            reasons += lacking
            held += [reason for reason in lacking if reason in _KEPT]
        if email is None and record is None:
            reasons.append(ImportReason.NO_IDENTITY)
            if denials:
                reasons.append(ImportReason.OPT_OUT_WITHOUT_PERSON)
                held.append(ImportReason.OPT_OUT_WITHOUT_PERSON)
        if ImportReason.EMAIL_MALFORMED in reasons and (denials or held):
            held.append(ImportReason.EMAIL_MALFORMED)
        if not reasons and opt_in is None:
            reasons.append(ImportReason.NOTHING_STATED)
        return Statement(
            row.line,
            email,
            () if record is None else (record,),
            denials,
            () if opt_in is None else (opt_in,),
            tuple(dict.fromkeys(reasons)),
            row.damage,
            held=tuple(held),
        )

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

    def _record(self, cells: Sequence[str], reasons: list[ImportReason]) -> Identifier | None:
        for cell in cell_words.texts(cells, _indexes(self._columns.record)):
            found = cell_words.record_id(SYSTEM, cell)
            if found is not None:
                return found
            reasons.append(ImportReason.RECORD_ID_MALFORMED)
        return None

    # --- no ----------------------------------------------------------------------------------

    def _denials(self, row: Row, reasons: list[ImportReason]) -> Iterator[Denial]:
        cells = row.cells
        for column in self._columns.unsubscribed:
            if (reason := cell_words.opt_out(cells[column.index])) is not None:
                reasons += (ImportReason.UNSUBSCRIBED, *reason)
                yield _denial(ANY, column, cells)
        for column in self._columns.type_opt_outs:
            if (reason := cell_words.opt_out(cells[column.index])) is not None:
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
                if plain(cell) in NO_ANYWHERE or wording.objection_in(cell):
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
        now: datetime,
        email: Identifier | None,
        denials: Sequence[Denial],
        reasons: list[ImportReason],
        supplied: Supplied,
    ) -> OptIn | None:
        """The opt-in that the row gives evidence of, or None and the reason."""
        opted_in = [
            column for column in self._columns.statuses if plain(cells[column.index]) in OPTED_IN
        ]
        explanation = " ".join(cell_words.texts(cells, _indexes(self._columns.explanation)))
        bases = {
            basis.strip()
            for cell in cell_words.texts(cells, _indexes(self._columns.basis))
            for basis in plain(cell).split(";")
        }
        flaws = list(_flaws(opted_in, explanation, bases))
        if flaws:
            reasons += flaws
            return None
        if not opted_in:
            return None
        said = wording.read_explanation(explanation, now.date())
        given_on = said.given_on or supplied.given_on
        source = said.source or supplied.source
        words = said.words or supplied.words
        if given_on is None or source is None or words is None:
            reasons += [
                reason
                for part, reason in (
                    (given_on, ImportReason.NO_DATE),
                    (source, ImportReason.NO_SOURCE),
                    (words, ImportReason.NO_WORDS),
                )
                if part is None
            ]
            return None
        column = _meant(opted_in, words, supplied.purpose)
        if column is None:
            reasons.append(ImportReason.WORDS_NAME_NO_TYPE)
            return None
        purpose = column.purpose or self._supplied(supplied)
        if purpose is None:
            reasons.append(ImportReason.UNMAPPED_TYPE)
        elif purpose.legal_basis is not LegalBasis.CONSENT:
            reasons.append(ImportReason.NOT_A_CONSENT_PURPOSE)
        elif any(denial.purpose in (purpose.key, ANY) for denial in denials):
            reasons.append(ImportReason.CONTRADICTED)
        elif email is None:
            reasons.append(ImportReason.NO_ADDRESS)
        else:
            notes = " ".join(cell_words.texts(cells, _indexes(self._columns.notes)))
            told = said.words is None and supplied.notice is not None
            return OptIn(
                purpose=purpose.key,
                given_at=datetime.combine(given_on, time(), UTC),
                stated_at=given_on.isoformat(),
                notice=supplied.notice if told and supplied.notice else wording.notice_of(words),
                source=source,
                words=words,
                confirmed_at=wording.confirmed_at(notes),
                supplied=tuple(
                    name
                    for name, own in (
                        ("date", said.given_on),
                        ("source", said.source),
                        ("words", said.words),
                        ("purpose", column.purpose),
                    )
                    if own is None
                ),
            )
        return None

    def _supplied(self, supplied: Supplied) -> Purpose | None:
        """The purpose that an officer named for a type that none claims."""
        purpose = self._policies.purpose(supplied.purpose or "")
        return purpose if purpose is not None and Channel.EMAIL in purpose.channels else None


_KEPT: Final = frozenset(
    {
        ImportReason.NO_DATE,
        ImportReason.NO_SOURCE,
        ImportReason.NO_WORDS,
        ImportReason.WORDS_NAME_NO_TYPE,
        ImportReason.UNMAPPED_TYPE,
        ImportReason.NO_ADDRESS,
    }
)
"""What claims a consent and cannot be used as it stands, though it might be with an answer."""


def _indexes(columns: Sequence[_Column]) -> list[int]:
    return [column.index for column in columns]


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


def _meant(opted_in: Sequence[_Column], words: str, purpose: str | None) -> _Column | None:
    """The type that the words are about: the only one, or the only one that they name.

    HubSpot keeps one explanation a contact. Words about one type are none about the others, whose
    "Opted in" may be the default.
    """
    if len(opted_in) == 1:
        return opted_in[0]
    if purpose is not None:
        chosen = [one for one in opted_in if one.purpose is not None and one.purpose.key == purpose]
        return chosen[0] if len(chosen) == 1 else None
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


def _opted_out(cell: str) -> tuple[ImportReason, ...] | None:
    """The same of a subscription status."""
    value = plain(cell)
    if value in _UNDECIDED or value in OPTED_IN:
        return None
    return () if value in OPTED_OUT else (ImportReason.UNREADABLE_OPT_OUT,)


def _denial(purpose: str, column: _Column, cells: Sequence[str]) -> Denial:
    return Denial(purpose, _EMAIL, ((column.name, printable(cells[column.index])),))
