"""Signed links: an opaque token that lets whoever holds it do one thing about one person.

    token = base64url( 01 | key version, 32 bits | SIV 16 | ciphertext )

The ciphertext is AES-256-SIV (RFC 5297) under HKDF-SHA512 of a link key, with `tutela/l1` and the
first five bytes as additional data. SIV needs no nonce, so that one key may seal any number of
links; the same link made twice in a second is the same token. Inside, big-endian: scope, one
byte; subject, 16; issued and expires, 40 bits of seconds since 1970 each; then purpose, channel,
event and recipient, each behind its length in one byte, empty where absent.

Guarantees: a token shows nothing about anyone and cannot be made or changed without the key; it
opens for the scope it was made for and until it expires, and has one spelling. Reading is pure:
no clock, database or network. Whatever is wrong raises `InvalidLinkError`, with the reason.

Non-goals: use once (what a link does is idempotent, and done by POST alone); proving who holds a
link (a mail may be forwarded: what a link shows and allows must be fit for that); knowing whether
the person is still known. Who acts on a link finds that out by its subject, and then tells the
holder no more than that the link no longer works.
"""

import base64
import binascii
import hmac
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum, unique
from typing import ClassVar, Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from consent.errors import ConsentError
from consent.subjects import Identifier, SubjectRef

KEY_BYTES: Final = 32
MAX_TOKEN: Final = 1024
"""Characters. Nothing longer is looked at."""

_FORMAT: Final = 1
_CONTEXT: Final = b"tutela/l1"
_BINDING_BYTES: Final = 16
_header: Final = struct.Struct(">BI")
_body: Final = struct.Struct(">B16s5s5s")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)


@unique
class LinkScope(StrEnum):
    """What a link is for: one thing each."""

    PREFERENCES = "preferences"
    """See and change the person's choices."""
    UNSUBSCRIBE = "unsubscribe"
    """Withdraw one purpose on one channel (or on all), and take that back at once."""
    CONFIRM = "confirm"
    """Confirm the one grant that its `event` names."""
    VISIT = "visit"
    """See and change the person's choices for some minutes: in a cookie, and never in a mail."""


_CODES: Final[Mapping[LinkScope, int]] = {
    LinkScope.PREFERENCES: 1,
    LinkScope.UNSUBSCRIBE: 2,
    LinkScope.CONFIRM: 3,
    LinkScope.VISIT: 4,
}
_SCOPES: Final[Mapping[int, LinkScope]] = {code: scope for scope, code in _CODES.items()}

LIFETIMES: Final[Mapping[LinkScope, timedelta]] = {
    LinkScope.PREFERENCES: timedelta(days=30),
    # Mails are kept, and a link that no longer stops them would obstruct (GDPR Art. 7(3)).
    LinkScope.UNSUBSCRIBE: timedelta(days=5 * 365),
    LinkScope.VISIT: timedelta(minutes=20),
}
"""How long a link lives unless its maker says otherwise. A confirmation lives as long as the offer
that it confirms, which its maker knows.
"""


@unique
class LinkFault(StrEnum):
    """Why a token is not a link for what was asked of it."""

    MALFORMED = "MALFORMED"
    """Not the form of a token: cut off by a mail program, or made up."""
    UNKNOWN_KEY = "UNKNOWN_KEY"
    """Made under a key that is gone, or never was."""
    FORGED = "FORGED"
    """Not made by this service, or changed since."""
    OTHER_SCOPE = "OTHER_SCOPE"
    """Made for something else."""
    EXPIRED = "EXPIRED"


class InvalidLinkError(ConsentError):
    """The link cannot be used here. For logs; its holder is told only that, and what to do."""

    code: ClassVar[str] = "LINK_INVALID"

    def __init__(self, fault: LinkFault) -> None:
        super().__init__(f"the link cannot be used: {fault}")
        self.fault: Final = fault


class LinkKey:
    """One version of the key that makes links. Immutable, shared by threads."""

    __slots__ = ("_mac", "_siv", "version")

    def __init__(self, version: int, key: bytes) -> None:
        self.version: Final = version
        self._siv: Final = AESSIV(_derived(key, b"/seal", 64))
        self._mac: Final = _derived(key, b"/bind", 32)

    def __repr__(self) -> str:
        return f"<LinkKey, version {self.version}, redacted>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key must not be pickled or copied out of the process")

    def seal(self, plain: bytes, header: bytes) -> bytes:
        """Encrypt what a token says, bound to its header."""
        return self._siv.encrypt(plain, [_CONTEXT, header])

    def open(self, sealed: bytes, header: bytes) -> bytes:
        """What `seal` was given with this header.

        Raises:
            cryptography.exceptions.InvalidTag: it was not made with this key, or was changed.
        """
        return self._siv.decrypt(sealed, [_CONTEXT, header])

    def digest(self, *parts: str) -> bytes:
        """HMAC-SHA256 over parts, each behind its length: 32 bytes that only the key makes."""
        encoded = [part.encode() for part in parts]
        message = b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
        return hmac.digest(self._mac, message, "sha256")

    def binding(self, recipient: Identifier) -> bytes:
        """What a token keeps of the identifier it was sent to, in 16 bytes."""
        parts = (recipient.kind, recipient.system or "", recipient.value)
        return self.digest("recipient", *parts)[:_BINDING_BYTES]


@dataclass(frozen=True, slots=True)
class Link:
    """What a token says, once it was found genuine."""

    scope: LinkScope
    subject: SubjectRef
    issued_at: datetime
    expires_at: datetime
    purpose: str | None
    """A purpose's key, or `*`; None where the link is not about one."""
    channel: str | None
    event: str | None
    """The event that the link confirms."""
    recipient: bytes | None
    """The identifier that the link was sent to, as a keyed digest: see `Links.was_sent_to`."""
    key_version: int


class Links:
    """Makes links under the newest of its keys and reads those of all. Shared by threads."""

    def __init__(self, keys: Sequence[LinkKey]) -> None:
        """Take the keys, in any order.

        Raises:
            ValueError: there are none.
        """
        if not keys:
            raise ValueError("links need a key")
        self._keys: Final = {key.version: key for key in keys}
        self._newest: Final = self._keys[max(self._keys)]

    def issue(
        self,
        scope: LinkScope,
        subject: SubjectRef,
        now: datetime,
        *,
        expires_at: datetime | None = None,
        purpose: str | None = None,
        channel: str | None = None,
        event: str | None = None,
        recipient: Identifier | None = None,
    ) -> str:
        """A token: ASCII letters, digits, `-` and `_`. Times are kept in whole seconds.

        Args:
            scope: what its holder may do.
            subject: whom it is about.
            now: when it is made.
            expires_at: from when on it is no longer good; by default after `LIFETIMES`.
            purpose: the purpose it is about, or `*`.
            channel: the channel it is about, or `*`.
            event: the event that it confirms.
            recipient: the identifier that it is sent to, as the directory keeps it.

        Raises:
            ValueError: the subject is no ref; the scope has no lifetime of its own and none was
                given; or a part is longer than 255 bytes.
        """
        if expires_at is None:
            if scope not in LIFETIMES:
                raise ValueError(f"say when a link to {scope} expires")
            expires_at = now + LIFETIMES[scope]
        key = self._newest
        plain = _body.pack(_CODES[scope], _packed(subject), _seconds(now), _seconds(expires_at))
        bound = b"" if recipient is None else key.binding(recipient)
        for part in (
            (purpose or "").encode(),
            (channel or "").encode(),
            (event or "").encode(),
            bound,
        ):
            if len(part) > 255:
                raise ValueError("a part of a link is longer than 255 bytes")
            plain += bytes([len(part)]) + part
        header = _header.pack(_FORMAT, key.version)
        return base64.urlsafe_b64encode(header + key.seal(plain, header)).rstrip(b"=").decode()

    def read(self, token: str, scope: LinkScope, now: datetime) -> Link:
        """What a token says, if it is genuine, was made for this scope and has not expired.

        Raises:
            InvalidLinkError: it is not, with the reason.
        """
        raw = _decoded(token)
        header, sealed = raw[: _header.size], raw[_header.size :]
        version: int
        form, version = _header.unpack(header)
        if form != _FORMAT:
            raise InvalidLinkError(LinkFault.MALFORMED)
        key = self._keys.get(version)
        if key is None:
            raise InvalidLinkError(LinkFault.UNKNOWN_KEY)
        try:
            plain = key.open(sealed, header)
        except InvalidTag as error:
            raise InvalidLinkError(LinkFault.FORGED) from error
        link = _parsed(plain, version)
        if link.scope is not scope:
            raise InvalidLinkError(LinkFault.OTHER_SCOPE)
        if now >= link.expires_at:
            raise InvalidLinkError(LinkFault.EXPIRED)
        return link

    def was_sent_to(self, link: Link, identifier: Identifier) -> bool:
        """Whether a link that `read` gave was sent to this identifier."""
        key = self._keys.get(link.key_version)
        if key is None or link.recipient is None:
            return False
        return hmac.compare_digest(key.binding(identifier), link.recipient)

    def digest(self, use: str, *parts: str) -> bytes:
        """A keyed digest of what must not be stored in clear for a while, under the newest key.

        Args:
            use: what it is for; `recipient` is taken.
            parts: what is digested, and what sets it apart.
        """
        return self._newest.digest(use, *parts)


def _derived(key: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(SHA512(), length=length, salt=None, info=_CONTEXT + purpose).derive(key)


def _seconds(instant: datetime) -> bytes:
    return ((instant - _EPOCH) // _SECOND).to_bytes(5, "big")


def _instant(seconds: bytes) -> datetime:
    return _EPOCH + timedelta(seconds=int.from_bytes(seconds, "big"))


def _packed(subject: SubjectRef) -> bytes:
    try:
        packed = base64.b32decode(f"{subject.upper()}======")
    except binascii.Error as error:
        raise ValueError("the subject is no ref") from error
    if _unpacked(packed) != subject:
        raise ValueError("the subject is no ref")
    return packed


def _unpacked(packed: bytes) -> SubjectRef:
    return SubjectRef(base64.b32encode(packed).rstrip(b"=").decode().lower())


def _decoded(token: str) -> bytes:
    """The bytes of a token, if it has the one spelling that they have."""
    if len(token) > MAX_TOKEN or not token.isascii():
        raise InvalidLinkError(LinkFault.MALFORMED)
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise InvalidLinkError(LinkFault.MALFORMED) from error
    if (
        len(raw) <= _header.size + _BINDING_BYTES
        or base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != token
    ):
        raise InvalidLinkError(LinkFault.MALFORMED)
    return raw


def _parsed(plain: bytes, version: int) -> Link:
    """What was sealed. Only `issue` seals, so that nothing here is a stranger's."""
    code, subject, issued, expires = _body.unpack_from(plain)
    parts, rest = [], plain[_body.size :]
    for _ in range(4):
        length = rest[0]
        parts.append(rest[1 : 1 + length])
        rest = rest[1 + length :]
    purpose, channel, event, recipient = parts
    return Link(
        scope=_SCOPES[code],
        subject=_unpacked(subject),
        issued_at=_instant(issued),
        expires_at=_instant(expires),
        purpose=purpose.decode() or None,
        channel=channel.decode() or None,
        event=event.decode() or None,
        recipient=recipient or None,
        key_version=version,
    )
