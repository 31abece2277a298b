"""Random bearer tokens, and what of them may be stored.

A token is 256 bits from the operating system. Its SHA-256 is safe to keep without salt or
stretching: nothing about it can be guessed, so there is nothing to slow down.
"""

import hashlib
import secrets


def new_token() -> str:
    """256 random bits as 43 characters that need no quoting in URLs, cookies and headers."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """What a table keeps of a token. Takes any text, so that nonsense is only unknown."""
    return hashlib.sha256(token.encode(errors="backslashreplace")).digest()
