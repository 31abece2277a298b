"""Canonical JSON: one value, one sequence of bytes, so that a hash of it means something.

Guarantees: for every value accepted, the bytes are those of RFC 8785 (JSON Canonicalization
Scheme). What this encoder cannot write canonically with certainty, it refuses.
Non-goals: floats (RFC 8785 section 3.2.2.3) and non-ASCII keys (section 3.2.3), which the ledger
does not use and whose rules are the hard part of the scheme.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from consent.errors import LedgerError

JSONValue: TypeAlias = "str | int | bool | Sequence[JSONValue] | Mapping[str, JSONValue] | None"
"""What can be encoded, sequences being lists or tuples, and mappings dicts."""

MAX_INTEGER: Final = 2**53 - 1
"""The largest integer every JSON reader keeps exactly: RFC 8785 section 3.2.2.3, RFC 7493."""


class CanonicalError(LedgerError):
    """The value has no canonical form here. The message names a type, never the value."""

    code = "NOT_CANONICAL"


def encode(value: JSONValue) -> bytes:
    """The canonical bytes of a value.

    Raises:
        CanonicalError: a float, an integer beyond ±(2**53 - 1), a key that is not an ASCII
            string, a lone surrogate, or a type that JSON does not have.
    """
    _refuse_the_uncertain(value)
    try:
        return _ENCODER.encode(value).encode()
    except UnicodeEncodeError:
        # Not chained: the cause holds the text, which may be personal data.
        raise CanonicalError("a string holds a lone surrogate") from None


# For what passes the check, RFC 8785 is json.dumps with sorted keys and no spaces: the escapes of
# section 3.2.2.2 are Python's, and UTF-16 order (section 3.2.3) is code point order in ASCII.
_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, sort_keys=True, separators=(",", ":")
)


def _refuse_the_uncertain(value: object) -> None:
    if isinstance(value, str) or value is None:
        return
    if isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise CanonicalError("an integer is beyond 2**53 - 1")
    elif isinstance(value, dict):
        _refuse_keys(value)
        for item in value.values():
            if type(item) is not str:  # most are: spares most calls
                _refuse_the_uncertain(item)
    elif isinstance(value, list | tuple):
        for item in value:
            if type(item) is not str:
                _refuse_the_uncertain(item)
    else:
        raise CanonicalError(f"a value of type {type(value).__name__} has no canonical form")


def _refuse_keys(value: dict[object, object]) -> None:
    for key in value:
        if not (isinstance(key, str) and key.isascii()):
            raise CanonicalError("an object key is not an ASCII string")
