"""Signatures by the Standard Webhooks convention, symmetric form (`v1`). Pure but for new secrets.

    webhook-id: what receivers tell repeats by, the same in every attempt
    webhook-timestamp: seconds since 1970 of this attempt
    webhook-signature: v1,base64(HMAC-SHA256(secret, id "." timestamp "." body)), one a secret

A secret is `whsec_` and base64 of its bytes. While it is being changed two are in force, and a
receiver that knows either is content.
"""

import base64
import hashlib
import hmac
import secrets as random
from collections.abc import Sequence
from datetime import datetime
from typing import Final

PREFIX: Final = "whsec_"
_BYTES: Final = 32


def new_secret() -> str:
    """A fresh secret, 256 random bits."""
    return PREFIX + base64.b64encode(random.token_bytes(_BYTES)).decode()


def signed_headers(
    message_id: str, at: datetime, body: bytes, secrets: Sequence[str]
) -> dict[str, str]:
    """The three headers of an attempt.

    Args:
        message_id: has no full stop in it.
        at: the moment of the attempt.
        body: the bytes that are sent.
        secrets: those in force, the newest first.
    """
    timestamp = str(int(at.timestamp()))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(secret, signed) for secret in secrets),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
