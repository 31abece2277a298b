"""What a consent event leaves in the ledger: a leaf for everyone, disclosures for the few. Pure.

The leaf is RFC 8785 canonical JSON and never points at a person. What does (the subject, the
claimed time, the notice, the evidence) is disclosed apart by RFC 9901 salted digests: the leaf
holds `base64url(SHA-256(disclosure))`, a disclosure is `base64url(JSON [salt, name, value])`.
Whoever holds a disclosure can prove that the leaf commits to it; once the salts are erased, the
leaf can be matched to nobody.
"""

import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from consent.errors import LedgerError
from consent.ledger.canonical import encode

SALT_BYTES: Final = 16
VERSION: Final = 1

_TIMESTAMP: Final = "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ"
_ENCODE: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Leaf:
    """One event, ready for the ledger."""

    data: bytes
    disclosures: tuple[str, ...]


def make_leaf(
    *,
    event_id: str,
    event_type: str,
    purpose: str,
    channel: str,
    state: str,
    basis: str,
    policy: str,
    recorded_at: datetime,
    claims: Mapping[str, Any],
) -> Leaf:
    """Build a leaf; each claim becomes one disclosure under a fresh 128-bit salt."""
    salts = os.urandom(SALT_BYTES * len(claims))
    disclosures = tuple(
        _disclosure(salts[i * SALT_BYTES : (i + 1) * SALT_BYTES], name, value)
        for i, (name, value) in enumerate(claims.items())
    )
    digests: list[str] = sorted(digest(one) for one in disclosures)
    data = encode(
        {
            "_sd": digests,
            "_sd_alg": "sha-256",
            "basis": basis,
            "channel": channel,
            "id": event_id,
            "policy": policy,
            "purpose": purpose,
            "state": state,
            "ts": timestamp(recorded_at),
            "type": event_type,
            "v": VERSION,
        }
    )
    return Leaf(data, disclosures)


def digest(disclosure: str) -> str:
    """What a leaf's `_sd` holds for a disclosure (RFC 9901 section 4.2.3)."""
    return _b64(sha256(disclosure.encode("ascii")).digest())


def read_leaf(data: bytes) -> dict[str, Any]:
    """The fields of a leaf.

    Raises:
        LedgerError: the bytes are no leaf of a version that this code knows.
    """
    try:
        leaf = json.loads(data)
    except ValueError as error:
        raise LedgerError("a leaf is not JSON") from error
    if not isinstance(leaf, dict) or leaf.get("v") != VERSION:
        raise LedgerError("a leaf has an unknown version")
    return leaf


def open_disclosures(leaf: Mapping[str, Any], disclosures: Sequence[str]) -> dict[str, Any]:
    """The claims that all of a leaf's disclosures make, checked against its digests.

    Raises:
        LedgerError: a disclosure is malformed, or the digests are not exactly the leaf's.
    """
    if sorted(digest(one) for one in disclosures) != leaf["_sd"]:
        raise LedgerError("the disclosures do not match the leaf")
    return dict(_read_disclosure(one) for one in disclosures)


def disclosed(disclosures: Sequence[str], names: frozenset[str]) -> tuple[str, ...]:
    """The disclosures of the named claims only."""
    return tuple(one for one in disclosures if _read_disclosure(one)[0] in names)


def timestamp(instant: datetime) -> str:
    """RFC 3339 in UTC with microseconds and Z: one instant, one spelling."""
    at = instant.astimezone(UTC)
    # Twice as fast as isoformat, which asks for the offset again.
    day = at.year, at.month, at.day
    return _TIMESTAMP % (*day, at.hour, at.minute, at.second, at.microsecond)


def _disclosure(salt: bytes, name: str, value: Any) -> str:
    return _b64(_ENCODE([_b64(salt), name, value]).encode())


def _read_disclosure(disclosure: str) -> tuple[str, Any]:
    try:
        _, name, value = json.loads(urlsafe_b64decode(disclosure + "=" * (-len(disclosure) % 4)))
    except ValueError as error:
        raise LedgerError("a disclosure is malformed") from error
    return name, value


def _b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
