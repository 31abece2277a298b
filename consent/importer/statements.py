"""What one row of an export says, in our words, before it is known whom that concerns."""

from dataclasses import dataclass, field
from datetime import date, datetime

from consent.choices import NoticeRef
from consent.importer.outcomes import ImportReason
from consent.importer.rows import Damage
from consent.subjects import Identifier


@dataclass(frozen=True, slots=True)
class Denial:
    """A no to a purpose on a channel; `*` stands for all of them."""

    purpose: str
    channel: str
    said_in: tuple[tuple[str, str], ...] = field(repr=False)
    """The columns that say so, and what stands in them."""


@dataclass(frozen=True, slots=True)
class OptIn:
    """A yes to a purpose by e-mail, with everything that makes it count."""

    purpose: str
    given_on: date
    notice: NoticeRef
    source: str = field(repr=False)
    words: str = field(repr=False)
    confirmed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """One row, read."""

    line: int
    email: Identifier | None
    record: Identifier | None
    denials: tuple[Denial, ...]
    opt_in: OptIn | None
    reasons: tuple[ImportReason, ...]
    damage: Damage | None = None

    @property
    def identifiers(self) -> tuple[Identifier, ...]:
        """What the row calls the person."""
        return tuple(one for one in (self.email, self.record) if one is not None)
