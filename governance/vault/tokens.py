"""What a table keeps of an identifier in place of it: blind tokens, one index for each kind."""

from typing import Final

from consent.errors import InvalidSubjectError
from consent.subjects import Identifier, IdentifierKind
from governance.keys.blind_index import (
    BlindIndex,
    IndexRoot,
    normalise_email,
    normalise_external_id,
    normalise_phone,
)
from governance.keys.keyring import Keyring

_INDEX_NAMES: Final[dict[IdentifierKind, str]] = {
    "email": "email.1",
    "phone": "phone.1",
    "external_id": "external_id.1",
}
"""The index of each kind, with the version of its normaliser."""


class Tokens:
    """The tokens of one column, through a prepared keyring. Shared by threads.

    Columns have keys of their own, so that tokens of one cannot be matched with those of another.
    """

    def __init__(self, keyring: Keyring, table: str, column: str) -> None:
        self._keyring = keyring
        self._table = table
        self._column = column
        self._made: tuple[tuple[IndexRoot, ...], dict[IdentifierKind, list[BlindIndex]]] = ((), {})

    def of(self, identifier: Identifier) -> list[bytes]:
        """Under every version that may be searched, the one to write first.

        Raises:
            InvalidSubjectError: the identifier is malformed, or a ref, which has no token.
        """
        try:
            parts = normalised(identifier)
        except ValueError as error:
            raise InvalidSubjectError(str(error)) from error
        return [index.token(*parts) for index in self.indexes(identifier.kind)]

    def indexes(self, kind: IdentifierKind) -> list[BlindIndex]:
        """The indexes of a kind that may be searched, the one to write first."""
        roots, indexes = self._made
        if roots is not self._keyring.index_roots:
            roots = self._keyring.index_roots
            ordered = sorted(roots, key=lambda root: (root.writable, root.version), reverse=True)
            indexes = {
                each: [BlindIndex(root, self._table, self._column, name) for root in ordered]
                for each, name in _INDEX_NAMES.items()
            }
            self._made = roots, indexes
        return indexes[kind]


def normalised(identifier: Identifier) -> tuple[str, ...]:
    """The spelling of an identifier under which it is found, in parts.

    Raises:
        ValueError: the identifier is malformed, or a ref, which has no other spelling.
    """
    match identifier.kind:
        case "email":
            return (normalise_email(identifier.value),)
        case "phone":
            return (normalise_phone(identifier.value),)
        case "external_id":
            return (identifier.system or "", normalise_external_id(identifier.value))
        case "ref":
            raise ValueError("a subject ref has no token")
