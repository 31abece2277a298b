"""Signed tree heads: C2SP tlog-checkpoint inside C2SP signed-note, with Ed25519.

Guarantees: a note is opened only if a known key signed it, and not at all if a known key's
signature is wrong. Parsing is as strict as Go's `sumdb/note`, or stricter: base64 must be
canonical, so that a note has one spelling. A checkpoint counts only when signed by a key that
bears its origin's name: a witness alone, or the key of another log, cannot vouch for it.
Format: key id = SHA-256(name ‖ LF ‖ type ‖ public key)[:4]; verifier key = name+hex8+base64(type ‖
public key). Type 0x01 signs the note's text; type 0x04 (tlog-cosignature) a time and the text.
Non-goals: keeping private keys, which a `NoteSigner` does; ML-DSA-44 cosignatures (type 0x06).
"""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final, Protocol, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from consent.errors import LedgerError
from consent.ledger.tree import HASH_SIZE

MAX_SIGNATURES: Final = 100
"""As in Go's `sumdb/note`; signed-note asks for 16 at least."""


class NoteError(LedgerError):
    """A note, a key or a checkpoint cannot be accepted."""

    code = "NOTE_INVALID"


class MalformedNoteError(NoteError):
    """The text has not the form of a note, a verifier key or a checkpoint."""

    code = "NOTE_MALFORMED"


class UnverifiedNoteError(NoteError):
    """No key that counts has signed the note."""

    code = "NOTE_UNVERIFIED"


class BadSignatureError(NoteError):
    """A known key's signature does not verify."""

    code = "NOTE_SIGNATURE_BAD"


class SignatureType(IntEnum):
    """The signature types of signed-note that are understood here."""

    ED25519 = 0x01
    COSIGNATURE_V1 = 0x04


class NoteSigner(Protocol):
    """Signs notes with an Ed25519 key kept elsewhere. A log's signer is named as its origin."""

    @property
    def name(self) -> str:
        """The key's name: no spaces, no plus."""

    @property
    def public_key(self) -> bytes:
        """The raw public key, 32 bytes."""

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature, 64 bytes."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: all its entries, in 32 bytes."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The note text: three lines."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a note text. Extension lines are allowed and ignored, as tlog-checkpoint says.

        Raises:
            MalformedNoteError: it is not a checkpoint.
        """
        match = _CHECKPOINT.fullmatch(text)
        if match is None:
            raise MalformedNoteError("the note is not a checkpoint")
        return cls(match["origin"], int(match["size"]), decode_base64(match["root"]))


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key that is trusted to sign as `name`."""

    name: str
    public_key: bytes
    kind: SignatureType = SignatureType.ED25519

    @property
    def key_id(self) -> bytes:
        """The four bytes that go before its signatures."""
        return key_id(self.name, self.public_key, self.kind)

    def verify(self, text: str, signature: bytes) -> None:
        """Check a signature over a note's text.

        Raises:
            BadSignatureError: it is not this key's signature of this text.
        """
        message = text.encode()
        if self.kind is SignatureType.COSIGNATURE_V1:
            time, signature = signature[:8], signature[8:]
            message = cosignature_message(text, int.from_bytes(time))
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise BadSignatureError(f"the signature of {self.name} does not verify") from error


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """A note that was checked: its text, and the names of the known keys that signed it."""

    text: str
    verified: tuple[str, ...]


def key_id(name: str, public_key: bytes, kind: SignatureType = SignatureType.ED25519) -> bytes:
    """The four bytes that tell a name's keys apart. A label, not a strong hash."""
    return sha256(b"%b\n%c%b" % (name.encode(), kind, public_key)).digest()[:4]


def vkey(name: str, public_key: bytes, kind: SignatureType = SignatureType.ED25519) -> str:
    """The verifier key to hand to others: one line of text."""
    key = base64.b64encode(bytes([kind]) + public_key).decode()
    return f"{name}+{key_id(name, public_key, kind).hex()}+{key}"


def parse_vkey(text: str) -> Verifier:
    """Read a verifier key.

    Raises:
        MalformedNoteError: it is none, of a type unknown here, or its key id is another key's.
    """
    name, _, rest = text.partition("+")
    claimed_id, _, encoded = rest.partition("+")
    key = decode_base64(encoded)
    if not _is_key_name(name) or len(key) != 33 or key[0] not in list(SignatureType):
        raise MalformedNoteError("the verifier key is malformed or of an unknown type")
    verifier = Verifier(name, key[1:], SignatureType(key[0]))
    if claimed_id != verifier.key_id.hex():
        raise MalformedNoteError("the verifier key's id does not belong to its key")
    return verifier


def sign_note(text: str, signer: NoteSigner) -> str:
    """The note: the text, a blank line and the signer's line.

    Raises:
        MalformedNoteError: the text cannot be a note's text, or the signer's name a key name.
    """
    _require_fit(text)
    if not text.endswith("\n") or not _is_key_name(signer.name):
        raise MalformedNoteError("the text lacks its last newline, or the key its proper name")
    signature = key_id(signer.name, signer.public_key) + signer.sign(text.encode())
    return f"{text}\n— {signer.name} {base64.b64encode(signature).decode()}\n"


def open_note(note: str | bytes, verifiers: Iterable[Verifier]) -> OpenedNote:
    """Check a note against the keys that are known. Signatures by others are ignored.

    Raises:
        MalformedNoteError: it is not a note.
        BadSignatureError: a known key's signature is wrong.
        UnverifiedNoteError: no known key has signed it.
    """
    text, signatures = _split_note(note)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    verified: dict[tuple[str, bytes], str] = {}
    for name, signature in signatures:
        key = (name, signature[:4])
        if key in known and key not in verified:
            known[key].verify(text, signature[4:])
            verified[key] = name
    if not verified:
        raise UnverifiedNoteError("no known key has signed the note")
    return OpenedNote(text, tuple(verified.values()))


def open_checkpoint(note: str | bytes, verifiers: Iterable[Verifier]) -> Checkpoint:
    """Open a note, and read it as the checkpoint of the log that signed it.

    Raises:
        NoteError: the note does not open (`open_note`), is not a checkpoint, or was signed by
            known keys of which none bears the name of its origin.
    """
    opened = open_note(note, verifiers)
    checkpoint = Checkpoint.parse(opened.text)
    if checkpoint.origin not in opened.verified:
        raise UnverifiedNoteError("the checkpoint is not signed by a key named as its origin")
    return checkpoint


def cosignature_message(text: str, time: int) -> bytes:
    """What a witness signs at `time`, in POSIX seconds: tlog-cosignature, "Ed25519 signed message".

    The signature is sent as the time in 8 bytes, big-endian, and then the 64 bytes of Ed25519.
    """
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def decode_base64(text: str) -> bytes:
    """Decode standard base64 (RFC 4648 section 4) in its one canonical spelling.

    Raises:
        MalformedNoteError: it is anything else.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise MalformedNoteError("malformed base64") from error
    if base64.b64encode(data).decode() != text:
        raise MalformedNoteError("malformed base64")
    return data


_CHECKPOINT: Final = re.compile(
    r"(?P<origin>[^\n]+)\n"
    r"(?P<size>0|[1-9][0-9]{0,17})\n"  # no leading zeros, and it fits 63 bits
    rf"(?P<root>[A-Za-z0-9+/]{{{HASH_SIZE * 4 // 3 + 1}}}=)\n"
    r"(?:[^\n]+\n)*"
)
# Lone surrogates, which a str can hold and UTF-8 cannot, are refused with the control characters.
_UNFIT: Final = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")
_KEY_NAME: Final = re.compile(r"[^\s+\ud800-\udfff]+")


def _split_note(note: str | bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """Text, and (key name, key id and signature) of each signature line."""
    try:
        note = note.decode() if isinstance(note, bytes) else note
    except UnicodeDecodeError as error:
        raise MalformedNoteError("the note is not UTF-8") from error
    _require_fit(note)
    text, blank, block = note.rpartition("\n\n")
    if not blank or not block.endswith("\n"):
        raise MalformedNoteError("the note does not end in a blank line and signatures")
    lines = block[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise MalformedNoteError(f"the note has more than {MAX_SIGNATURES} signatures")
    return text + "\n", [_split_signature(line) for line in lines]


def _split_signature(line: str) -> tuple[str, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    signature = decode_base64(encoded)
    if dash != "—" or not _is_key_name(name) or len(signature) < 5:
        raise MalformedNoteError("a signature line is malformed")
    return name, signature


def _is_key_name(name: str) -> bool:
    return _KEY_NAME.fullmatch(name) is not None


def _require_fit(text: str) -> None:
    if _UNFIT.search(text):
        raise MalformedNoteError("the note holds a control character or a lone surrogate")
