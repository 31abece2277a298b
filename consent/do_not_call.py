"""Do-not-call lists: the port to whoever keeps copies of them. Numbers stay on the other side.

A check asks for the columns and reads them in its own statement; an import replaces a copy as a
whole. How old a copy may be, and what a listed number means, the policy decides.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, ClassVar, Final, Protocol

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from consent.errors import ConsentError
from consent.subjects import Reader, SubjectRef
from policies.decisions import Listing
from policies.model import Registry

COLUMNS: Final = 3
"""How many columns each list has in the statement of a check; see `listing`."""


class InvalidListError(ConsentError):
    """The list cannot take the place of the copy in use, which stays."""

    code: ClassVar[str] = "LIST_INVALID"


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy in use."""

    registry: str
    listed_on: date
    """The day on which it was drawn."""
    numbers: int
    current_from: datetime


@dataclass(frozen=True, slots=True)
class Replaced:
    """What an import did. Counts, and no number."""

    registry: str
    listed_on: date
    numbers: int
    before: int
    """How many numbers the copy before had; 0 if there was none."""
    malformed: int
    """Lines that were no number of the country and are left out."""


class DoNotCallLists(Protocol):
    """Keeps copies of do-not-call lists. Shared by threads."""

    def columns(self, person: ColumnElement[Any], registries: int) -> list[ColumnElement[Any]]:
        """Scalar SQL expressions about one person: `COLUMNS` for each list, for `listing`.

        Args:
            person: the person's ref in the caller's statement.
            registries: how many lists. Their keys are bound as `registry_0`, `registry_1`, ….
        """

    def listings(
        self,
        reader: Reader,
        people: Collection[SubjectRef],
        registries: Sequence[str],
        as_of: datetime | None = None,
    ) -> dict[SubjectRef, dict[str, Listing]]:
        """What these lists say of everyone's numbers, in a fixed number of statements.

        As of a past instant: the age is that of the copy that was in use then, and a number
        counts as listed if the copy in use now knows it since a day before.
        """

    def replace(
        self,
        registry: Registry,
        listed_on: date,
        lines: Iterable[str],
        *,
        smaller: bool = False,
        recorded: Callable[[Session, Replaced], None] = ...,
        progress: Callable[[int], None] = ...,
    ) -> Replaced:
        """Read a list in, in transactions of its own, and put it in the place of the copy in use.

        Args:
            registry: whose list it is.
            listed_on: the day on which it was drawn.
            lines: a number each, in the country's form or in E.164. A heading may be the first.
                What it raises breaks the import off, and the copy in use stays.
            smaller: take a list with less than half of the numbers before, too.
            recorded: called in the transaction that makes the copy current.
            progress: told how many lines were read.

        Raises:
            InvalidListError: the day lies in the future, is older than the copy in use or too old
                to be of use; the file is no list of numbers, has none or suspiciously few; or
                another import of the same list began meanwhile.
        """

    def copies(self, reader: Reader) -> list[Copy]:
        """The copies in use, by registry."""


def listing(columns: Sequence[Any]) -> Listing:
    """What the columns of one list say: the day it was drawn, since when a number of the person is
    on it, and whether all of the person's numbers could be compared.
    """
    listed_on, since, compared = columns
    return Listing(
        None if listed_on is None else date.fromisoformat(listed_on),
        since=None if since is None else date.fromisoformat(since),
        compared=compared == 1,
    )
