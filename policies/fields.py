"""Marshmallow fields for policy files, in which every scalar is text.

Messages are predicates without a subject ("must be …", "is missing"): the loader puts the place
in front.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

from marshmallow import ValidationError, fields

from policies.document import quote
from policies.errors import PolicyError
from policies.periods import Period

_T = TypeVar("_T")
_Word = TypeVar("_Word", bound=StrEnum)

_BLANKS: Final = re.compile(r"[ \t\r\n]+")
_UNSEEN: Final = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
# They make a name or an address read other than it is: Unicode TR 36, bidirectional spoofing.
_DIRECTION: Final = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SOME_DAY: Final = datetime(2000, 1, 1, tzinfo=UTC)
_FIRST_YEAR: Final = 2000
_LAST_YEAR: Final = 2099


class _Field(fields.Field[_T]):
    def __init__(self, *, required: bool = False) -> None:
        super().__init__(required=required, error_messages={"required": "is missing"})


class Text(_Field[str]):
    """Words for people, as one line: how they were folded in the file changes nothing."""

    def __init__(self, limit: int, *, required: bool = False) -> None:
        super().__init__(required=required)
        self._limit = limit

    def _deserialize(self, value: object, *_: object, **__: object) -> str:
        if not isinstance(value, str):
            raise ValidationError("must be a text")
        text = _BLANKS.sub(" ", value).strip()
        if not text:
            raise ValidationError("must not be empty")
        if len(text) > self._limit:
            raise ValidationError(f"must not be longer than {self._limit} characters")
        if not text.isprintable() and any(map(_deceives, text)):
            raise ValidationError("must not hold control or text-direction characters")
        return text


def _deceives(char: str) -> bool:
    return unicodedata.category(char) in _UNSEEN or char in _DIRECTION


class Word(_Field[str]):
    """A key, a term or a code of a given form, at most 64 characters long."""

    def __init__(self, pattern: str, form: str, *, required: bool = False) -> None:
        super().__init__(required=required)
        self._pattern = re.compile(pattern)
        self._form = form

    def _deserialize(self, value: object, *_: object, **__: object) -> str:
        if not isinstance(value, str) or len(value) > 64 or not self._pattern.fullmatch(value):
            raise ValidationError(f"must be {self._form}, not {_shown(value)}")
        return value


class OneOf(_Field[_Word]):
    """A word of a closed vocabulary."""

    def __init__(self, words: type[_Word], *, required: bool = False) -> None:
        super().__init__(required=required)
        self._words = words

    def _deserialize(self, value: object, *_: object, **__: object) -> _Word:
        for word in self._words:
            if word.value == value:
                return word
        known = ", ".join(self._words)
        raise ValidationError(f"must be one of {known}, not {_shown(value)}")


class Terms(_Field[tuple[_T, ...]]):
    """A list without repetition and of at least one, kept sorted: its order means nothing."""

    def __init__(self, inner: fields.Field[_T], *, required: bool = False) -> None:
        super().__init__(required=required)
        self._inner = inner

    def _deserialize(self, value: object, *_: object, **__: object) -> tuple[_T, ...]:
        if not isinstance(value, list):
            raise ValidationError(f"must be a list, not {_shown(value)}")
        if not value:
            raise ValidationError("must name at least one")
        found: set[_T] = set()
        errors: dict[int, Any] = {}
        for position, item in enumerate(value):
            try:
                term = self._inner.deserialize(item)
            except ValidationError as error:
                errors[position] = error.messages
                continue
            if term in found:
                errors[position] = [f"names {_shown(item)} a second time"]
            found.add(term)
        if errors:
            raise ValidationError(errors)
        return tuple(sorted(found, key=str))


class Flag(_Field[bool]):
    """`true` or `false`. No other word is taken for either."""

    def _deserialize(self, value: object, *_: object, **__: object) -> bool:
        if value not in ("true", "false"):
            raise ValidationError(f"must be true or false, not {_shown(value)}")
        return value == "true"


class Age(_Field[int]):
    """Whole years, from 10 to 21. Laws name ages from 12 (Brazil) to 18 (India)."""

    def _deserialize(self, value: object, *_: object, **__: object) -> int:
        for age in range(10, 22):
            if value == str(age):
                return age
        raise ValidationError(f"must be an age from 10 to 21, not {_shown(value)}")


class Span(_Field[Period]):
    """An ISO 8601 period between two bounds, both included."""

    def __init__(
        self, least: str, most: str, *, exact: bool = False, required: bool = False
    ) -> None:
        """`exact` refuses months and years, whose length depends on the calendar."""
        super().__init__(required=required)
        self._least, self._most = Period.parse(least), Period.parse(most)
        self._exact = exact

    def _deserialize(self, value: object, *_: object, **__: object) -> Period:
        try:
            period = Period.parse(value if isinstance(value, str) else "")
        except PolicyError:
            raise ValidationError(
                f"must be an ISO 8601 period such as P2Y, P6M or P30D, not {_shown(value)}"
            ) from None
        if self._exact and period.months:
            raise ValidationError(f"must be given in days or weeks, not {_shown(value)}")
        # Months differ in length, so periods are compared where they end.
        least, ends, most = (each.after(_SOME_DAY) for each in (self._least, period, self._most))
        if not least <= ends <= most:
            raise ValidationError(
                f"must be between {self._least} and {self._most}, not {_shown(value)}"
            )
        return period


class Instant(_Field[datetime]):
    """A date (its first instant in UTC is meant) or a time with its offset, as UTC."""

    def _deserialize(self, value: object, *_: object, **__: object) -> datetime:
        try:
            instant = datetime.fromisoformat(value if isinstance(value, str) else "")
        except ValueError:
            raise ValidationError(
                f"must be a date such as 2027-01-31 or 2027-01-31T09:00:00Z, not {_shown(value)}"
            ) from None
        if not _FIRST_YEAR <= instant.year <= _LAST_YEAR:
            raise ValidationError(
                f"must lie in the years {_FIRST_YEAR} to {_LAST_YEAR}, not {_shown(value)}"
            )
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
        if not _DATE.fullmatch(str(value)):
            raise ValidationError(
                f"must end in Z or in an offset such as +01:00, not {_shown(value)}"
            )
        return instant.replace(tzinfo=UTC)


class Entries(_Field[Mapping[str, _T]]):
    """A mapping of keys of one form to things of one kind."""

    def __init__(self, key: Word, read: Callable[[str, object], _T]) -> None:
        """`read` makes a thing of its key and its value, or raises `ValidationError`."""
        super().__init__()
        self._key = key
        self._read = read

    def _deserialize(self, value: object, *_: object, **__: object) -> Mapping[str, _T]:
        if not isinstance(value, dict):
            raise ValidationError(f"must be a mapping of keys to values, not {_shown(value)}")
        entries: dict[str, _T] = {}
        errors: dict[str, Any] = {}
        for key, item in value.items():
            try:
                self._key.deserialize(key)
                entries[key] = self._read(key, item)
            except ValidationError as error:
                errors[key] = error.messages
        if errors:
            raise ValidationError(errors)
        return entries


def _shown(value: object) -> str:
    if isinstance(value, str):
        return quote(value)
    return "a list" if isinstance(value, list) else "a mapping"
