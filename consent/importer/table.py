"""What a row of any table says, by a mapping of its columns. Pure.

The rules are those of every import: a no always counts, also if it cannot be read; a yes counts
only with a date, a source and words, and if nothing in the row denies it.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Final

from consent.errors import InvalidSubjectError
from consent.importer import cells as cell_words
from consent.importer import wording
from consent.importer.cells import DOUBTFUL, NO, OPTED_OUT, YES, plain, printable
from consent.importer.mapping import UNKNOWN, ChoiceColumns, Looked, Order, Source, TableMapping
from consent.importer.outcomes import ImportReason
from consent.importer.rows import Row, UnreadableFileError
from consent.importer.statements import NOTHING, Denial, OptIn, Statement, Supplied
from consent.subjects import Identifier
from consent.subjects import phone as phone_number
from policies.model import PolicySet
from policies.vocabulary import ANY, Channel, ChoiceState, LegalBasis

_DATE: Final = re.compile(
    r"(?P<a>\d{1,4})(?P<sep>[./-])(?P<b>\d{1,2})(?P=sep)(?P<c>\d{1,4})"
    r"(?:[T ,]+(?P<h>\d{1,2}):(?P<min>\d{2})(?::(?P<s>\d{2}))?)?",
    re.ASCII,
)
_YEARS: Final = re.compile(r"1[0-4]\d|\d{1,2}", re.ASCII)
_SHORT_WORD: Final = 3
_DENYING: Final = frozenset(state.value for state in ChoiceState if state.denies)


class TableReading:
    """Reads the rows under one header by one mapping."""

    def __init__(self, header: Sequence[str], policies: PolicySet, mapping: TableMapping) -> None:
        """Find the columns.

        Raises:
            UnreadableFileError: the mapping names a column that is not there, or a heading is
                there twice.
        """
        headings = cell_words.once_each(header)
        self._header = [printable(name) for name in header]
        self._places = {name: place for place, name in enumerate(headings) if name}
        missing = [name for name in mapping.columns() if plain(name) not in self._places]
        if missing:
            names = ", ".join(repr(printable(name)) for name in missing)
            raise UnreadableFileError(
                f"The file has no column called {names}, which the mapping names. "
                "Nothing was imported."
            )
        self._policies = policies
        self._mapping = mapping
        read = {plain(name) for name in mapping.columns()}
        self.ignored = [self._header[at] for name, at in self._places.items() if name not in read]
        self._no_anywhere = OPTED_OUT | {
            word
            for choice in mapping.choices
            for word, state in choice.state.values.items()
            if state in _DENYING and len(word) > _SHORT_WORD
        }

    @property
    def warnings(self) -> list[str]:
        """Columns that may hold opt-outs."""
        return [
            f"the column {name!r} was not read, and may hold opt-outs."
            for name in self.ignored
            if DOUBTFUL.search(name)
        ]

    def read(self, row: Row, now: datetime, supplied: Supplied = NOTHING) -> Statement:
        """What the row says. What was said at a time to come was not said."""
        reasons: list[ImportReason] = []
        held: list[ImportReason] = []
        if row.damage is not None:
            reasons.append(ImportReason(row.damage.value))
            held.append(reasons[0])
        email, records = self._named(row, reasons)
        denials: list[Denial] = []
        claims: list[ChoiceColumns] = []
        for choice in self._mapping.choices:
            state = self._state(row, choice, reasons)
            if state == ChoiceState.GRANTED:
                claims.append(choice)
            elif state in _DENYING:
                reasons.append(ImportReason.OPT_OUT)
                denials += self._denied(row, choice, ChoiceState(state), now, reasons)
        denials += self._moved(row, reasons)
        opt_ins = []
        for choice in claims if row.damage is None else ():
            opt_in = self._opt_in(row, choice, now, denials, reasons, held, supplied)
            if opt_in is not None:
                opt_ins.append(opt_in)
        if email is None and not records:
            reasons.append(ImportReason.NO_IDENTITY)
            if denials or claims:
                held.append(ImportReason.NO_IDENTITY)
            if denials:
                reasons.append(ImportReason.OPT_OUT_WITHOUT_PERSON)
                held.insert(0, ImportReason.OPT_OUT_WITHOUT_PERSON)
        if ImportReason.EMAIL_MALFORMED in reasons and (denials or held):
            held.append(ImportReason.EMAIL_MALFORMED)
        if not reasons and not opt_ins:
            reasons.append(ImportReason.NOTHING_STATED)
        return Statement(
            row.line,
            email,
            records,
            cell_words.merged(denials),
            tuple(opt_ins),
            tuple(dict.fromkeys(reasons)),
            row.damage,
            held=tuple(dict.fromkeys(held)),
        )

    # --- whom ----------------------------------------------------------------------------------

    def _named(
        self, row: Row, reasons: list[ImportReason]
    ) -> tuple[Identifier | None, tuple[Identifier, ...]]:
        mapping = self._mapping
        email = cell_words.address_of(row, self._at(mapping.email), reasons)
        if email is not None and row.is_shifted:
            return email, ()
        records = []
        if own := self._cell(row, mapping.external_id):
            records.append(cell_words.record_id(mapping.system, own))
            if records[-1] is None:
                reasons.append(ImportReason.RECORD_ID_MALFORMED)
        if own := self._cell(row, mapping.phone):
            records.append(phone_in(own))
            if records[-1] is None:
                reasons.append(ImportReason.PHONE_MALFORMED)
        found = tuple(one for one in records if one is not None)
        return email, found[:1] if row.is_shifted else found

    # --- no ------------------------------------------------------------------------------------

    def _state(self, row: Row, choice: ChoiceColumns, reasons: list[ImportReason]) -> str:
        """What the row says here: one of our states; what cannot be read is a no."""
        value = plain(self._cell(row, choice.state.column))
        if value in choice.state.values:
            return choice.state.values[value]
        if not value:
            return UNKNOWN
        reasons.append(ImportReason.UNREADABLE_OPT_OUT)
        return ChoiceState.OBJECTED.value

    def _denied(
        self,
        row: Row,
        choice: ChoiceColumns,
        state: ChoiceState,
        now: datetime,
        reasons: list[ImportReason],
    ) -> Iterator[Denial]:
        purpose, channel = self._word(row, choice.purpose), self._word(row, choice.channel)
        if purpose is None:
            reasons.append(ImportReason.UNMAPPED_TYPE)
        if channel is None:
            reasons.append(ImportReason.UNMAPPED_CHANNEL)
        columns = (choice.state.column, choice.purpose.column, choice.channel.column)
        said_in = tuple((name, printable(self._cell(row, name))) for name in columns if name)
        yield Denial(
            purpose or ANY, channel or ANY, said_in, self._time(row, choice.denied_at, now), state
        )

    def _moved(self, row: Row, reasons: list[ImportReason]) -> Iterator[Denial]:
        """In a row whose cells may have moved, a no counts wherever it stands."""
        for cell in row.cells if row.is_shifted else ():
            if plain(cell) in self._no_anywhere or wording.objection_in(cell):
                reasons.append(ImportReason.DAMAGED_OPT_OUT)
                yield Denial(ANY, Channel.EMAIL.value, (("", "a cell of a damaged row"),))

    # --- yes -----------------------------------------------------------------------------------

    def _opt_in(
        self,
        row: Row,
        choice: ChoiceColumns,
        now: datetime,
        denials: Sequence[Denial],
        reasons: list[ImportReason],
        held: list[ImportReason],
        supplied: Supplied,
    ) -> OptIn | None:
        """The opt-in that the row gives evidence of, or None and the reason."""
        own_purpose = self._policies.purpose(self._word(row, choice.purpose) or "")
        purpose = own_purpose or self._policies.purpose(supplied.purpose or "")
        channel = self._word(row, choice.channel)
        if purpose is not None and purpose.legal_basis is not LegalBasis.CONSENT:
            reasons.append(ImportReason.NOT_A_CONSENT_PURPOSE)
            return None
        if purpose is not None and channel is not None and channel not in purpose.channels:
            reasons.append(ImportReason.CHANNEL_NOT_PURSUED)
            return None
        own_time = self._time(row, choice.time, now)
        given_at = own_time or supplied.given_at
        own_source = self._text(row, choice.source)
        own_source = own_source if wording.tells(own_source) else ""
        own_words = self._text(row, choice.words)
        source = own_source or supplied.source or ""
        words = own_words or supplied.words or ""
        ends = self._cell(row, choice.ends)
        ends_at = self._instant(ends)
        age = self._cell(row, choice.age)
        lacking = [
            reason
            for reason, lacks in (
                (ImportReason.EMAIL_MALFORMED, ImportReason.EMAIL_MALFORMED in reasons),
                (ImportReason.UNMAPPED_TYPE, purpose is None),
                (ImportReason.UNMAPPED_CHANNEL, channel is None),
                (ImportReason.END_UNREADABLE, bool(ends) and ends_at is None),
                (ImportReason.AGE_UNREADABLE, bool(age) and _age(age) is None),
                (ImportReason.NO_DATE, given_at is None),
                (ImportReason.NO_SOURCE, not source),
                (ImportReason.NO_WORDS, not words),
            )
            if lacks
        ]
        if lacking or purpose is None or channel is None or given_at is None:
            reasons += lacking
            held += lacking
            return None
        if any(_denies(denial, purpose.key, channel, given_at) for denial in denials):
            reasons.append(ImportReason.CONTRADICTED)
            return None
        notice = choice.notice if own_words else supplied.notice
        authority = self._cell(row, choice.authority)
        if plain(authority) in YES | NO:  # it has to say who gave it
            authority = ""
        return OptIn(
            purpose=purpose.key,
            given_at=given_at,
            stated_at=given_at.isoformat(),
            notice=notice or wording.notice_of(words),
            source=source,
            words=words,
            channel=channel,
            confirmed_at=self._time(row, choice.confirmed, now),
            ends_at=ends_at,
            age=_age(age),
            more={"parental_authority": printable(authority)} if authority else {},
            supplied=tuple(
                name
                for name, own in (
                    ("date", own_time),
                    ("source", own_source),
                    ("words", own_words),
                    ("purpose", own_purpose),
                )
                if not own
            ),
        )

    # --- cells ---------------------------------------------------------------------------------

    def _at(self, column: str) -> list[int]:
        return [self._places[plain(column)]] if column else []

    def _cell(self, row: Row, column: str) -> str:
        return row.cells[self._places[plain(column)]].strip() if column else ""

    def _text(self, row: Row, source: Source) -> str:
        return source.text or self._cell(row, source.column)

    def _word(self, row: Row, looked: Looked) -> str | None:
        """The word that a row means; None if its cell is none of those that the mapping knows."""
        if looked.always:
            return looked.always
        return looked.values.get(plain(self._cell(row, looked.column)))

    def _time(self, row: Row, column: str, now: datetime) -> datetime | None:
        stated = self._instant(self._cell(row, column))
        return stated if stated is not None and cell_words.has_come(stated, now) else None

    def _instant(self, cell: str) -> datetime | None:
        return instant_in(cell, self._mapping.order, self._mapping.zone)


def instant_in(cell: str, order: Order | None, zone: tzinfo) -> datetime | None:
    """The instant that a cell states, in the forms that people use; None if it states none.

    Dots are the German form, day first. Slashes and dashes are read in the order that is given;
    without one, only what can be read in one way is a date.
    """
    match = _DATE.fullmatch(cell)
    if match is None:
        return cell_words.instant(cell, zone)
    a, b, c = int(match["a"]), int(match["b"]), int(match["c"])
    if len(match["a"]) == 4:
        year, month, day = a, b, c
    elif match["sep"] == ".":
        day, month, year = a, b, c
    else:
        month_first = order is Order.MDY if order is not None else b > 12
        if order is None and a <= 12 and b <= 12 and a != b:
            return None
        (month, day), year = ((a, b) if month_first else (b, a)), c
    clock = (int(match["h"] or 0), int(match["min"] or 0), int(match["s"] or 0))
    try:
        stated = datetime(year, month, day, *clock, tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return stated if cell_words.is_plausible(stated) else None


def _denies(denial: Denial, purpose: str, channel: str, given_at: datetime) -> bool:
    """Whether a no of the row stands against a yes of the row: it is later, or of unknown time."""
    return (
        denial.purpose in (purpose, ANY)
        and denial.channel in (channel, ANY)
        and (denial.at is None or denial.at >= given_at)
    )


def phone_in(cell: str) -> Identifier | None:
    """The telephone number in a cell, in E.164 form; None if it is none."""
    try:
        return phone_number(cell)
    except InvalidSubjectError:
        return None


def _age(cell: str) -> int | None:
    return int(cell) if _YEARS.fullmatch(cell) else None
