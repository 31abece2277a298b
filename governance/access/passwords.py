"""Passwords: what is refused as one, and how they are kept.

Rules are those of NIST SP 800-63B section 3.1.1: a minimum length, no rules about sorts of
characters, nothing that attackers try first, any Unicode, no periodic change. Hashes are argon2id
(RFC 9106); parameters live in the hash, so that they can grow.
"""

import threading
import unicodedata
from dataclasses import dataclass
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from governance.access.errors import PasswordRefusedError
from governance.access.settings import PasswordProfile

MIN_LENGTH: Final = 12
MAX_LENGTH: Final = 256
_MIN_OWN: Final = 8
_MIN_DISTINCT: Final = 5
_AT_ONCE: Final = 2

_CONTEXT: Final = ("tutela", "password", "passwort", "privacy", "consent", "admin", "officer")
# Of the usual lists, what is long enough to pass the other rules.
_COMMON: Final = """
    123456789012 1234567890123 12345678901234 123456789101112 1234567890987654321 0123456789012
    098765432109 abcdefghijkl abcdefghijklmnopqrstuvwxyz abcdef123456 123456abcdef abc123abc123
    qwertyuiop12 qwertyuiop123 qwertyuiopas qwertyuiopasdf qwertyuiopasdfghjklzxcvbnm
    qwerty123456 qwerty12345678 123456qwerty 123qweasdzxc qweasdzxc123 1qaz2wsx3edc 1qazxsw23edc
    1q2w3e4r5t6y 1q2w3e4r5t6y7u 1q2w3e4r5t6y7u8i q1w2e3r4t5y6 zaq12wsxcde3 zaq1xsw2cde3
    asdfghjkl123 asdfghjklqwertyuiop zxcvbnm12345 zxcvbnmasdfghjkl changemechangeme changeme1234
    changeme12345 letmeinletmein letmein12345 letmein123456 welcome12345 welcome123456
    iloveyou1234 iloveyou12345 iloveyouiloveyou iloveyouforever administrator1 superman1234
    monkey123456 dragon123456 football1234 baseball1234 sunshine1234 princess1234 charlie12345
    correcthorsebatterystaple correct-horse-battery-staple trustno1trustno1 secretsecret
    secret123456 testtesttest test12345678 demodemodemo default12345 temporary123 summer2024!!
    winter2024!! spring2025!! summer2025!! autumn2025!! winter2025!! spring2026!! summer2026!!
    """


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password was right, and its new hash where the old one is out of date."""

    right: bool
    rehashed: str | None = None


class Passwords:
    """Hashes and verifies. At most two at once in a process: each takes 64 MiB and a core."""

    def __init__(self, profile: PasswordProfile) -> None:
        self._hasher = PasswordHasher.from_parameters(profile.parameters)
        self._turn = threading.BoundedSemaphore(_AT_ONCE)

    def hash(self, password: str) -> str:
        """The hash to keep. Check the rules first."""
        with self._turn:
            return self._hasher.hash(_encoded(password))

    def verify(self, stored: str | None, password: str) -> Verdict:
        """Whether this is the password. Without a stored hash: no, after the same work.

        Raises:
            argon2.exceptions.InvalidHashError: what is stored is not a hash.
        """
        if len(password) > MAX_LENGTH:
            password = ""  # never one; a long text must not buy more work than another
        if stored is None:
            self.hash(password)
            return Verdict(right=False)
        try:
            with self._turn:
                self._hasher.verify(stored, _encoded(password))
        except VerificationError:
            return Verdict(right=False)
        if self._hasher.check_needs_rehash(stored):
            return Verdict(right=True, rehashed=self.hash(password))
        return Verdict(right=True)


def check_rules(password: str, login: str) -> None:
    """Refuse a new password that is too weak.

    Raises:
        PasswordRefusedError: too short or long, repetitive, among those everybody tries, or made
            of the login name and words of this place.
    """
    text = _normalised(password).casefold()
    if len(text) < MIN_LENGTH:
        raise PasswordRefusedError(f"the password needs at least {MIN_LENGTH} characters")
    if len(password) > MAX_LENGTH:
        raise PasswordRefusedError(f"the password may have at most {MAX_LENGTH} characters")
    if len(set(text)) < _MIN_DISTINCT:
        raise PasswordRefusedError("the password repeats too few characters")
    if text in _COMMON.split():
        raise PasswordRefusedError("the password is one of those that attackers try first")
    own = text
    for word in (login, *login.split("@"), *_CONTEXT):
        if len(word) >= 4:
            own = own.replace(word, "")
    if len(own) < _MIN_OWN:
        raise PasswordRefusedError(
            "the password is little more than the login name or words of this service"
        )


def _normalised(password: str) -> str:
    # The same key on two keyboards may send composed or decomposed characters (800-63B: NFKC).
    return unicodedata.normalize("NFKC", password)


def _encoded(password: str) -> bytes:
    return _normalised(password).encode(errors="backslashreplace")
