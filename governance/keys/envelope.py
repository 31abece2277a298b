"""Sealed values, envelope version 1.

    C1 | alg | flags | kid 16 | nonce 12 | ciphertext | tag 16

alg 01 is AES-256-GCM with a random nonce. kid commits to the key (`governance.keys.wrapping`).
flags 01: bound to one person's one row. The byte C1 never occurs in UTF-8, so that text in clear
cannot be taken for an envelope. The plaintext is `governance.keys.codec`'s.

Additional data, all lengths 32-bit big-endian, so that no two places can be confused:

    "tutela/f1" | the first 19 bytes | len table | table | len column | column
    and if bound  | len subject | subject | len row | row

Guarantees: a value opens only under its own key and at its own place; any change raises
`DecryptionError`, whatever the reason; equal values never look equal. Table and column are
aliases, declared once: renaming a table does not change them.

Non-goals: hiding a value's length or presence; noticing that an older value was put back.

Pure. Nonces: a person's key seals far fewer than the 2**32 values that random 96-bit nonces allow
(NIST SP 800-38D, 8.3); a key shared by many people must not use alg 01.
"""

import os
import struct
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from consent.subjects import SubjectRef
from governance.errors import DecryptionError
from governance.keys.codec import Value, decode, encode

_HEADER: Final = 19
_NONCE: Final = 12
_TAG: Final = 16
_START: Final = b"\xc1\x01"
_BOUND: Final = b"\x01"
_UNBOUND: Final = b"\x00"
_CONTEXT: Final = b"tutela/f1"
_length: Final = struct.Struct(">I").pack


class PersonKey:
    """A person's key, opened. Immutable, shared by threads; it never leaves the process."""

    __slots__ = ("__weakref__", "aead", "generation", "kid", "subject")

    kid: bytes
    subject: SubjectRef
    generation: int
    aead: AESGCM

    def __init__(self, kid: bytes, subject: SubjectRef, generation: int, aead: AESGCM) -> None:
        set_ = object.__setattr__
        set_(self, "kid", kid)
        set_(self, "subject", subject)
        set_(self, "generation", generation)
        set_(self, "aead", aead)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a key is immutable")

    def __repr__(self) -> str:
        return "<PersonKey, redacted>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key must not be pickled or copied out of the process")


class Place:
    """Where a value lives: the aliases of its table and column."""

    __slots__ = ("_path",)

    def __init__(self, table: str, column: str) -> None:
        self._path = prefixed(table.encode()) + prefixed(column.encode())

    def seal(self, key: PersonKey, value: Value, row: str | None = None) -> bytes:
        """Encrypt a value for this place, bound to the key's person and a row where one is given.

        Raises:
            TypeError: the value's type cannot be kept without loss.
            ValueError: the value is text with lone surrogates.
        """
        header = _START + (_UNBOUND if row is None else _BOUND) + key.kid
        nonce = os.urandom(_NONCE)
        sealed = key.aead.encrypt(nonce, encode(value), self._data(header, key.subject, row))
        return header + nonce + sealed

    def open(
        self, key: PersonKey, sealed: bytes, subject: SubjectRef, row: str | None = None
    ) -> Value:
        """Decrypt what `seal` made for this place, this person and this row.

        Raises:
            DecryptionError: it was not made with this key for this place, or was changed.
        """
        header = sealed[:_HEADER]
        if header != _START + (_UNBOUND if row is None else _BOUND) + key.kid:
            raise DecryptionError
        nonce = sealed[_HEADER : _HEADER + _NONCE]
        try:
            plaintext = key.aead.decrypt(
                nonce, sealed[_HEADER + _NONCE :], self._data(header, subject, row)
            )
            return decode(plaintext)
        except (InvalidTag, ValueError) as error:
            raise DecryptionError from error

    def _data(self, header: bytes, subject: SubjectRef, row: str | None) -> bytes:
        if row is None:
            return _CONTEXT + header + self._path
        return _CONTEXT + header + self._path + prefixed(subject.encode()) + prefixed(row.encode())


def key_id(sealed: bytes) -> bytes:
    """The id of the key that sealed a value: 16 bytes, in clear.

    Raises:
        DecryptionError: this is not an envelope of version 1.
    """
    if len(sealed) < _HEADER + _NONCE + _TAG + 1 or not sealed.startswith(_START):
        raise DecryptionError
    return sealed[3:_HEADER]


def prefixed(part: bytes) -> bytes:
    """A part behind its length, so that parts in a row have one reading."""
    return _length(len(part)) + part
