"""Telephone numbers as lists write them, in a country's own form, brought to E.164. Pure.

Guarantees: what `phonenumbers` would make of a number is what comes out; a number of the country
itself takes a microsecond, as lists have millions. Whatever has not a possible length is no number.
"""

import re
from typing import Final

from governance.keys.blind_index import normalise_phone

_PUNCTUATION: Final = " \t-./()[],;:\"'\u00a0"
_DROPPED: Final = str.maketrans("", "", _PUNCTUATION)
LONGEST_LINE: Final = 64
"""Characters. A number with all its punctuation is shorter."""


class NationalNumbers:
    """Reads the numbers of one country's list. Shared by threads."""

    def __init__(self, country: str) -> None:
        """Take the country, by its ISO 3166-1 code.

        Raises:
            ValueError: no numbering plan is known for it.
        """
        # Costly to load, and only who imports a list needs it.
        from phonenumbers import PhoneMetadata

        plan = PhoneMetadata.metadata_for_region(country)
        if plan is None or plan.general_desc is None or plan.country_code is None:
            raise ValueError("no numbering plan is known for this country")
        self._country: Final = country
        self._code: Final = str(plan.country_code)
        self._trunk: Final = plan.national_prefix or ""
        self._simple: Final = plan.national_prefix_transform_rule is None
        self._prefixed: Final = re.compile(plan.national_prefix_for_parsing or r"(?!)")
        self._lengths: Final = frozenset(plan.general_desc.possible_length)

    def e164(self, line: str) -> str | None:
        """The number that a line of the list is, in E.164 form; None if it is none.

        Punctuation does not matter, commas included: the American list parts area code and number.
        """
        if len(line) > LONGEST_LINE:
            return None
        digits = line.translate(_DROPPED)
        if not (digits.removeprefix("+").isascii() and digits.removeprefix("+").isdecimal()):
            return None
        national = self._national(digits)
        try:
            if national is not None:
                return normalise_phone(f"+{self._code}{national}")
            return self._parsed(digits)
        except ValueError:
            return None

    def _national(self, digits: str) -> str | None:
        """The significant number, where it can be nothing else: behind its trunk prefix, or where
        no prefix of any sort begins it.
        """
        if self._simple and self._trunk and digits.startswith(self._trunk):
            national = digits[len(self._trunk) :]
            if national[:1] in ("", "0", self._trunk):
                return None
            return national if len(national) in self._lengths else None
        if digits.startswith(("+", "0", self._code)) or self._prefixed.match(digits):
            return None
        return digits if len(digits) in self._lengths else None

    def _parsed(self, digits: str) -> str | None:
        import phonenumbers

        try:
            number = phonenumbers.parse(digits, self._country)
        except phonenumbers.NumberParseException:
            return None
        if not phonenumbers.is_possible_number(number):
            return None
        return normalise_phone(
            phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        )
