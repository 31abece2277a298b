"""The words of mails: kinds, languages, and how facts get into them. Pure.

A body is written once, as paragraphs of plain text with `{facts}` in them, and becomes both the
text part and the HTML part, so that the two always say the same. Facts are data: in HTML they are
escaped, and a line break in one cannot begin a paragraph of its own. A paragraph that is one fact
alone stands out; if it is an http(s) address it is a link that shows where it leads. There are no
pictures, styles or addresses beside those facts, so that opening a mail tells nobody.
"""

import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from types import MappingProxyType
from typing import Final

from governance.outbound.errors import InvalidMailError

DEFAULT_LANGUAGE: Final = "en"
MAX_FACT: Final = 2000
"""Characters in a fact; links are the longest."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
_TAG: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_ALONE: Final = re.compile(r"\{(\w+)\}")
_LONE_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_RIGHT_TO_LEFT: Final = frozenset({"ar", "dv", "fa", "he", "ps", "ur", "yi"})
_FORMATTER: Final = string.Formatter()


@dataclass(frozen=True, slots=True)
class Words:
    """What a kind of mail says in one language.

    Raises:
        InvalidMailError: the subject is empty or has several lines, or braces do not pair.
    """

    subject: str
    body: str
    """Paragraphs, parted by empty lines. `{name}` stands for a fact."""

    def __post_init__(self) -> None:
        if not self.subject.strip() or "\n" in self.subject or not self.paragraphs:
            raise InvalidMailError("a mail has a subject of one line, and a body")
        _names(self.subject, self.body)

    @property
    def paragraphs(self) -> list[str]:
        """The body's paragraphs, each without line breaks."""
        return [" ".join(part.split()) for part in re.split(r"\n\s*\n", self.body) if part.strip()]


@dataclass(frozen=True, slots=True)
class MailKind:
    """A sort of mail that the service sends.

    Raises:
        InvalidMailError: the name is not like `preferences.link`, there are no words in English,
            or the languages do not use the same facts.
    """

    name: str
    words: Mapping[str, Words]
    """By language; English is the one that others fall back to."""
    facts: frozenset[str] = field(init=False)
    """What has to be given with each mail of this kind."""

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise InvalidMailError("a kind of mail is named like preferences.link")
        if DEFAULT_LANGUAGE not in self.words:
            raise InvalidMailError(f"{self.name} has no words in English")
        used = {tag: _names(words.subject, words.body) for tag, words in self.words.items()}
        if len(set(used.values())) > 1:
            raise InvalidMailError(f"{self.name} uses other facts in some languages than in others")
        object.__setattr__(self, "facts", used[DEFAULT_LANGUAGE])

    @property
    def title(self) -> str:
        """What staff call it: its English subject, without facts."""
        gaps = dict.fromkeys(self.facts, "…")
        return _filled(self.words[DEFAULT_LANGUAGE].subject, gaps)


@dataclass(frozen=True, slots=True)
class Written:
    """A mail's words with the facts in them."""

    subject: str
    text: str
    html: str


class MailKinds:
    """All kinds of mail that there are, by name."""

    def __init__(self, kinds: Iterable[MailKind]) -> None:
        """Take the kinds.

        Raises:
            InvalidMailError: two kinds have the same name.
        """
        listed = list(kinds)
        self._kinds: Mapping[str, MailKind] = MappingProxyType({kind.name: kind for kind in listed})
        if len(self._kinds) < len(listed):
            raise InvalidMailError("two kinds of mail have the same name")

    def title(self, name: str) -> str:
        """What staff call a kind; its name, where it is not known any more."""
        return self._kinds[name].title if name in self._kinds else name

    def check(self, name: str, language: str, facts: Mapping[str, str]) -> None:
        """Find out now whether `write` will succeed.

        Raises:
            InvalidMailError: there is no such kind, the language is no language tag, a fact is
                missing, unknown, too long or no text.
        """
        kind = self._kinds.get(name)
        if kind is None:
            raise InvalidMailError(f"there is no kind of mail called {name}")
        if _TAG.fullmatch(language) is None:
            raise InvalidMailError("the language is not a tag such as de or pt-BR")
        if facts.keys() != kind.facts:
            raise InvalidMailError(
                f"{name} takes the facts {', '.join(sorted(kind.facts)) or 'none'}"
            )
        for fact in facts.values():
            if len(fact) > MAX_FACT or _LONE_SURROGATE.search(fact):
                raise InvalidMailError(f"a fact is text of at most {MAX_FACT} characters")

    def write(self, name: str, language: str, facts: Mapping[str, str]) -> Written:
        """The mail in the language, else in the language without its region, else in English.

        Raises:
            InvalidMailError: as `check`.
        """
        self.check(name, language, facts)
        words_by_tag = self._kinds[name].words
        tags = (language, language.partition("-")[0], DEFAULT_LANGUAGE)
        tag = next(tag for tag in tags if tag in words_by_tag)
        words = words_by_tag[tag]
        flat = {fact: _flat(value) for fact, value in facts.items()}
        return Written(
            subject=_filled(words.subject, flat),
            text="\n\n".join(_filled(part, flat) for part in words.paragraphs) + "\n",
            html=_html(tag, words, flat),
        )


def _html(tag: str, words: Words, facts: Mapping[str, str]) -> str:
    direction = "rtl" if tag.partition("-")[0] in _RIGHT_TO_LEFT else "ltr"
    parts = "\n".join(_paragraph(part, facts) for part in words.paragraphs)
    return (
        f'<!doctype html>\n<html lang="{escape(tag)}" dir="{direction}">\n<head>'
        f'<meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(_filled(words.subject, facts))}</title></head>\n"
        f"<body>\n{parts}\n</body>\n</html>\n"
    )


def _paragraph(part: str, facts: Mapping[str, str]) -> str:
    safe = {name: escape(value) for name, value in facts.items()}
    alone = _ALONE.fullmatch(part)
    if alone is None:
        return f"<p>{_filled(escape(part), safe)}</p>"
    value = safe[alone[1]]
    if facts[alone[1]].startswith(("http://", "https://")):
        return f'<p dir="ltr"><a href="{value}">{value}</a></p>'
    return f'<p><strong dir="auto">{value}</strong></p>'


def _filled(template: str, facts: Mapping[str, str]) -> str:
    return _FORMATTER.vformat(template, (), facts)


def _flat(value: str) -> str:
    """On one line, and without what could not be printed: control and direction marks among it."""
    spaced = " ".join(value.split())
    return "".join(character for character in spaced if character.isprintable())


def _names(*templates: str) -> frozenset[str]:
    names: set[str] = set()
    for template in templates:
        try:
            parsed = list(_FORMATTER.parse(template))
        except ValueError as error:
            raise InvalidMailError("a brace in a mail's words has no partner") from error
        for _, name, form, conversion in parsed:
            if name is None:
                continue
            if not name.isidentifier() or form or conversion:
                raise InvalidMailError("a fact in a mail's words is written {name}, nothing more")
            names.add(name)
    return frozenset(names)
