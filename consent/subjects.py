"""Who a choice is about: a random reference inside, an identifier only at the door.

Guarantees: an `Identifier` never shows its value in a repr, a log or an error. Consent stores
`SubjectRef` alone; the two ports below are what it needs from the layer that knows people.
"""

import base64
import re
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, NewType, Protocol, TypeAlias

from sqlalchemy import ColumnElement, Connection
from sqlalchemy.orm import Session

from consent.errors import InvalidSubjectError

SubjectRef = NewType("SubjectRef", str)
"""A person, as 128 random bits in 26 lower-case base32 characters. It means nothing elsewhere."""

Reader: TypeAlias = Session | Connection
"""Anything that can run a SELECT."""

IdentifierKind: TypeAlias = Literal["email", "phone", "external_id", "ref"]

_REF: Final = re.compile(r"[a-z2-7]{26}")
_EMAIL: Final = re.compile(
    r"[^\s@\"(),:;<>\[\\\]\x00-\x1f\x7f]{1,64}@(?:[^\s@.\"(),:;<>\[\\\]\x00-\x1f\x7f]{1,63}\.)+"
    r"[^\s@.\"(),:;<>\[\\\]\x00-\x1f\x7f]{2,63}"
)
_E164: Final = re.compile(r"\+[1-9]\d{6,14}")
_PHONE_PUNCTUATION: Final = str.maketrans("", "", " -./()")
_SYSTEM: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


def new_subject_ref() -> SubjectRef:
    """A fresh reference. Random, not time-ordered: it must not tell when a person came to us."""
    return SubjectRef(base64.b32encode(secrets.token_bytes(16)).rstrip(b"=").decode().lower())


@dataclass(frozen=True, slots=True)
class Identifier:
    """One normalised way of naming a person. The value is personal data: it stays out of reprs."""

    kind: IdentifierKind
    value: str = field(repr=False)
    system: str | None = None
    """The system whose id this is; for `external_id` only."""


def email(address: str) -> Identifier:
    """An e-mail address, normalised: NFKC, outer spaces dropped, case folded.

    Raises:
        InvalidSubjectError: it does not look like `name@domain.tld`, or is over 254 characters.
    """
    value = _clean(address).casefold()
    if len(value) > 254 or _EMAIL.fullmatch(value) is None or ".." in value:
        raise InvalidSubjectError("the e-mail address is malformed")
    return Identifier("email", value)


def phone(number: str) -> Identifier:
    """A telephone number in E.164 form, with the usual punctuation allowed.

    Raises:
        InvalidSubjectError: it does not begin with `+` and a country code, or has a wrong length.
    """
    value = _clean(number).translate(_PHONE_PUNCTUATION)
    if _E164.fullmatch(value) is None or not value.isascii():
        raise InvalidSubjectError("the telephone number is not in E.164 form, such as +4930123456")
    return Identifier("phone", value)


def external_id(system: str, value: str) -> Identifier:
    """The id that another system gave a person. Compared exactly, case included.

    Raises:
        InvalidSubjectError: the system's name or the id is empty, too long or malformed.
    """
    name = _clean(system).casefold()
    cleaned = _clean(value)
    if _SYSTEM.fullmatch(name) is None:
        raise InvalidSubjectError("the external id's system is not a short name such as hubspot")
    if not 0 < len(cleaned) <= 200:
        raise InvalidSubjectError("the external id is empty or longer than 200 characters")
    return Identifier("external_id", cleaned, name)


def ref(value: str) -> Identifier:
    """A subject reference that this service gave out.

    Raises:
        InvalidSubjectError: it has not the form of one.
    """
    if _REF.fullmatch(value) is None:
        raise InvalidSubjectError("the subject ref is malformed")
    return Identifier("ref", value)


def parse_subject(subject: object) -> Identifier:
    """Read `{"email": …}`, `{"phone": …}`, `{"external_id": {"system", "id"}}` or `{"ref": …}`.

    Raises:
        InvalidSubjectError: it is none of the four forms, or its value is malformed.
    """
    if isinstance(subject, dict) and len(subject) == 1:
        ((kind, value),) = subject.items()
        if isinstance(value, str) and kind in _BY_KIND:
            return _BY_KIND[kind](value)
        if kind == "external_id" and isinstance(value, dict) and value.keys() == {"system", "id"}:
            system, own = value["system"], value["id"]
            if isinstance(system, str) and isinstance(own, str):
                return external_id(system, own)
    raise InvalidSubjectError(
        'the subject must be one of {"email": …}, {"phone": …}, '
        '{"external_id": {"system": …, "id": …}} or {"ref": …}'
    )


_BY_KIND: Final = {"email": email, "phone": phone, "ref": ref}


def _clean(text: str) -> str:
    if len(text) > 1000:
        raise InvalidSubjectError("the identifier is too long")
    cleaned = text.strip() if text.isascii() else unicodedata.normalize("NFKC", text).strip()
    if not cleaned.isprintable():
        raise InvalidSubjectError("the identifier has characters that cannot be printed")
    return cleaned


class SubjectDirectory(Protocol):
    """Turns identifiers into references. Implemented by the layer that may hold identifiers."""

    def locator(self, kind: IdentifierKind) -> ColumnElement[str | None]:
        """A scalar SQL expression over the binds of `locator_values`: the ref, or NULL.

        With it a check finds the person and reads the choices in one statement.
        """

    def locator_values(self, identifier: Identifier) -> Mapping[str, bytes | str]:
        """What to bind to find this identifier. The names vary with the kind alone, until keys
        are rotated.
        """

    def find(self, reader: Reader, identifiers: Sequence[Identifier]) -> list[SubjectRef | None]:
        """The refs of many identifiers, in their order; None for the unknown."""

    def ensure(
        self, session: Session, identifiers: Sequence[Identifier], now: datetime
    ) -> list[SubjectRef]:
        """The refs of many identifiers, in their order, making people who were unknown.

        Unique under concurrency: one identifier never leads to two people. Rolled back with the
        session's transaction.

        Raises:
            UnknownSubjectError: an identifier of kind `ref` names nobody.
        """

    def newly_named(self, session: Session) -> Mapping[SubjectRef, Identifier]:
        """People whom this unit of work gave an identifier that was nobody's, since this was asked
        last, and which: the last one each. Asks the database nothing.
        """

    def link(
        self, session: Session, ref: SubjectRef, identifier: Identifier, now: datetime
    ) -> SubjectRef:
        """Give a person one more identifier. Returns its owner: another person if it was taken."""


class SuppressionList(Protocol):
    """Remembers whom nobody may write to again, also when they are erased. Never makes anybody."""

    def suppressed(
        self, reader: Reader, identifiers: Sequence[Identifier]
    ) -> list[datetime | None]:
        """Since when each identifier is on the list, in their order; None where it is not."""


class EvidenceCipher(Protocol):
    """Seals what points at a person under that person's own key."""

    def seal(
        self, session: Session, items: Sequence[tuple[SubjectRef, str, bytes]], now: datetime
    ) -> list[bytes]:
        """Seal (subject, event id, plaintext) in order; makes the key of a person who has none."""

    def open(
        self, reader: Reader, items: Sequence[tuple[SubjectRef, str, bytes]]
    ) -> list[bytes | None]:
        """Open (subject, event id, sealed) in order; None where the person's key was destroyed."""
