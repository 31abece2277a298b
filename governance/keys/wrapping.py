"""How keys encrypt keys. Pure.

    root key (the provider's) → epoch key, 32 random bytes → person's key, 32 random bytes

An epoch key wraps by AES-256-SIV (RFC 5297), which needs no nonce and so has no budget of
messages; its 64 bytes come from the epoch key by HKDF-SHA512. What a wrapped key is for (subject,
kid, generation, epoch) is additional data. A person's key is never used directly:
HMAC-SHA512(key, label) gives the encryption key (32), the key id (16), and 16 spare bytes. The id
therefore commits to the key, which AES-GCM alone does not.
"""

import hmac
import secrets
import struct
from hashlib import sha512
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from consent.subjects import SubjectRef
from governance.errors import KeyringError
from governance.keys.envelope import PersonKey, prefixed

KEY_BYTES: Final = 32
_PERSON: Final = b"tutela/k1/person"
_DATA_KEY: Final = b"tutela/k1/data-key"
_INNER_PAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD: Final = bytes(byte ^ 0x5C for byte in range(256))
_numbers: Final = struct.Struct(">II").pack


class EpochKey:
    """The key of one month, opened: it wraps and unwraps people's keys."""

    __slots__ = ("_purpose", "_siv", "epoch")

    def __init__(self, epoch: str, key: bytes) -> None:
        self.epoch: Final = epoch
        self._siv: Final = siv(key, b"tutela/k1/epoch")
        self._purpose: Final = _DATA_KEY + prefixed(epoch.encode())

    def __repr__(self) -> str:
        return f"<EpochKey {self.epoch}, redacted>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key must not be pickled or copied out of the process")

    def make(self, subject: SubjectRef, generation: int) -> tuple[PersonKey, bytes]:
        """A new key of a person, and its wrapped form."""
        key = secrets.token_bytes(KEY_BYTES)
        opened = _person_key(key, subject, generation)
        return opened, self._siv.encrypt(key, self._data(subject, opened.kid, generation))

    def open(self, wrapped: bytes, subject: SubjectRef, kid: bytes, generation: int) -> PersonKey:
        """A person's key from its wrapped form.

        Raises:
            KeyringError: the stored key was damaged, or moved from another person or epoch.
        """
        try:
            key = self._siv.decrypt(wrapped, self._data(subject, kid, generation))
        except InvalidTag as error:
            raise KeyringError("a stored key is damaged; restore the key tables") from error
        opened = _person_key(key, subject, generation)
        if not hmac.compare_digest(opened.kid, kid):
            raise KeyringError("a stored key does not match its id; restore the key tables")
        return opened

    def _data(self, subject: SubjectRef, kid: bytes, generation: int) -> list[bytes]:
        # One string: AES-SIV takes a list as well, at the price of a MAC over each part.
        owner = subject.encode()
        return [self._purpose + _numbers(generation, len(owner)) + owner + kid]


def siv(key: bytes, info: bytes) -> AESSIV:
    """AES-256-SIV for one purpose under a 32-byte key."""
    return AESSIV(HKDF(SHA512(), length=64, salt=None, info=info).derive(key))


def _person_key(key: bytes, subject: SubjectRef, generation: int) -> PersonKey:
    # HMAC as RFC 2104 writes it: for one short message under a key used once, the libraries' set-up
    # costs more than the two hashes. A test holds it to the standard library's.
    block = key.ljust(128, b"\0")
    inner = sha512(block.translate(_INNER_PAD) + _PERSON).digest()
    derived = sha512(block.translate(_OUTER_PAD) + inner).digest()
    return PersonKey(derived[32:48], subject, generation, AESGCM(derived[:32]))
