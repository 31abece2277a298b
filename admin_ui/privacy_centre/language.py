"""The languages of the privacy centre, and which of them a visitor reads.

A message is the English sentence itself; what the other languages say stands in `locale/*.po`, as
translators' tools read and write it. A test holds every catalogue to the messages that the pages
use: none missing, none left over, none marked as unsure. A test language, made of the English
sentences in Arabic letters, shows in development how pages look from right to left.

Pure but for reading the catalogues, once.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_time
from babel.messages.pofile import read_po
from markupsafe import Markup
from werkzeug.datastructures import LanguageAccept

FOLDER: Final = Path(__file__).parent / "locale"
TAGS: Final = ("en", "de", "fr", "es")
"""What the public is offered. The first is the language of the messages."""
TEST_TAG: Final = "ar-XB"
"""The pseudo-locale of CLDR for text from right to left. Means nothing to anybody."""

_NAMES: Final = {
    "en": "English",
    "de": "Deutsch",
    "fr": "Français",
    "es": "Español",
    TEST_TAG: "Test language (right to left)",
}
_LOCALES: Final = {"en": "en_GB", TEST_TAG: "ar"}
"""Whose dates are written, where the tag does not say it."""
_PLACEHOLDER: Final = re.compile(r"%\([a-z_]+\)s|%%")
_LETTERS: Final = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ابچدعفگحيجكلمنوپقرستغڤوخيز")


def N_(message: str) -> str:  # noqa: N802 - the name that gettext's tools look for
    """Mark a message that is translated where it is shown."""
    return message


@dataclass(frozen=True, slots=True)
class Day:
    """An instant of which the day is said, and not the time."""

    instant: datetime


@dataclass(frozen=True, slots=True)
class Said:
    """A message with the values that belong into it, to be said in the reader's language."""

    message: str
    values: Mapping[str, object]


def said(message: str, **values: object) -> Said:
    """A message and its values. Instants among them are said as times of day, `Day`s as days."""
    return Said(message, values)


@dataclass(frozen=True, slots=True)
class Language:
    """One language: its words, its dates, its direction."""

    tag: str
    """BCP 47."""
    name: str
    """What its readers call it."""
    direction: str
    """`ltr` or `rtl`."""
    locale: Locale = field(repr=False)
    translated: Callable[[str], str] = field(repr=False)
    """The message in this language; the message itself where nobody translated it."""

    @property
    def is_test(self) -> bool:
        """Whether it is there to look at pages and nothing else."""
        return self.tag == TEST_TAG

    def day(self, instant: datetime, zone: ZoneInfo) -> Markup:
        """A `<time>` element with the day."""
        text = format_date(instant.astimezone(zone), "long", locale=self.locale)
        return _element(instant, text)

    def clock(self, instant: datetime, zone: ZoneInfo) -> Markup:
        """A `<time>` element with the time of day."""
        text = format_time(instant.astimezone(zone), "short", locale=self.locale)
        return _element(instant, text)


def languages(*, test: bool = False) -> list[Language]:
    """The languages on offer, in the order of a list to choose from."""
    return [language_of(tag) for tag in (*TAGS, *([TEST_TAG] if test else ()))]


@cache
def language_of(tag: str) -> Language:
    """The language of a tag of ours.

    Raises:
        KeyError: it is none of ours.
    """
    name = _NAMES[tag]
    locale = Locale.parse(_LOCALES.get(tag, tag))
    catalogue = catalogue_of(tag)
    return Language(
        tag=tag,
        name=name,
        direction=locale.text_direction,
        locale=locale,
        translated=_in_arabic_letters if tag == TEST_TAG else lambda one: catalogue.get(one, one),
    )


def negotiated(
    stated: str | None, accepted: LanguageAccept, *, test: bool = False
) -> tuple[Language, bool]:
    """The language of a visit, and whether the visitor chose it rather than the browser.

    Args:
        stated: what the address says; anything but a tag on offer is as good as nothing.
        accepted: what the browser says.
        test: whether the test language is on offer.
    """
    for one in languages(test=test):
        if stated == one.tag:
            return one, True
    # Of `de-CH, en;q=0.5` the German comes first (RFC 4647, section 3.4), though not exactly it.
    wanted = (tag.partition("-")[0].lower() for tag, quality in accepted if quality > 0)
    return language_of(next((tag for tag in wanted if tag in TAGS), TAGS[0])), False


@cache
def catalogue_of(tag: str) -> Mapping[str, str]:
    """What a language says for each message; English says the messages."""
    file = FOLDER / f"{tag}.po"
    if not file.exists():
        return MappingProxyType({})
    with file.open("rb") as stream:
        catalogue = read_po(stream, locale=tag, abort_invalid=True)
    return MappingProxyType(
        {str(one.id): str(one.string) for one in catalogue if one.string and not one.fuzzy}
    )


def _in_arabic_letters(message: str) -> str:
    parts = _PLACEHOLDER.split(message)
    kept = _PLACEHOLDER.findall(message)
    letters = [part.lower().translate(_LETTERS) for part in parts]
    return "".join(text + place for text, place in zip(letters, [*kept, ""], strict=True))


def _element(instant: datetime, text: str) -> Markup:
    return Markup('<time datetime="{}">{}</time>').format(instant.isoformat(), text)
