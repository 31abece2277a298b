"""Whom a question is about. What names a person never shows in a repr.

The constructors take what a person typed and refuse nothing: a malformed address is a question
that is answered with no.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Kind: TypeAlias = Literal["email", "phone", "external_id", "ref"]

KINDS: Final[tuple[Kind, ...]] = ("email", "phone", "external_id", "ref")


@dataclass(frozen=True, slots=True)
class Subject:
    """A person, by one identifier. Made by the functions below."""

    kind: Kind
    value: str = field(repr=False)
    system: str | None = field(default=None, repr=False)
    """The system whose id this is; for `external_id` alone."""

    def wire(self) -> dict[str, Any]:
        """As the API takes it."""
        if self.kind == "external_id":
            return {"external_id": {"system": self.system, "id": self.value}}
        return {self.kind: self.value}


def email(address: str) -> Subject:
    """A person by e-mail address. Case and outer spaces do not matter."""
    return Subject("email", address)


def phone(number: str) -> Subject:
    """A person by telephone number, `+` and country code first."""
    return Subject("phone", number)


def external_id(system: str, value: str) -> Subject:
    """A person by the id that a system such as your shop gave them."""
    return Subject("external_id", value, system)


def ref(value: str) -> Subject:
    """A person by the reference that the service gave out when it recorded something."""
    return Subject("ref", value)


def normalised(subject: Subject) -> str | None:
    """The one spelling under which a mirror keeps an identifier; None where it has no such form.

    It is the service's own: what is equal there is equal here. The one exception is a telephone
    number with a zero behind the country code, where only the numbering plan of the country says
    whether it belongs there: without the package `phonenumbers` such a number is taken as it
    stands, and where the service would drop the zero nobody is found. That is a no.
    """
    value = subject.value
    if subject.kind == "email":
        return value.strip().lower() if value.isascii() else _folded(value)
    if subject.kind == "ref":
        return value
    if subject.kind == "phone":
        return _phone(_clean(value).translate(_PUNCTUATION))
    system = _clean(subject.system or "").casefold()
    return f"{system}\0{_clean(value)}" if system else None


def _folded(address: str) -> str:
    value = _clean(address).casefold()
    if value.isascii():
        return value.strip()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).casefold()).strip()


def _clean(text: str) -> str:
    return text.strip() if text.isascii() else unicodedata.normalize("NFKC", text).strip()


def _phone(number: str) -> str | None:
    if _PLAIN.fullmatch(number):
        return number
    if _E164.fullmatch(number) is None:
        return None
    try:
        import phonenumbers
    except ImportError:
        return number
    try:
        formatted = phonenumbers.format_number(
            phonenumbers.parse(number), phonenumbers.PhoneNumberFormat.E164
        )
    except phonenumbers.NumberParseException:
        return number
    return formatted if _E164.fullmatch(formatted) else number


_PUNCTUATION: Final = str.maketrans("", "", " -./()")
_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
# The country codes of one and two digits; all others have three. As the service has it.
_PLAIN: Final = re.compile(
    r"(?=\+[0-9]{7,15}\Z)"
    r"\+(?>1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|[2-9][0-9]{2})[1-9][0-9]+"
)
