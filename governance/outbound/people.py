"""What this package needs of the layer that knows people."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from consent.subjects import Identifier, Reader, SubjectRef


class AddressBook(Protocol):
    """Knows whose an address is, and which addresses somebody has."""

    def find(self, reader: Reader, identifiers: Sequence[Identifier]) -> list[SubjectRef | None]:
        """The people of identifiers, in their order; None for the unknown."""

    def identifiers_of(
        self, reader: Reader, refs: Sequence[SubjectRef]
    ) -> Mapping[SubjectRef, list[Identifier]]:
        """The identifiers of people, the oldest first."""
