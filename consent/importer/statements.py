"""What one row of an export says, in our words, before it is known whom that concerns."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from typing import Final, Protocol

from consent.choices import NoticeRef
from consent.importer.outcomes import ImportReason
from consent.importer.rows import Damage, Row
from consent.subjects import Identifier
from policies.vocabulary import Channel, ChoiceState


@dataclass(frozen=True, slots=True)
class Denial:
    """A no to a purpose on a channel; `*` stands for all of them."""

    purpose: str
    channel: str
    said_in: tuple[tuple[str, str], ...] = field(repr=False)
    """The columns that say so, and what stands in them."""
    at: datetime | None = None
    """When it was said; None where the export does not tell: from the import on."""
    state: ChoiceState = ChoiceState.OBJECTED

    def silent(self) -> "Denial":
        """The same without its evidence: equal for all that say the same."""
        return replace(self, said_in=())

    def said(self, where: tuple[tuple[str, str], ...]) -> "Denial":
        """The same with other evidence."""
        return replace(self, said_in=where)


@dataclass(frozen=True, slots=True)
class OptIn:
    """A yes to a purpose on a channel, with everything that makes it count."""

    purpose: str
    given_at: datetime
    """Of a day without a time, the first moment (UTC)."""
    stated_at: str
    """The time as it is part of the fact: a day or an instant in ISO 8601."""
    notice: NoticeRef
    source: str = field(repr=False)
    words: str = field(repr=False)
    channel: str = Channel.EMAIL.value
    confirmed_at: datetime | None = None
    ends_at: datetime | None = None
    age: int | None = None
    more: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What else the row says of it, kept as evidence."""
    supplied: tuple[str, ...] = ()
    """What an officer added in a repair: `date`, `source`, `words`, `purpose`."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something else that a row says of a person: a right that is asked for, or a fact to heed."""

    name: str
    value: str
    """Empty: what earlier exports said no longer holds."""

    @property
    def asks(self) -> bool:
        """Whether it asks for a right, so that a draft request comes of it."""
        return self.name in RIGHTS


RIGHTS: Final = ("erasure", "portability", "restriction")
"""Marks that become draft requests (GDPR Art. 17, 20 and 18)."""
AGE: Final = "age"
RESIDENCY: Final = "residency"
FAX: Final = "fax"
NOTES: Final = (AGE, RESIDENCY, FAX)
"""Marks that are kept as notes on the person."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One row, read."""

    line: int
    email: Identifier | None
    records: tuple[Identifier, ...]
    """What else the row calls the person: ids in other systems, a phone number."""
    denials: tuple[Denial, ...]
    opt_ins: tuple[OptIn, ...]
    reasons: tuple[ImportReason, ...]
    damage: Damage | None = None
    marks: tuple[Mark, ...] = ()
    held: tuple[ImportReason, ...] = ()
    """Why part of what the row says cannot be used as it stands, so that it has to be kept."""

    @property
    def identifiers(self) -> tuple[Identifier, ...]:
        """What the row calls the person."""
        return self.records if self.email is None else (self.email, *self.records)

    @property
    def speaks(self) -> bool:
        """Whether it says anything about anybody that has to be kept."""
        wishes = any(mark.value for mark in self.marks)
        return bool(self.identifiers) and bool(self.denials or self.opt_ins or wishes)


@dataclass(frozen=True, slots=True)
class Supplied:
    """What an officer adds to rows that lack it. Only what is missing is taken from here."""

    given_on: date | None = None
    source: str | None = None
    words: str | None = None
    notice: NoticeRef | None = None
    purpose: str | None = None

    @property
    def given_at(self) -> datetime | None:
        """The first moment of the day."""
        return None if self.given_on is None else datetime.combine(self.given_on, time(), UTC)


NOTHING: Final = Supplied()


class Reading(Protocol):
    """Reads the rows under one header by one policy. Pure."""

    @property
    def ignored(self) -> list[str]:
        """Columns that are not read."""

    @property
    def warnings(self) -> list[str]:
        """What somebody should know of the header before the rows are believed."""

    def read(self, row: Row, now: datetime, supplied: Supplied = NOTHING) -> Statement:
        """What the row says. A consent of a time to come is none."""
