"""What a row of a Salesforce export says. Pure: headings, cells and a policy in, words out.

Three objects are known by their columns: `ContactPointTypeConsent`, whose rows are choices with
their own dates; `Individual`, and `Contact` or `Lead`, whose rows are opt-outs, wishes and ages of
people. Rules (docs/import.md has them as a table): an opt-out always counts, also if it cannot be
read; `false` is nobody's consent; an opt-in counts only with a date, a source and a purpose that
rests on consent; who was only shown something (`Seen`) is undecided, which denies.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final, TypeAlias

from consent.choices import NoticeRef
from consent.importer import cells as cell_words
from consent.importer import wording
from consent.importer.cells import DOUBTFUL, NO_ANYWHERE, plain, printable
from consent.importer.outcomes import ImportReason
from consent.importer.rows import Row, UnreadableFileError
from consent.importer.statements import (
    AGE,
    FAX,
    NOTHING,
    RESIDENCY,
    Denial,
    Mark,
    OptIn,
    Reading,
    Statement,
    Supplied,
)
from consent.subjects import Identifier
from policies.model import PolicySet, Purpose
from policies.vocabulary import ANY, Channel, LegalBasis

SYSTEM: Final = "salesforce"

Channels: TypeAlias = tuple[Channel, ...]
"""The channels of a contact point: a consent is for the first, an opt-out for all of them."""

CONTACT_POINTS: Final[Mapping[str, Channels]] = MappingProxyType(
    {
        "email": (Channel.EMAIL,),
        "phone": (Channel.PHONE, Channel.SMS),
        "mailingaddress": (Channel.POST,),
        "social": (Channel.CHAT,),
        "web": (Channel.WEB,),
    }
)

_ID: Final = re.compile(r"[a-zA-Z0-9]{15}")
_ID_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_NOT_WORD: Final = re.compile(r"[\W_]+")
_MOST_NAMES: Final = 20


@dataclass(frozen=True, slots=True)
class Words:
    """What people were shown, as an officer declares it for a source."""

    text: str
    notice: NoticeRef | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What the export itself cannot say, from a mapping file. Keys are as `plain` makes them."""

    purposes: Mapping[str, str] = field(default_factory=dict)
    """The purpose that a name or an id of a data use purpose stands for."""
    channels: Mapping[str, Channels] = field(default_factory=dict)
    opt_outs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The purposes that an opt-out column of `Individual` speaks about."""
    words: Mapping[str, Words] = field(default_factory=dict)
    """What was shown, by source; `*` for all others."""


DEFAULTS: Final = Settings()


def reading_of(
    header: Sequence[str], policies: PolicySet, settings: Settings = DEFAULTS
) -> Reading:
    """What reads the rows under a header, which says what object was exported.

    Raises:
        UnreadableFileError: the columns are none of the three objects', name nobody, or a heading
            is there twice.
    """
    headings = cell_words.once_each(header)
    if "privacyconsentstatus" in headings:
        return _Consents(header, headings, policies, settings)
    if any(name in _FLAGS or name in _WISHES for name in headings):
        return _People(header, headings, policies, settings)
    raise UnreadableFileError(
        f"None of the {len(header)} columns tells of choices: this is no export of Individual, "
        "Contact, Lead or ContactPointTypeConsent, or its column names were changed. Export it "
        "again with API names, such as HasOptedOutOfEmail. Nothing was imported."
    )


class _Table:
    """Columns by the names that they have in Salesforce's API."""

    def __init__(
        self, header: Sequence[str], headings: Sequence[str], known: frozenset[str]
    ) -> None:
        self._header = [printable(name) for name in header]
        self._places = {name: place for place, name in enumerate(headings) if name}
        self.ignored = [
            self._header[place] for name, place in self._places.items() if name not in known
        ]

    def _at(self, *names: str) -> list[int]:
        return [self._places[name] for name in names if name in self._places]

    def _cell(self, row: Row, *names: str) -> str:
        """What stands in the first of these columns that is there."""
        places = self._at(*names)
        return row.cells[places[0]].strip() if places else ""

    def _said(self, row: Row, *names: str) -> tuple[tuple[str, str], ...]:
        """Columns and what stands in them, as evidence."""
        return tuple(
            (self._header[place], printable(row.cells[place]))
            for place in self._at(*names)
            if row.cells[place].strip()
        )

    def _ids(
        self, row: Row, columns: Sequence[str], reasons: list[ImportReason]
    ) -> tuple[Identifier, ...]:
        found = []
        for cell in cell_words.texts(row.cells, self._at(*columns)):
            one = cell_words.record_id(SYSTEM, _full_id(cell))
            if one is None:
                reasons.append(ImportReason.RECORD_ID_MALFORMED)
            else:
                found.append(one)
        return tuple(dict.fromkeys(found))

    def _named(
        self, row: Row, columns: Sequence[str], reasons: list[ImportReason]
    ) -> tuple[Identifier | None, tuple[Identifier, ...]]:
        """Address and ids. Where cells have moved, one identifier is found at best."""
        email = cell_words.address_of(row, self._at("email"), reasons)
        if email is not None and row.is_shifted:
            return email, ()
        records = self._ids(row, columns, reasons)
        return email, records[:1] if row.is_shifted else records

    def _doubtful(self) -> list[str]:
        return [
            f"the column {name!r} was not read, and may hold opt-outs."
            for name in self.ignored
            if DOUBTFUL.search(name)
        ]


def _moved_denials(row: Row, reasons: list[ImportReason]) -> Iterator[Denial]:
    """In a row whose cells may have moved, a no counts wherever it stands."""
    for cell in row.cells if row.is_shifted else ():
        value = plain(cell)
        if value in NO_ANYWHERE or value in {"optout", "opt out"} or wording.objection_in(cell):
            reasons.append(ImportReason.DAMAGED_OPT_OUT)
            yield Denial(ANY, Channel.EMAIL.value, (("", "a cell of a damaged row"),))


def _finished(
    row: Row,
    email: Identifier | None,
    records: tuple[Identifier, ...],
    denials: Sequence[Denial],
    opt_ins: tuple[OptIn, ...],
    marks: Sequence[Mark],
    reasons: list[ImportReason],
    held: list[ImportReason],
) -> Statement:
    if row.damage is not None:
        reasons.insert(0, ImportReason(row.damage.value))
        held.insert(0, reasons[0])
    wishes = [mark for mark in marks if mark.value]
    if email is None and not records:
        reasons.append(ImportReason.NO_IDENTITY)
        if denials or wishes:
            reasons.append(ImportReason.OPT_OUT_WITHOUT_PERSON)
            held.append(ImportReason.OPT_OUT_WITHOUT_PERSON)
    if ImportReason.EMAIL_MALFORMED in reasons and (denials or wishes or held):
        held.append(ImportReason.EMAIL_MALFORMED)
    if not reasons and not opt_ins:
        reasons.append(ImportReason.NOTHING_STATED)
    return Statement(
        row.line,
        email,
        records,
        cell_words.merged(denials),
        opt_ins,
        tuple(dict.fromkeys(reasons)),
        row.damage,
        tuple(marks),
        tuple(dict.fromkeys(held)),
    )


# --- choices -----------------------------------------------------------------------------------


_PURPOSE_NAMES: Final = ("datausepurpose.name", "datausepurpose")
_PURPOSE_IDS: Final = ("datausepurposeid",)
_CONSENT_COLUMNS: Final = frozenset(
    {
        "id",
        "partyid",
        "email",
        "contactpointtype",
        *_PURPOSE_NAMES,
        *_PURPOSE_IDS,
        "privacyconsentstatus",
        "capturedate",
        "capturesource",
        "capturecontactpointtype",
        "effectivefrom",
        "effectiveto",
        "doubleconsentcapturedate",
    }
)
_UNDECIDED: Final = frozenset({"seen", "notseen", "optinpending"})


class _Consents(_Table):
    """Rows of `ContactPointTypeConsent`."""

    def __init__(
        self,
        header: Sequence[str],
        headings: Sequence[str],
        policies: PolicySet,
        settings: Settings,
    ) -> None:
        super().__init__(header, headings, _CONSENT_COLUMNS)
        if not self._at("partyid", "email"):
            raise UnreadableFileError(
                "Neither 'PartyId' nor 'Email' is among the columns, so that nobody can be told "
                "from the file. Nothing was imported."
            )
        self._policies = policies
        self._settings = settings
        self._channels = dict(CONTACT_POINTS) | dict(settings.channels)
        self._unmapped: dict[str, None] = {}

    @property
    def warnings(self) -> list[str]:
        """Columns that may hold opt-outs, and purposes that were met and that nothing claims."""
        return [
            *self._doubtful(),
            *(
                f"no purpose of the policy is called {name!r} in Salesforce (external_names, or "
                "purposes in a mapping file). Whoever opted out of it is denied every purpose on "
                "that channel."
                for name in self._unmapped
            ),
        ]

    def read(self, row: Row, now: datetime, supplied: Supplied = NOTHING) -> Statement:
        """What the row says. What was captured at a time to come was not captured."""
        reasons: list[ImportReason] = []
        held: list[ImportReason] = []
        email, records = self._named(row, ["partyid"], reasons)
        status = _NOT_WORD.sub("", plain(self._cell(row, "privacyconsentstatus")))
        denials = list(_moved_denials(row, reasons))
        opt_in = None
        if status == "optin":
            if row.damage is None:
                opt_in = self._opt_in(row, now, reasons, held, supplied)
        elif status in _UNDECIDED:
            reasons.append(ImportReason.NOT_DECIDED)
        elif status:
            reasons.append(ImportReason.OPT_OUT)
            if status not in {"optout", "optoutpending"}:
                reasons.append(ImportReason.UNREADABLE_OPT_OUT)
            denials += self._denied(row, now, reasons)
        opt_ins = () if opt_in is None else (opt_in,)
        return _finished(row, email, records, denials, opt_ins, (), reasons, held)

    def _denied(self, row: Row, now: datetime, reasons: list[ImportReason]) -> Iterator[Denial]:
        at = cell_words.instant(self._cell(row, "capturedate"))
        if at is not None and not cell_words.has_come(at, now):
            at = None
        said_in = self._said(
            row, "privacyconsentstatus", *_PURPOSE_NAMES, *_PURPOSE_IDS, "contactpointtype",
            "capturesource",
        )  # fmt: skip
        named, purpose = self._purpose(row)
        if named and purpose is None:
            reasons.append(ImportReason.UNMAPPED_TYPE)
        channels = self._channel(row)
        if not channels:
            reasons.append(ImportReason.UNMAPPED_CHANNEL)
            yield Denial(ANY if purpose is None else purpose.key, ANY, said_in, at)
            return
        first, *others = channels
        if purpose is None:
            for channel in channels:
                yield Denial(ANY, channel.value, said_in, at)
            return
        yield Denial(purpose.key, first.value, said_in, at)
        for channel in others:
            if channel in purpose.channels:
                yield Denial(purpose.key, channel.value, said_in, at)

    def _opt_in(
        self,
        row: Row,
        now: datetime,
        reasons: list[ImportReason],
        held: list[ImportReason],
        supplied: Supplied,
    ) -> OptIn | None:
        """The opt-in that the row gives evidence of, or None and the reason."""
        named, claimed = self._purpose(row)
        purpose = claimed or self._policies.purpose(supplied.purpose or "")
        channels = self._channel(row)
        if purpose is not None and purpose.legal_basis is not LegalBasis.CONSENT:
            reasons.append(ImportReason.NOT_A_CONSENT_PURPOSE)
            return None
        if purpose is not None and channels and channels[0] not in purpose.channels:
            reasons.append(ImportReason.CHANNEL_NOT_PURSUED)
            return None
        own_time = cell_words.instant(self._cell(row, "capturedate"))
        if own_time is not None and not cell_words.has_come(own_time, now):
            own_time = None
        given_at = own_time or supplied.given_at
        own_source = self._cell(row, "capturesource")
        own_source = own_source if wording.tells(own_source) else ""
        source = own_source or supplied.source or ""
        own_words = self._words(row, own_source)
        words = own_words.text or supplied.words or ""
        begins = self._cell(row, "effectivefrom")
        begins_at = cell_words.instant(begins)
        ends = self._cell(row, "effectiveto")
        ends_at = cell_words.instant(ends)
        lacking = [
            reason
            for reason, lacks in (
                (ImportReason.EMAIL_MALFORMED, ImportReason.EMAIL_MALFORMED in reasons),
                (ImportReason.NO_PURPOSE, purpose is None and not named),
                (ImportReason.UNMAPPED_TYPE, purpose is None and named),
                (ImportReason.UNMAPPED_CHANNEL, not channels),
                (ImportReason.END_UNREADABLE, bool(ends) and ends_at is None),
                (
                    ImportReason.NOT_YET_IN_FORCE,
                    bool(begins) and (begins_at is None or not cell_words.has_come(begins_at, now)),
                ),
                (ImportReason.NO_DATE, given_at is None),
                (ImportReason.NO_SOURCE, not source),
                (ImportReason.NO_WORDS, not words),
            )
            if lacks
        ]
        if lacking or purpose is None or given_at is None:
            reasons += lacking
            held += lacking
            return None
        confirmed_at = cell_words.instant(self._cell(row, "doubleconsentcapturedate"))
        notice = own_words.notice
        if notice is None:
            told = not own_words.text and supplied.notice is not None
            notice = supplied.notice if told and supplied.notice else wording.notice_of(words)
        return OptIn(
            purpose=purpose.key,
            given_at=given_at,
            stated_at=given_at.isoformat(),
            notice=notice,
            source=source,
            words=words,
            channel=channels[0].value,
            confirmed_at=confirmed_at,
            ends_at=ends_at,
            more={
                name: printable(cell)
                for name, cell in (
                    ("captured_by", self._cell(row, "capturecontactpointtype")),
                    ("effective_from", begins),
                )
                if cell
            },
            supplied=tuple(
                name
                for name, own in (
                    ("date", own_time),
                    ("source", own_source),
                    ("words", own_words.text),
                    ("purpose", claimed),
                )
                if not own
            ),
        )

    def _purpose(self, row: Row) -> tuple[bool, Purpose | None]:
        """Whether the row names a purpose, and which it is."""
        names = cell_words.texts(row.cells, self._at(*_PURPOSE_NAMES, *_PURPOSE_IDS))
        for name in names:
            key = self._settings.purposes.get(plain(name)) or self._settings.purposes.get(
                plain(_full_id(name))
            )
            purpose = self._policies.purpose(key) if key else None
            purpose = purpose or self._policies.purpose_called(SYSTEM, name)
            if purpose is not None:
                return True, purpose
        if names and row.damage is None and len(self._unmapped) < _MOST_NAMES:
            self._unmapped[printable(names[0])] = None
        return bool(names), None

    def _words(self, row: Row, source: str) -> Words:
        """What the person was shown: as declared for the source, else the purpose by its name.

        A name is as much as a quoted title in other exports; an id alone says nothing to anybody.
        """
        declared = self._settings.words.get(plain(source)) or self._settings.words.get(ANY)
        if declared is not None:
            return declared
        return Words(next(iter(cell_words.texts(row.cells, self._at(*_PURPOSE_NAMES))), ""))

    def _channel(self, row: Row) -> Channels:
        return self._channels.get(_NOT_WORD.sub("", plain(self._cell(row, "contactpointtype"))), ())


# --- people ------------------------------------------------------------------------------------


_Covers: TypeAlias = Callable[[Purpose], bool]


def _is_profiling(purpose: Purpose) -> bool:
    return purpose.data_use.startswith("personalize") or any(
        "Personalis" in term or term in {"Profiling", "TargetedAdvertising"} for term in purpose.dpv
    )


def _tracks(purpose: Purpose) -> bool:
    tracked = ("user.behavior.browsing_history", "user.device.cookie", "user.telemetry")
    return any(category.startswith(tracked) for category in purpose.data_categories)


def _locates(purpose: Purpose) -> bool:
    return any(category.startswith("user.location") for category in purpose.data_categories)


_FLAGS: Final[Mapping[str, tuple[ImportReason, str, _Covers | None]]] = MappingProxyType(
    {
        "hasoptedoutofemail": (ImportReason.OPT_OUT, Channel.EMAIL.value, None),
        "donotcall": (ImportReason.OPT_OUT, Channel.PHONE.value, None),
        "hasoptedoutprocessing": (ImportReason.PROCESSING_OPT_OUT, ANY, None),
        "hasoptedoutsolicit": (
            ImportReason.MARKETING_OPT_OUT,
            ANY,
            lambda purpose: purpose.direct_marketing,
        ),
        "hasoptedoutprofiling": (ImportReason.OPT_OUT, ANY, _is_profiling),
        "hasoptedouttracking": (ImportReason.OPT_OUT, ANY, _tracks),
        "hasoptedoutgeotracking": (ImportReason.OPT_OUT, ANY, _locates),
    }
)
"""Opt-out columns: the reason, the channel, and which purposes it is about (None: every one)."""

_WISHES: Final[Mapping[str, tuple[ImportReason, str]]] = MappingProxyType(
    {
        "shouldforget": (ImportReason.FORGET_ASKED, "erasure"),
        "sendindividualdata": (ImportReason.DATA_ASKED, "portability"),
        "canstorepiielsewhere": (ImportReason.RESIDENCY, RESIDENCY),
        "hasoptedoutoffax": (ImportReason.FAX_OPT_OUT, FAX),
        "individualsage": (ImportReason.MINOR, AGE),
    }
)
_PEOPLE_COLUMNS: Final = frozenset({"id", "individualid", "email", *_FLAGS, *_WISHES})
_AGES: Final = {"under 13": "under_13", "13 or older": "13_or_older", "16 or older": ""}
"""The bands of `IndividualsAge`. The highest tells nothing that would have to be heeded."""


class _People(_Table):
    """Rows of `Individual`, `Contact` or `Lead`, or of a report that joins them."""

    def __init__(
        self,
        header: Sequence[str],
        headings: Sequence[str],
        policies: PolicySet,
        settings: Settings,
    ) -> None:
        super().__init__(header, headings, _PEOPLE_COLUMNS)
        if not self._at("id", "individualid", "email"):
            raise UnreadableFileError(
                "None of 'Id', 'IndividualId' and 'Email' is among the columns, so that nobody can "
                "be told from the file. Nothing was imported."
            )
        self._covered = {
            name: _covered(name, covers, policies, settings)
            for name, (_, _, covers) in _FLAGS.items()
            if name in self._places
        }

    @property
    def warnings(self) -> list[str]:
        """Columns that may hold opt-outs, and flags about which the policy says nothing."""
        return [
            *self._doubtful(),
            *(
                f"no purpose of the policy is what {self._header[self._places[name]]!r} is about "
                "(opt_outs in a mapping file). Whoever opted out there is denied every purpose."
                for name, purposes in self._covered.items()
                if purposes == (ANY,) and _FLAGS[name][2] is not None
            ),
        ]

    def read(self, row: Row, now: datetime, supplied: Supplied = NOTHING) -> Statement:  # noqa: ARG002 - signature of `Reading`
        """What the row says. These exports have no opt-ins: `false` is nobody's consent."""
        reasons: list[ImportReason] = []
        email, records = self._named(row, ["individualid", "id"], reasons)
        denials = [*_moved_denials(row, reasons), *self._denied(row, reasons)]
        marks = list(self._marks(row, reasons))
        if any(mark.name == "erasure" for mark in marks):
            # Until an officer has decided, nothing goes out to somebody who wants to be forgotten.
            denials.append(Denial(ANY, ANY, self._said(row, "shouldforget")))
        return _finished(row, email, records, denials, (), marks, reasons, [])

    def _denied(self, row: Row, reasons: list[ImportReason]) -> Iterator[Denial]:
        for name, purposes in self._covered.items():
            reason, channel, _ = _FLAGS[name]
            more = cell_words.opt_out(self._cell(row, name))
            if more is not None:
                reasons += (reason, *more)
                for purpose in purposes:
                    yield Denial(purpose, channel, self._said(row, name))

    def _marks(self, row: Row, reasons: list[ImportReason]) -> Iterator[Mark]:
        if row.is_shifted:
            return
        if "hasoptedoutprocessing" in self._covered and self._is_set(row, "hasoptedoutprocessing"):
            reasons.append(ImportReason.RESTRICTION_ASKED)
            yield Mark("restriction", "asked")
        for name, (reason, mark) in _WISHES.items():
            cell = self._cell(row, name)
            if name not in self._places:
                continue
            if mark == AGE:
                value = _AGES.get(plain(cell), "unreadable") if cell else None
            elif mark == RESIDENCY:
                value = None if not cell else "" if plain(cell) in cell_words.YES else "home_only"
            elif mark == FAX:
                value = "no" if self._is_set(row, name) else ""
            else:
                value = "asked" if self._is_set(row, name) else None
            if value is not None:
                if value:
                    reasons.append(reason)
                yield Mark(mark, value)

    def _is_set(self, row: Row, name: str) -> bool:
        return cell_words.opt_out(self._cell(row, name)) is not None


def _covered(
    name: str, covers: _Covers | None, policies: PolicySet, settings: Settings
) -> tuple[str, ...]:
    """The purposes that an opt-out column speaks about; `*` for all, also where none is known."""
    if name in settings.opt_outs:
        return settings.opt_outs[name]
    if covers is None:
        return (ANY,)
    return tuple(key for key, rule in policies.purposes.items() if covers(rule)) or (ANY,)


def _full_id(cell: str) -> str:
    """An id in its long form: the short one, of 15 characters, is the same with a check behind it.

    The check says which of the letters are capitals, in three groups of five.
    """
    if _ID.fullmatch(cell) is None:
        return cell
    groups = (cell[start : start + 5] for start in (0, 5, 10))
    return cell + "".join(
        _ID_LETTERS[sum(1 << place for place, letter in enumerate(group) if letter.isupper())]
        for group in groups
    )
