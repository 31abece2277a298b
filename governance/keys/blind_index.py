"""Finding sealed values by equality: a keyed hash of a normalised value. Pure.

    token = first 16 bytes of HMAC-SHA256(key, len part | part …)
    key   = HKDF-SHA256(index root, info = "tutela/i1" | len table | table | len column | column
                        | len index | index | version, 32 bits)

Guarantees: without the index root a token says nothing about its value; tokens of different
columns, indexes and versions cannot be matched with each other. 128 bits are not truncated
further: that would not hide the frequency of common values, so that columns with few or very
unequal values must not be indexed alone.

Normalisers make values that mean the same equal; their version is part of the index's name, so
that a change of rules is a rotation and not a silent miss. What is stored is never normalised
by them.
"""

import re
import struct
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeAlias

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from governance.keys.envelope import prefixed

TOKEN_BYTES: Final = 16
_CONTEXT: Final = b"tutela/i1"


@dataclass(frozen=True, slots=True)
class IndexRoot:
    """One version of the key that all blind indexes are derived from."""

    version: int
    key: bytes = field(repr=False)
    writable: bool
    """New tokens are written under the newest writable version; all versions are searched."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key must not be pickled or copied out of the process")


class BlindIndex:
    """The tokens of one index of one column under one version of the root. Shared by threads."""

    __slots__ = ("_keyed", "version")

    def __init__(self, root: IndexRoot, table: str, column: str, index: str) -> None:
        info = (
            _CONTEXT
            + prefixed(table.encode())
            + prefixed(column.encode())
            + prefixed(index.encode())
            + struct.pack(">I", root.version)
        )
        key = HKDF(SHA256(), length=32, salt=None, info=info).derive(root.key)
        # Copied for each token: that skips the hashing of the key.
        self._keyed = HMAC(key, SHA256())
        self.version: Final = root.version

    def __repr__(self) -> str:
        return f"<BlindIndex, version {self.version}, redacted>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key must not be pickled or copied out of the process")

    def token(self, *parts: str) -> bytes:
        """The token of a normalised value, which may have several parts: 16 bytes."""
        mac = self._keyed.copy()
        for part in parts:
            mac.update(prefixed(part.encode()))
        return mac.finalize()[:TOKEN_BYTES]


# --- normalisation -----------------------------------------------------------------------------

Normaliser: TypeAlias = Callable[[str], str]


def normalise_email(address: str) -> str:
    """Version 1: NFKC, outer spaces dropped, case folded.

    The part before the @ is folded as well: RFC 5321 lets a host tell cases apart, but people and
    CRMs do not, and a withdrawal must find the address however it was typed.

    Raises:
        ValueError: there is not exactly one @ with something on both sides, or a space inside.
    """
    if address.isascii():
        value = address.strip().lower()
    else:
        folded = unicodedata.normalize("NFKC", address).casefold()
        value = unicodedata.normalize("NFKC", folded).strip()
    name, _, domain = value.partition("@")
    if not name or not domain or "@" in domain or " " in value or not value.isprintable():
        raise ValueError("the e-mail address is malformed")
    return value


def normalise_phone(number: str) -> str:
    """Version 1: E.164, without the trunk zero that people write behind the country code.

    Raises:
        ValueError: it is not an international number, `+` and country code first.
    """
    if _E164_WITHOUT_ZERO.fullmatch(number):
        return number
    # Costly to load, and few numbers need it: those with punctuation, or with a zero behind the
    # country code, which is a trunk prefix in Germany and part of the number in Italy.
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number)
        formatted = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    except phonenumbers.NumberParseException:
        formatted = number
    # As it stands, if it has the form: where the country code is not assigned, or where too little
    # is left without zeros. What the door took for a number must be found.
    for normal in (formatted, number):
        if _E164.fullmatch(normal):
            return normal
    raise ValueError("the telephone number is not in international form")


def normalise_external_id(value: str) -> str:
    """Version 1: NFKC, outer spaces dropped. Case counts, as other systems' ids may differ in it.

    Raises:
        ValueError: nothing is left.
    """
    cleaned = value.strip() if value.isascii() else unicodedata.normalize("NFKC", value).strip()
    if not cleaned:
        raise ValueError("the external id is empty")
    return cleaned


_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
# ITU-T E.164: the country codes of one and two digits; all others have three. Atomic, so that no
# digit of the number is taken for part of a longer code.
_E164_WITHOUT_ZERO: Final = re.compile(
    r"(?=\+[0-9]{7,15}\Z)"
    r"\+(?>1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|[2-9][0-9]{2})[1-9][0-9]+"
)
