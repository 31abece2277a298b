"""Which of a person's identifiers stands for the person on a page. Pure."""

from collections.abc import Iterable
from typing import Final

from consent.subjects import Identifier, IdentifierKind

KINDS: Final[dict[IdentifierKind, str]] = {
    "email": "E-mail",
    "phone": "Phone",
    "external_id": "Id",
    "ref": "Ref",
}
"""What each kind is called; those that people recognise first come first."""


def best_first(held: Iterable[Identifier]) -> list[Identifier]:
    """The identifiers by kind, and within a kind as they came."""
    return sorted(held, key=lambda one: list(KINDS).index(one.kind))
